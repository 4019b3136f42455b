//! What an operator would know, whole: the objects that inputs are spoilt from, and an index of them.

use countersign::api::{InputKind, TargetKind};
use countersign::binding::Keyring;
use countersign::controller::Index;
use countersign::lifecycle::Cluster;
use countersign::risk::RbacKind;
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::sync::Arc;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Request,
    Policy,
    Namespace,
    Target(TargetKind),
    Input(InputKind),
    Rbac(RbacKind),
    NetworkPolicy,
}

/// The time at which everything happens.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_100).expect("a time")
}

pub fn key() -> Arc<Keyring> {
    Arc::new(Keyring::from_seed(&[7; 32]).expect("a seed"))
}

/// One object of each kind, as they are stored.
pub fn objects() -> Vec<(Kind, Value)> {
    vec![
        (Kind::Namespace, namespace()),
        (Kind::Policy, policy()),
        (Kind::Rbac(RbacKind::ClusterRole), cluster_role()),
        (Kind::Rbac(RbacKind::Role), in_namespace("rbac.authorization.k8s.io/v1", "Role", json!({"rules": rules()}))),
        (Kind::Rbac(RbacKind::ClusterRoleBinding), binding("ClusterRoleBinding", "ClusterRole")),
        (Kind::Rbac(RbacKind::RoleBinding), binding("RoleBinding", "Role")),
        (Kind::NetworkPolicy, network_policy()),
        (Kind::Input(InputKind::ConfigMap), config_map()),
        (Kind::Input(InputKind::Secret), secret()),
        (Kind::Target(TargetKind::Job), job()),
        (Kind::Target(TargetKind::Pod), pod()),
        (Kind::Request, request()),
        (Kind::Request, request_for_pod()),
    ]
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "payments", "uid": format!("uid-{name}"), "resourceVersion": "5", "generation": 1,
        "creationTimestamp": "2027-01-15T08:00:00Z", "labels": {"app": "x"}, "annotations": {"mine": "y"}})
}

fn in_namespace(version: &str, kind: &str, content: Value) -> Value {
    let mut object = content;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = metadata(&kind.to_lowercase());
    object
}

pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments", "resourceVersion": "2",
        "labels": {"env": "prod", "countersign.dev/gate": "enforce"}}, "spec": {"finalizers": ["kubernetes"]}})
}

fn rules() -> Value {
    json!([{"apiGroups": ["", "apps"], "resources": ["pods", "secrets", "deployments/scale"], "verbs": ["get", "patch"],
        "resourceNames": ["one"]}, {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}])
}

fn cluster_role() -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "clusterrole",
        "resourceVersion": "3", "uid": "c"}, "rules": rules(),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}})
}

fn binding(kind: &str, role: &str) -> Value {
    in_namespace(
        "rbac.authorization.k8s.io/v1",
        kind,
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": role.to_lowercase()},
            "subjects": [{"kind": "ServiceAccount", "name": "runner", "namespace": "payments"},
                {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts"}]}),
    )
}

fn network_policy() -> Value {
    in_namespace(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
            "policyTypes": ["Ingress", "Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
            "ports": [{"port": 443, "endPort": 500}]}]}}),
    )
}

fn config_map() -> Value {
    in_namespace(
        "v1",
        "ConfigMap",
        json!({"data": {"script.sh": "echo hello"}, "binaryData": {"x": "AAAA"}, "immutable": true}),
    )
}

fn secret() -> Value {
    in_namespace("v1", "Secret", json!({"data": {"password": "aHVudGVyMg=="}, "type": "Opaque"}))
}

