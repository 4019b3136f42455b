//! The labels that gate a namespace.

use crate::place::job;
use crate::{Gate, eventually, refused};
use anyhow::{Result, ensure};
use countersign_testbed::{Identity, Kubectl};
use serde_json::{Value, json};

const UNGATE: &str = "takes the verb ungate on approvalpolicies.countersign.dev";

fn labels(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

fn merge(who: &Identity, name: &str, patch: &Value) -> Kubectl {
    who.kubectl(["patch", "namespace", name, "--type=merge", "--patch", &patch.to_string()])
}

/// The same change by every path there is: each has to be refused so.
async fn refused_everywhere(gate: &Gate, who: &Identity, name: &str, change: Value, expected: &str) -> Result<()> {
    let patch = labels(change.clone());
    refused(merge(who, name, &patch), expected).await?;
    let strategic = ["patch", "namespace", name, "--type=strategic", "--patch", &patch.to_string()];
    refused(who.kubectl(strategic), expected).await?;
    let status = ["patch", "namespace", name, "--subresource=status", "--type=merge", "--patch", &patch.to_string()];
    refused(who.kubectl(status), expected).await?;
    let mut stored = gate.admin().kubectl(["get", "namespace", name]).json().await?;
    for (key, value) in change.as_object().into_iter().flatten() {
        if let Some(labels) = stored["metadata"]["labels"].as_object_mut() {
            if value.is_null() {
                labels.remove(key)
            } else {
                labels.insert(key.clone(), value.clone())
            };
        }
    }
    refused(who.kubectl(["replace", "-f", "-"]).stdin(stored.to_string()), expected).await?;
    for subresource in ["status", "finalize"] {
        let path = format!("/api/v1/namespaces/{name}/{subresource}");
        refused(who.kubectl(["replace", "--raw", &path, "-f", "-"]).stdin(stored.to_string()), expected).await?;
    }
    Ok(())
}

pub async fn a_gate_is_not_taken_off_without_ungate(gate: &Gate) -> Result<()> {
    let place = gate.gated("space-ungate").await?;
    let (mallory, carol) = (gate.mallory()?, gate.carol()?);
    for change in [json!({"countersign.dev/gate": null}), json!({"countersign.dev/gate": "warn"})] {
        refused_everywhere(gate, &mallory, "space-ungate", change, UNGATE).await?;
    }
    refused(merge(&mallory, "space-ungate", &json!({"metadata": {"labels": null}})), UNGATE).await?;
    // Who made the namespace has no more right to it, and neither has who may override.
    refused(merge(&gate.bob()?, "space-ungate", &labels(json!({"countersign.dev/gate": null}))), UNGATE).await?;
    place.held(&mallory, "a").await?;
    place.nothing_ran().await?;
    // Labels of their own are theirs.
    merge(&mallory, "space-ungate", &labels(json!({"team": "a"}))).ok().await?;
    merge(&carol, "space-ungate", &labels(json!({"countersign.dev/gate": null}))).ok().await?;
    merge(&mallory, "space-ungate", &labels(json!({"countersign.dev/gate": "enforce"}))).ok().await?;
    Ok(())
}

pub async fn a_gated_namespace_is_not_opened_without_ungate(gate: &Gate) -> Result<()> {
    gate.gated("space-open").await?;
    let (mallory, carol) = (gate.mallory()?, gate.carol()?);
    for label in ["countersign.dev/workloads", "countersign.dev/exec"] {
        let expected = format!("{label}: allow lets into the gated namespace space-open what nobody approves");
        refused_everywhere(gate, &mallory, "space-open", json!({label: "allow"}), &expected).await?;
        merge(&carol, "space-open", &labels(json!({label: "allow"}))).ok().await?;
        // Closing takes nothing.
        merge(&mallory, "space-open", &labels(json!({label: null}))).ok().await?;
        merge(&mallory, "space-open", &labels(json!({label: "no"}))).ok().await?;
        refused_everywhere(gate, &mallory, "space-open", json!({label: "allow"}), &expected).await?;
    }
    // Nor along with taking the gate off, which is the greater of the two.
    let both = json!({"countersign.dev/gate": null, "countersign.dev/exec": "allow"});
    refused(merge(&mallory, "space-open", &labels(both)), UNGATE).await?;
    // Whoever gates a namespace says in the same write what it lets in.
    gate.labelled("space-later", json!({})).await?;
    let gated = json!({"countersign.dev/gate": "enforce", "countersign.dev/workloads": "allow"});
    merge(&mallory, "space-later", &labels(gated)).ok().await?;
    refused(merge(&mallory, "space-later", &labels(json!({"countersign.dev/exec": "allow"}))), UNGATE).await
}

pub async fn the_gate_says_enforce_or_warn(gate: &Gate) -> Result<()> {
    let mallory = gate.mallory()?;
    gate.labelled("space-words", json!({"countersign.dev/gate": "warn"})).await?;
    let expected = "countersign.dev/gate must be enforce (what is gated waits for approval) or warn";
    for word in ["", "Enforce", "enforced", "true", "off"] {
        let change = json!({"countersign.dev/gate": word});
        refused_everywhere(gate, &mallory, "space-words", change.clone(), expected).await?;
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "space-never", "labels": change}});
        refused(mallory.kubectl(["create", "-f", "-"]).stdin(body.to_string()), expected).await?;
    }
    merge(&mallory, "space-words", &labels(json!({"countersign.dev/gate": null}))).ok().await?;
    Ok(())
}

