//! What the API server is told, in both ways to hold.

use crate::admission::registration::{At, Endpoint, Hold, configurations};
use serde_json::{Value, json};

fn registered(hold: Hold) -> [Value; 2] {
    configurations(&Endpoint {
        at: At::Url("https://127.0.0.1:9443/admit"),
        authority: "PEM",
        operator: "system:serviceaccount:gate:countersign",
        hold,
    })
}

fn webhooks(configuration: &Value) -> &Vec<Value> {
    configuration["webhooks"].as_array().unwrap()
}

fn webhook(hold: Hold, name: &str) -> Value {
    let [mutating, _] = registered(hold);
    webhooks(&mutating).iter().find(|w| w["name"] == format!("{name}.countersign.dev")).cloned().unwrap_or_default()
}

#[test]
fn each_way_to_hold_has_its_webhooks_and_failure_policies() {
    let policies = |hold| -> Vec<(String, String)> {
        let text = |w: &Value, field: &str| w[field].as_str().unwrap().to_string();
        let [mutating, _] = registered(hold);
        webhooks(&mutating)
            .iter()
            .map(|w| (text(w, "name").replace(".countersign.dev", ""), text(w, "failurePolicy")))
            .collect()
    };
    let expected = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(name, policy)| (name.to_string(), policy.to_string())).collect()
    };
    assert_eq!(
        policies(Hold::Policy),
        expected(&[
            ("requests", "Fail"),
            ("editors", "Fail"),
            ("jobs", "Ignore"),
            ("unsuspend", "Ignore"),
            ("pods", "Ignore"),
            ("pods-beside-workloads", "Ignore"),
            ("warn", "Ignore"),
        ])
    );
    assert_eq!(
        policies(Hold::Webhook),
        expected(&[
            ("requests", "Fail"),
            ("editors", "Fail"),
            ("jobs", "Fail"),
            ("unsuspend", "Ignore"),
            ("cronjobs", "Fail"),
            ("pods", "Fail"),
            ("pods-beside-workloads", "Fail"),
            ("warn", "Ignore"),
        ])
    );
}

#[test]
fn every_field_is_written() {
    for hold in [Hold::Policy, Hold::Webhook] {
        for (configuration, mutating) in registered(hold).iter().zip([true, false]) {
            assert_eq!(
                configuration["metadata"],
                json!({"name": "countersign", "labels": {"app.kubernetes.io/name": "countersign"}})
            );
            for webhook in webhooks(configuration) {
                for field in [
                    "name",
                    "admissionReviewVersions",
                    "clientConfig",
                    "rules",
                    "failurePolicy",
                    "matchPolicy",
                    "namespaceSelector",
                    "objectSelector",
                    "sideEffects",
                    "timeoutSeconds",
                ] {
                    assert!(!webhook[field].is_null(), "{field} of {webhook}");
                }
                assert_eq!(webhook["reinvocationPolicy"].is_string(), mutating);
                assert_eq!(webhook["matchPolicy"], "Equivalent");
                assert_eq!(webhook["clientConfig"]["caBundle"], "UEVN");
                assert_ne!(webhook["matchConditions"], json!([]), "the API server stores no empty list");
            }
        }
    }
}

#[test]
fn webhooks_reach_gated_namespaces_alone_and_never_those_of_the_system() {
    let never = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn",
        "values": ["kube-system", "kube-public", "kube-node-lease", "gate"]});
    let gate = |value: &str| json!({"key": "countersign.dev/gate", "operator": "In", "values": [value]});
    for name in ["jobs", "unsuspend", "cronjobs"] {
        let selector = json!({"matchExpressions": [gate("enforce"), never]});
        assert_eq!(webhook(Hold::Webhook, name)["namespaceSelector"], selector, "{name}");
    }
    for (name, operator) in [("pods", "NotIn"), ("pods-beside-workloads", "In")] {
        let workloads = json!({"key": "countersign.dev/workloads", "operator": operator, "values": ["allow"]});
        let selector = json!({"matchExpressions": [gate("enforce"), never, workloads]});
        assert_eq!(webhook(Hold::Webhook, name)["namespaceSelector"], selector);
    }
    let warn = webhook(Hold::Policy, "warn");
    assert_eq!(warn["namespaceSelector"], json!({"matchExpressions": [gate("warn"), never]}));
    assert_eq!(warn["clientConfig"]["url"], "https://127.0.0.1:9443/admit/warn");
    assert_eq!(webhook(Hold::Policy, "jobs")["clientConfig"]["url"], "https://127.0.0.1:9443/admit");
    assert_eq!(webhook(Hold::Policy, "requests")["namespaceSelector"], json!({}));
    let editors = webhook(Hold::Policy, "editors");
    assert_eq!(editors["clientConfig"]["url"], "https://127.0.0.1:9443/admit/stamp");
    assert_eq!(editors["reinvocationPolicy"], "IfNeeded", "another webhook may change the spec after ours");
    let [_, validating] = registered(Hold::Policy);
    assert_eq!(editors["rules"], webhooks(&validating)[0]["rules"], "what is stamped is judged as it is stored");
}

#[test]
fn what_runs_by_itself_costs_no_call() {
    let conditions = |name| webhook(Hold::Webhook, name)["matchConditions"].to_string();
    assert!(conditions("pods").contains("system:serviceaccount:kube-system:job-controller"));
    assert!(conditions("pods").contains("owner.kind == 'Job'"));
    assert!(!conditions("pods").contains("replicaset-controller"));
    assert!(conditions("pods-beside-workloads").contains("replicaset-controller"));
    assert!(conditions("unsuspend").contains("system:serviceaccount:gate:countersign"));
    assert!(conditions("unsuspend").contains("countersign.dev/override-reason"));
    assert!(conditions("cronjobs").contains("object.spec != oldObject.spec"));
    assert_eq!(conditions("jobs"), "null");
}

#[test]
fn behind_a_service_every_webhook_names_it_with_its_path() {
    let endpoint = Endpoint {
        at: At::Service { namespace: "gate", name: "countersign" },
        authority: "PEM",
        operator: "system:serviceaccount:gate:countersign",
        hold: Hold::Webhook,
    };
    let beside = registered(Hold::Webhook);
    for (configuration, beside) in configurations(&endpoint).iter().zip(&beside) {
        for (webhook, beside) in webhooks(configuration).iter().zip(webhooks(beside)) {
            let path = beside["clientConfig"]["url"].as_str().unwrap().trim_start_matches("https://127.0.0.1:9443");
            let service = json!({"namespace": "gate", "name": "countersign", "path": path, "port": 443});
            assert_eq!(webhook["clientConfig"], json!({"service": service, "caBundle": "UEVN"}));
            let mut rest = webhook.clone();
            rest["clientConfig"] = beside["clientConfig"].clone();
            assert_eq!(rest, *beside, "nothing else depends on it");
        }
    }
}
