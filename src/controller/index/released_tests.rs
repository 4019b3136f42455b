//! What is kept of Jobs and requests after the release, and how what is not kept comes back.

use super::*;
use crate::api::{Constraints, names};
use crate::audit::by_name;
use crate::binding::{Receipt, ReceiptJob};
use serde_json::{Value, json};

/// More than are kept whole.
const MANY: i64 = 200;

fn key() -> Arc<Keyring> {
    Arc::new(Keyring::from_seed(&[7; 32]).unwrap())
}

fn index() -> Index {
    let index = Index::new(key(), "home".into(), false, Cluster::default());
    index.set_trail_read();
    index.set_complete();
    index
}

fn object(object: Value) -> DynamicObject {
    serde_json::from_value(object).unwrap()
}

/// A Job that policy allowed, or that nobody released.
fn job(name: &str, version: i64, released: bool) -> DynamicObject {
    let receipt = Receipt {
        request: None,
        job: ReceiptJob::of("Job", "a", name, name, format!("sha256:{}", "0".repeat(64))),
        digest: "d".into(),
        policy_snapshot: "p".into(),
        approvers: vec![],
        passed: vec![],
        constraints: Constraints::default(),
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        valid_until: None,
    };
    let annotations = if released { json!({names::RECEIPT: receipt.sign(&key()).unwrap()}) } else { json!({}) };
    object(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"suspend": false, "template": {"metadata": {"annotations": annotations}, "spec": {}}}}))
}

fn request(version: i64, state: &str) -> DynamicObject {
    object(json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run", "namespace": "a", "uid": "u", "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why",
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "first"}},
        "status": {"state": state}}))
}

/// Others come, so that what came before rests.
fn others(index: &Index, from: i64) {
    for version in from..from + MANY {
        index.set_target(TargetKind::Job, job(&format!("other-{version}"), version, true));
    }
}

/// A Job that was there before many others, and that a request asks for now.
fn asked_for_again(released: bool) -> Index {
    let index = index();
    index.set_target(TargetKind::Job, job("first", 1, released));
    others(&index, 2);
    index.set_request(request(500, "Pending"));
    index
}

fn unread(index: &Index) -> bool {
    index.unread("a", "run").is_some()
}

fn finds_its_job(index: &Index) -> bool {
    let found = |observation: Observation| {
        let (key, now) = (key(), jiff::Timestamp::UNIX_EPOCH);
        matches!(observation.observed(&key, true, None, now).target, crate::lifecycle::Target::Found(..))
    };
    index.observe("a", "run").is_some_and(found)
}

#[test]
fn a_released_job_that_somebody_asks_for_again_is_read_again() {
    let index = asked_for_again(true);
    assert_eq!(index.unread("a", "run"), Some(("a".into(), TargetKind::Job, "first".into())));
    assert!(index.observe("a", "run").is_none(), "nothing is decided about what is not there");

    assert_eq!(index.read_again(TargetKind::Job, job("first", 1, true)), [], "it has not changed");
    assert!(!unread(&index) && index.observe("a", "run").is_some());
    others(&index, 600);
    assert!(!unread(&index), "it is kept while somebody asks for it");
    index.set_request(request(900, "Denied"));
    index.set_target(TargetKind::Job, job("first", 901, true));
    others(&index, 1000);
    assert!(!unread(&index), "what has ended asks for nothing");
    index.set_request(request(1500, "Pending"));
    assert!(unread(&index));
    let changed = index.read_again(TargetKind::Job, job("first", 1600, true));
    assert_eq!(changed, [Key::Request("a".into(), "run".into())], "it has changed meanwhile");
    assert!(!unread(&index));
}

#[test]
fn what_was_not_released_is_kept() {
    let index = asked_for_again(false);
    assert!(!unread(&index) && index.observe("a", "run").is_some());
}

/// Nobody takes it for a Job that is not there any more: its request would end for that.
#[test]
fn what_is_kept_of_a_job_and_cannot_be_read_is_not_taken_for_a_job_that_is_gone() {
    let index = asked_for_again(false);
    others(&index, 600);
    let first: At = ("a".into(), TargetKind::Job, "first".into());
    assert!(finds_its_job(&index));
    others(&index, 900);
    index.write().targets.get_mut(&first).unwrap().damage();
    assert!(index.observe("a", "run").is_none(), "nothing is decided about a request whose Job cannot be read");
    assert!(index.observe_held("a", TargetKind::Job, "first").is_none());
    // What it is comes with the next version.
    index.set_target(TargetKind::Job, job("first", 1200, false));
    assert!(finds_its_job(&index));
}

#[test]
fn what_is_read_again_after_it_was_deleted_stays_gone() {
    let index = asked_for_again(true);
    index.remove_target(TargetKind::Job, "a", "first", 501);
    assert_eq!(index.read_again(TargetKind::Job, job("first", 1, true)), []);
    assert!(!unread(&index));
    let gone = index.observe("a", "run").unwrap();
    assert!(matches!(
        gone.observed(&key(), true, None, jiff::Timestamp::UNIX_EPOCH).target,
        crate::lifecycle::Target::Missing
    ));
}

#[test]
fn a_released_request_is_looked_at_until_it_is_recorded() {
    let index = index();
    index.set_request(request(1, "Released"));
    assert!(index.unrecorded() > 0 && index.observe("a", "run").is_some());
    let record = index.next_record().unwrap().unwrap();
    let stored = record.spec.clone();
    index.learn_sealed(record, &stored, &by_name(&[key().public()])).unwrap();
    assert!(index.unrecorded() == 0 && index.observe("a", "run").is_none());
    // Somebody deletes it.
    let mut going = request(2, "Released");
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(index.set_request(going), [Key::Request("a".into(), "run".into())]);
    assert!(index.observe("a", "run").is_some_and(|observation| observation.is_recorded()));
}
