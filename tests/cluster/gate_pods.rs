//! Bare Pods in a gated namespace, and what a Job or Pod reads.

use crate::support::{Space, by_sre, cluster, conditions, job, merge};
use anyhow::{Context, Result};
use serde_json::{Value, json};

fn rules() -> Value {
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    rules
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/tool:1"}]}})
}

fn running(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Running" | "Succeeded"))
}

#[tokio::test]
async fn a_bare_pod_is_held_asked_for_and_let_go_on_approval() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "pods-ask").await?;
    space.policy(rules()).await?;
    space.create(&pod("tool")).await?;
    let asked = space.request_for("tool").await?;
    let target = &asked["spec"]["target"];
    assert_eq!((&target["kind"], &target["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(asked["spec"]["requester"]["username"], "system:serviceaccount:pods-ask:triage");
    let held = space.get("pods", "tool").await?;
    assert_eq!(held["spec"]["schedulingGates"], json!([{"name": "countersign.dev/approval"}]));
    space.approve(&cluster.user("alice", &["sre"])?, "tool").await?;
    let freed = space.wait("pods", "tool", running).await?;
    assert_eq!(freed["spec"]["activeDeadlineSeconds"], 900, "the bounds of the policy hold for a Pod too");
    assert!(freed["metadata"]["annotations"]["countersign.dev/receipt"].is_string());
    Ok(())
}

#[tokio::test]
async fn a_pod_that_policy_allows_runs_and_one_that_it_denies_is_refused() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "pods-allow").await?;
    space.policy(json!([{"name": "harmless", "decision": "Allow"}])).await?;
    space.create(&pod("free")).await?;
    space.wait("pods", "free", running).await?;
    assert!(space.api("approvalrequests").list(&Default::default()).await?.items.is_empty());
    space
        .named_policy("pods-allow-never", json!([{"name": "never", "decision": "Deny", "reason": "no bare Pods"}]))
        .await?;
    let create = space.triage.kubectl(["create", "-n", "pods-allow", "-f", "-"]).stdin(pod("never").to_string());
    let message = create.refused().await?;
    assert!(message.contains("denied by rule pods-allow-never/never: no bare Pods"), "{message}");
    Ok(())
}

fn config_map(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "script"}, "data": {"run.sh": text}})
}

fn mounting(name: &str) -> Value {
    let mut job = job(name);
    job["spec"]["template"]["spec"]["volumes"] = json!([{"name": "script", "configMap": {"name": "script"}}]);
    job
}

#[tokio::test]
async fn a_config_map_that_is_swapped_after_the_review_voids_the_approval() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "inputs-swap").await?;
    let mut rules = rules();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    space.policy(rules).await?;
    space.create(&config_map("echo fine")).await?;
    space.create(&mounting("work")).await?;
    let asked = space.request_for("work").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    let shown = space.get("approvalrequests", name).await?;
    assert_eq!(shown["status"]["inputs"][0]["name"], "script");
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    space.review(&alice, name, "Approve", &digest).ok().await?;
    // Swapped between the first word and the second: alice saw something else.
    merge(&space.api("configmaps"), "script", &json!({"data": {"run.sh": "rm -rf /"}})).await?;
    let anew = space.wait("approvalrequests", name, |r| r["status"]["digest"] != json!(digest)).await?;
    let message = anew["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("a ConfigMap or Secret that it reads changed"), "{message}");
    assert_eq!(anew["status"]["summary"]["approvals"], "0/2");
    let stale = space.review(&bob, name, "Approve", &digest).refused().await?;
    assert!(stale.contains("is not what stands here now"), "{stale}");
    assert!(!space.started("work").await?);
    Ok(())
}

#[tokio::test]
async fn where_a_rule_demands_it_inputs_are_immutable_and_locked_and_images_pinned() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "inputs-locked").await?;
    let mut rules = rules();
    rules[0]["requireImmutableInputs"] = json!(true);
    rules[0]["requireImageDigests"] = json!(true);
    space.policy(rules).await?;
    space.create(&config_map("echo fine")).await?;
    space.create(&mounting("by-tag")).await?;
    let asked = space.request_for("by-tag").await?;
    assert!(conditions(&asked).any(|c| c["reason"] == "InputsNotImmutable"), "{asked:#}");
    let lock = json!({"immutable": true, "metadata": {"labels": {"countersign.dev/input": "locked"}}});
    merge(&space.api("configmaps"), "script", &lock).await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let still = space.evaluated(name, "ImagesNotPinned").await?;
    assert!(still["status"]["message"].as_str().is_some_and(|m| m.contains("localhost/remediate:1")), "{still:#}");
    let mut pinned = mounting("pinned");
    let image = format!("localhost/remediate@sha256:{}", "0".repeat(64));
    pinned["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    space.create(&pinned).await?;
    space.approve(&cluster.user("alice", &["sre"])?, "pinned").await?;
    let message = space.triage.kubectl(["delete", "configmap", "script", "-n", "inputs-locked"]).refused().await?;
    assert!(message.contains("locked"), "{message}");
    Ok(())
}
