//! All six kinds, told by the library alone, and Jobs that somebody else started.

use crate::support::client;
use crate::{cluster, event, lease};
use anyhow::Result;
use countersign::integrity::{Announces, Integrity, Settings};
use countersign::telemetry::Metrics;
use serde_json::{Value, json};
use std::sync::Arc;

const SPACE: &str = "integrity-kinds";

fn object(kind: &str, body: (&str, Value)) -> Value {
    let (part, body) = body;
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "kinds"}, part: body})
}

/// One of each kind, that match nothing in use.
fn all() -> Vec<Value> {
    let rules = json!([{"apiGroups": ["nobody.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["things"], "scope": "*"}]);
    let constraints =
        json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": rules});
    let mut webhook = json!({"name": "kinds.example.com", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": rules, "failurePolicy": "Fail", "matchPolicy": "Equivalent",
        "namespaceSelector": {}, "objectSelector": {}, "sideEffects": "None", "timeoutSeconds": 5});
    let validating = object("ValidatingWebhookConfiguration", ("webhooks", json!([webhook])));
    webhook["reinvocationPolicy"] = json!("Never");
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    let deny =
        json!({"failurePolicy": "Fail", "matchConstraints": constraints, "validations": [{"expression": "true"}]});
    let mutate = json!({"failurePolicy": "Fail", "matchConstraints": constraints, "mutations": [mutation],
        "reinvocationPolicy": "Never"});
    let bound = json!({"policyName": "kinds", "validationActions": ["Deny"]});
    vec![
        validating,
        object("MutatingWebhookConfiguration", ("webhooks", json!([webhook]))),
        object("ValidatingAdmissionPolicy", ("spec", deny)),
        object("ValidatingAdmissionPolicyBinding", ("spec", bound)),
        object("MutatingAdmissionPolicy", ("spec", mutate)),
        object("MutatingAdmissionPolicyBinding", ("spec", json!({"policyName": "kinds"}))),
    ]
}

#[tokio::test]
async fn every_kind_is_watched_and_a_job_started_elsewhere_is_told() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let admin = cluster.admin();
    admin.kubectl(["create", "namespace", SPACE]).ok().await?;
    let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    admin.kubectl(["create", "--filename", "-"]).stdin(list(all())).ok().await?;

    let client = client(&admin).await?;
    let metrics = Metrics::new();
    let integrity = Arc::new(Integrity::new(all(), &[], metrics.clone())?);
    let settings = Settings {
        client: client.clone(),
        namespace: SPACE.into(),
        instance: "test".into(),
        announces: Announces::Always,
    };
    let running = tokio::spawn(integrity.clone().run(settings));
    lease(&client, SPACE, "True", "").await?;
    assert_eq!(integrity.details(), ["gate: intact"]);

    for object in all() {
        let kind = object["kind"].as_str().unwrap_or_default();
        admin.kubectl(["delete", kind, "kinds"]).ok().await?;
        lease(&client, SPACE, "False", &format!("{kind}/kinds: missing")).await?;
        admin.kubectl(["create", "--filename", "-"]).stdin(object.to_string()).ok().await?;
        lease(&client, SPACE, "True", "").await?;
    }

    integrity.report_foreign_start("Job", "payments", "run");
    let told = "Job/payments/run: started by somebody other than the operator";
    let broken = lease(&client, SPACE, "False", told).await?;
    event(&client, &broken, "GateBroken", told).await?;
    assert_eq!((metrics.foreign_unsuspends.get(), metrics.gate_intact.get()), (1, 0));
    assert!(integrity.details()[0].contains(told));
    assert!(!running.is_finished());
    running.abort();
    admin.kubectl(["delete", "--filename", "-"]).stdin(list(all())).ok().await?;
    Ok(())
}
