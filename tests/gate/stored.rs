//! What the API server keeps of the admission policies.

use crate::{Gate, eventually};
use anyhow::{Context, Result, ensure};
use countersign::admission::registration::Hold;
use countersign::api::names;
use countersign::cli::manifests::admission_objects;
use serde_json::json;

/// A watchdog compares the two, so every field that the API server would fill in is written out.
pub async fn what_is_stored_is_what_is_written(gate: &Gate) -> Result<()> {
    let objects = admission_objects(names::DEFAULT_NAMESPACE, Hold::Policy)?;
    ensure!(objects.len() > 10);
    for object in objects {
        let (kind, name) =
            (object["kind"].as_str().context("kind")?, object["metadata"]["name"].as_str().context("name")?);
        let stored = gate.admin().kubectl(["get", kind, name]).json().await?;
        ensure!(stored["spec"] == object["spec"], "{kind} {name}: {:#}", stored["spec"]);
    }
    Ok(())
}

/// The API server checks the expressions against the fields that there are, and says what it found.
pub async fn every_expression_type_checks(gate: &Gate) -> Result<()> {
    for object in admission_objects(names::DEFAULT_NAMESPACE, Hold::Webhook)? {
        if object["kind"] == "ValidatingAdmissionPolicy" {
            let name = object["metadata"]["name"].as_str().context("name")?;
            let checked = eventually("the policy is checked", async || {
                let stored = gate.admin().kubectl(["get", "validatingadmissionpolicy", name]).json().await?;
                let done = stored["status"]["observedGeneration"] == stored["metadata"]["generation"];
                Ok(done.then(|| stored["status"]["typeChecking"].clone()))
            });
            let checked = checked.await?;
            ensure!(checked == json!({}), "{name}: {checked:#}");
        }
    }
    Ok(())
}
