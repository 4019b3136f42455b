//! Delays and freeze windows: when what is approved is released. `at(0)` is 13:46:40 on a Monday, in UTC.

use super::*;
use crate::lifecycle::tests::gate::gated;

/// 15:00:00 that day.
pub(super) const THREE: i64 = 4_400;

/// A window from 13:00 to 15:00 every day, which carol may pass.
pub(super) fn lunch() -> Value {
    json!({"name": "lunch", "start": "0 13 * * *", "durationSeconds": 7200, "mayPass": [{"kind": "User", "name": "carol"}]})
}

pub(super) fn frozen(windows: Value) -> World {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["freezeWindows"] = windows;
    world
}

pub(super) fn later(world: &mut World, seconds: i64) {
    world.now = at(seconds);
    world.settle();
}

/// Nothing is written, whenever it is looked at.
pub(super) fn quiet(world: &World, times: impl IntoIterator<Item = i64>) {
    for seconds in times {
        let mut later = world.clone();
        later.now = at(seconds);
        assert_eq!(later.plan().steps, [], "at {seconds}");
    }
}

#[test]
fn an_approval_in_a_window_waits_in_the_open_for_its_end() {
    let mut world = frozen(json!([lunch()]));
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.waits_until), (State::Pending, None));
    assert_eq!((status.freezes[0].policy.as_str(), status.freezes[0].rule.as_str()), ("production", "prod-write"));
    assert_eq!(serde_json::to_value(&status.freezes[0].window).unwrap()["mayPass"], lunch()["mayPass"]);
    world.now = at(30);
    world.approve("alice");
    let plan = world.plan();
    assert_eq!(plan.note.as_ref().map(|n| (n.warning, n.reason.as_str())), Some((false, "ReleaseWaits")));
    assert_eq!(plan.next, Some(at(THREE)));
    world.settle();
    let status = world.status();
    assert_eq!((status.state, world.running()), (State::Approved, false));
    assert_eq!(status.waits_until.as_ref().map(|t| t.0), Some(at(THREE)));
    assert_eq!(status.release_by.as_ref().map(|t| t.0), Some(at(THREE + 60)), "the clock starts when it could happen");
    let digest = status.digest.clone().unwrap();
    let expected = format!(
        r#"approved; released after 1970-01-12T15:00:00Z: freeze window lunch of rule production/prod-write holds (user carol may pass it); to pass it: kubectl patch apr run -n payments --type=merge -p '{{"spec":{{"review":{{"decision":"Approve","digest":"{digest}"}}}}}}'"#
    );
    assert_eq!(status.message, expected);
    let approved = condition::find(&status.conditions, "Approved").unwrap();
    assert_eq!((approved.reason.as_str(), approved.message.as_str()), ("Approved", "approved by alice"));
    quiet(&world, [31, 599, 601, 4000, THREE - 1]);
    later(&mut world, THREE);
    let status = world.status();
    assert_eq!((status.state, world.running(), world.starts), (State::Released, true, 1));
    assert_eq!((status.waits_until, status.release_by), (None, None));
}

#[test]
fn an_approval_that_waited_expires_by_its_own_clock_alone() {
    let mut world = frozen(json!([lunch()]));
    world.settle();
    world.approve("alice");
    later(&mut world, 700);
    assert_eq!(world.status().state, State::Approved, "the pending clock is over, and was met");
    let mut late = world.clone();
    later(&mut late, THREE + 60);
    assert_eq!(late.status().state, State::Released);
    later(&mut world, THREE + 61);
    assert_eq!((world.status().state, world.running()), (State::Expired, false));
    let message =
        "approved, but not released by 1970-01-12T15:01:00Z: the operator was not able to act in time; ask anew";
    assert_eq!(world.status().message, message);
}

