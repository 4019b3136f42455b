//! Every refusal from the side of whoever is refused: the message says why, and nothing changed.

use crate::support::{Space, by_sre, cluster, request};
use anyhow::Result;
use countersign_testbed::{ControlPlane, Identity};
use serde_json::{Value, json};

const STALE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

struct People {
    alice: Identity,
    bob: Identity,
    carol: Identity,
    mallory: Identity,
}

fn people(cluster: &ControlPlane) -> Result<People> {
    Ok(People {
        alice: cluster.user("alice", &["sre"])?,
        bob: cluster.user("bob", &["sre"])?,
        carol: cluster.user("carol", &["security"])?,
        mallory: cluster.user("mallory", &["developers"])?,
    })
}

/// The patch is refused with that message, and the request is as it was.
async fn refused(space: &Space, who: &Identity, name: &str, patch: Value, expected: &str) -> Result<()> {
    let before = space.get("approvalrequests", name).await?;
    let message = space.patch(who, name, patch.clone()).refused().await?;
    assert!(message.contains(expected), "expected {expected:?} in {message:?} for {patch}");
    assert_eq!(before["spec"], space.get("approvalrequests", name).await?["spec"], "{patch}");
    Ok(())
}

fn review(decision: &str, digest: &str) -> Value {
    json!({"spec": {"review": {"decision": decision, "digest": digest}}})
}

