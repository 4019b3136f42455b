//! An approval that falls into a freeze window.

use crate::support::{Space, by_sre, cluster};
use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// A rule with a window that began five minutes ago and lasts an hour, which carol may pass.
fn frozen() -> Value {
    let began = Timestamp::now() - SignedDuration::from_mins(5);
    let began = jiff::tz::TimeZone::UTC.to_datetime(began);
    let mut rules = by_sre();
    rules[0]["freezeWindows"] = json!([{"name": "now", "start": format!("{} {} * * *", began.minute(), began.hour()),
        "durationSeconds": 3600, "timeZone": "Etc/UTC", "mayPass": [{"kind": "User", "name": "carol"}]}]);
    rules
}

#[tokio::test]
async fn an_approval_in_a_window_waits_until_somebody_passes_it() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "freeze-passed").await?;
    space.policy(frozen()).await?;
    let digest = space.bound("run").await?;
    let (alice, carol) = (cluster.user("alice", &["sre"])?, cluster.user("carol", &["sre"])?);
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let waiting = space.state("run", "Approved").await?;
    let status = &waiting["status"];
    let message = status["message"].as_str().unwrap_or_default();
    let until = status["waitsUntil"].as_str().unwrap_or_default();
    assert!(message.starts_with(&format!("approved; released after {until}: freeze window now of rule freeze-passed/prod-write holds (user carol may pass it)")), "{message}");
    assert!(message.contains(&format!("kubectl patch apr run -n freeze-passed --type=merge -p '{{\"spec\":{{\"review\":{{\"decision\":\"Approve\",\"digest\":\"{digest}\"}}}}}}'")), "{message}");
    assert_eq!(status["approvals"][0]["approvedBy"], json!(["alice"]));
    let version = |request: &Value| request["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        version(&space.get("approvalrequests", "run").await?),
        version(&waiting),
        "nothing is written while it waits"
    );
    assert!(!space.started("run").await?);
    space.review(&carol, "run", "Approve", &digest).ok().await?;
    let done = space.state("run", "Released").await?;
    assert_eq!(done["status"]["freezes"][0]["passedBy"], "carol");
    assert!(done["status"]["waitsUntil"].is_null() && space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn a_denial_during_the_wait_denies() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "freeze-denied").await?;
    space.policy(frozen()).await?;
    let digest = space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Approved").await?;
    space.review(&bob, "run", "Deny", &digest).ok().await?;
    let end = space.state("run", "Denied").await?;
    assert_eq!(end["status"]["message"], "denied by bob");
    assert!(end["status"]["waitsUntil"].is_null() && !space.started("run").await?);
    Ok(())
}

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("no time")?.parse()?)
}

/// Waits without touching anything until that time, looking that nothing happens before, and from then on for the release.
async fn released_by_itself(space: &Space, waiting: &Value, at: Timestamp) -> Result<()> {
    let version = |request: &Value| request["metadata"]["resourceVersion"].clone();
    let left = at.duration_since(Timestamp::now());
    ensure!(left >= SignedDuration::from_secs(2), "approved too late for this test to tell anything: {left:#}");
    tokio::time::sleep(Duration::try_from(left - SignedDuration::from_secs(1))?).await;
    let still = space.get("approvalrequests", "run").await?;
    ensure!(version(&still) == version(waiting) && !space.started("run").await?, "before its time: {still:#}");
    let done = space.state("run", "Released").await?;
    let conditions = done["status"]["conditions"].as_array().context("conditions")?;
    let released = conditions.iter().find(|c| c["type"] == "Released").context("Released")?;
    ensure!(time(&released["lastTransitionTime"])? >= at, "{done:#}");
    assert!(done["status"]["waitsUntil"].is_null() && space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn what_was_approved_in_a_window_is_released_at_its_end_with_nobody_there() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "freeze-ends").await?;
    // It began in the minute before this one, and ends soon: a window lasts a minute at least.
    let now = Timestamp::now();
    let began = Timestamp::from_second((now.as_second() / 60 - 1) * 60)?;
    let end = Timestamp::from_second(now.as_second() + 30)?;
    let clock = jiff::tz::TimeZone::UTC.to_datetime(began);
    let mut rules = by_sre();
    rules[0]["freezeWindows"] = json!([{"name": "short", "start": format!("{} {} * * *", clock.minute(), clock.hour()),
        "durationSeconds": end.duration_since(began).as_secs(), "timeZone": "Etc/UTC"}]);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    space.review(&cluster.user("alice", &["sre"])?, "run", "Approve", &digest).ok().await?;
    let waiting = space.state("run", "Approved").await?;
    assert_eq!(time(&waiting["status"]["waitsUntil"])?, end);
    let message = waiting["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("freeze window short of rule freeze-ends/prod-write holds"), "{message}");
    released_by_itself(&space, &waiting, end).await
}

#[tokio::test]
async fn a_delay_is_shown_and_ends_by_itself() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "freeze-delay").await?;
    let mut rules = by_sre();
    rules[0]["notBeforeSeconds"] = json!(25);
    space.policy(rules).await?;
    // Asked for first, and there later: who asks early does not wait out the delay before there is something to see.
    space.request("run", Some("run")).await?;
    let asked = space.evaluated("run", "TargetMissing").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let job = space.job("run").await?;
    let digest = space.digest("run").await?;
    let (asked, made) = (&asked["metadata"]["creationTimestamp"], &job["metadata"]["creationTimestamp"]);
    assert!(time(made)? > time(asked)?);
    let due = time(made)? + SignedDuration::from_secs(25);
    space.review(&cluster.user("alice", &["sre"])?, "run", "Approve", &digest).ok().await?;
    let waiting = space.state("run", "Approved").await?;
    let status = &waiting["status"];
    assert_eq!((time(&status["waitsUntil"])?, time(&status["notBefore"])?), (due, due));
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains(&format!("policy has it wait until {due}")), "{message}");
    released_by_itself(&space, &waiting, due).await
}
