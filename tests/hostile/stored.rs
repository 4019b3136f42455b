//! Objects that are stored, of every kind that is watched: they are told of, and what becomes of them is planned.

use crate::cost::within;
use crate::limits::{STORED, config};
use crate::spoil::spoilt;
use crate::world::{self, Kind, now, objects, tell};
use countersign::api::TargetKind;
use countersign::binding::{Keyring, seal};
use countersign::controller::Index;
use countersign::lifecycle::{Plan, Step, plan, plan_gate, plan_policy};
use kube::core::DynamicObject;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;

/// A status or an annotation is no longer than the API has it.
const LONGEST: usize = 64 << 10;

/// Everything that is planned for what the index knows.
fn plans(index: &Index, key: &Keyring) -> Vec<Plan> {
    let mut plans = vec![];
    for (namespace, name) in [("payments", "request"), ("payments", "request-for-pod"), ("", ""), ("payments", "")] {
        if let Some(seen) = index.observe(namespace, name) {
            plans.extend([true, false].map(|fresh| plan(&seen.observed(key, fresh, Some("quota"), now()))));
        }
        index.letting_go(namespace, name);
    }
    for (kind, name) in [(TargetKind::Job, "job"), (TargetKind::Pod, "pod"), (TargetKind::Job, "")] {
        if let Some(seen) = index.observe_held("payments", kind, name) {
            plans.push(plan_gate(&seen.held(key, true, None, now())));
        }
    }
    if let Some(policy) = index.policy("production") {
        plan_policy(&policy, now());
    }
    index.take_foreign_starts();
    index.record_overrides(now());
    index.open_requests(now());
    plans
}

/// What is planned is bounded, and nothing starts that nobody approved.
fn sound(plans: &[Plan]) {
    for step in plans.iter().flat_map(|plan| &plan.steps) {
        let size = match step {
            Step::WriteStatus(status) => serde_json::to_string(status).expect("JSON").len(),
            Step::Close(patch) => patch.operations.to_string().len(),
            Step::Ask(request) => request.to_string().len(),
            Step::Release(_) => panic!("nobody approved {step:?}"),
            Step::KeepSnapshot(_) | Step::Delete(_) | Step::RemoveFinalizer => 0,
        };
        assert!(size <= LONGEST, "{size} bytes are written");
    }
}

/// The object in its next version, as a watch brings it: of the same name, or else nobody would look at it.
fn arrives(text: &[u8], whole: &Value) -> Option<DynamicObject> {
    let mut object: DynamicObject = serde_json::from_slice(text).ok()?;
    object.metadata.name = whole["metadata"]["name"].as_str().map(String::from);
    object.metadata.namespace = whole["metadata"]["namespace"].as_str().map(String::from);
    object.metadata.resource_version = Some("9".into());
    Some(object)
}

fn told(kind: Kind, text: &[u8], whole: &Value) -> bool {
    let (index, key) = (world::index(), world::key());
    within(&STORED, text.len(), || {
        let Some(object) = arrives(text, whole) else { return false };
        tell(&index, kind, &object);
        sound(&plans(&index, &key));
        // What was there before comes back, as after a restart.
        let again = arrives(whole.to_string().as_bytes(), whole).expect("it is whole");
        tell(
            &index,
            kind,
            &DynamicObject {
                metadata: kube::core::ObjectMeta { resource_version: Some("10".into()), ..again.metadata },
                ..again
            },
        );
        sound(&plans(&index, &key));
        true
    })
}

#[test]
fn a_stored_object_starts_nothing_and_costs_no_more_than_its_limit() {
    for (kind, whole) in objects() {
        // A rule that allows, or one for fewer, is no more than what its author may write.
        if kind == Kind::Policy {
            continue;
        }
        let read = Cell::new((0, 0));
        TestRunner::new(config(150))
            .run(&spoilt(vec![whole.clone()]), |text| {
                let known = told(kind, &text, &whole);
                read.set((read.get().0 + u32::from(known), read.get().1 + 1));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let (known, all) = read.get();
        assert!(known > all / 3, "{kind:?}: only {known} of {all} were more than noise");
    }
}

/// What keeps the objects above from being started is that nobody approved them, and nothing else.
#[test]
fn the_same_objects_start_once_somebody_approves() {
    let (index, key) = (world::index(), world::key());
    let requirement = json!({"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]});
    let rule = json!({"name": "all", "decision": "RequireApproval", "approvals": {"requirements": [requirement]}});
    let version = |mut object: Value, version: &str| -> DynamicObject {
        object["metadata"]["resourceVersion"] = json!(version);
        serde_json::from_value(object).expect("an object")
    };
    let mut policy = world::policy();
    policy["spec"] = json!({"rules": [rule]});
    tell(&index, Kind::Policy, &version(policy, "9"));
    let mut request = world::request();
    request["status"] = json!({});
    tell(&index, Kind::Request, &version(request.clone(), "10"));
    let planned = || {
        let seen = index.observe("payments", "request").expect("it is known");
        plan(&seen.observed(&key, true, None, now()))
    };
    let bound = planned();
    let status = bound.steps.iter().find_map(|step| match step {
        Step::WriteStatus(status) => Some(status),
        _ => None,
    });
    let status = status.expect("it is bound");
    let mut review = json!({"reviewer": {"username": "alice", "uid": "u-2", "groups": ["sre"]}, "decision": "Approve",
        "digest": status.digest, "time": "2027-01-15T08:01:30.000000Z"});
    review["seal"] = json!(seal(&key, "uid-approvalrequest", &review).expect("JSON"));
    (request["status"], request["spec"]["reviews"]) = (json!(status), json!([review]));
    tell(&index, Kind::Request, &version(request, "11"));
    let plan = planned();
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Release(_))), "{status:#?}\n{plan:#?}");
}