fn pod_spec() -> Value {
    json!({"restartPolicy": "Never", "serviceAccountName": "runner", "hostNetwork": false, "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "main", "image": "registry.example/app:1", "command": ["sh", "-c", "echo $(X)"],
            "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "configmap", "key": "script.sh"}}}, {"name": "Y", "value": "z"}],
            "envFrom": [{"secretRef": {"name": "secret", "optional": true}}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "0.1"}},
            "securityContext": {"privileged": false, "capabilities": {"add": ["NET_ADMIN"]}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}],
        "initContainers": [{"name": "init", "image": "registry.example/init@sha256:00", "restartPolicy": "Always"}],
        "volumes": [{"name": "v", "configMap": {"name": "configmap", "items": [{"key": "script.sh", "path": "s"}]}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "secret"}}, {"serviceAccountToken": {"path": "t"}}]}},
            {"name": "h", "hostPath": {"path": "/"}}],
        "tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"}, "priorityClassName": "high"})
}

pub fn job() -> Value {
    let mut job = in_namespace(
        "batch/v1",
        "Job",
        json!({"spec": {"suspend": true, "backoffLimit": 3, "parallelism": 2, "completions": 4, "activeDeadlineSeconds": 600,
            "ttlSecondsAfterFinished": 60, "template": {"metadata": {"labels": {"app": "x"}, "annotations": {"a": "b"}}, "spec": pod_spec()},
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1, 2]}}]}},
            "status": {"conditions": [{"type": "Suspended", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}]}}),
    );
    job["metadata"]["annotations"] = json!({"countersign.dev/created-by": "workflow", "countersign.dev/created-by-uid": "u-1",
        "countersign.dev/created-by-groups": "developers\nsystem:authenticated", "countersign.dev/reason": "because",
        "countersign.dev/risk-tags": "prod,write", "countersign.dev/requested-by": "workflow.triage", "countersign.dev/request": "request"});
    job["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "cu", "controller": true}]);
    job
}

pub fn pod() -> Value {
    let mut spec = pod_spec();
    spec["schedulingGates"] = json!([{"name": "countersign.dev/approval"}]);
    let mut pod = in_namespace("v1", "Pod", json!({"spec": spec, "status": {"phase": "Pending"}}));
    pod["metadata"]["annotations"] = job()["metadata"]["annotations"].clone();
    pod["metadata"]["annotations"]["countersign.dev/request"] = json!("request-for-pod");
    pod
}

/// What the gate asks of every rule somewhere.
pub fn policy_spec() -> Value {
    let people = json!([{"kind": "Group", "name": "sre"}, {"kind": "User", "name": "alice"},
        {"kind": "ServiceAccount", "namespace": "ci", "name": "bot"}, {"kind": "Authorized", "name": "production"}]);
    let selector = json!({"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["x"]}]});
    json!({
        "match": {"namespaceSelector": selector},
        "classifiers": [{"tag": "secrets", "when": {"usesSecrets": true}}, {"tag": "root", "when": {"privileged": true}},
            {"tag": "broad", "when": {"serviceAccountMay": {"write": true, "clusterScope": true}}},
            {"tag": "image", "when": {"images": ["registry.example/*"], "namespaceSelector": selector}}],
        "rules": [
            {"name": "prod-write", "when": {"riskTags": ["prod"], "anyRiskTags": ["write", "read"], "requestedBy": ["workflow.*"],
                "requesters": [{"kind": "User", "name": "workflow"}], "namespaceSelector": selector,
                "expression": "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.'))"},
                "unless": {"expression": "time.getHours() < 25 && request.namespace == 'x'"},
                "decision": "RequireApproval", "reason": "prod write detected", "onDenied": "Hold",
                "approvals": {"requirements": [{"name": "sre", "count": 2, "approvers": people}, {"name": "lead", "approvers": people}],
                    "denials": 1, "selfApproval": "Forbid", "requireComment": true, "exclude": ["JobCreator", "PolicyEditor"]},
                "constraints": {"maxRuntimeSeconds": 900, "maxRetries": 1, "maxParallelism": 1, "maxCpu": "1", "maxMemory": "2Gi", "limits": {"lines": 500}},
                "requireImmutableInputs": false, "requireImageDigests": false, "notBeforeSeconds": 5,
                "freezeWindows": [{"name": "night", "start": "0 22 * * 1-5", "durationSeconds": 28_800, "timeZone": "Europe/Berlin", "mayPass": people}],
                "pendingTimeoutSeconds": 3600, "releaseTimeoutSeconds": 900},
            {"name": "trusting", "trustClaims": true, "when": {"expression": "claims.riskTags.exists(t, t.matches('^pr.*d$'))"},
                "decision": "RequireApproval", "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}},
            {"name": "never", "when": {"riskTags": ["forbidden"]}, "decision": "Deny", "reason": "never"}],
    })
}

pub fn policy() -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy", "metadata": {"name": "production", "uid": "p",
        "resourceVersion": "4", "generation": 2, "annotations": {"countersign.dev/edited-by": "carol"}}, "spec": policy_spec(),
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "Compiled", "message": "in force",
        "lastTransitionTime": "2027-01-15T08:00:00Z"}]}})
}

