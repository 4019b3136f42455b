//! The operator is away, or its webhooks are deleted.

use crate::lab;
use crate::support::{Space, by_sre, request};
use anyhow::Result;
use serde_json::{Value, json};

#[tokio::test]
async fn a_review_while_the_operator_is_down_is_refused_and_the_request_intact() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "gone-down").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let alice = lab.user("alice", "sre")?;
    let before = space.get("approvalrequests", "run").await?;
    lab.kill();
    let message = space.review(&alice, "run", "Approve", &digest).refused().await?;
    assert!(message.contains("failed calling webhook") && message.contains("requests.countersign.dev"), "{message}");
    let created =
        space.triage.kubectl(["create", "-n", "gone-down", "-f", "-"]).stdin(request("new", None).to_string());
    assert!(created.refused().await?.contains("failed calling webhook"));
    assert_eq!(before, space.get("approvalrequests", "run").await?);
    lab.start().await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    Ok(())
}

fn entry(who: &str, group: &str, digest: &str) -> Value {
    json!({"reviewer": {"username": who, "groups": [group]}, "decision": "Approve", "digest": digest,
        "time": "2026-01-01T00:00:00.000000Z", "seal": "forged"})
}

#[tokio::test]
async fn without_webhooks_nothing_forged_counts_and_nothing_is_approved() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "gone-webhooks").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("run").await?;
    let (alice, mallory) = (lab.user("alice", "sre")?, lab.user("mallory", "developers")?);
    lab.delete_webhooks().await?;
    let patch = |who, patch: Value| space.patch(who, "run", patch);
    // The slot would wait for whoever writes next, and be sealed in their name.
    let review = json!({"spec": {"review": {"decision": "Approve", "digest": digest}}});
    let message = patch(&alice, review).refused().await?;
    assert!(message.contains("spec.review is a slot that Countersign's admission webhook empties"), "{message}");
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}]);
    for (change, expected) in [
        (json!({"spec": {"reviews": [entry("alice", "sre", &digest)]}}), "must be in the name of its author, mallory"),
        (
            json!({"spec": {"reviews": [entry("mallory", "sre", &digest)]}}),
            "must be in the name of its author, mallory",
        ),
        (
            json!({"spec": {"reviews": [entry("mallory", "developers", &digest), entry("mallory", "developers", &digest)]}}),
            "one review in a write",
        ),
        (json!({"spec": {"reason": "harmless"}}), "immutable"),
        (json!({"spec": {"requester": {"username": "mallory"}}}), "immutable"),
        (json!({"spec": {"cancel": true}}), "only the requester"),
        (json!({"metadata": {"labels": {"a": "b"}}}), "labels and annotations of a request"),
        (json!({"metadata": {"finalizers": []}}), "removed by the Countersign operator alone"),
        (
            json!({"metadata": {"finalizers": ["countersign.dev/record", "example.com/mine"]}}),
            "metadata.finalizers of a request cannot be changed",
        ),
        (
            json!({"metadata": {"ownerReferences": owner}}),
            "metadata.ownerReferences are changed by the Countersign operator alone",
        ),
    ] {
        let message = patch(&mallory, change.clone()).refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?} for {change}");
    }
    let status = json!({"status": {"state": "Released"}}).to_string();
    let write =
        ["patch", "apr", "run", "-n", "gone-webhooks", "--subresource=status", "--type=merge", "--patch", &status];
    assert!(mallory.kubectl(write).refused().await?.contains("written by the Countersign operator alone"));
    let policy_status = [
        "patch",
        "apol",
        "gone-webhooks",
        "--subresource=status",
        "--type=merge",
        "--patch",
        r#"{"status":{"snapshot":"x"}}"#,
    ];
    assert!(mallory.kubectl(policy_status).refused().await?.contains("written by the Countersign operator alone"));

    // In their own names, unsealed, even an approver's entry does not count.
    let own = json!({"spec": {"reviews": [entry("alice", "sre", &digest)]}});
    patch(&alice, own).ok().await?;
    let seen = space.wait("approvalrequests", "run", |r| {
        r["status"]["message"].as_str().is_some_and(|m| m.contains("1 review(s) were not sealed by admission"))
    });
    assert_eq!(seen.await?["status"]["summary"]["approvals"], "0/1");
    assert!(!space.started("run").await?);

    // An entry cannot be dropped or rewritten either, and with the webhook back alice decides as if nothing had been.
    let edited = json!({"spec": {"reviews": [entry("alice", "security", &digest)]}});
    assert!(patch(&mallory, edited).refused().await?.contains("append-only"));
    assert!(patch(&mallory, json!({"spec": {"reviews": null}})).refused().await?.contains("append-only"));
    lab.kill();
    lab.start().await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    let done = space.state("run", "Released").await?;
    assert_eq!(done["status"]["approvals"][0]["approvedBy"], json!(["alice"]));
    Ok(())
}

