//! What an operator keeps of each object while thousands are there: whoever may make requests must not fill it up.

use crate::cost::held;
use crate::world;
use countersign::api::{Constraints, TargetKind, names};
use countersign::audit::by_name;
use countersign::binding::{Receipt, ReceiptJob, ReceiptRequest};
use countersign::controller::Index;
use countersign::lifecycle::Cluster;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::ops::Range;

/// Requests of each measurement.
const MANY: usize = 2_000;
/// Bytes that are kept of a pending request and of its Job, together.
const PENDING: usize = 2_200;
/// Bytes that are kept of a request that was released and recorded, and of its Job.
const FINISHED: usize = 1_300;

fn uid(number: usize, kind: u8) -> String {
    format!("{number:08x}-a8a3-4130-a8fc-ebcf75adda{kind:02x}")
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

fn receipt(number: usize) -> String {
    let name = format!("run-{number:05}");
    let hash = format!("sha256:{number:064x}");
    let receipt = Receipt {
        request: Some(ReceiptRequest { namespace: "incidents".into(), name: name.clone(), uid: uid(number, 2) }),
        job: ReceiptJob::of("Job", "incidents", &name, &uid(number, 1), hash.clone()),
        digest: hash.clone(),
        policy_snapshot: hash,
        approvers: vec!["bob".into()],
        passed: vec![],
        constraints: Constraints::default(),
        time: "2027-01-15T08:00:02Z".parse().expect("a time"),
        valid_until: None,
    };
    receipt.sign(&world::key()).expect("it is signed")
}

/// A Job as the API server and its controller leave it.
fn job(number: usize, version: usize, held: bool) -> DynamicObject {
    let (name, uid) = (format!("run-{number:05}"), uid(number, 1));
    let labels = json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name,
        "controller-uid": uid, "job-name": name});
    let stands = match held {
        true => json!({"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": "Job suspended",
            "lastProbeTime": "2027-01-15T08:00:00Z", "lastTransitionTime": "2027-01-15T08:00:00Z"}),
        false => json!({"type": "Complete", "status": "True", "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods", "lastProbeTime": "2027-01-15T08:00:00Z",
            "lastTransitionTime": "2027-01-15T08:00:00Z"}),
    };
    let receipt = if held { json!({}) } else { json!({names::RECEIPT: receipt(number)}) };
    let started = if held { Value::Null } else { "2027-01-15T08:00:00Z".into() };
    object(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "incidents", "uid": uid, "resourceVersion": version.to_string(),
            "generation": 1, "creationTimestamp": "2027-01-15T08:00:00Z", "labels": labels,
            "annotations": {"countersign.dev/created-by": "{\"username\":\"system:serviceaccount:incidents:triage\"}"}},
        "spec": {
            "backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "manualSelector": false, "parallelism": 1,
            "podReplacementPolicy": "TerminatingOrFailed", "suspend": held,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
            "template": {"metadata": {"labels": labels, "annotations": receipt}, "spec": {
                "containers": [{"command": ["remediate"], "image": "localhost/remediate:1", "name": "main", "resources": {},
                    "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Never", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30}}},
        "status": {"ready": 0, "terminating": 0, "uncountedTerminatedPods": {}, "startTime": started, "conditions": [stands]},
    }))
}

fn condition(kind: &str, reason: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": "evaluated and bound", "observedGeneration": 1,
        "lastTransitionTime": "2027-01-15T08:00:00Z"})
}

