//! What keeps a request from its Job, and whose a Job is.

use super::*;

#[test]
fn what_keeps_a_request_waiting_is_named() {
    let evaluate = |change: &dyn Fn(&mut World)| {
        let mut world = World::new("RequireApproval");
        change(&mut world);
        world.settle();
        assert_eq!((world.status().state, world.status().digest.is_some()), (State::Pending, false));
        assert!(!world.status().message.is_empty());
        world.reason()
    };
    let in_job = |edit: fn(&mut Value)| move |w: &mut World| w.edit_job(edit);
    assert_eq!(evaluate(&|w| w.policies.clear()), "NoMatchingPolicy");
    assert_eq!(evaluate(&|w| w.policies.push(("broken".into(), json!({"rules": []})))), "PolicyNotReady");
    assert_eq!(evaluate(&|w| w.job = None), "TargetMissing");
    assert_eq!(evaluate(&in_job(|j| j["spec"]["suspend"] = json!(false))), "TargetRunning");
    assert_eq!(evaluate(&in_job(|j| j["status"] = json!({"startTime": "2026-01-01T00:00:00Z"}))), "TargetStarted");
    assert_eq!(
        evaluate(&in_job(|j| j["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]}))),
        "TargetFinished"
    );
    assert_eq!(evaluate(&|w| w.request["spec"]["target"]["uid"] = json!("other")), "TargetReplaced");
    assert_eq!(evaluate(&in_job(|j| j["spec"]["template"]["x"] = json!(1u64 << 60))), "Unbindable");
    assert_eq!(evaluate(&|w| drop(w.request["spec"].as_object_mut().unwrap().remove("requester"))), "NoRequester");
    assert_eq!(
        evaluate(&|w| {
            // Each rule could be met; together they ask for more than can be recorded.
            w.policies[0].1["rules"][0]["approvals"]["requirements"][0]["count"] = json!(33);
            let mut other = w.policies[0].1.clone();
            other["rules"][0]["approvals"]["requirements"][0]["approvers"][0]["name"] = json!("security");
            w.policies.push(("other".into(), other));
        }),
        "Unsatisfiable"
    );
}

#[test]
fn a_broken_policy_holds_even_what_was_approved_and_its_repair_keeps_it() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let digest = world.digest();
    world.policies.push(("broken".into(), json!({"rules": []})));
    world.policies_version = world.bump();
    world.approve("alice");
    world.settle();
    assert_eq!(
        (world.status().state, world.reason().as_str(), world.running()),
        (State::Pending, "PolicyNotReady", false)
    );
    world.policies.pop();
    world.policies_version = world.bump();
    world.settle();
    assert_eq!((world.status().state, world.status().digest), (State::Released, Some(digest)));
}

#[test]
fn one_request_owns_a_job() {
    let rival = |state, bound: Option<&str>, created| Contender {
        kind: None,
        requester: None,
        name: "rival".into(),
        uid: "r0".into(),
        created: at(created),
        state,
        asked_uid: None,
        bound_uid: bound.map(str::to_string),
    };
    let reason = |rival: Contender| {
        let mut world = World::new("RequireApproval");
        world.others = vec![rival];
        world.settle();
        world.reason()
    };
    assert_eq!(reason(rival(State::Pending, None, -5)), "TargetTaken", "the older one comes first");
    assert_eq!(reason(rival(State::Pending, None, 5)), "Bound");
    assert_eq!(reason(rival(State::Pending, Some("j1"), 5)), "TargetTaken", "but whoever is bound stays");
    assert_eq!(reason(rival(State::Denied, Some("j1"), -5)), "TargetTaken", "denied is final for the Job");
    assert_eq!(reason(rival(State::Released, Some("j1"), -5)), "TargetTaken");
    assert_eq!(reason(rival(State::Expired, Some("j1"), -5)), "Bound", "after Expired another may bind");
    assert_eq!(reason(rival(State::Denied, Some("j0"), -5)), "Bound", "that was another Job");
    let mut world = World::new("RequireApproval");
    world.edit_job(|job| job["metadata"]["annotations"] = json!({"countersign.dev/closed": "Denied sha256:00"}));
    world.settle();
    assert_eq!(world.reason(), "TargetTaken", "the note outlives the request");
}

#[test]
fn a_loser_never_writes_on_the_job_of_another() {
    let mut world = World::new("RequireApproval");
    world.others = vec![Contender {
        kind: None,
        requester: None,
        name: "rival".into(),
        uid: "r0".into(),
        created: at(-5),
        state: State::Pending,
        asked_uid: None,
        bound_uid: Some("j1".into()),
    }];
    let before = world.job.clone();
    world.settle();
    world.now = at(5000);
    world.settle();
    assert_eq!((world.status().state, &world.job), (State::Expired, &before));
}

#[test]
fn withdrawing_deleting_and_the_finalizer() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.request["spec"]["cancel"] = json!(true);
    world.settle();
    assert_eq!(world.status().state, State::Cancelled);
    assert!(world.plan().steps.is_empty(), "the finalizer stays until deletion is asked for");
    world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(world.plan().steps, [Step::RemoveFinalizer]);

    let mut world = World::new("RequireApproval");
    world.settle();
    world.request["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.settle();
    assert_eq!((world.status().state, world.request["metadata"]["finalizers"].clone()), (State::Cancelled, json!([])));
    assert!(world.job.unwrap()["metadata"]["annotations"]["countersign.dev/closed"].is_string());
}

#[test]
fn a_forged_receipt_or_note_changes_nothing() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.edit_job(|job| {
        job["spec"]["template"]["metadata"]["annotations"] = json!({"countersign.dev/receipt": "{}"});
        job["metadata"]["annotations"] =
            json!({"countersign.dev/released": "sha256:00", "countersign.dev/closed": "Denied x"});
    });
    world.settle();
    assert_eq!((world.status().state, world.status().revision), (State::Pending, 1));
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().state, State::Released);
    assert_eq!(
        world.job.unwrap()["metadata"]["annotations"].get("countersign.dev/closed"),
        None,
        "a release removes the note"
    );
}

#[test]
fn a_receipt_for_another_job_is_not_ours() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    world.settle();
    let receipt = world.job.unwrap()["spec"]["template"]["metadata"]["annotations"]["countersign.dev/receipt"].clone();
    let mut copied = job("j2", 50);
    copied["spec"]["template"]["metadata"]["annotations"] = json!({"countersign.dev/receipt": receipt});
    assert_eq!(TargetFacts::read(TargetKind::Job, &object(&copied), &key(), None).receipt, None);
}
