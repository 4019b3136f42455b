//! Requests for the tests of this room.

use crate::cli::explain::read_request;
use crate::lifecycle::RequestFacts;
use serde_json::{Value, json};

/// What the request binds.
pub const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// What it bound before.
pub const EARLIER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A request that waits for one of sre, asked by the service account triage.
pub fn pending(name: &str) -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": name, "namespace": "payments", "uid": format!("uid-{name}"), "generation": 2,
            "resourceVersion": "10", "creationTimestamp": "2026-11-20T17:00:00Z"},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "workflow.triage", "reason": "why", "riskTags": ["prod"],
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "job"},
            "requester": {"username": "system:serviceaccount:payments:triage", "groups": ["system:serviceaccounts"]}},
        "status": {"observedGeneration": 2, "state": "Pending", "digest": DIGEST,
            "message": format!("waiting for 1 approval from sre: kubectl patch apr {name} -n payments"),
            "pendingUntil": "2026-11-20T18:00:00Z", "denials": 1, "selfApproval": "Forbid",
            "summary": {"risk": "prod", "rule": "prod-write", "approvals": "0/1"},
            "scope": [{"tag": "prod", "source": "Declared"}],
            "matches": [{"policy": "production", "rule": "prod-write", "decision": "RequireApproval"}],
            "target": {"uid": "j", "parties": ["mallory"]},
            "approvals": [{"requirement": "sre", "required": 1, "approvers": [{"kind": "Group", "name": "sre"}]}],
            "conditions": [{"type": "Evaluated", "status": "True", "reason": "Bound", "message": "",
                "lastTransitionTime": "2026-11-20T17:00:00Z"}]}})
}

/// A review by somebody of sre, on that digest.
pub fn review(who: &str, decision: &str, digest: &str) -> Value {
    json!({"reviewer": {"username": who, "groups": ["sre"]}, "decision": decision, "digest": digest,
        "time": "2026-11-20T17:10:00.000000Z", "seal": "x"})
}

/// As this version reads it.
pub fn facts(request: &Value) -> RequestFacts {
    read_request(&serde_json::from_value(request.clone()).expect("an object")).expect("a request")
}
