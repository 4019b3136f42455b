//! The clocks of a request, and what stops, moves or restarts them. `at(0)` is 13:46:40 on a Monday, in UTC.

use super::*;
use crate::lifecycle::tests::time::{THREE, frozen, later, lunch, quiet};

/// Approved by alice at 1, in a window that ends at 15:00; the pending clock ended at 600.
fn waiting() -> World {
    let mut world = frozen(json!([lunch()]));
    world.settle();
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().state, State::Approved);
    later(&mut world, 700);
    world
}

/// The same, allowed by policy.
fn allowed() -> World {
    let mut world = frozen(json!([lunch()]));
    let rule = world.policies[0].1["rules"][0].as_object_mut().unwrap();
    rule.remove("when");
    rule.remove("approvals");
    rule.insert("decision".into(), json!("Allow"));
    world.settle();
    assert_eq!(world.status().state, State::Approved);
    later(&mut world, 700);
    world
}

fn set_policies(world: &mut World, policies: Vec<(String, Value)>) -> Vec<(String, Value)> {
    world.policies_version = world.bump();
    std::mem::replace(&mut world.policies, policies)
}

fn with_broken(world: &World) -> Vec<(String, Value)> {
    let broken = ("broken".to_string(), json!({"rules": []}));
    world.policies.iter().cloned().chain([broken]).collect()
}

fn until(time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> Option<Timestamp> {
    time.as_ref().map(|t| t.0)
}

#[test]
fn a_problem_that_passes_takes_nothing_from_what_was_approved_in_time_or_allowed() {
    for mut world in [waiting(), allowed()] {
        world.now = at(2000);
        let broken = with_broken(&world);
        let good = set_policies(&mut world, broken);
        world.settle();
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "PolicyNotReady"));
        assert!(condition::find(&world.status().conditions, "Approved").is_none());
        quiet(&world, [2001, 2700, THREE - 1, THREE + 30]);
        world.now = at(4000);
        set_policies(&mut world, good);
        world.settle();
        let status = world.status();
        assert_eq!((status.state, status.revision, world.running()), (State::Approved, 1, false));
        assert_eq!((until(&status.waits_until), world.reason().as_str()), (Some(at(THREE)), "Bound"));
        later(&mut world, THREE);
        assert_eq!((world.status().state, world.starts), (State::Released, 1));
    }
}

#[test]
fn a_problem_that_stays_ends_an_approval_by_the_clock_of_its_release() {
    let mut world = waiting();
    world.now = at(2000);
    let broken = with_broken(&world);
    set_policies(&mut world, broken);
    let due = world.settle().next;
    assert_eq!(due, Some(at(THREE + 60) + SignedDuration::from_millis(500)));
    world.now = due.unwrap();
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.release_by), (State::Expired, None));
    assert!(
        status.message.starts_with("approved, but not released by 1970-01-12T15:01:00Z: policy broken"),
        "{}",
        status.message
    );
    // What is allowed has no clock, and waits for the policy to be mended.
    let mut world = allowed();
    let broken = with_broken(&world);
    set_policies(&mut world, broken);
    assert_eq!(world.settle().next, None);
    quiet(&world, [10_000, 1_000_000]);
}

#[test]
fn one_of_two_policies_that_breaks_neither_ends_nor_grants_anything() {
    let mut world = frozen(json!([lunch()]));
    let mut other = world.policies[0].1.clone();
    other["rules"][0]["approvals"]["requirements"] =
        json!([{"name": "owner", "approvers": [{"kind": "User", "name": "bob"}]}]);
    world.policies.push(("other".into(), other));
    world.settle();
    let mut broken = world.policies.clone();
    broken[1].1 = json!({"rules": []});
    for approvers in [&["alice", "bob"][..], &["alice"]] {
        let complete = approvers.len() == 2;
        let mut world = world.clone();
        approvers.iter().for_each(|who| world.approve(who));
        world.settle();
        let before = world.status();
        world.now = at(if complete { 2000 } else { 300 });
        let good = set_policies(&mut world, broken.clone());
        let due = world.settle().next;
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "PolicyNotReady"));
        assert_eq!(world.status().approvals, before.approvals, "what is bound stands");
        let clock = if complete { THREE + 60 } else { 600 };
        assert_eq!(due, Some(at(clock) + SignedDuration::from_millis(500)), "{approvers:?}");
        world.now += SignedDuration::from_secs(100);
        set_policies(&mut world, good);
        world.settle();
        assert_eq!((world.status().state, world.status().revision), (before.state, 1), "{approvers:?}");
    }
}

