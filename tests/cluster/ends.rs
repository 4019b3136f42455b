//! The ends of a request other than a release, and what follows on its Job.

use crate::support::{Space, by_sre, cluster, merge, request};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;

/// What is noted on a Job when a request that is bound to this ends without approval.
fn note(state: &str, digest: &str, request: &Value) -> String {
    format!("{state} {digest} {}", request["metadata"]["uid"].as_str().unwrap_or_default())
}

fn closed(job: &Value) -> String {
    job["metadata"]["annotations"]["countersign.dev/closed"].as_str().unwrap_or_default().to_string()
}

#[tokio::test]
async fn denied_is_final_for_the_job() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-denied").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "run", "Deny", &digest).ok().await?;
    let end = space.state("run", "Denied").await?;
    assert_eq!(end["status"]["message"], "denied by alice");
    assert_eq!(closed(&space.get("jobs", "run").await?), note("Denied", &digest, &end));
    // Request shopping: milder claims for the same Job.
    let mut milder = request("again", Some("run"));
    milder["spec"]["reason"] = json!("harmless");
    space.triage.kubectl(["create", "-n", "ends-denied", "--filename", "-"]).stdin(milder.to_string()).ok().await?;
    let held = space.evaluated("again", "TargetTaken").await?;
    assert!(
        held["status"]["message"].as_str().is_some_and(|m| m.contains("was denied (run), which is final for it")),
        "{held}"
    );
    // Even when the denied request is gone.
    space.admin.kubectl(["delete", "apr", "run", "-n", "ends-denied", "--timeout=20s"]).ok().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = space.get("approvalrequests", "again").await?;
    assert_eq!((&held["status"]["state"], held["status"].get("digest")), (&json!("Pending"), None));
    assert!(!space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn both_clocks_run_out_on_time_and_another_request_may_bind() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-expired").await?;
    let mut rules = by_sre();
    rules[0]["pendingTimeoutSeconds"] = json!(6);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    let end = space.state("run", "Expired").await?;
    let condition =
        |name: &str| end["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == name).cloned();
    let at = |v: &Value| v.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).context("time");
    let (until, expired) =
        (at(&end["status"]["pendingUntil"])?, at(&condition("Expired").context("Expired")?["lastTransitionTime"])?);
    assert!((0..=3).contains(&expired.duration_since(until).as_secs()), "expired {expired}, due {until}");
    assert_eq!(closed(&space.get("jobs", "run").await?), note("Expired", &digest, &end));
    let alice = cluster.user("alice", &["sre"])?;
    assert!(space.review(&alice, "run", "Approve", &digest).refused().await?.contains("is Expired already"));
    assert!(!space.started("run").await?);

    space.policy(by_sre()).await?;
    space.request("second", Some("run")).await?;
    let digest = space.digest("second").await?;
    space.review(&alice, "second", "Approve", &digest).ok().await?;
    space.state("second", "Released").await?;
    let job = space.get("jobs", "run").await?;
    assert_eq!(closed(&job), "", "a release removes the note");
    assert_eq!(job["metadata"]["annotations"]["countersign.dev/released"], json!(digest));
    Ok(())
}

#[tokio::test]
async fn two_requests_for_one_job_release_it_once() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-taken").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    space.request("second", Some("run")).await?;
    let held = space.evaluated("second", "TargetTaken").await?;
    assert!(
        held["status"]["message"].as_str().is_some_and(|m| m.contains("request run already speaks for Job run")),
        "{held}"
    );
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    let generation = space.get("jobs", "run").await?["metadata"]["generation"].clone();
    space.patch(&space.triage, "second", json!({"spec": {"cancel": true}})).ok().await?;
    space.state("second", "Cancelled").await?;
    let job = space.get("jobs", "run").await?;
    assert_eq!((job["metadata"]["generation"].clone(), closed(&job)), (generation, String::new()));
    Ok(())
}

