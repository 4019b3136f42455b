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

/// What is written on a Job by whoever may write on it, and not by us.
fn closed(world: &mut World, note: &str) {
    world.edit_job(|job| job["metadata"]["annotations"] = json!({"countersign.dev/closed": note}));
}

/// As an operator sees it that has not heard yet that the request was bound.
#[test]
fn a_note_tells_of_the_end_of_the_request_that_it_names_whatever_that_is_bound_to() {
    let noted = |note: &str| {
        let mut world = World::new("Allow");
        world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
        closed(&mut world, note);
        world.settle();
        (world.status().state, world.running())
    };
    for (note, state) in [("Expired", State::Expired), ("Cancelled", State::Cancelled), ("Denied", State::Denied)] {
        assert_eq!(noted(&format!("{note} sha256:00 r1")), (state, false), "{note}");
    }
    assert_eq!(noted("Expired sha256:00 r0"), (State::Released, true), "that was another request");
    assert_eq!(noted("Expired sha256:00"), (State::Released, true), "and that may have been");
    assert_eq!(noted("Denied sha256:00 r0"), (State::Pending, false), "denied is final for the Job");
    assert_eq!(noted("Denied sha256:00"), (State::Pending, false));
}

#[test]
fn a_forged_note_hides_nothing_of_what_will_run() {
    let mounting = || {
        let mut world = World::new("RequireApproval");
        let rule = world.policies[0].1["rules"][0].as_object_mut().unwrap();
        rule.insert("when".into(), json!({"riskTags": ["secrets"]}));
        rule.insert("constraints".into(), json!({"maxCpu": "500m"}));
        let seen = json!({"expression": "object == null || !has(object.spec)"});
        let everybody =
            json!([{"name": "unseen", "when": seen, "decision": "Deny"}, {"name": "everybody", "decision": "Allow"}]);
        world.policies.push(("open".into(), json!({"rules": everybody})));
        world.edit_job(|job| {
            let pod = &mut job["spec"]["template"]["spec"];
            pod["volumes"] = json!([{"name": "v", "secret": {"secretName": "db"}}]);
            pod["containers"][0]["resources"] = json!({"limits": {"cpu": "4"}});
        });
        world
    };
    for note in ["Denied", "Denied x"] {
        let mut before = mounting();
        closed(&mut before, note);
        before.settle();
        assert_eq!((before.status().state, before.running()), (State::Pending, false), "{note} before");
        let scope = before.status().scope;
        assert!(scope.iter().any(|entry| entry.tag == "secrets"), "{note} before: {scope:?}");

        let mut after = mounting();
        after.settle();
        let digest = after.digest();
        closed(&mut after, note);
        after.settle();
        assert_eq!((after.status().state, after.digest()), (State::Pending, digest), "{note} after");
        after.approve("alice");
        after.settle();
        assert_eq!(after.status().state, State::Released, "{note} after");
        let limit = after.job.unwrap().pointer("/spec/template/spec/containers/0/resources/limits/cpu").cloned();
        assert_eq!(limit, Some(json!("500m")), "{note} after: the bound is set all the same");
    }
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

#[test]
fn of_a_target_that_may_be_on_its_way_nothing_is_told_yet() {
    let unseen = |now: Timestamp, targets: i64| {
        let mut world = World::new("RequireApproval");
        let coming = world.job.take();
        (world.version, world.now) = (targets, now);
        (coming, world)
    };
    let waits = |now, targets| {
        let plan = unseen(now, targets).1.plan();
        (plan.steps.is_empty() && plan.note.is_none()).then_some(plan.next).flatten()
    };
    let half = at(0) + SignedDuration::from_millis(500);
    assert_eq!(waits(half, 9), Some(at(3)));
    assert_eq!(waits(at(3), 9), None, "it would have come by now");
    assert_eq!(waits(half, 10), None, "what was there before the request is seen");
    assert_eq!(waits(at(-3), 9), Some(at(3)), "clocks that are a little apart");
    assert_eq!(waits(at(-4), 9), None, "clocks that are far apart wait for nothing");

    let (coming, mut world) = unseen(half, 9);
    world.job = coming;
    world.settle();
    assert_eq!(world.reason(), "Bound");
    let (_, mut world) = unseen(at(3), 9);
    world.settle();
    assert_eq!(world.reason(), "TargetMissing");
    world.now = half;
    assert!(world.plan().next != Some(at(3)), "what is told already is not waited for");
    let (_, mut withdrawn) = unseen(half, 9);
    withdrawn.request["spec"]["cancel"] = json!(true);
    withdrawn.settle();
    assert_eq!(withdrawn.status().state, State::Cancelled, "an end waits for nothing");
    let (_, mut denied) = unseen(half, 9);
    denied.policies = denying(|_| {}).policies;
    denied.settle();
    assert_eq!(
        (denied.status().state, denied.now),
        (State::Denied, half),
        "nor does a Deny, whatever the target may be"
    );
}

/// Beside the rule that asks for approval, one that denies.
fn denying(change: impl Fn(&mut Value)) -> World {
    let mut world = World::new("RequireApproval");
    let mut rule = json!({"name": "never", "decision": "Deny"});
    change(&mut rule);
    world.policies[0].1["rules"].as_array_mut().unwrap().push(rule);
    world
}

#[test]
fn nothing_is_denied_for_what_a_target_that_is_not_there_may_be() {
    let whens = ["object == null", "!(object != null && has(object.spec.template))", "object.kind != \"Job\""];
    let rules = whens.map(|text| json!({"when": {"expression": text}}));
    let exempt = [
        json!({"unless": {"riskTags": ["secrets"]}}),
        json!({"unless": {"anyRiskTags": ["secrets"]}}),
        json!({"unless": {"expression": "object.kind == \"Job\""}}),
    ];
    for parts in rules.iter().chain(&exempt) {
        let mut world = denying(|rule| rule.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone()));
        let mut coming = world.job.take().unwrap();
        coming["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
        world.settle();
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "TargetMissing"), "{parts}");
        world.job = Some(coming);
        world.bump();
        world.settle();
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "Bound"), "{parts}");
    }
    let mut world = denying(|rule| rule["when"] = json!({"riskTags": ["prod"]}));
    world.job = None;
    world.settle();
    assert_eq!(world.status().state, State::Denied, "whatever the Job would be");
}