#[test]
fn what_is_bound_anew_after_an_approval_is_pending_for_its_full_time() {
    // The Job changed.
    let mut world = waiting();
    world.now = at(2000);
    world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other"));
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.revision), (State::Pending, 2), "{}", status.message);
    assert_eq!((until(&status.pending_since), until(&status.pending_until)), (Some(at(2000)), Some(at(2600))));
    quiet(&world, [2001, 2599]);
    let mut nobody = world.clone();
    later(&mut nobody, 2601);
    assert_eq!(nobody.status().state, State::Expired);
    world.now = at(2599);
    world.approve("bob");
    world.settle();
    assert_eq!(world.status().state, State::Approved);
    later(&mut world, THREE);
    assert_eq!(world.status().state, State::Released);

    // The policy went, and came back.
    for mut world in [waiting(), allowed()] {
        world.now = at(2000);
        let good = set_policies(&mut world, vec![]);
        world.settle();
        assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "NoMatchingPolicy"));
        later(&mut world, 2100);
        set_policies(&mut world, good);
        world.settle();
        assert_eq!(world.status().revision, 2);
        if world.status().state == State::Pending {
            world.approve("alice");
            world.settle();
        }
        assert_eq!(world.status().state, State::Approved);
        later(&mut world, THREE);
        assert_eq!(world.status().state, State::Released);
    }

    // An operator that shows more binds it anew.
    let mut world = waiting();
    world.now = at(2000);
    world.request["status"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    world.request["status"]["boundAt"]["format"] = json!(crate::binding::DIGEST_FORMAT - 1);
    world.settle();
    assert_eq!((world.status().state, until(&world.status().pending_until)), (State::Pending, Some(at(2600))));

    // First a problem, then another outcome.
    let mut world = waiting();
    world.now = at(2000);
    let broken = with_broken(&world);
    let mut other = set_policies(&mut world, broken);
    world.settle();
    world.now = at(2100);
    other[0].1["rules"][0]["constraints"]["maxRuntimeSeconds"] = json!(300);
    set_policies(&mut world, other);
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.release_by, status.revision), (State::Pending, None, 2), "{}", status.message);
    assert_eq!(until(&status.pending_until), Some(at(2700)));
}

#[test]
fn nobody_gains_time_by_binding_anew_without_approvals() {
    let image = |world: &mut World, seconds: i64| {
        world.now = at(seconds);
        let image = json!(format!("x{seconds}"));
        world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = image);
        world.settle();
    };
    let mut world = World::new("RequireApproval");
    world.settle();
    for seconds in [100, 300, 599] {
        image(&mut world, seconds);
        assert_eq!(until(&world.status().pending_until), Some(at(600)));
    }
    later(&mut world, 601);
    assert_eq!(world.status().state, State::Expired);
    // After an approval, once; from there on as before.
    let mut world = waiting();
    for seconds in [2000, 2200, 2599] {
        image(&mut world, seconds);
        assert_eq!((world.status().state, until(&world.status().pending_until)), (State::Pending, Some(at(2600))));
    }
    later(&mut world, 2601);
    assert_eq!(world.status().state, State::Expired);
    // A problem that passed gives no time to replace an approval that was withdrawn since.
    let mut world = frozen(json!([lunch()]));
    world.policies[0].1["rules"][0]["approvals"]["denials"] = json!(2);
    world.settle();
    world.approve("alice");
    world.settle();
    world.now = at(2000);
    let broken = with_broken(&world);
    let good = set_policies(&mut world, broken);
    world.settle();
    world.now = at(2100);
    set_policies(&mut world, good);
    world.settle();
    assert_eq!(world.status().state, State::Approved);
    let digest = world.digest();
    world.review("alice", "Deny", &digest);
    world.approve("bob");
    world.settle();
    assert_eq!(world.status().state, State::Expired);
    // Between allowed and not: the clock stands still while it is allowed, and goes on from there.
    let mut world = allowed();
    world.policies[0].1["rules"][0]["unless"] = json!({"namespaceSelector": {"matchLabels": {"calm": "no"}}});
    let mut asked = world.policies[0].1.clone();
    asked["rules"][0]["when"] = json!({"namespaceSelector": {"matchLabels": {"calm": "no"}}});
    asked["rules"][0].as_object_mut().unwrap().remove("unless");
    asked["rules"][0]["decision"] = json!("RequireApproval");
    asked["rules"][0]["approvals"] = World::new("RequireApproval").policies[0].1["rules"][0]["approvals"].clone();
    world.policies.push(("asked".into(), asked));
    world.policies_version = world.bump();
    world.settle();
    let mut label = |calm: &str, seconds: i64| {
        world.now = at(seconds);
        world.labels["calm"] = json!(calm);
        world.namespace_version = world.bump();
        world.settle();
        (world.status().state, until(&world.status().pending_until).map(|t| t.duration_since(at(0)).as_secs()))
    };
    // Allowed from 1 to 1000.
    assert_eq!(label("no", 1000), (State::Pending, Some(1599)));
    assert_eq!(label("yes", 1400).0, State::Approved);
    // Allowed from 1400 to 3400.
    assert_eq!(label("no", 3400), (State::Pending, Some(3599)));
    assert_eq!(label("no", 3600).0, State::Expired);
}

