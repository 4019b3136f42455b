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

/// A review as the operator's webhook would seal it for whoever reaches it, appended in mallory's own name.
pub async fn a_review_claims_no_grant_that_its_author_does_not_hold(gate: &Gate) -> Result<()> {
    let place = gate.gated("requests-granted").await?;
    let (mallory, bob, admin) = (gate.mallory()?, gate.bob()?, gate.admin());
    let approve = json!({"apiGroups": ["countersign.dev"], "resources": ["approvalpolicies"], "resourceNames": ["p00"],
        "verbs": ["approve"]});
    let rbac = "rbac.authorization.k8s.io";
    let granted = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": "test-approve"}, "rules": [approve]},
        {"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "test-approve"},
         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "test-approve"},
         "subjects": [{"apiGroup": rbac, "kind": "User", "name": "bob"}]}]});
    admin.kubectl(["apply", "-f", "-"]).stdin(granted.to_string()).ok().await?;
    let who = admin.kubectl(["auth", "whoami", "-o", "json"]).json().await?;
    let admin_name = who["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_string();
    let append = |who: &Identity, name: &str, username: &str, policies: usize| {
        let authorized: Vec<String> = (0..policies).map(|i| format!("p{i:02}")).collect();
        let entry = json!({"reviewer": {"username": username, "authorized": authorized}, "decision": "Approve",
            "digest": format!("sha256:{}", "0".repeat(64)), "time": "2026-01-01T00:00:00.000000Z", "seal": "sealed"});
        place.merge(who, &format!("apr/{name}"), json!({"spec": {"reviews": [entry]}}))
    };
    for name in ["a", "b", "c", "d", "e"] {
        place.create(&mallory, &request(name, None)).ok().await?;
    }
    let forged = "spec.reviews: the new review names policies on which mallory does not hold the verb approve";
    refused(append(&mallory, "a", "mallory", 1), forged).await?;
    refused(append(&mallory, "a", "mallory", 16), forged).await?;
    // One that she holds does not lend her the others.
    let other = "spec.reviews: the new review names policies on which bob does not hold the verb approve";
    refused(append(&bob, "b", "bob", 2), other).await?;
    eventually("the grant is there", async || {
        Ok(append(&bob, "b", "bob", 1).run().await?.status.success().then_some(()))
    })
    .await?;
    append(&mallory, "c", "mallory", 0).ok().await?;
    // As many as a request can ask about cost no more than the API server spends; more are refused.
    append(&admin, "d", &admin_name, 16).ok().await?;
    refused(append(&admin, "e", &admin_name, 17), "does not hold the verb approve, or more than 16").await?;
    Ok(())
}
