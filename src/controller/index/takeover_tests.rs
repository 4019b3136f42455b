//! Whoever takes over looks at what the one before looked at.

use super::*;
use crate::api::names;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn index() -> Index {
    Index::new(Arc::new(Keyring::from_seed(&[7; 32]).unwrap()), "home".into(), false, Cluster::default())
}

fn object(object: Value) -> DynamicObject {
    serde_json::from_value(object).unwrap()
}

fn request(name: &str, version: i64, state: &str, deleting: bool, run: Value) -> DynamicObject {
    let mut metadata = json!({"name": name, "namespace": "a", "uid": name, "resourceVersion": version.to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": [names::FINALIZER]});
    if deleting {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
    }
    object(json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest", "metadata": metadata,
        "spec": {"runID": run, "stepID": "s", "requestedBy": "w", "reason": "why"}, "status": {"state": state}}))
}

#[test]
fn everything_is_what_was_looked_at_as_it_arrived_and_is_there() {
    let index = index();
    index.set_complete();
    let mut looked: BTreeSet<Key> = BTreeSet::new();
    looked.extend(index.set_namespace(&object(json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "a", "resourceVersion": "1", "labels": {names::GATE: "enforce"}}}))));
    looked
        .extend(index.set_policy(&object(json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy",
        "metadata": {"name": "p", "resourceVersion": "2"}, "spec": {"rules": [{"name": "r", "decision": "Allow"}]}}))));
    looked.extend(index.set_target(
        TargetKind::Job,
        object(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "held", "namespace": "a", "uid": "j",
            "resourceVersion": "3", "annotations": {names::CREATED_BY: "alice"}}, "spec": {"suspend": true}}),
        ),
    ));
    for (name, version, state, deleting, run) in [
        ("pending", 4, "Pending", false, json!("r")),
        ("released", 5, "Released", false, json!("r")),
        ("going", 6, "Denied", true, json!("r")),
        ("unreadable", 7, "Pending", false, json!({"no": "text"})),
        ("unreadable-going", 8, "Pending", true, json!({"no": "text"})),
    ] {
        looked.extend(index.set_request(request(name, version, state, deleting, run)));
    }
    let everything: BTreeSet<Key> = index.everything().into_iter().collect();
    assert_eq!(everything, looked);
    let named = |name: &str| everything.contains(&Key::Request("a".into(), name.into()));
    assert!(["pending", "going", "unreadable-going"].into_iter().all(named));
    assert!(!["released", "unreadable"].into_iter().any(named));
    assert!(everything.contains(&Key::Policy("p".into())));
    assert!(everything.contains(&Key::Target("a".into(), TargetKind::Job, "held".into())));
}

#[test]
fn what_was_reviewed_is_looked_at_first() {
    let index = index();
    let review = json!([{"decision": "Approve", "digest": "d", "time": "2026-01-01T00:00:00Z",
        "reviewer": {"username": "bob"}, "seal": "unreadable"}]);
    for (name, version, state, reviews) in [
        ("waits", 1, "Pending", json!([])),
        ("reviewed", 2, "Pending", review.clone()),
        ("approved", 3, "Approved", review.clone()),
        ("released", 4, "Released", review),
    ] {
        let mut request = request(name, version, state, false, json!("r"));
        request.data["spec"]["reviews"] = reviews;
        index.set_request(request);
    }
    let reviewed: BTreeSet<Key> = index.reviewed().into_iter().collect();
    assert_eq!(reviewed, ["approved", "reviewed"].map(|name| Key::Request("a".into(), name.into())).into());
}

#[test]
fn a_request_is_over_once_it_has_ended_or_is_gone() {
    let index = index();
    for (name, version, state, deleting, run) in [
        ("pending", 1, "Pending", false, json!("r")),
        ("approved", 2, "Approved", false, json!("r")),
        ("released", 3, "Released", false, json!("r")),
        ("denied", 4, "Denied", false, json!("r")),
        ("going", 5, "Denied", true, json!("r")),
        ("unreadable", 6, "Pending", false, json!({"no": "text"})),
    ] {
        index.set_request(request(name, version, state, deleting, run));
    }
    let over = |name: &&str| index.is_over("a", name);
    let names = ["pending", "approved", "released", "denied", "going", "unreadable", "never-there"];
    assert_eq!(names.into_iter().filter(over).collect::<Vec<_>>(), ["released", "denied", "never-there"]);
}

#[test]
fn what_waited_for_another_to_be_recorded_keeps_nothing_back_at_once() {
    let index = index();
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    index.trail_goes_on(at(0));
    for n in 0..=1_000 {
        index.set_request(request(&format!("r{n}"), n + 1, "Pending", false, json!("r")));
    }
    assert!(index.unrecorded() > 1_000);
    let stops = |now| index.read().unrecorded().is_some_and(|unrecorded| unrecorded.stops(now));
    assert!(stops(at(60)), "nobody recorded anything for a minute");
    index.take_over(at(60));
    assert!(!stops(at(61)), "there was no time to");
    assert!(stops(at(90)), "it was not done");
}
