//! Objects that were stored while nobody checked them: broken policies, and requests that cannot be read.

use crate::lab;
use crate::support::{Space, by_sre, conditions, policy};
use anyhow::{Context, Result};
use serde_json::{Value, json};

#[tokio::test]
async fn a_broken_policy_says_so_and_holds_what_it_might_cover() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "stored-policy").await?;
    let elsewhere = Space::new(lab.cluster, "stored-elsewhere").await?;
    space.policy(by_sre()).await?;
    elsewhere.policy(by_sre()).await?;
    let (digest, other) = (space.bound("run").await?, elsewhere.bound("run").await?);
    let alice = lab.user("alice", "sre")?;
    lab.delete_webhooks().await?;
    let mut broken = policy("stored-broken", "stored-policy", by_sre());
    broken["spec"]["rules"][0]["when"] = json!({"namespaceSelector": {"matchLabels": {"bad key!": "x"}}});
    broken["metadata"]["finalizers"] = json!(["example.com/gitops"]);
    space.admin.kubectl(["create", "-f", "-"]).stdin(broken.to_string()).ok().await?;
    let status = space.wait("approvalpolicies", "stored-broken", |p| conditions(p).next().is_some()).await?;
    let ready = conditions(&status).next().context("Ready")?;
    assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
    let message = ready["message"].as_str().context("message")?;
    assert!(
        message.contains("spec.rules[prod-write].when.namespaceSelector.matchLabels: \"bad key!\" is not a label key"),
        "{message}"
    );
    let held = space.evaluated("run", "PolicyNotReady").await?;
    assert!(
        held["status"]["message"].as_str().is_some_and(|m| m.contains("policy stored-broken does not compile")),
        "{held}"
    );
    lab.kill();
    lab.start().await?;
    let refused = space.review(&alice, "run", "Approve", &digest).refused().await?;
    assert!(refused.contains("cannot be reviewed now: policy stored-broken does not compile"), "{refused}");
    // What it cannot cover goes on.
    elsewhere.review(&alice, "run", "Approve", &other).ok().await?;
    elsewhere.state("run", "Released").await?;
    assert!(!space.started("run").await?);
    // Whoever delivered it takes it away again, finalizer and all, while admission watches.
    space.admin.kubectl(["delete", "apol", "stored-broken", "--wait=false"]).ok().await?;
    let let_go = r#"{"metadata":{"finalizers":null}}"#;
    space.admin.kubectl(["patch", "apol", "stored-broken", "--type=merge", "--patch", let_go]).ok().await?;
    space.evaluated("run", "Bound").await?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_cannot_be_read_stalls_nothing_and_is_not_approved() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::new(lab.cluster, "stored-request").await?;
    space.policy(by_sre()).await?;
    let admin = lab.cluster.admin();
    let crd = admin.kubectl(["get", "crd", "approvalrequests.countersign.dev"]).json().await?;
    // As an older CRD might have allowed: no types at all in the spec.
    lab.delete_webhooks().await?;
    let mut lax = crd.clone();
    let schema = lax.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").context("spec schema")?;
    *schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    replace_crd(&admin, lax).await?;
    let bindings = ["delete", "validatingadmissionpolicybinding", "countersign-requests"];
    admin.kubectl(bindings).ok().await?;
    let broken = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "broken", "finalizers": ["countersign.dev/record"]}, "spec": {"runID": {"not": "text"}, "reviews": "many", "target": 7}});
    let made = until_ok(|| {
        admin.kubectl(["create", "-n", "stored-request", "--validate=ignore", "-f", "-"]).stdin(broken.to_string())
    })
    .await;
    replace_crd(&admin, crd).await?;
    crate::support::countersign().install(lab.cluster).await?;
    made?;
    lab.kill();
    lab.start().await?;
    let digest = space.bound("run").await?;
    let alice = lab.user("alice", "sre")?;
    space.review(&alice, "run", "Approve", &digest).ok().await?;
    space.state("run", "Released").await?;
    let left = space.get("approvalrequests", "broken").await?;
    assert_eq!(left.get("status"), None);
    let refused = space.review(&alice, "broken", "Approve", &digest).refused().await?;
    assert!(refused.contains("cannot be reviewed now"), "{refused}");
    assert!(
        lab.operator.as_ref().is_some_and(|o| o.log().contains("a stored request cannot be read; it is not approved"))
    );
    Ok(())
}

async fn replace_crd(admin: &countersign_testbed::Identity, mut crd: Value) -> Result<()> {
    if let Some(metadata) = crd["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    admin.kubectl(["replace", "-f", "-"]).stdin(crd.to_string()).ok().await?;
    Ok(())
}

/// A changed CRD and a deleted binding take effect some time later.
async fn until_ok(command: impl Fn() -> countersign_testbed::Kubectl) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        match command().ok().await {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed().as_secs() > 20 => return Err(error),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}