#[test]
fn a_job_that_runs_already_is_not_judged_as_if_it_were_something_else() {
    for text in ["object.kind != \"Job\"", "object == null", "object != null && !has(object.spec)"] {
        let mut world = denying(|rule| rule["when"] = json!({"expression": text}));
        world.edit_job(|job| {
            job["spec"]["suspend"] = json!(false);
            job["status"] = json!({"startTime": "2026-01-01T00:00:00Z"});
        });
        world.settle();
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "TargetRunning"), "{text}");
        world.policies[0].1["rules"].as_array_mut().unwrap().remove(0);
        world.policies_version = world.bump();
        world.settle();
        assert_eq!(world.reason(), "TargetRunning", "{text}, and no other rule");
    }
}

#[test]
fn a_failing_rule_is_named_where_nothing_else_covers_a_request() {
    let mut world = World::new("Allow");
    world.policies[0].1["rules"][0]["when"] = json!({"expression": "object.spec.missing == 1"});
    world.settle();
    assert_eq!(world.reason(), "NoMatchingPolicy");
    assert_eq!(
        world.status().message,
        "no policy has a rule for this request; it waits until one does; rules whose expression failed: production/prod-write (there is no field \"missing\"; ask with has() first)"
    );
}

#[test]
fn what_is_wrong_in_a_policy_is_for_those_who_may_read_it() {
    let mut world = World::new("RequireApproval");
    let secret = json!({"rules": [{"name": "r", "decision": "Deny", "colour": "ultramarine"}]});
    world.policies.push(("broken".into(), secret));
    world.settle();
    assert_eq!(
        world.status().message,
        "policy broken does not compile and might apply, so nothing is approved; ask its owners to repair it"
    );
    let mut world = denying(|rule| rule["when"] = json!({"expression": "object.spec.missing == 1"}));
    world.settle();
    assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "PolicyNotReady"));
    assert_eq!(
        world.status().message,
        "policy production might deny it: the expression of its rule never cannot be evaluated, so nothing is approved: there is no field \"missing\"; ask with has() first"
    );
}