#[tokio::test]
async fn a_released_job_that_somebody_stops_is_not_started_again() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-stopped").await?;
    space.policy(by_sre()).await?;
    let mut forever = crate::support::job("run");
    forever["spec"]["template"]["metadata"]["annotations"] = json!({"testbed.countersign.dev/runs-forever": "true"});
    space.triage.kubectl(["create", "-n", "ends-stopped", "--filename", "-"]).stdin(forever.to_string()).ok().await?;
    space.request("run", Some("run")).await?;
    let digest = space.digest("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    merge(&space.api("jobs"), "run", &json!({"spec": {"suspend": true}})).await?;
    space.request("again", Some("run")).await?;
    space.evaluated("again", "TargetTaken").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!space.started("run").await?);
    assert_eq!(space.get("approvalrequests", "run").await?["status"]["state"], "Released");
    Ok(())
}

#[tokio::test]
async fn the_end_of_the_job_is_the_end_of_its_request() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-job").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    space.triage.kubectl(["delete", "job", "run", "-n", "ends-job"]).ok().await?;
    let end = space.state("run", "Cancelled").await?;
    assert_eq!(end["status"]["message"], "Job run was deleted");
    Ok(())
}

#[tokio::test]
async fn policy_alone_allows_or_denies() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-policy").await?;
    let triage = json!([{"kind": "ServiceAccount", "name": "triage", "namespace": "ends-policy"}]);
    space.policy(json!([
        {"name": "trusted", "when": {"requesters": triage}, "decision": "Allow", "constraints": {"maxRuntimeSeconds": 60, "maxRetries": 0}},
        {"name": "drop", "when": {"anyRiskTags": ["drop"]}, "decision": "Deny", "reason": "never by machine"},
    ])).await?;
    space.job("run").await?;
    space.request("run", Some("run")).await?;
    let done = space.state("run", "Released").await?;
    assert_eq!(done["status"]["message"], "allowed by policy");
    let job = space.get("jobs", "run").await?;
    assert_eq!((&job["spec"]["activeDeadlineSeconds"], &job["spec"]["backoffLimit"]), (&json!(60), &json!(0)));
    space.job("drop").await?;
    let mut drop = request("drop", Some("drop"));
    drop["spec"]["riskTags"] = json!(["drop"]);
    space.triage.kubectl(["create", "-n", "ends-policy", "--filename", "-"]).stdin(drop.to_string()).ok().await?;
    let end = space.state("drop", "Denied").await?;
    assert_eq!(end["status"]["message"], "denied by rule ends-policy/drop: never by machine");
    assert!(!space.started("drop").await?);
    Ok(())
}

#[tokio::test]
async fn several_requirements_take_distinct_people() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-quorum").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"] = json!([
        {"name": "either", "approvers": [{"kind": "Group", "name": "sre"}, {"kind": "Group", "name": "security"}]},
        {"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]},
    ]);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    let (alice, carol) = (cluster.user("alice", &["sre"])?, cluster.user("carol", &["security"])?);
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let half = space.wait("approvalrequests", "run", |r| r["status"]["summary"]["approvals"] == "1/2").await?;
    assert_eq!(half["status"]["state"], "Pending", "one person never fills two places");
    space.review(&carol, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn without_a_target_the_request_itself_is_what_a_paused_pod_waits_for() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "ends-untargeted").await?;
    space.policy(by_sre()).await?;
    space.request("pause", None).await?;
    let digest = space.digest("pause").await?;
    let waiting = ["wait", "--for=condition=Released", "apr/pause", "-n", "ends-untargeted", "--timeout=20s"];
    let waiting = space.triage.kubectl(waiting).ok();
    let approve = async {
        let alice = cluster.user("alice", &["sre"])?;
        space.review(&alice, "pause", "Approve", &digest).ok().await
    };
    tokio::try_join!(waiting, approve)?;
    let events = space.wait_for_event("pause", "Released").await?;
    // With the number of its entry in the audit trail, where that came soon.
    let note = events["note"].as_str().unwrap_or_default();
    assert!(
        note.strip_prefix("approved by alice")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(" (audit entry ")),
        "{note}"
    );
    Ok(())
}