#[test]
fn whoever_may_pass_a_window_passes_it_by_approving() {
    let mut world = frozen(json!([lunch()]));
    world.settle();
    world.approve("alice");
    later(&mut world, 30);
    assert_eq!(world.status().state, State::Approved);
    // Long after the pending clock, which the approval met.
    world.now = at(3000);
    world.approve("carol");
    world.settle();
    let status = world.status();
    assert_eq!((status.state, world.running()), (State::Released, true), "{}", status.message);
    assert_eq!(status.freezes[0].passed_by.as_deref(), Some("carol"));

    // The same after a crash between both writes.
    let mut crashed = frozen(json!([lunch()]));
    crashed.settle();
    crashed.approve("carol");
    let plan = crashed.plan();
    crashed.apply(&plan.steps[0]);
    crashed.settle();
    assert_eq!((crashed.status().state, crashed.starts), (State::Released, 1));
    assert_eq!(crashed.status().freezes[0].passed_by.as_deref(), Some("carol"));

    let mut alone = frozen(json!([lunch()]));
    alone.settle();
    alone.approve("carol");
    let steps = alone.plan().steps;
    assert!(matches!(&steps[..], [Step::Release(_), Step::WriteStatus(_)]), "one word for both: {steps:?}");
}

#[test]
fn who_does_not_pass_a_window() {
    let approved = || {
        let mut world = frozen(json!([lunch()]));
        world.settle();
        world.approve("alice");
        world.settle();
        world
    };
    let mut unsealed = approved();
    let digest = unsealed.digest();
    unsealed
        .append(json!({"reviewer": {"username": "carol", "groups": ["sre"]}, "decision": "Approve", "digest": digest,
        "time": "1970-01-12T13:46:41.000000Z", "seal": "forged"}));
    let mut stale = approved();
    stale.review("carol", "Approve", &format!("sha256:{}", "0".repeat(64)));
    let mut other = approved();
    other.approve("bob");
    let mut asker = frozen(json!([{"name": "lunch", "start": "0 13 * * *", "durationSeconds": 7200,
        "mayPass": [{"kind": "User", "name": "triage"}]}]));
    asker.settle();
    asker.approve("alice");
    asker.approve("triage");
    for mut world in [unsealed, stale, other, asker] {
        world.settle();
        assert_eq!((world.status().state, world.running()), (State::Approved, false));
        assert_eq!(world.status().freezes[0].passed_by, None);
    }
    // One that carol passes does not open the other.
    let year_end = json!({"name": "year-end", "start": "0 0 12 1 *", "durationSeconds": 86400});
    let mut world = frozen(json!([lunch(), year_end]));
    world.settle();
    world.approve("carol");
    world.settle();
    let status = world.status();
    assert_eq!(
        (status.state, status.waits_until.map(|t| t.0.to_string())),
        (State::Approved, Some("1970-01-13T00:00:00Z".into()))
    );
    assert!(
        status.message.contains("year-end of rule production/prod-write holds (nobody may pass it)"),
        "{}",
        status.message
    );
    assert!(!status.message.contains("lunch") && !status.message.contains("kubectl"), "{}", status.message);
}

