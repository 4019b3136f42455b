use super::*;
use crate::api::{InputKind, Requester};
use crate::binding::InputFacts;
use crate::policy::{Facts, PolicySet, compile, evaluate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn outcome(demands: Value) -> Outcome {
    let mut rule = json!({"name": "prod-write", "decision": "Allow"});
    rule.as_object_mut().unwrap().extend(demands.as_object().unwrap().clone());
    let compiled = compile("production", &json!({"rules": [rule]}), None).unwrap();
    let policies = PolicySet { ready: vec![Arc::new(compiled)], broken: vec![] };
    let facts = Facts {
        requested_by: "",
        declared_tags: &[],
        derived_tags: &[],
        requester: &Requester::default(),
        namespace_labels: &BTreeMap::new(),
        claims: &Value::Null,
        namespace: "payments",
        object: None,
        asked: jiff::Timestamp::UNIX_EPOCH,
    };
    evaluate(&policies, &facts)
}

fn reference(name: &str, optional: bool) -> InputRef {
    InputRef { kind: InputKind::ConfigMap, name: name.into(), optional }
}

fn present(name: &str, immutable: bool, locked: bool) -> (InputRef, InputState) {
    let facts = InputFacts {
        kind: InputKind::ConfigMap,
        name: name.into(),
        uid: "u1".into(),
        resource_version: "7".into(),
        hash: Some("sha256:00".into()),
        other_hashes: vec![],
        immutable: Some(immutable),
        locked,
    };
    (reference(name, false), InputState::Present(facts))
}

#[test]
fn inputs_that_can_change_are_named_with_what_they_lack() {
    let inputs = [
        (reference("a", false), InputState::Absent),
        (reference("b", true), InputState::Absent),
        (reference("c", false), InputState::Unknown),
        present("d", true, true),
        present("e", false, false),
        present("f", true, false),
        present("g", false, true),
    ];
    let (reason, message) = obstacles(&outcome(json!({"requireImmutableInputs": true})), &inputs, &[], true).unwrap();
    assert_eq!(reason, "InputsNotImmutable");
    assert_eq!(
        message,
        "rule production/prod-write wants inputs that nobody can change any more (requireImmutableInputs), and these \
         are not: ConfigMap a (absent), ConfigMap b (absent, so that anybody may create it later), ConfigMap c (the \
         operator may not read it), ConfigMap e (neither immutable nor locked), ConfigMap f (not locked) and 1 more. \
         Each needs immutable: true and the label countersign.dev/input: locked; the request then goes on by itself"
    );
    let held = [present("d", true, true)];
    assert_eq!(obstacles(&outcome(json!({"requireImmutableInputs": true})), &held, &[], true), None);
    let (_, message) = obstacles(&outcome(json!({"requireImmutableInputs": true})), &held, &[], false).unwrap();
    let why = "ConfigMap d (labelled, in a namespace that is not gated)";
    assert!(message.contains(why) && message.contains("countersign.dev/gate: enforce"), "{message}");
    assert_eq!(obstacles(&outcome(json!({})), &inputs, &["busybox".into()], true), None, "no rule demands it");
    for open in inputs.into_iter().filter(|(r, _)| r.name != "d") {
        let found =
            obstacles(&outcome(json!({"requireImmutableInputs": true})), std::slice::from_ref(&open), &[], true);
        assert_eq!(found.unwrap().0, "InputsNotImmutable", "{open:?}");
    }
}

#[test]
fn images_by_tag_are_named() {
    let demanding = outcome(json!({"requireImageDigests": true}));
    let (reason, message) = obstacles(&demanding, &[], &["busybox:1.36".into(), "x\u{1b}[2J".into()], true).unwrap();
    assert_eq!(reason, "ImagesNotPinned");
    assert_eq!(
        message,
        "rule production/prod-write wants images named by digest (requireImageDigests), and these are not: \
         \"busybox:1.36\", \"x\\u{1b}[2J\". Create the Job anew with image@sha256:… for each"
    );
    assert_eq!(obstacles(&demanding, &[present("a", false, false)], &[], true), None);
    let long = vec!["ü".repeat(5000); 100];
    assert!(obstacles(&demanding, &[], &long, true).unwrap().1.chars().count() < 2000);
}

#[test]
fn more_inputs_than_can_be_shown_are_in_the_way_of_every_rule() {
    let many: Vec<_> = (0..=MAX_INPUTS).map(|i| present(&format!("c{i}"), true, true)).collect();
    let (reason, message) = obstacles(&outcome(json!({})), &many, &[], true).unwrap();
    assert_eq!(reason, "TooManyInputs");
    assert!(message.starts_with("the Job refers to 65 ConfigMaps and Secrets; at most 64"), "{message}");
    assert_eq!(obstacles(&outcome(json!({})), &many[1..], &[], true), None);
}
