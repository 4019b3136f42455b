//! Who decides, and until when.

use super::*;

/// Approved at 590 s of 600, and the release waits until 650. It takes two to deny where `denials` says so.
fn waiting(denials: i64) -> World {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["denials"] = json!(denials);
    world.settle();
    world.now = at(590);
    world.approve("alice");
    world.refused = Some("quota".into());
    // One look: the next would try the release again, which this world takes.
    let plan = world.plan();
    plan.steps.iter().for_each(|step| world.apply(step));
    assert_eq!((world.status().state, world.running()), (State::Approved, false));
    world.now = at(620);
    world
}

#[test]
fn a_denial_while_the_release_waits_stops_it_after_the_time_for_approvals() {
    let mut world = waiting(1);
    let digest = world.digest();
    world.review("bob", "Deny", &digest);
    world.refused = None;
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Denied, false));
    assert_eq!(world.status().message, "denied by bob");
}

#[test]
fn what_is_approved_too_late_completes_nothing() {
    // Admission takes no such review of a pending request. Were one there, it would not count.
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["requirements"][0]["count"] = json!(2);
    world.settle();
    world.now = at(30);
    world.approve("alice");
    world.settle();
    let mut late = world.clone();
    late.now = at(600) + SignedDuration::from_millis(400);
    late.approve("bob");
    late.settle();
    assert_eq!((late.status().state, late.running()), (State::Pending, false), "within the grace, and too late");
    late.now = at(601);
    late.settle();
    assert_eq!((late.status().state, late.running()), (State::Expired, false));
    world.now = at(599);
    world.approve("bob");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn who_withdraws_while_the_release_waits_is_not_replaced_by_somebody_too_late() {
    let mut world = waiting(2);
    let digest = world.digest();
    world.review("alice", "Deny", &digest);
    world.review("bob", "Approve", &digest);
    world.refused = None;
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Expired, false), "{}", world.status().message);
    let mut undisturbed = waiting(2);
    undisturbed.approve("bob");
    undisturbed.refused = None;
    undisturbed.settle();
    assert_eq!(undisturbed.status().state, State::Released, "a word more does no harm");
}

fn users(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "User", "name": name})).collect()
}

#[test]
fn where_nobody_is_left_who_may_approve_the_request_says_so() {
    let approvers = "/rules/0/approvals/requirements/0/approvers";
    let mut world = World::new("RequireApproval");
    world.edit_policy(approvers, users(&["triage"]));
    world.settle();
    assert_eq!((world.reason().as_str(), world.status().digest), ("Unsatisfiable", None));
    assert_eq!(
        world.status().message,
        "nobody can approve this: 1 person is needed for sre, and nobody is left; user triage is listed and does not count for this request; ask the platform team, or have another create and ask"
    );
    world.edit_policy(approvers, users(&["triage", "alice"]));
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    world.approve("alice");
    world.settle();
    assert!(world.running());
}

#[test]
fn the_creator_may_be_excluded_where_self_approval_is_allowed() {
    let mut world = World::new("RequireApproval");
    world.edit_job(|job| {
        job["metadata"]["annotations"] = json!({"countersign.dev/created-by": "alice",
            "countersign.dev/created-by-uid": "", "countersign.dev/created-by-groups": "sre"});
    });
    world.policies[0].1["rules"][0]["approvals"]["selfApproval"] = json!("Allow");
    let mut allowed = world.clone();
    allowed.settle();
    allowed.approve("alice");
    allowed.settle();
    assert!(allowed.running(), "{}", allowed.status().message);
    world.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["JobCreator"]);
    world.settle();
    assert_eq!(world.status().excluded, ["alice"]);
    world.approve("alice");
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Pending, false));
    world.approve("bob");
    world.settle();
    assert!(world.running());
}

#[test]
fn without_a_stamped_editor_nothing_is_approved_and_the_message_says_what_to_do() {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["approvals"]["exclude"] = json!(["PolicyEditor"]);
    world.settle();
    assert_eq!((world.reason().as_str(), world.status().digest), ("PolicyNotReady", None));
    assert_eq!(
        world.status().message,
        "policy production excludes whoever last changed it, and nobody was stamped as that, so nothing is approved: change its spec while admission is there, or delete it and apply it again"
    );
}

#[test]
fn the_command_has_a_place_for_the_comment_that_it_takes() {
    let mut world = World::new("RequireApproval");
    world.settle();
    assert!(!world.status().message.contains("comment"), "{}", world.status().message);
    world.policies[0].1["rules"][0]["approvals"]["requireComment"] = json!(true);
    world.policies_version = world.bump();
    world.settle();
    let (message, digest) = (world.status().message, world.digest());
    let command = format!(
        r#"-p '{{"spec":{{"review":{{"decision":"Approve","digest":"{digest}","comment":"<what you checked>"}}}}}}'"#
    );
    assert!(message.ends_with(&command), "{message}");
}