#[test]
fn what_happens_during_a_wait_still_counts() {
    let waiting = || {
        let mut world = frozen(json!([lunch()]));
        world.settle();
        world.approve("alice");
        world.settle();
        assert_eq!(world.status().state, State::Approved);
        world.now = at(2000);
        world
    };
    let mut world = waiting();
    let digest = world.digest();
    world.review("bob", "Deny", &digest);
    world.settle();
    assert_eq!((world.status().state, world.status().waits_until), (State::Denied, None));
    assert_eq!(
        world.job.as_ref().unwrap()["metadata"]["annotations"]["countersign.dev/closed"],
        json!(format!("Denied {digest} r1"))
    );

    let mut world = waiting();
    world.request["spec"]["cancel"] = json!(true);
    world.settle();
    assert_eq!(world.status().state, State::Cancelled);

    // The Job changed: what was approved is void, and asked for anew.
    let drift = |seconds: i64| {
        let mut world = waiting();
        world.now = at(seconds);
        world.edit_job(|job| job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil"));
        world.settle();
        let status = world.status();
        assert!(condition::find(&status.conditions, "Approved").is_none(), "{status:?}");
        assert_eq!((status.waits_until, status.release_by), (None, None));
        (status.state, world.running())
    };
    assert_eq!(drift(300), (State::Pending, false));
    assert_eq!(drift(2000), (State::Pending, false));

    // Nobody gets by a window because it was taken out of the policy meanwhile: that is another outcome.
    let mut world = waiting();
    world.now = at(300);
    world.policies[0].1["rules"][0]["freezeWindows"] = json!([]);
    world.policies_version = world.bump();
    world.settle();
    assert_eq!((world.status().state, world.status().revision, world.status().freezes.len()), (State::Pending, 2, 0));

    let mut world = waiting();
    world.policies.push(("broken".into(), json!({"rules": []})));
    world.policies_version = world.bump();
    world.now = at(300);
    world.settle();
    assert_eq!((world.status().state, world.reason().as_str()), (State::Pending, "PolicyNotReady"));
}

#[test]
fn a_delay_counts_from_the_request() {
    let mut world = World::new("RequireApproval");
    world.policies[0].1["rules"][0]["notBeforeSeconds"] = json!(300);
    world.settle();
    assert_eq!(world.status().not_before.map(|t| t.0), Some(at(300)));
    world.now = at(30);
    world.approve("alice");
    assert_eq!(world.plan().next, Some(at(300)));
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.release_by.map(|t| t.0)), (State::Approved, Some(at(360))));
    let text = "approved; released after 1970-01-12T13:51:40Z: it was asked for at 1970-01-12T13:46:40Z, and policy has it wait until 1970-01-12T13:51:40Z";
    assert_eq!(status.message, text);
    quiet(&world, [31, 299]);
    later(&mut world, 300);
    assert_eq!(world.status().state, State::Released);
    // The longest of two policies, and the end of a window that it falls into.
    let mut world = frozen(json!([lunch()]));
    world.policies[0].1["rules"][0]["notBeforeSeconds"] = json!(100);
    world.policies.push(("other".into(), world.policies[0].1.clone()));
    world.policies[1].1["rules"][0]["notBeforeSeconds"] = json!(90_000);
    world.settle();
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().not_before.map(|t| t.0), Some(at(90_000)));
    assert_eq!(world.status().waits_until.map(|t| t.0), Some(at(THREE + 86_400)));
}

#[test]
fn what_is_allowed_waits_as_well_and_has_no_clock() {
    let mut world = World::new("Allow");
    world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
    world.policies[0].1["rules"][0]["freezeWindows"] = json!([lunch()]);
    world.settle();
    let status = world.status();
    assert_eq!((status.state, status.release_by), (State::Approved, None));
    assert!(
        status.message.starts_with("allowed; released after 1970-01-12T15:00:00Z: freeze window lunch"),
        "{}",
        status.message
    );
    assert_eq!(condition::find(&status.conditions, "Approved").unwrap().reason, "Allowed");
    later(&mut world, 4399);
    assert_eq!(world.status().state, State::Approved);
    later(&mut world, 10_000);
    assert_eq!((world.status().state, world.running()), (State::Released, true));
}

#[test]
fn an_opening_that_was_missed_does_not_open_the_next_window() {
    let hourly = json!([{"name": "most-of-it", "start": "0 * * * *", "durationSeconds": 3000}]);
    let mut world = frozen(hourly);
    world.policies[0].1["rules"][0]["releaseTimeoutSeconds"] = json!(3600);
    world.settle();
    world.approve("alice");
    world.settle();
    assert_eq!(world.status().waits_until.map(|t| t.0.to_string()), Some("1970-01-12T13:50:00Z".into()));
    // 14:10.
    later(&mut world, 1400);
    let status = world.status();
    assert_eq!((status.state, world.running()), (State::Approved, false));
    assert_eq!(status.waits_until.map(|t| t.0.to_string()), Some("1970-01-12T14:50:00Z".into()));
    assert_eq!(
        status.release_by.map(|t| t.0.to_string()),
        Some("1970-01-12T14:50:00Z".into()),
        "from the first opening"
    );
    let mut missed = world.clone();
    later(&mut missed, 3801);
    assert_eq!(missed.status().state, State::Expired);
    later(&mut world, 3800);
    assert_eq!(world.status().state, State::Released);
    // Where the next opening comes too late, the clock is looked at before it.
    let mut world = frozen(json!([{"name": "most-of-it", "start": "0 * * * *", "durationSeconds": 3000}]));
    world.policies[0].1["rules"][0]["releaseTimeoutSeconds"] = json!(900);
    world.settle();
    world.approve("alice");
    world.now = at(1000);
    // 14:05 falls into the window, which opens at 14:50: a quarter of an hour from there.
    let due = world.plan().next;
    assert_eq!(due, Some(at(3800)));
    world.now = at(4700);
    let due = world.plan().next;
    assert_eq!(due, Some(at(3800 + 900) + SignedDuration::from_millis(500)));
    world.now = due.unwrap();
    world.settle();
    assert_eq!(world.status().state, State::Expired);
    assert!(world.status().message.contains("freeze window most-of-it"), "{}", world.status().message);
}

