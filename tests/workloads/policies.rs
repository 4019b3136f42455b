//! The files themselves.

use crate::arena::{FILES, until};
use anyhow::{Context, Result};
use countersign_testbed::ControlPlane;
use serde::Deserialize;
use serde_json::{Value, json};

fn documents() -> Result<Vec<Value>> {
    let documents = FILES.into_iter().flat_map(serde_yaml::Deserializer::from_str);
    documents.map(|d| Ok(Value::deserialize(d)?)).collect()
}

/// What is stored has to equal what is written, defaults included: then whoever watches the gate compares them as they are.
pub async fn every_field_is_written_out_and_every_expression_type_checks(cluster: &ControlPlane) -> Result<()> {
    let admin = cluster.admin();
    for written in documents()? {
        let (kind, name) = (&written["kind"], &written["metadata"]["name"]);
        let what = format!("{}/{}", kind.as_str().context("kind")?, name.as_str().context("name")?);
        let get = || admin.kubectl(["get", &what]).json();
        let stored = get().await?;
        assert_eq!(stored["spec"], written["spec"], "{what}");
        assert_eq!(stored["metadata"]["labels"], json!({"app.kubernetes.io/name": "countersign"}), "{what}");
        if kind == "ValidatingAdmissionPolicy" {
            until("the expressions are checked", async || Ok(!get().await?["status"]["typeChecking"].is_null()))
                .await?;
            assert_eq!(get().await?["status"]["typeChecking"], json!({}), "{what}");
        }
    }
    Ok(())
}

/// Who is trusted is written twice: the one policy holds what the other demands.
#[test]
fn both_policies_trust_the_same_creators() -> Result<()> {
    let documents = documents()?;
    let of = |kind: &str| {
        let policy = documents.iter().find(|d| d["kind"] == kind && d["metadata"]["name"] == "countersign-pods");
        policy.and_then(|p| p["spec"]["variables"].as_array()).context("variables")
    };
    let demanded = of("ValidatingAdmissionPolicy")?;
    for variable in of("MutatingAdmissionPolicy")? {
        assert!(demanded.contains(variable), "{variable:#}");
    }
    Ok(())
}
