//! An approval that falls into a freeze window.

use crate::support::{Space, by_sre, cluster};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;

/// A rule with a window that began five minutes ago and lasts an hour, which carol may pass.
fn frozen() -> Value {
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5);
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