#[test]
fn windows_of_two_policies_that_never_open_together() {
    let half = |name: &str, start: &str, may_pass: Value| json!({"name": name, "start": start, "durationSeconds": 43_200, "mayPass": may_pass});
    let closed = |may_pass: Value| {
        let mut world = frozen(json!([half("day", "0 6 * * *", json!([]))]));
        let mut other = world.policies[0].1.clone();
        other["rules"][0]["freezeWindows"] = json!([half("night", "0 18 * * *", may_pass)]);
        world.policies.push(("other".into(), other));
        world.settle();
        world
    };
    let world = closed(json!([]));
    let status = world.status();
    assert_eq!((status.state, world.reason().as_str(), status.digest.as_ref()), (State::Pending, "NeverOpens", None));
    for part in ["day of rule production/prod-write", "night of rule other/prod-write", "say who may pass it"] {
        assert!(status.message.contains(part), "{}", status.message);
    }
    quiet(&world, [100, 500]);
    // Where somebody may pass one of them, it is theirs to do so.
    let mut world = closed(json!([{"kind": "User", "name": "carol"}]));
    world.approve("alice");
    world.settle();
    let status = world.status();
    assert_eq!(
        (status.state, status.waits_until, status.release_by.map(|t| t.0)),
        (State::Approved, None, Some(at(61)))
    );
    assert!(
        status.message.starts_with("approved, but not released within a year: freeze window"),
        "{}",
        status.message
    );
    let mut nobody = world.clone();
    later(&mut nobody, 62);
    assert_eq!(nobody.status().state, State::Expired);
    world.approve("carol");
    world.settle();
    assert_eq!(
        world.status().waits_until.map(|t| t.0.to_string()),
        Some("1970-01-12T18:00:00Z".into()),
        "the day's is left"
    );
}

#[test]
fn clocks_that_disagree_do_not_make_an_approval_wait() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.now = at(30);
    world.approve("alice");
    world.now = at(28);
    assert!(matches!(&world.plan().steps[..], [Step::Release(_), Step::WriteStatus(_)]));
}

#[test]
fn the_gate_asks_for_what_has_to_wait() {
    for (field, value, until) in [("freezeWindows", json!([lunch()]), THREE), ("notBeforeSeconds", json!(300), 1 + 300)]
    {
        let mut world = gated("Allow");
        world.policies[0].1["rules"][0][field] = value;
        world.edit_job(|job| job["metadata"]["creationTimestamp"] = json!(at(0).to_string()));
        world.now = at(1);
        assert!(matches!(world.gate_plan().steps[..], [Step::Ask(_)]), "{field}");
        world.settle_gated();
        assert_eq!((world.status().state, world.running()), (State::Approved, false), "{field}");
        assert_eq!(world.status().waits_until.map(|t| t.0), Some(at(until)), "{field}");
        world.now = at(until);
        world.settle_gated();
        assert_eq!((world.status().state, world.running()), (State::Released, true), "{field}");
    }
    for (field, value) in [("freezeWindows", json!([lunch()])), ("notBeforeSeconds", json!(300))] {
        let mut world = gated("Allow");
        world.policies[0].1["rules"][0][field] = value;
        world.edit_job(|job| job["metadata"]["creationTimestamp"] = json!(at(0).to_string()));
        world.now = at(THREE);
        assert!(
            matches!(world.gate_plan().steps[..], [Step::KeepSnapshot(_), Step::Release(_)]),
            "{field}: open by then"
        );
    }
}
