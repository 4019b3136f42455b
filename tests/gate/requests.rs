//! A request that a gated Job waits for does not vanish.

use crate::place::Place;
use crate::{Gate, eventually, refused};
use anyhow::{Result, ensure};
use countersign_testbed::Identity;
use serde_json::{Value, json};

const OPEN: &str =
    "waits for it in a gated namespace, so it cannot be deleted. Its requester withdraws it with spec.cancel";

/// A request by mallory as admission leaves it, so that it is taken with and without the webhook.
fn request(name: &str, target: Option<&str>) -> Value {
    let mut body = crate::support::request(name, target);
    body["metadata"]["finalizers"] = json!(["countersign.dev/record"]);
    body["spec"]["requester"] = json!({"username": "mallory", "groups": ["developers", "system:authenticated"]});
    body
}

async fn state(place: &Place, operator: &Identity, name: &str, state: &str) -> Result<()> {
    let patch = json!({"status": {"state": state, "message": "by a test"}});
    place.merge_sub(operator, &format!("apr/{name}"), "status", patch).ok().await?;
    Ok(())
}

async fn is_deleted(place: &Place, name: &str) -> Result<bool> {
    Ok(place.get(&format!("apr/{name}")).await?["metadata"].get("deletionTimestamp").is_some())
}

pub async fn an_open_request_is_not_deleted(gate: &Gate) -> Result<()> {
    let place = gate.gated("requests-open").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.held(&mallory, "a").await?;
    place.create(&mallory, &request("a", Some("a"))).ok().await?;
    for waiting in ["", "Pending", "Approved"] {
        if !waiting.is_empty() {
            state(&place, &operator, "a", waiting).await?;
        }
        for who in [&mallory, &gate.admin()] {
            let delete = ["delete", "apr", "a", "--wait=false"];
            refused(place.kubectl(who, &delete), OPEN).await?;
            refused(place.kubectl(who, &["delete", "apr", "--all", "--wait=false"]), OPEN).await?;
            let path = "/apis/countersign.dev/v1alpha1/namespaces/requests-open/approvalrequests";
            refused(who.kubectl(["delete", "--raw", path]), OPEN).await?;
        }
    }
    ensure!(!is_deleted(&place, "a").await?);
    // One that nothing waits for, or in a namespace that is not gated, goes.
    place.create(&mallory, &request("free", None)).ok().await?;
    place.kubectl(&mallory, &["delete", "apr", "free", "--wait=false"]).ok().await?;
    let warn = gate.labelled("requests-warn", json!({"countersign.dev/gate": "warn"})).await?;
    warn.create(&mallory, &request("a", Some("a"))).ok().await?;
    warn.kubectl(&mallory, &["delete", "apr", "a", "--wait=false"]).ok().await?;
    Ok(())
}

pub async fn an_ended_request_is(gate: &Gate) -> Result<()> {
    let place = gate.gated("requests-ended").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    for end in ["Released", "Denied", "Expired", "Cancelled"] {
        let name = end.to_lowercase();
        place.create(&mallory, &request(&name, Some(&name))).ok().await?;
        state(&place, &operator, &name, end).await?;
        let delete = ["delete", "apr", &name, "--wait=false"];
        place.kubectl(&mallory, &delete).ok().await?;
        // Its finalizer waits for the operator; asking twice is no offence.
        if place.kubectl(&mallory, &["get", "apr", &name]).run().await?.status.success() {
            place.kubectl(&mallory, &["delete", "apr", &name, "--wait=false", "--ignore-not-found"]).ok().await?;
        }
    }
    Ok(())
}

pub async fn what_cleans_up_deletes_requests(gate: &Gate) -> Result<()> {
    let place = gate.gated("requests-collected").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.held(&mallory, "a").await?;
    let uid = place.get("job/a").await?["metadata"]["uid"].clone();
    place.create(&mallory, &request("owned", Some("a"))).ok().await?;
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": uid}]);
    place.merge(&operator, "apr/owned", json!({"metadata": {"ownerReferences": owner}})).ok().await?;
    refused(place.kubectl(&mallory, &["delete", "apr", "owned", "--wait=false"]), OPEN).await?;
    place.kubectl(&mallory, &["delete", "job", "a"]).ok().await?;
    let path = "apr/owned";
    eventually("garbage collection deletes it", async || {
        let left = place.kubectl(&mallory, &["get", path, "-o", "json"]).run().await?;
        Ok((!left.status.success() || left.stdout.contains("deletionTimestamp")).then_some(()))
    })
    .await
}
