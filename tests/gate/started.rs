//! What may still be changed once a Job was started.

use crate::place::{Place, job, note};
use crate::{Gate, refused};
use anyhow::{Result, ensure};
use countersign_testbed::Identity;
use serde_json::{Value, json};

/// A Job with every bound there is.
pub fn bounded(name: &str) -> Value {
    let mut body = job(name);
    let bounds = json!({"activeDeadlineSeconds": 600, "backoffLimit": 5, "backoffLimitPerIndex": 1, "completionMode": "Indexed",
        "completions": 4, "maxFailedIndexes": 2, "parallelism": 2, "ttlSecondsAfterFinished": 3600});
    for (key, value) in bounds.as_object().into_iter().flatten() {
        body["spec"][key] = value.clone();
    }
    body
}

/// Every way to loosen such a Job is refused to `who`.
pub async fn keeps_its_bounds(place: &Place, who: &Identity, name: &str) -> Result<()> {
    let target = format!("job/{name}");
    for (spec, expected) in [
        (
            json!({"activeDeadlineSeconds": 601}),
            "spec.activeDeadlineSeconds of a Job that was started may only be tightened",
        ),
        (json!({"activeDeadlineSeconds": null}), "keep it at 600 or less"),
        (json!({"backoffLimit": 6}), "spec.backoffLimit of a Job that was started may only be tightened"),
        (json!({"backoffLimit": null}), "keep it at 5 or less"),
        (json!({"parallelism": 3}), "spec.parallelism of a Job that was started may only be tightened: keep it at 2"),
        (json!({"completions": 2}), "completions, maxFailedIndexes and podReplacementPolicy"),
        (json!({"maxFailedIndexes": 3}), "completions, maxFailedIndexes and podReplacementPolicy"),
        (json!({"maxFailedIndexes": null}), "completions, maxFailedIndexes and podReplacementPolicy"),
        (json!({"podReplacementPolicy": "Failed"}), "completions, maxFailedIndexes and podReplacementPolicy"),
        (json!({"ttlSecondsAfterFinished": 3599}), "spec.ttlSecondsAfterFinished of a Job that was started"),
        (json!({"ttlSecondsAfterFinished": 0}), "cannot be set anew or shortened"),
        // Together with what is allowed, too.
        (json!({"suspend": true, "activeDeadlineSeconds": 900}), "may only be tightened"),
    ] {
        refused(place.merge(who, &target, json!({"spec": spec})), expected).await?;
    }
    Ok(())
}

pub async fn bounds_are_tightened_and_never_loosened(gate: &Gate) -> Result<()> {
    let place = gate.gated("started-bounds").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.create(&mallory, &bounded("a")).ok().await?;
    // While it waits, its bounds are its creator's: they are part of what is reviewed.
    place.merge(&mallory, "job/a", json!({"spec": {"activeDeadlineSeconds": 900, "backoffLimit": 9}})).ok().await?;
    place.release(&operator, "a", json!({"activeDeadlineSeconds": 600, "backoffLimit": 5})).await?;
    for who in [&mallory, &gate.admin(), &gate.bob()?] {
        keeps_its_bounds(&place, who, "a").await?;
    }
    for spec in [
        json!({"activeDeadlineSeconds": 500}),
        json!({"backoffLimit": 0}),
        json!({"parallelism": 1}),
        json!({"ttlSecondsAfterFinished": 7200}),
        json!({"ttlSecondsAfterFinished": null}),
    ] {
        place.merge(&mallory, "job/a", json!({"spec": spec})).ok().await?;
    }
    refused(place.merge(&mallory, "job/a", json!({"spec": {"ttlSecondsAfterFinished": 86400}})), "set anew").await?;
    refused(place.merge(&mallory, "job/a", json!({"spec": {"activeDeadlineSeconds": 501}})), "500 or less").await?;
    // A bound that is not there is the loosest there is.
    place.held(&mallory, "free").await?;
    place.release(&operator, "free", json!({})).await?;
    place.merge(&mallory, "job/free", json!({"spec": {"activeDeadlineSeconds": 86400}})).ok().await?;
    let remove = json!([{"op": "remove", "path": "/spec/activeDeadlineSeconds"}]);
    refused(place.json_patch(&mallory, "job/free", remove), "keep it at 86400 or less").await?;
    refused(place.merge(&mallory, "job/free", json!({"spec": {"ttlSecondsAfterFinished": 86400}})), "set anew").await
}

pub async fn everybody_stops_a_job_and_nobody_starts_it_again(gate: &Gate) -> Result<()> {
    let place = gate.gated("started-stop").await?;
    let (mallory, operator) = (gate.mallory()?, gate.operator().await?);
    place.held(&gate.alice()?, "a").await?;
    place.release(&operator, "a", json!({})).await?;
    place.merge(&mallory, "job/a", json!({"spec": {"suspend": true}})).ok().await?;
    for who in [&mallory, &gate.alice()?, &gate.admin()] {
        let again = place.merge(who, "job/a", json!({"spec": {"suspend": false}}));
        refused(again, "if this Job ran and was stopped, or its request was denied, create another Job").await?;
    }
    let stored = place.get("job/a").await?;
    ensure!(stored["spec"]["suspend"] == true && note(&stored, "released").is_some(), "{stored:#}");
    Ok(())
}