#[test]
fn an_approval_just_before_a_window_is_not_used_up_by_it() {
    // From 14:00 to 16:00: from 800 to 8000.
    let mut world = frozen(json!([{"name": "tea", "start": "0 14 * * *", "durationSeconds": 7200}]));
    world.policies[0].1["rules"][0]["pendingTimeoutSeconds"] = json!(1000);
    world.settle();
    world.now = at(799);
    world.approve("alice");
    world.now = at(801);
    world.settle();
    let status = world.status();
    assert_eq!((status.state, until(&status.waits_until)), (State::Approved, Some(at(8000))));
    assert_eq!(until(&status.release_by), Some(at(8060)));
    quiet(&world, [860, 900, 7999]);
    let mut late = world.clone();
    later(&mut late, 8061);
    assert_eq!(late.status().state, State::Expired);
    later(&mut world, 8000);
    assert_eq!(world.status().state, State::Released);
}

#[test]
fn a_wait_names_the_windows_that_are_still_to_be_waited_for() {
    // Until 14:00 (at 800), and from 13:30 to 15:00.
    let mut world = frozen(json!([
        {"name": "early", "start": "0 13 * * *", "durationSeconds": 3600},
        {"name": "late", "start": "30 13 * * *", "durationSeconds": 5400},
    ]));
    world.settle();
    world.approve("alice");
    world.settle();
    let message = world.status().message;
    assert!(message.contains("window early") && message.contains("window late"), "{message}");
    quiet(&world, [300, 799]);
    world.now = at(801);
    world.settle();
    let message = world.status().message;
    assert!(!message.contains("window early") && message.contains("window late"), "{message}");
    quiet(&world, [802, 4000]);
}

#[test]
fn a_delay_starts_with_the_work_not_with_the_request_alone() {
    for decision in ["RequireApproval", "Allow"] {
        let mut world = World::new(decision);
        let rule = &mut world.policies[0].1["rules"][0];
        rule.as_object_mut().unwrap().remove("when");
        rule["notBeforeSeconds"] = json!(300);
        let mut made = world.job.take().unwrap();
        made["metadata"]["creationTimestamp"] = json!(at(400).to_string());
        world.settle();
        assert_eq!(world.reason(), "TargetMissing");
        world.now = at(401);
        world.job = Some(made);
        world.bump();
        world.settle();
        if decision == "RequireApproval" {
            world.approve("alice");
            world.settle();
        }
        let status = world.status();
        assert_eq!((status.state, world.running()), (State::Approved, false), "{decision}");
        assert_eq!((until(&status.not_before), until(&status.waits_until)), (Some(at(700)), Some(at(700))));
        quiet(&world, [402, 699]);
        later(&mut world, 700);
        assert_eq!((world.status().state, world.running()), (State::Released, true), "{decision}");
    }
}

#[test]
fn a_delay_starts_again_with_other_work_and_with_that_alone() {
    let mut world = World::new("Allow");
    let rule = &mut world.policies[0].1["rules"][0];
    rule.as_object_mut().unwrap().remove("when");
    rule["notBeforeSeconds"] = json!(300);
    world.settle();
    assert_eq!(until(&world.status().waits_until), Some(at(300)));
    // Another outcome for the same work.
    world.now = at(200);
    world.edit_policy("/rules/0/constraints/maxRuntimeSeconds", json!(300));
    world.settle();
    assert_eq!((world.status().revision, until(&world.status().not_before)), (2, Some(at(300))));
    world.now = at(290);
    world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other"));
    let steps = world.plan().steps;
    assert!(!steps.iter().any(|s| matches!(s, Step::Release(_))), "{steps:?}");
    world.settle();
    assert_eq!((world.status().state, until(&world.status().not_before)), (State::Approved, Some(at(590))));
    quiet(&world, [291, 300, 589]);
    // Out of sight for a moment: nobody knows what it was then.
    world.now = at(500);
    let good = set_policies(&mut world, vec![]);
    world.settle();
    set_policies(&mut world, good);
    world.settle();
    assert_eq!(until(&world.status().not_before), Some(at(800)));
    later(&mut world, 799);
    assert!(!world.running());
    later(&mut world, 800);
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}
