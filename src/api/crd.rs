//! The CRDs as YAML, generated from the types: one file a kind under `crds/`.

use crate::api::{ApprovalPolicy, ApprovalRequest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CRD of the group.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![ApprovalRequest::crd(), ApprovalPolicy::crd()]
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
