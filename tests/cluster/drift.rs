//! What was shown changes while a request waits.

use crate::support::{Space, by_sre, cluster, conditions, job};
use anyhow::{Context, Result};
use serde_json::{Value, json};

fn digest_of(request: &Value) -> String {
    request["status"]["digest"].as_str().unwrap_or_default().to_string()
}

#[tokio::test]
async fn a_policy_edit_that_matters_makes_reviews_stale_even_when_it_is_reverted() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "drift-policy").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules.clone()).await?;
    let first = space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    space.review(&alice, "run", "Approve", &first).ok().await?;
    space.wait("approvalrequests", "run", |r| r["status"]["summary"]["approvals"] == "1/2").await?;

    let mut edited = rules.clone();
    edited[0]["constraints"]["maxRuntimeSeconds"] = json!(300);
    space.policy(edited).await?;
    let second = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 2).await?;
    assert_ne!(digest_of(&second), first);
    assert_eq!(second["status"]["summary"]["approvals"], "0/2");
    let message = second["status"]["message"].as_str().context("message")?;
    assert!(
        message.contains("the policy outcome changed") && message.contains("1 earlier review(s) no longer count"),
        "{message}"
    );
    assert_eq!(second["spec"]["reviews"].as_array().map(Vec::len), Some(1), "shown, not counted");

    space.policy(rules).await?;
    let third = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 3).await?;
    assert!(digest_of(&third) != first && digest_of(&third) != digest_of(&second));
    assert_eq!(third["status"]["policySnapshot"].as_str().map(str::len), Some(71));
    assert_eq!(third["status"]["summary"]["approvals"], "0/2", "an old approval never revives");
    let refused = space.review(&bob, "run", "Approve", &first).refused().await?;
    assert!(refused.contains("is not what stands here now"), "{refused}");
    assert!(!space.started("run").await?);
    for who in [&alice, &bob] {
        space.review(who, "run", "Approve", &digest_of(&third)).ok().await?;
    }
    space.state("run", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn an_edit_that_does_not_matter_keeps_what_was_approved() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "drift-unrelated").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    let unrelated =
        |reason: &str| json!({"name": "other", "when": {"riskTags": ["other"]}, "decision": "Deny", "reason": reason});
    rules.as_array_mut().context("rules")?.push(unrelated("before"));
    space.policy(rules.clone()).await?;
    let digest = space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    rules[1] = unrelated("after");
    space.policy(rules).await?;
    space.named_policy("drift-unrelated-2", json!([unrelated("new")])).await?;
    let labels = ["label", "namespace", "drift-unrelated", "colour=blue"];
    space.admin.kubectl(labels).ok().await?;
    space.review(&bob, "run", "Approve", &digest).ok().await?;
    let done = space.state("run", "Released").await?;
    assert_eq!((digest_of(&done), &done["status"]["revision"]), (digest, &json!(1)));
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_deleted_and_created_anew_is_not_released() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "drift-recreated").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let replace = ["replace", "--force", "-n", "drift-recreated", "--filename", "-"];
    space.triage.kubectl(replace).stdin(job("run").to_string()).ok().await?;
    let end = space.state("run", "Cancelled").await?;
    assert!(end["status"]["message"].as_str().is_some_and(|m| m.contains("Job run was deleted")), "{end}");
    assert!(!space.started("run").await?);
    assert_eq!(space.get("jobs", "run").await?.pointer("/metadata/annotations/countersign.dev~1closed"), None);
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_changed_while_it_waits_is_shown_anew() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "drift-job").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules).await?;
    let mut digest = space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let changes = [
        json!({"spec": {"backoffLimit": 50}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"sidecar": "inject"}}}}}),
        json!({"spec": {"template": {"spec": {"nodeSelector": {"zone": "a"}}}}}),
        json!({"spec": {"ttlSecondsAfterFinished": 5}}),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        space.review(&alice, "run", "Approve", &digest).ok().await?;
        let patch = change.to_string();
        space
            .triage
            .kubectl(["patch", "job", "run", "-n", "drift-job", "--type=merge", "--patch", &patch])
            .ok()
            .await?;
        let now = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == json!(i + 2)).await?;
        assert_eq!(now["status"]["summary"]["approvals"], "0/2", "{patch}");
        let late = space.review(&bob, "run", "Approve", &digest).refused().await?;
        assert!(late.contains("is not what stands here now"), "{late}");
        digest = digest_of(&now);
    }
    assert!(!space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn without_a_matching_policy_a_request_waits_until_there_is_one() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "drift-none").await?;
    space.job("run").await?;
    space.request("run", Some("run")).await?;
    let waiting = space.evaluated("run", "NoMatchingPolicy").await?;
    assert_eq!((&waiting["status"]["state"], waiting["status"].get("digest")), (&json!("Pending"), None));
    let alice = cluster.user("alice", &["sre"])?;
    let any = format!("sha256:{}", "0".repeat(64));
    let early = space.review(&alice, "run", "Approve", &any).refused().await?;
    assert!(early.contains("cannot be reviewed now: no policy has a rule"), "{early}");
    space.policy(by_sre()).await?;
    let digest = space.digest("run").await?;
    // The policy goes and returns unchanged: what was approved in between stays void.
    space.admin.kubectl(["delete", "apol", "drift-none"]).ok().await?;
    space.evaluated("run", "NoMatchingPolicy").await?;
    space.policy(by_sre()).await?;
    let again = space.wait("approvalrequests", "run", |r| r["status"]["revision"] == 2).await?;
    assert_ne!(digest_of(&again), digest);
    assert!(conditions(&again).any(|c| c["type"] == "Evaluated" && c["status"] == "True"));
    Ok(())
}

#[tokio::test]
async fn a_snapshot_can_be_read_back_and_is_what_its_name_says() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "snapshots").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let request = space.get("approvalrequests", "run").await?;
    let hash = request["status"]["policySnapshot"].as_str().context("policySnapshot")?;
    let name = format!("snapshot-{}", hash.trim_start_matches("sha256:"));
    let kept = space.admin.kubectl(["get", "controllerrevision", &name, "-n", "countersign-system"]).json().await?;
    let snapshot =
        countersign::binding::Snapshot::checked(hash, kept["data"].clone()).context("content and name agree")?;
    assert_eq!(snapshot.content["rules"][0]["rule"]["name"], "prod-write");
    assert_eq!(snapshot.content["rules"][0]["policy"], "snapshots");
    let edited = json!({"data": {"decision": "Allow"}}).to_string();
    let write = ["patch", "controllerrevision", &name, "-n", "countersign-system", "--type=merge", "--patch", &edited];
    assert!(space.admin.kubectl(write).refused().await?.contains("immutable"));
    Ok(())
}
