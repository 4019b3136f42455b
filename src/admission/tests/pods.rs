//! Verdicts on Pods.

use crate::admission::pod::trusted_creator;
use crate::admission::tests::{View, ask_at, put, refusal, review_of, rule, settled, view};
use crate::admission::{Caller, tests::requests::with};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const SHARED: &str = "system:kube-controller-manager";

fn pod() -> Value {
    json!({"metadata": {"generateName": "shell-", "namespace": "payments"}, "spec": {"containers": [{"name": "main"}]}})
}

fn owned(api_version: &str, kind: &str, controller: bool) -> Value {
    let owner =
        json!({"apiVersion": api_version, "kind": kind, "name": "remediate", "uid": "j1", "controller": controller});
    with(pod(), "/metadata/ownerReferences", json!([owner]))
}

fn create(user: &str, pod: Value) -> Value {
    review_of(("", "v1", "pods"), "CREATE", user, Value::Null, pod)
}

fn gate() -> View {
    view(json!([rule("shells", "RequireApproval", json!({"requestedBy": ["pod/shell-*"]}))]))
}

#[tokio::test]
async fn a_pod_of_somebody_is_held_behind_the_gate() {
    let gates = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Value>();
    let forged = put(
        put(owned("batch/v1", "Job", true), "/metadata/labels/countersign.dev~1held", json!("released")),
        "/metadata/annotations/countersign.dev~1created-by",
        json!("admin"),
    );
    for (pod, expected) in [
        (pod(), gates(&["countersign.dev/approval"])),
        (forged, gates(&["countersign.dev/approval"])),
        (put(pod(), "/spec/schedulingGates", Value::Null), gates(&["countersign.dev/approval"])),
        (put(pod(), "/spec/schedulingGates", gates(&["a/b"])), gates(&["a/b", "countersign.dev/approval"])),
        (
            put(pod(), "/spec/schedulingGates", gates(&["countersign.dev/approval", "a/b"])),
            gates(&["countersign.dev/approval", "a/b"]),
        ),
    ] {
        let (response, held) = settled(gate(), create("mallory", pod)).await;
        assert_eq!(held["spec"]["schedulingGates"], expected);
        assert_eq!(held["metadata"]["labels"]["countersign.dev/held"], "true");
        assert_eq!(held["metadata"]["annotations"]["countersign.dev/created-by"], "mallory");
        assert_eq!(held["metadata"]["annotations"]["countersign.dev/created-by-groups"], "sre\nstaff");
        assert_eq!(
            response["warnings"],
            json!(["held until approved: rule production/shells requires approval; see kubectl get apr -n payments"])
        );
    }
}

#[tokio::test]
async fn a_pod_is_refused_with_what_stands_against_it() {
    let never = view(json!([rule("no-shells", "Deny", json!({"requestedBy": ["pod/shell-*"]}))]));
    let forged = |map: &str, key: &str| put(pod(), &format!("{map}/countersign.dev~1{key}"), json!("x"));
    for (view, pod, code, expected) in [
        (never, pod(), 403, "denied by rule production/no-shells: prod write detected; nothing was created"),
        (gate(), put(pod(), "/spec/nodeName", json!("node-1")), 403, "spec.nodeName: a Pod in a gated namespace waits"),
        (gate(), put(pod(), "/spec/nodeName", json!(7)), 403, "spec.nodeName"),
        (gate(), forged("/metadata/annotations", "receipt"), 403, "metadata.annotations: \"countersign.dev/receipt\""),
        (gate(), forged("/metadata/labels", "released"), 403, "metadata.labels: \"countersign.dev/released\""),
        (
            gate(),
            forged("/metadata/annotations", "risk-tags"),
            403,
            "metadata.annotations: \"countersign.dev/risk-tags\"",
        ),
        (View::default(), pod(), 503, "has not read all policies yet"),
    ] {
        let found = refusal(view, create("mallory", pod)).await;
        assert!(found.0 == code && found.1.contains(expected), "{found:?}");
    }
    // A namespace that is not known trusts nobody further.
    let unknown = View { labels: None, ..gate() };
    let replicas = "system:serviceaccount:kube-system:replicaset-controller";
    let (_, held) = settled(unknown, create(replicas, pod())).await;
    assert_eq!(held["metadata"]["labels"]["countersign.dev/held"], "true");
}