/// A request as the operator left it.
fn request(number: usize, version: usize, state: &str) -> DynamicObject {
    let (name, digest) = (format!("run-{number:05}"), format!("sha256:{number:064x}"));
    let mut conditions = vec![condition("Evaluated", "Bound")];
    let mut reviews = vec![];
    if state != "Pending" {
        conditions.extend([condition("Approved", "Approved"), condition(state, "Approved")]);
        reviews.push(json!({"decision": "Approve", "digest": digest, "time": "2027-01-15T08:00:01.916996Z",
            "reviewer": {"username": "bob", "groups": ["sre"]}, "seal": format!("a200a6cc3c9dd7c3.{}", "A".repeat(86))}));
    }
    object(json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": name, "namespace": "incidents", "uid": uid(number, 2), "generation": 1,
            "resourceVersion": version.to_string(), "creationTimestamp": "2027-01-15T08:00:00Z",
            "finalizers": ["countersign.dev/record"]},
        "spec": {
            "reason": "prod write detected", "requestedBy": "workflow.incident-triage", "riskTags": ["prod", "write"],
            "requester": {"username": "system:serviceaccount:incidents:triage", "uid": "1e14f213-a83c-4a7d-a357-ce029a8cba3a",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:incidents", "system:authenticated"]},
            "runID": "run_8f9a", "stepID": "remediate", "reviews": reviews,
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": name}},
        "status": {
            "state": state, "observedGeneration": 1, "revision": 1, "denials": 1, "selfApproval": "Forbid",
            "approvals": [{"requirement": "sre", "required": 1, "approvers": [{"kind": "Group", "name": "sre"}]}],
            "boundAt": {"format": 3, "inputs": 0, "namespace": 389, "policies": 1678, "surroundings": 395, "target": 1955},
            "boundTime": "2027-01-15T08:00:00Z", "pendingUntil": "2027-01-15T09:00:00Z", "conditions": conditions,
            "digest": digest, "jobHash": digest, "policySnapshot": digest,
            "matches": [{"policy": "incidents", "rule": "write", "decision": "RequireApproval", "reason": "writes to production"}],
            "message": format!("waiting for 1 approval from sre: kubectl patch apr {name} -n incidents --type=merge -p \
                '{{\"spec\":{{\"review\":{{\"decision\":\"Approve\",\"digest\":\"{digest}\"}}}}}}'"),
            "scope": [{"source": "Declared", "tag": "prod"}, {"source": "Declared", "tag": "write"},
                {"source": "Unheld", "tag": "image-tag", "detail": "localhost/remediate:1 can be moved to another image"},
                {"source": "Unheld", "tag": "service-account", "detail": "what default may do, and the pull secrets it adds"}],
            "summary": {"approvals": "0/1", "risk": "prod,write", "rule": "write"},
            "target": {"uid": uid(number, 1), "bounds": {"backoffLimit": 6, "parallelism": 1},
                "parties": ["system:serviceaccount:incidents:default"]}},
    }))
}

/// Takes them in, and writes the trail.
fn take_in(index: &Index, numbers: Range<usize>, state: &str) {
    let keys = by_name(&[world::key().public()]);
    for number in numbers {
        // Each object changes once after it arrived.
        for change in 0..2 {
            let version = 1 + 4 * number + 2 * change + if state == "Pending" { 0 } else { 100_000 };
            index.set_target(TargetKind::Job, job(number, version, state == "Pending"));
            index.set_request(request(number, version + 1, state));
        }
        while let Some(record) = index.next_record().expect("a record") {
            let stored = record.spec.clone();
            index.learn_sealed(record, &stored, &keys).expect("the next record");
        }
    }
}

#[test]
fn what_is_kept_of_many_requests_is_small() {
    let index = Index::new(world::key(), "countersign-system".into(), false, Cluster::default());
    index.set_trail_read();
    // What is kept whole is the same however many there are, and tables have grown in both.
    let each = |before: isize| usize::try_from(held() - before).unwrap_or(0) / MANY;
    take_in(&index, 0..MANY, "Pending");
    let before = held();
    take_in(&index, MANY..2 * MANY, "Pending");
    let pending = each(before);
    assert!(pending <= PENDING, "{pending} bytes are kept of a pending request and its Job");
    assert_eq!(
        index.observe("incidents", "run-00007").expect("it is there").request.spec.reason,
        "prod write detected"
    );

    take_in(&index, 0..MANY, "Released");
    let before = held();
    take_in(&index, MANY..2 * MANY, "Released");
    let finished = usize::try_from(held() - before + isize::try_from(pending * MANY).unwrap_or(0)).unwrap_or(0) / MANY;
    println!("{pending} bytes are kept of a pending request and its Job, {finished} of a finished one");
    assert!(finished <= FINISHED, "{finished} bytes are kept of a finished request and its Job");
}
