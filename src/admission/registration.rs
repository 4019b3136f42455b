//! Tells the API server where admission is, for an operator that runs beside a cluster.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

/// Name of both configurations.
pub const NAME: &str = "countersign";

/// Seconds the API server waits for a verdict. Verdicts take well under a millisecond.
const TIMEOUT_SECONDS: u32 = 5;

/// Writes both webhook configurations (server-side apply). `authority` is PEM; `operator` is the operator's username, whose
/// own writes are not sent here.
pub async fn register(client: &Client, url: &str, authority: &str, operator: &str) -> kube::Result<()> {
    let params = PatchParams::apply(NAME).force();
    let requests = webhook("requests", "approvalrequests", "Namespaced", url, authority, operator);
    let policies = webhook("policies", "approvalpolicies", "Cluster", url, authority, operator);
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(NAME, &params, &Patch::Apply(configuration("MutatingWebhookConfiguration", requests))).await?;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(NAME, &params, &Patch::Apply(configuration("ValidatingWebhookConfiguration", policies))).await?;
    Ok(())
}

fn configuration(kind: &str, webhook: Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "webhooks": [webhook],
    })
}

fn webhook(name: &str, resource: &str, scope: &str, url: &str, authority: &str, operator: &str) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({
        "name": format!("{name}.countersign.dev"),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": STANDARD.encode(authority)},
        "rules": [{
            "apiGroups": ["countersign.dev"],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [resource],
            "scope": scope,
        }],
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
        "matchConditions": [{
            "name": "not-the-operator",
            "expression": format!("request.userInfo.username != '{operator}'"),
        }],
    })
}