#[tokio::test]
async fn reviews_that_do_not_count_are_refused() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refused-reviews").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let People { alice, carol, mallory, .. } = people(cluster)?;
    let approve = review("Approve", &digest);
    refused(&space, &mallory, "run", approve.clone(), "mallory is not an approver of this request; it takes sre")
        .await?;
    refused(&space, &carol, "run", approve.clone(), "carol is not an approver").await?;
    refused(&space, &space.triage, "run", approve.clone(), "you asked for this yourself").await?;
    refused(
        &space,
        &alice,
        "run",
        json!({"spec": {"review": {"decision": "Approve"}}}),
        "spec.review.digest is missing",
    )
    .await?;
    refused(&space, &alice, "run", review("Approve", STALE), "is not what stands here now").await?;
    refused(&space, &alice, "run", review("Perhaps", &digest), "takes decision (Approve or Deny)").await?;
    let impersonating = space.admin.kubectl([
        "patch",
        "apr",
        "run",
        "-n",
        "refused-reviews",
        "--as=mallory",
        "--as-group=sre-readers",
        "--type=merge",
        "--patch",
        &approve.to_string(),
    ]);
    assert!(impersonating.refused().await?.contains("not an approver"), "admin impersonating is mallory");
    assert!(!space.started("run").await?);
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let done = space.state("run", "Released").await?;
    refused(&space, &alice, "run", review("Deny", &digest), "is Released already").await?;
    assert_eq!(done["spec"]["reviews"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_word_counts_once_and_a_denial_stands() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refused-words").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["denials"] = json!(2);
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules).await?;
    let digest = space.bound("run").await?;
    let People { alice, bob, .. } = people(cluster)?;
    space.review(&bob, "run", "Approve", &digest).ok().await?;
    refused(&space, &bob, "run", review("Approve", &digest), "you have said Approve to this already").await?;
    space.review(&alice, "run", "Deny", &digest).ok().await?;
    refused(&space, &alice, "run", review("Approve", &digest), "a denial stands").await?;
    refused(&space, &alice, "run", review("Deny", &digest), "you have said Deny to this already").await?;
    space.review(&bob, "run", "Deny", &digest).ok().await?;
    let end = space.state("run", "Denied").await?;
    assert_eq!(end["status"]["message"], "denied by bob, alice");
    refused(&space, &bob, "run", review("Approve", &digest), "is Denied already").await?;
    assert!(!space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn nobody_changes_anything_else() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refused-changes").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let People { alice, mallory, .. } = people(cluster)?;
    let entry = json!({"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve", "digest": digest,
        "time": "2026-01-01T00:00:00.000000Z", "seal": "forged"});
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let both = json!({"spec": {"cancel": true, "review": {"decision": "Deny", "digest": digest}}});
    for (who, patch, expected) in [
        (&mallory, json!({"spec": {"reviews": [entry]}}), "spec.reviews is written by admission alone"),
        (&space.triage, json!({"spec": {"reason": "harmless"}}), "spec.reason cannot be changed"),
        (&space.triage, json!({"spec": {"riskTags": ["read"]}}), "spec.riskTags cannot be changed"),
        (
            &space.triage,
            json!({"spec": {"constraints": {"maxRuntimeSeconds": 9}}}),
            "spec.constraints cannot be changed",
        ),
        (&space.triage, json!({"spec": {"target": {"name": "other"}}}), "spec.target cannot be changed"),
        (&mallory, json!({"spec": {"requester": {"username": "alice"}}}), "spec.requester is stamped at creation"),
        (&mallory, json!({"metadata": {"labels": {"a": "b"}}}), "metadata.labels of a request cannot be changed"),
        (
            &alice,
            json!({"metadata": {"annotations": {"a": "b"}}}),
            "metadata.annotations of a request cannot be changed",
        ),
        (&mallory, json!({"metadata": {"finalizers": []}}), "metadata.finalizers of a request cannot be changed"),
        (
            &mallory,
            json!({"metadata": {"ownerReferences": owner}}),
            "metadata.ownerReferences of a request cannot be changed",
        ),
        (&space.triage, both, "spec.review and spec.cancel cannot be set at once"),
        (
            &mallory,
            json!({"spec": {"cancel": true}}),
            "only the requester (system:serviceaccount:refused-changes:triage)",
        ),
    ] {
        refused(&space, who, "run", patch, expected).await?;
    }
    let status = json!({"status": {"state": "Released", "approvals": []}}).to_string();
    let before = space.get("approvalrequests", "run").await?;
    let write =
        ["patch", "apr", "run", "-n", "refused-changes", "--subresource=status", "--type=merge", "--patch", &status];
    let message = mallory.kubectl(write).refused().await?;
    assert!(message.contains("is written by the Countersign operator alone"), "{message}");
    assert_eq!(before, space.get("approvalrequests", "run").await?);
    space.patch(&space.triage, "run", json!({"spec": {"cancel": true}})).ok().await?;
    space.state("run", "Cancelled").await?;
    refused(&space, &space.triage, "run", json!({"spec": {"cancel": false}}), "spec.cancel is set once").await?;
    Ok(())
}

#[tokio::test]
async fn a_requester_is_who_the_api_server_saw() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refused-creation").await?;
    let mallory = people(cluster)?.mallory;
    let create = |who: &Identity, body: &Value| {
        who.kubectl(["create", "-n", "refused-creation", "--filename", "-"]).stdin(body.to_string())
    };
    let mut forged = request("forged", None);
    forged["spec"]["requester"] = json!({"username": "admin", "groups": ["system:masters"]});
    create(&mallory, &forged).ok().await?;
    let stored = space.get("approvalrequests", "forged").await?;
    assert_eq!(stored["spec"]["requester"]["username"], "mallory");
    assert_eq!(stored["spec"]["requester"]["groups"], json!(["developers", "system:authenticated"]));
    assert_eq!(stored["metadata"]["finalizers"], json!(["countersign.dev/record"]));

    let review = json!({"decision": "Approve", "digest": STALE});
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
    for (pointer, value, expected) in [
        ("/spec/review", review.clone(), "spec.review cannot be set at creation"),
        ("/spec/reviews", json!([]), "spec.reviews cannot be set at creation"),
        ("/spec/cancel", json!(true), "leave it out at creation"),
        ("/metadata/ownerReferences", owner, "garbage collection would delete it"),
        ("/metadata/finalizers", json!(["example.com/mine"]), "metadata.finalizers must be exactly"),
    ] {
        let mut body = request("never", None);
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = body.pointer_mut(parent) {
            parent[name] = value;
        }
        let message = create(&mallory, &body).refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    space.job("theirs").await?;
    let message = create(&mallory, &request("never", Some("theirs"))).refused().await?;
    assert!(message.contains("mallory may not patch Job theirs"), "{message}");
    assert!(space.api("approvalrequests").get_opt("never").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_its_seal_is_of_no_use() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "dry-run").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let People { alice, .. } = people(cluster)?;
    let patch = review("Approve", &digest).to_string();
    let dry = ["patch", "apr", "run", "-n", "dry-run", "--type=merge", "--dry-run=server", "--patch", &patch];
    let shown = alice.kubectl(dry).json().await?;
    assert_eq!(shown["spec"]["reviews"][0]["seal"], "dry-run");
    assert_eq!(shown["spec"]["reviews"][0]["reviewer"]["username"], "alice");
    let stored = space.get("approvalrequests", "run").await?;
    assert_eq!(stored["spec"].get("reviews"), None);
    let created = space.triage.kubectl(["create", "-n", "dry-run", "--dry-run=server", "--filename", "-"]);
    created.stdin(request("another", None).to_string()).ok().await?;
    assert!(space.api("approvalrequests").get_opt("another").await?.is_none());
    assert!(!space.started("run").await?);
    Ok(())
}

#[tokio::test]
async fn deleting_under_a_reviewer_ends_in_cancelled_and_lets_go() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "deleted").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    space.admin.kubectl(["delete", "apr", "run", "-n", "deleted", "--timeout=20s"]).ok().await?;
    let closed =
        space.wait("jobs", "run", |j| j.pointer("/metadata/annotations/countersign.dev~1closed").is_some()).await?;
    let note = closed["metadata"]["annotations"]["countersign.dev/closed"].to_string();
    assert!(note.contains("Cancelled sha256:"), "{note}");
    assert!(!space.started("run").await?);
    let again = space.triage.kubectl(["create", "-n", "deleted", "--filename", "-"]);
    again.stdin(request("run", Some("run")).to_string()).ok().await?;
    space.digest("run").await?;
    Ok(())
}
