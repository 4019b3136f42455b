//! The MutatingAdmissionPolicies are deleted: what is not held is refused, and the message says what is missing.

use crate::place::{cron_job, job, note};
use crate::support::countersign;
use crate::{Gate, refused};
use anyhow::{Result, ensure};
use serde_json::json;

/// Takes the holds away for the time of a case, and brings them back whatever came of it.
async fn without_holds(gate: &Gate, case: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        gate.admin().kubectl(["delete", kind, "-l", "app.kubernetes.io/name=countersign"]).ok().await?;
    }
    gate.until(&job("probe"), |text| text.contains("spec.suspend must be true")).await?;
    gate.until(&cron_job("probe"), |text| text.contains("is not what it must be")).await?;
    let outcome = case().await;
    countersign().install(gate.cluster).await?;
    gate.until_in_force().await?;
    outcome
}

pub async fn without_the_hold_an_unheld_job_is_refused(gate: &Gate) -> Result<()> {
    let place = gate.gated("holding-jobs").await?;
    let mallory = gate.mallory()?;
    without_holds(gate, async || {
        refused(place.create(&mallory, &job("a")), "spec.suspend must be true: namespace holding-jobs is gated")
            .await?;
        refused(place.create(&mallory, &job("a")), "MutatingAdmissionPolicy countersign-jobs nor its webhook").await?;
        let mut held = job("a");
        held["spec"]["suspend"] = json!(true);
        let unsigned = "created-by, created-by-uid and created-by-groups must be your own username, uid and groups";
        refused(place.create(&mallory, &held), unsigned).await?;
        let signed = json!({"countersign.dev/created-by": "mallory", "countersign.dev/created-by-uid": "",
            "countersign.dev/created-by-groups": "developers\nsystem:authenticated"});
        for (key, value) in [
            ("created-by", json!("alice")),
            ("created-by", serde_json::Value::Null),
            ("created-by-uid", json!("1")),
            ("created-by-uid", serde_json::Value::Null),
            ("created-by-groups", json!("sre\nsystem:authenticated")),
            ("created-by-groups", json!("developers\nsystem:authenticated\n")),
            ("created-by-groups", json!("system:authenticated\ndevelopers")),
        ] {
            held["metadata"]["annotations"] = signed.clone();
            let key = format!("countersign.dev/{key}");
            match held["metadata"]["annotations"].as_object_mut() {
                Some(annotations) if value.is_null() => annotations.remove(&key),
                Some(annotations) => annotations.insert(key, value),
                None => None,
            };
            refused(place.create(&mallory, &held), unsigned).await?;
        }
        held["metadata"]["annotations"] = signed;
        place.create(&mallory, &held).ok().await?;
        let start = json!({"spec": {"suspend": false}});
        refused(place.merge(&mallory, "job/a", start), "the Countersign operator alone starts a Job").await?;
        place.nothing_ran().await
    })
    .await
}

pub async fn without_the_hold_an_unsigned_cron_job_is_refused(gate: &Gate) -> Result<()> {
    let place = gate.gated("holding-cron").await?;
    let mallory = gate.mallory()?;
    place.create(&gate.alice()?, &cron_job("before")).ok().await?;
    without_holds(gate, async || {
        let unsigned = "countersign.dev/authored-by is not what it must be";
        refused(place.create(&mallory, &cron_job("a")), unsigned).await?;
        let by = |name: &str| json!({"annotations": {"countersign.dev/authored-by": name}});
        let mut body = cron_job("a");
        body["spec"]["jobTemplate"]["metadata"] = by("alice");
        refused(place.create(&mallory, &body), unsigned).await?;
        body["spec"]["jobTemplate"]["metadata"] = by("mallory");
        place.create(&mallory, &body).ok().await?;
        let schedule =
            |by: serde_json::Value| json!({"spec": {"schedule": "1 0 29 2 *", "jobTemplate": {"metadata": by}}});
        for wrong in [json!({}), by("alice"), by("mallory"), by("mallory\nalice"), json!({"annotations": null})] {
            refused(place.merge(&mallory, "cronjob/before", schedule(wrong)), unsigned).await?;
        }
        place.merge(&mallory, "cronjob/before", schedule(by("alice\nmallory"))).ok().await?;
        let rename = json!({"spec": {"jobTemplate": {"metadata": by("alice")}}});
        refused(place.merge(&mallory, "cronjob/before", rename), unsigned).await
    })
    .await
}

pub async fn without_the_hold_an_override_is_signed_by_hand(gate: &Gate) -> Result<()> {
    let place = gate.gated("holding-override").await?;
    let bob = gate.bob()?;
    place.held(&gate.alice()?, "a").await?;
    without_holds(gate, async || {
        let unsigned = "countersign.dev/overridden-by must be your own username";
        let by = |name: Option<&str>| {
            json!({"spec": {"suspend": false}, "metadata": {"annotations": {
                "countersign.dev/override-reason": "production burns", "countersign.dev/overridden-by": name}}})
        };
        refused(place.merge(&bob, "job/a", by(None)), unsigned).await?;
        refused(place.merge(&bob, "job/a", by(Some("alice"))), unsigned).await?;
        place.merge(&bob, "job/a", by(Some("bob"))).ok().await?;
        let stored = place.get("job/a").await?;
        ensure!(stored["spec"]["suspend"] == false && note(&stored, "overridden-by") == Some("bob"), "{stored:#}");
        Ok(())
    })
    .await
}