pub async fn the_system_is_never_gated(gate: &Gate) -> Result<()> {
    let mallory = gate.mallory()?;
    for name in ["kube-system", "kube-public", "kube-node-lease", "countersign-system"] {
        let expected = format!("namespace {name} cannot be gated (countersign.dev/gate: enforce)");
        for who in [&mallory, &gate.admin()] {
            refused_everywhere(gate, who, name, json!({"countersign.dev/gate": "enforce"}), &expected).await?;
        }
    }
    Ok(())
}

pub async fn nobody_renames_a_namespace_out_of_the_gate(gate: &Gate) -> Result<()> {
    // The guards leave out the system's namespaces by this label. The API server writes it itself, whatever is asked.
    let place = gate.gated("space-name").await?;
    let mallory = gate.mallory()?;
    for name in [json!("kube-system"), json!("countersign-system"), Value::Null] {
        let patch = labels(json!({"kubernetes.io/metadata.name": name}));
        merge(&mallory, "space-name", &patch).run().await?;
        let status = ["patch", "namespace", "space-name", "--subresource=status", "--type=merge", "--patch"];
        mallory.kubectl(status.into_iter().chain([patch.to_string().as_str()])).run().await?;
        let stored = mallory.kubectl(["get", "namespace", "space-name"]).json().await?;
        ensure!(stored["metadata"]["labels"]["kubernetes.io/metadata.name"] == "space-name", "{stored:#}");
    }
    place.create(&mallory, &job("a")).ok().await?;
    place.nothing_ran().await
}

pub async fn a_gated_namespace_can_be_deleted(gate: &Gate) -> Result<()> {
    let place = gate.gated("space-delete").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.held(&mallory, "held").await?;
    place.held(&mallory, "ran").await?;
    place.release(&operator, "ran", json!({})).await?;
    place.create(&mallory, &crate::place::cron_job("nightly")).ok().await?;
    let mut request = crate::support::request("open", Some("held"));
    request["metadata"]["finalizers"] = json!(["countersign.dev/record"]);
    request["spec"]["requester"] = json!({"username": "mallory", "groups": ["developers", "system:authenticated"]});
    place.create(&mallory, &request).ok().await?;
    mallory.kubectl(["delete", "namespace", "space-delete", "--wait=false"]).ok().await?;
    // Its finalizer is what is left for the operator to take off, and it may.
    eventually("the request is asked to go", async || {
        let left = place.kubectl(&mallory, &["get", "apr", "open", "-o", "json"]).run().await?;
        Ok((!left.status.success() || left.stdout.contains("deletionTimestamp")).then_some(()))
    })
    .await?;
    place.merge(&operator, "apr/open", json!({"metadata": {"finalizers": []}})).run().await?;
    eventually("the namespace is gone", async || {
        Ok((!mallory.kubectl(["get", "namespace", "space-delete"]).run().await?.status.success()).then_some(()))
    })
    .await
}
