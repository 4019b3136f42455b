//! The CRDs as YAML, generated from the types: one file a kind under `crds/`.

use crate::api::{ApprovalPolicy, ApprovalRecord, ApprovalRequest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CRD of the group.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![ApprovalRequest::crd(), ApprovalPolicy::crd(), ApprovalRecord::crd()]
}

/// Each CRD as (file name, YAML text), as it stands under `crds/`.
pub fn files() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    all()
        .into_iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            let header = "# Generated from the Rust types in src/api. Do not edit.\n";
            Ok((name, format!("{header}{}", serde_yaml::to_string(&crd)?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::all;
    use serde_json::Value;

    /// Every string, list and map has a bound: the API server's cost estimate for CEL rests on them, and so does memory.
    fn unbounded(at: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |key: &str| schema.get(key).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || schema["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("object") => has("properties") || has("maxProperties"),
            Some("integer") => has("minimum"),
            Some("boolean") => true,
            _ => false,
        };
        if !bounded {
            found.push(at.to_string());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{at}.{name}"), property, found);
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(schema) = schema.get(inner) {
                unbounded(&format!("{at}[]"), schema, found);
            }
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let mut found = vec![];
        for crd in all() {
            let crd = serde_json::to_value(crd).unwrap();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
            for part in ["spec", "status"].into_iter().filter(|part| schema.get(part).is_some()) {
                unbounded(&format!("{}.{part}", crd["spec"]["names"]["kind"]), &schema[part], &mut found);
            }
        }
        assert_eq!(found, [""; 0]);
    }
}
