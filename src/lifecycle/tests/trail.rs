//! What the audit trail holds back: letting go, writing over what is not recorded yet, and releases while it is full.

use super::*;

#[test]
fn a_deleted_request_stays_until_its_records_are_written() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.approve("alice");
    world.settle();
    world.request["metadata"]["deletionTimestamp"] = json!(at(40).to_string());
    world.recorded = false;
    assert_eq!(world.plan(), Plan::idle());
    world.recorded = true;
    assert_eq!(world.plan().steps, [Step::RemoveFinalizer]);
}

#[test]
fn what_was_bound_is_recorded_before_it_is_written_over() {
    let mut world = World::new("RequireApproval");
    world.recorded = false;
    world.settle();
    assert_eq!(world.status().revision, 1, "there was nothing before the first");
    world.edit_policy("/rules/0/constraints/maxRuntimeSeconds", json!(300));
    assert_eq!(world.plan(), Plan::idle());
    world.recorded = true;
    world.settle();
    assert_eq!(world.status().revision, 2);
    assert!(world.status().bound_time.is_some());
}

/// An approval, a release and an end wait for no record: what decided is durable before.
#[test]
fn nothing_on_the_short_path_waits_for_a_record() {
    for decision in ["Approve", "Deny"] {
        let mut world = World::new("RequireApproval");
        world.settle();
        world.recorded = false;
        let digest = world.digest();
        world.review("alice", decision, &digest);
        world.settle();
        assert!(world.status().state.is_final() && world.running() == (decision == "Approve"));
    }
}

#[test]
fn nothing_is_released_while_the_trail_cannot_be_written_and_a_denial_still_stops_it() {
    let mut world = World::new("RequireApproval");
    world.settle();
    let full = |went_on| {
        let why = "1001 entries of the audit trail could not be written yet".into();
        Some(Unrecorded { why, went_on })
    };
    world.approve("alice");
    for stands in [None, Some(world.now - SignedDuration::from_secs(30))] {
        let mut world = world.clone();
        world.unrecorded = full(stands);
        stopped(&mut world);
        world.unrecorded = None;
        world.settle();
        assert_eq!((world.status().state, world.running()), (State::Released, true));
    }
    // It goes on, only more slowly than what there is to record.
    world.unrecorded = full(Some(world.now - SignedDuration::from_secs(29)));
    world.settle();
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

/// Nothing is released, and what denies still counts.
fn stopped(world: &mut World) {
    let plan = world.settle();
    let status = world.status();
    assert_eq!((status.state, world.running()), (State::Approved, false));
    assert!(status.message.contains("the release waits: 1001 entries of the audit trail"), "{}", status.message);
    assert_eq!(plan.next, Some(world.now + SignedDuration::from_secs(5)), "it looks again");
    let mut denied = world.clone();
    let digest = denied.digest();
    denied.review("bob", "Deny", &digest);
    denied.settle();
    assert_eq!(denied.status().state, State::Denied);
}
