//! The CRDs as YAML: one file a kind under `crds/`, generated from the types.

use crate::api::{ApprovalPolicy, ApprovalRecord, ApprovalRequest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

/// The files, as they stand there: kind and text. A test holds them against [`files`]; whatever a program needs of a CRD it takes
/// from here, since to make one anew would put the generator and every schema's code into it.
pub const STORED: [(&str, &str); 3] = [
    ("ApprovalRequest", include_str!("../../crds/countersign.dev_approvalrequests.yaml")),
    ("ApprovalPolicy", include_str!("../../crds/countersign.dev_approvalpolicies.yaml")),
    ("ApprovalRecord", include_str!("../../crds/countersign.dev_approvalrecords.yaml")),
];

/// Every CRD of the group, made anew.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![ApprovalRequest::crd(), unobserved(ApprovalPolicy::crd()), ApprovalRecord::crd()]
}

/// Gives objects without a status one that says that nobody looked at them yet. What goes by kstatus, as Flux does, takes an object
/// that says nothing of itself for one that is in force.
fn unobserved(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}

/// Each CRD as (file name, YAML text), as it is to stand under `crds/`.
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
    use super::{STORED, all, files};
    use serde_json::Value;

    #[test]
    fn the_stored_crds_are_those_of_the_types() {
        for (crd, ((_, made), (kind, stored))) in all().into_iter().zip(files().unwrap().into_iter().zip(STORED)) {
            assert_eq!(crd.spec.names.kind, kind);
            assert_eq!(made, stored, "run COUNTERSIGN_UPDATE=1 cargo test --test generated");
        }
    }

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
