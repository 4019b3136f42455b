//! The way out: whoever holds the verb `override` starts a Job without approval, says why, and changes nothing else.

use crate::place::note;
use crate::started::{bounded, keeps_its_bounds};
use crate::{Gate, eventually, refused};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

const ALONE: &str = "the Countersign operator alone starts a Job";

fn override_for(reason: &str) -> Value {
    json!({"spec": {"suspend": false}, "metadata": {"annotations": {"countersign.dev/override-reason": reason}}})
}

fn with(mut patch: Value, pointer: &str, key: &str, value: Value) -> Value {
    let mut at = &mut patch;
    for part in pointer.split('/') {
        at = &mut at[part];
    }
    at[key] = value;
    patch
}

pub async fn an_override_starts_the_job_and_says_who(gate: &Gate) -> Result<()> {
    let place = gate.gated("override-who").await?;
    let bob = gate.bob()?;
    place.held(&gate.alice()?, "a").await?;
    place.nothing_ran().await?;
    // In whose name is not bob's to say.
    let forged =
        with(override_for("production burns"), "metadata/annotations", "countersign.dev/overridden-by", json!("alice"));
    place.merge(&bob, "job/a", forged).ok().await?;
    let stored = place.get("job/a").await?;
    ensure!(note(&stored, "overridden-by") == Some("bob"), "{stored:#}");
    ensure!(note(&stored, "override-reason") == Some("production burns"), "{stored:#}");
    eventually("its Pods run", async || {
        let pods = place.kubectl(&bob, &["get", "pods", "-o", "name"]).ok().await?;
        Ok((!pods.trim().is_empty()).then_some(()))
    })
    .await?;
    // By a JSON patch, as well.
    place.held(&gate.alice()?, "b").await?;
    let patch = json!([{"op": "replace", "path": "/spec/suspend", "value": false},
        {"op": "add", "path": "/metadata/annotations/countersign.dev~1override-reason", "value": "it burns"}]);
    place.json_patch(&bob, "job/b", patch).ok().await?;
    ensure!(note(&place.get("job/b").await?, "overridden-by") == Some("bob"));
    Ok(())
}

pub async fn an_override_is_nothing_else(gate: &Gate) -> Result<()> {
    let place = gate.gated("override-else").await?;
    let bob = gate.bob()?;
    place.held(&gate.alice()?, "a").await?;
    refused(place.merge(&bob, "job/a", json!({"spec": {"suspend": false}})), ALONE).await?;
    for reason in ["", " ", "\n\t "] {
        refused(place.merge(&bob, "job/a", override_for(reason)), "override-reason must say why").await?;
    }
    refused(place.merge(&bob, "job/a", override_for(&"a".repeat(1025))), "1 to 1024 characters").await?;
    let nothing_else = "An override changes spec.suspend and the annotation countersign.dev/override-reason";
    let reason = override_for("production burns");
    for (pointer, key, value) in [
        ("spec", "activeDeadlineSeconds", json!(60)),
        ("spec", "parallelism", json!(2)),
        ("spec", "ttlSecondsAfterFinished", json!(60)),
        ("spec/template/metadata/labels", "team", json!("a")),
        ("spec/template/spec", "nodeSelector", json!({"disk": "fast"})),
        ("metadata/labels", "team", json!("a")),
        ("metadata/annotations", "team", json!("a")),
        ("metadata/annotations", "countersign.dev/created-by", json!("bob")),
        ("metadata/annotations", "countersign.dev/created-by", Value::Null),
        ("metadata/annotations", "countersign.dev/released", json!("sha256:forged")),
        ("metadata", "finalizers", json!(["example.com/mine"])),
        ("metadata", "ownerReferences", json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}])),
    ] {
        let patch = with(reason.clone(), pointer, key, value);
        refused(place.merge(&bob, "job/a", patch), nothing_else).await?;
    }
    // The reason alone, or through a subresource, says that somebody did what nobody did.
    let alone = json!({"metadata": reason["metadata"]});
    refused(place.merge(&bob, "job/a", alone), "only in the patch that also sets").await?;
    refused(place.merge_sub(&bob, "job/a", "status", reason.clone()), "labels and annotations of countersign.dev/")
        .await?;
    place.nothing_ran().await?;
    let mut born = crate::place::job("born");
    born["metadata"]["annotations"] = reason["metadata"]["annotations"].clone();
    refused(place.create(&bob, &born), "a new Job cannot carry countersign.dev/override-reason").await?;
    place.merge(&bob, "job/a", reason).ok().await?;
    Ok(())
}

pub async fn only_holders_of_the_verb_override(gate: &Gate) -> Result<()> {
    let place = gate.gated("override-verb").await?;
    let mallory = gate.mallory()?;
    place.held(&mallory, "a").await?;
    let patch = with(override_for("mine"), "metadata/annotations", "countersign.dev/overridden-by", json!("bob"));
    for patch in [override_for("mine"), patch] {
        let message = place.merge(&mallory, "job/a", patch).refused().await?;
        ensure!(message.contains("takes the verb override on approvalrequests.countersign.dev"), "{message}");
        ensure!(message.contains("`kubectl get apr -n override-verb`"), "{message}");
    }
    // The verb counts where the Job is.
    let other = gate.gated("override-elsewhere").await?;
    let role = ["create", "rolebinding", "mallory", "--clusterrole=test-override", "--user=mallory"];
    other.kubectl(&gate.admin(), &role).ok().await?;
    other.held(&mallory, "a").await?;
    eventually("the role is in force", async || {
        Ok(other.merge(&mallory, "job/a", override_for("it burns")).run().await?.status.success().then_some(()))
    })
    .await?;
    refused(place.merge(&mallory, "job/a", override_for("it burns")), "takes the verb override").await?;
    place.nothing_ran().await
}

pub async fn an_overridden_job_keeps_its_bounds_and_each_start_its_reason(gate: &Gate) -> Result<()> {
    let place = gate.gated("override-after").await?;
    let (bob, mallory) = (gate.bob()?, gate.mallory()?);
    place.create(&mallory, &bounded("a")).ok().await?;
    place.merge(&bob, "job/a", override_for("first")).ok().await?;
    for who in [&mallory, &bob] {
        keeps_its_bounds(&place, who, "a").await?;
    }
    let rewrite = json!({"metadata": {"annotations": {"countersign.dev/override-reason": "harmless"}}});
    let kept = "labels and annotations of countersign.dev/ are set at creation";
    refused(place.merge(&bob, "job/a", rewrite), kept).await?;
    let erase = json!({"metadata": {"annotations": {"countersign.dev/overridden-by": null}}});
    refused(place.merge(&bob, "job/a", erase), kept).await?;
    place.merge(&mallory, "job/a", json!({"spec": {"suspend": true}})).ok().await?;
    // What was said the last time is no reason to start it again, and nobody else rides on it.
    for who in [&bob, &mallory] {
        refused(place.merge(who, "job/a", json!({"spec": {"suspend": false}})), ALONE).await?;
        refused(place.merge(who, "job/a", override_for("first")), ALONE).await?;
    }
    refused(place.merge(&mallory, "job/a", override_for("second")), "takes the verb override").await?;
    place.merge(&bob, "job/a", override_for("second")).ok().await?;
    let stored = place.get("job/a").await?;
    ensure!(note(&stored, "override-reason") == Some("second") && stored["spec"]["suspend"] == false, "{stored:#}");
    Ok(())
}
