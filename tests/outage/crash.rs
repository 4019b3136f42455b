//! The operator is killed between two writes: on return one release, the same final state.

use crate::support::{Space, by_sre};
use crate::{Lab, lab};
use anyhow::Result;
use countersign_testbed::Identity;
use serde_json::{Value, json};

/// What must be the same with and without a crash.
fn outcome(request: &Value, job: &Value) -> Value {
    let types: Vec<_> =
        crate::support::conditions(request).map(|c| json!([c["type"], c["status"], c["reason"]])).collect();
    json!({
        "state": request["status"]["state"], "message": request["status"]["message"], "conditions": types,
        "approvals": request["status"]["approvals"], "summary": request["status"]["summary"],
        "constraints": request["status"]["constraints"], "revision": request["status"]["revision"],
        "boundToTheSame": request["status"]["digest"] == job["metadata"]["annotations"]["countersign.dev/released"],
        "deadline": job["spec"]["activeDeadlineSeconds"], "suspend": job["spec"]["suspend"],
    })
}

async fn fault_free(space: &Space, alice: &Identity) -> Result<Value> {
    let digest = space.bound("plain").await?;
    space.review(alice, "plain", "Approve", &digest).ok().await?;
    let request = space.state("plain", "Released").await?;
    Ok(outcome(&request, &space.get("jobs", "plain").await?))
}

/// A request `run` that alice approved while the operator may not patch Jobs.
async fn approved_but_not_released(lab: &Lab, space: &Space, alice: &Identity) -> Result<Value> {
    let digest = space.bound("run").await?;
    lab.forbid("jobs").await?;
    space.review(alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Approved").await
}

#[tokio::test]
async fn killed_between_the_review_and_the_unsuspend() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "crash-before").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let expected = fault_free(&space, &alice).await?;
    let waiting = approved_but_not_released(&lab, &space, &alice).await?;
    assert!(
        waiting["status"]["message"].as_str().is_some_and(|m| m.contains("the API server refused it")),
        "{waiting}"
    );
    assert!(waiting["status"]["releaseBy"].is_string());
    assert!(!space.started("run").await?);
    lab.kill();
    lab.allow_all().await?;
    lab.start().await?;
    let request = space.state("run", "Released").await?;
    assert_eq!(outcome(&request, &space.get("jobs", "run").await?), expected);
    assert_eq!(lab.job_patches("crash-before", "run").await?, 1);
    Ok(())
}

#[tokio::test]
async fn killed_between_the_unsuspend_and_the_status() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "crash-after").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let expected = fault_free(&space, &alice).await?;
    let digest = space.bound("run").await?;
    lab.forbid("approvalrequests/status").await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.wait("jobs", "run", |j| j["spec"]["suspend"] == json!(false)).await?;
    lab.kill();
    assert_eq!(space.get("approvalrequests", "run").await?["status"]["state"], "Pending");
    // Meanwhile the policy that approved it turns into a denial: what has happened has happened.
    let denying = json!([{"name": "prod-write", "when": {"riskTags": ["prod", "write"]}, "decision": "Deny"}]);
    let policy = crate::support::policy("crash-after", "crash-after", denying);
    lab.delete_webhooks().await?;
    space.admin.kubectl(["apply", "-f", "-"]).stdin(policy.to_string()).ok().await?;
    lab.allow_all().await?;
    lab.start().await?;
    let request = space.state("run", "Released").await?;
    assert_eq!(outcome(&request, &space.get("jobs", "run").await?), expected);
    assert_eq!(lab.job_patches("crash-after", "run").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_job_changed_after_approval_is_not_released() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "crash-changed").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    approved_but_not_released(&lab, &space, &alice).await?;
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"sidecar": "inject"}}}}}).to_string();
    space
        .triage
        .kubectl(["patch", "job", "run", "-n", "crash-changed", "--type=merge", "--patch", &change])
        .ok()
        .await?;
    let back = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 2).await?;
    assert_eq!(back["status"]["state"], "Pending");
    assert!(back["status"]["message"].as_str().is_some_and(|m| m.contains("the Job changed")), "{back}");
    lab.allow_all().await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!space.started("run").await?);
    assert_eq!(space.get("approvalrequests", "run").await?["status"]["summary"]["approvals"], "0/1");
    Ok(())
}

#[tokio::test]
async fn a_policy_that_was_weakened_or_deleted_does_not_release_an_old_approval() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "crash-policy").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    approved_but_not_released(&lab, &space, &alice).await?;
    let mut weaker = by_sre();
    weaker[0]["constraints"] = json!({});
    space.policy(weaker).await?;
    let back = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 2).await?;
    assert_eq!(back["status"]["state"], "Pending");
    space.admin.kubectl(["delete", "apol", "crash-policy"]).ok().await?;
    space.evaluated("run", "NoMatchingPolicy").await?;
    lab.allow_all().await?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!space.started("run").await?);
    Ok(())
}