/// Bound already, as far as its status says, and not approved by anybody.
pub fn request() -> Value {
    let mut request = in_namespace(
        "countersign.dev/v1alpha1",
        "ApprovalRequest",
        json!({"spec": {"runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.triage", "reason": "why", "riskTags": ["prod", "write"],
            "requester": {"username": "workflow", "uid": "u-1", "groups": ["developers"]},
            "constraints": {"maxRuntimeSeconds": 600, "maxCpu": "500m", "limits": {"lines": 100}},
            "evidence": [{"title": "diff", "text": "a\nb", "url": "https://example.com/x"}],
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "uid-job"}},
            "status": {"state": "Pending", "revision": 1, "observedGeneration": 1, "pendingUntil": "2027-01-15T09:00:00Z",
            "digest": format!("sha256:{}", "1".repeat(64)), "policySnapshot": format!("sha256:{}", "2".repeat(64)),
            "approvals": [{"requirement": "sre", "required": 1, "approvers": [{"kind": "Group", "name": "sre"}], "approvedBy": []}],
            "jobHash": format!("sha256:{}", "3".repeat(64)), "target": {"uid": "uid-job"},
            "matches": [{"policy": "production", "rule": "prod-write", "decision": "RequireApproval"}],
            "conditions": [{"type": "Evaluated", "status": "True", "reason": "RequireApproval", "message": "m",
                "lastTransitionTime": "2027-01-15T08:00:00Z"}]}}),
    );
    request["metadata"]["name"] = json!("request");
    request["metadata"]["finalizers"] = json!(["countersign.dev/record"]);
    request
}

fn request_for_pod() -> Value {
    let mut request = request();
    request["metadata"]["name"] = json!("request-for-pod");
    request["metadata"]["uid"] = json!("uid-request-for-pod");
    request["spec"]["target"] = json!({"apiVersion": "v1", "kind": "Pod", "name": "pod"});
    request["status"] = json!({});
    request
}

/// An index that was told of all of these.
pub fn index() -> Index {
    let index = Index::new(key(), "countersign-system".into(), true, Cluster { mutable_resources: true });
    for (kind, object) in objects() {
        tell(&index, kind, &serde_json::from_value(object).expect("an object"));
    }
    index.set_complete();
    index.set_trail_read();
    index
}

/// One object arrives.
pub fn tell(index: &Index, kind: Kind, object: &DynamicObject) {
    let keys = match kind {
        Kind::Request => index.set_request(object.clone()),
        Kind::Policy => index.set_policy(object),
        Kind::Namespace => index.set_namespace(object),
        Kind::Target(kind) => index.set_target(kind, object.clone()),
        Kind::Input(kind) => index.set_input(kind, object, false),
        Kind::Rbac(kind) => index.set_rbac(kind, object),
        Kind::NetworkPolicy => index.set_network_policy(object),
    };
    // As many as there are objects, and no more.
    assert!(keys.len() <= 16, "{keys:?}");
}