#[tokio::test]
async fn a_trusted_creators_pod_is_left_alone() {
    let mut pod = owned("batch/v1", "Job", true);
    pod["metadata"]["annotations"] = json!({"countersign.dev/receipt": "theirs"});
    for user in ["system:serviceaccount:kube-system:job-controller", SHARED] {
        for view in [gate(), View::default()] {
            let (response, _) = ask_at("/admit", view, create(user, pod.clone())).await;
            assert_eq!(response, json!({"uid": "u", "allowed": true}));
        }
    }
    let replicas = "system:serviceaccount:kube-system:replicaset-controller";
    let mut open = gate();
    let mut labels = BTreeMap::clone(open.labels.as_ref().unwrap());
    labels.insert("countersign.dev/workloads".into(), "allow".into());
    open.labels = Some(Arc::new(labels));
    let (response, _) = ask_at("/admit", open, create(replicas, pod)).await;
    assert_eq!(response, json!({"uid": "u", "allowed": true}));
}

#[test]
fn trust_rests_on_who_creates_and_never_on_the_owner_alone() {
    let by = |username: &str, groups: &[&str]| Caller {
        username: username.into(),
        uid: None,
        groups: groups.iter().map(ToString::to_string).collect(),
        extra: BTreeMap::new(),
    };
    let account = |name: &str| by(&format!("system:serviceaccount:kube-system:{name}"), &[]);
    let labels = |value: &str| BTreeMap::from([("countersign.dev/workloads".to_string(), value.to_string())]);
    let (closed, open) = (BTreeMap::new(), labels("allow"));
    let of_a_job = owned("batch/v1", "Job", true);
    let of_a_set = owned("apps/v1", "ReplicaSet", true);
    let mirror = put(pod(), "/metadata/annotations/kubernetes.io~1config.mirror", json!("x"));
    let shared = by(SHARED, &[]);
    for (caller, pod, trusted_closed, trusted_open) in [
        (account("job-controller"), &of_a_job, true, true),
        (account("job-controller"), &pod(), true, true),
        (shared.clone(), &of_a_job, true, true),
        (shared.clone(), &of_a_set, false, true),
        (shared.clone(), &owned("batch/v1", "Job", false), false, true),
        (shared.clone(), &owned("batch/v2", "Job", true), false, true),
        (shared.clone(), &owned("evil.dev/v1", "Job", true), false, true),
        (shared, &pod(), false, true),
        (account("replicaset-controller"), &of_a_set, false, true),
        (account("daemon-set-controller"), &of_a_set, false, true),
        (account("statefulset-controller"), &of_a_set, false, true),
        (account("replication-controller"), &of_a_set, false, true),
        (account("replicaset-controller"), &of_a_job, false, true),
        (account("deployment-controller"), &of_a_set, false, false),
        (by("system:serviceaccount:payments:job-controller", &[]), &of_a_job, false, false),
        (by("mallory", &[]), &of_a_job, false, false),
        (by("mallory", &["system:masters"]), &of_a_job, false, false),
        (by("system:node:n1", &["system:nodes"]), &mirror, true, true),
        (by("system:node:n1", &["system:nodes"]), &of_a_job, false, false),
        (by("mallory", &[]), &mirror, false, false),
    ] {
        assert_eq!(trusted_creator(&caller, pod, &closed), trusted_closed, "{caller:?} {pod}");
        assert_eq!(trusted_creator(&caller, pod, &labels("true")), trusted_closed, "{caller:?} {pod}");
        assert_eq!(trusted_creator(&caller, pod, &open), trusted_open, "{caller:?} {pod}");
    }
}