/// Without an answer nobody approves who rests on it, and the message says that nobody knows, not that they may not.
#[tokio::test]
async fn without_the_right_to_ask_the_authorizer_nobody_is_taken_for_authorized() -> Result<()> {
    let mut lab = lab().await?;
    let name = "gone-authorizer";
    let space = Space::new(lab.cluster, name).await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"] =
        json!([{"name": "authorized", "approvers": [{"kind": "Authorized", "name": name}]}]);
    space.policy(rules).await?;
    let rbac = "rbac.authorization.k8s.io";
    let grant = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": [
            {"apiGroups": ["countersign.dev"], "resources": ["approvalpolicies"], "resourceNames": [name], "verbs": ["approve"]}]},
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
         "subjects": [{"apiGroup": rbac, "kind": "User", "name": "alice"}]}]});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(grant.to_string()).ok().await?;
    let digest = space.bound("run").await?;
    let alice = lab.user("alice", "sre")?;
    lab.forbid("subjectaccessreviews").await?;
    // A new operator remembers no answers.
    lab.kill();
    lab.start().await?;
    let review = json!({"spec": {"review": {"decision": "Approve", "digest": digest}}}).to_string();
    let dry = ["patch", "apr", "run", "-n", name, "--dry-run=server", "--type=merge", "--patch", &review];
    let expected = format!("whether you may approve policy {name} cannot be asked now; try again");
    let began = std::time::Instant::now();
    loop {
        let output = alice.kubectl(dry).run().await?;
        if output.stderr.contains(&expected) {
            break;
        }
        anyhow::ensure!(began.elapsed().as_secs() < 40, "{} {}", output.stdout, output.stderr);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let message = space.review(&alice, "run", "Approve", &digest).refused().await?;
    assert!(message.contains(&expected), "{message}");
    assert!(
        !space.started("run").await? && space.get("approvalrequests", "run").await?["spec"].get("reviews").is_none()
    );
    lab.allow_all().await?;
    let began = std::time::Instant::now();
    while !space.review(&alice, "run", "Approve", &digest).run().await?.status.success() {
        anyhow::ensure!(began.elapsed().as_secs() < 40, "alice cannot approve, with the right back");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    space.state("run", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn without_webhooks_a_request_is_created_in_ones_own_name_or_not_at_all() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "gone-creation").await?;
    space.job("theirs").await?;
    let mallory = lab.user("mallory", "developers")?;
    lab.delete_webhooks().await?;
    let create = |body: Value| mallory.kubectl(["create", "-n", "gone-creation", "-f", "-"]).stdin(body.to_string());
    let stamped = |name: &str, target: Option<&str>| {
        let mut body = request(name, target);
        body["metadata"]["finalizers"] = json!(["countersign.dev/record"]);
        body["spec"]["requester"] = json!({"username": "mallory", "groups": ["developers", "system:authenticated"]});
        body
    };
    let with = |pointer: &str, value: Value| {
        let mut body = stamped("never", None);
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = body.pointer_mut(parent) {
            parent[name] = value;
        }
        body
    };
    for (body, expected) in [
        (request("never", None), "spec.requester is missing"),
        (with("/spec/requester", json!({"username": "alice"})), "spec.requester must be you, mallory"),
        (with("/spec/requester/groups", json!(["sre"])), "spec.requester must be you, mallory"),
        (with("/metadata/finalizers", json!([])), "metadata.finalizers must be exactly"),
        (
            with("/spec/reviews", json!([entry("mallory", "developers", &format!("sha256:{}", "0".repeat(64)))])),
            "spec.reviews must be empty",
        ),
        (with("/spec/cancel", json!(true)), "spec.cancel cannot be true"),
        (stamped("never", Some("theirs")), "mallory may not patch Job theirs"),
    ] {
        let message = create(body).refused().await?;
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
    create(stamped("own", None)).ok().await?;
    space.evaluated("own", "NoMatchingPolicy").await?;
    lab.kill();
    lab.start().await
}

#[tokio::test]
async fn what_was_withdrawn_or_deleted_while_the_operator_was_away_ends_on_its_return() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "gone-return").await?;
    let mut rules = by_sre();
    rules[0]["pendingTimeoutSeconds"] = json!(12);
    space.policy(rules).await?;
    for name in ["late", "jobless", "deleted"] {
        space.bound(name).await?;
    }
    lab.kill();
    space.triage.kubectl(["delete", "job", "jobless", "-n", "gone-return"]).ok().await?;
    space.admin.kubectl(["delete", "apr", "deleted", "-n", "gone-return", "--wait=false"]).ok().await?;
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    assert!(space.api("approvalrequests").get_opt("deleted").await?.is_some(), "the finalizer waits for the operator");
    lab.start().await?;
    space.state("late", "Expired").await?;
    space.state("jobless", "Cancelled").await?;
    let began = std::time::Instant::now();
    while space.api("approvalrequests").get_opt("deleted").await?.is_some() {
        anyhow::ensure!(began.elapsed().as_secs() < 20, "the request stays");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for job in ["late", "deleted"] {
        assert!(space.get("jobs", job).await?.pointer("/metadata/annotations/countersign.dev~1closed").is_some());
        assert!(!space.started(job).await?);
    }
    Ok(())
}
