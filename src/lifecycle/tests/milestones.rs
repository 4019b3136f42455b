//! What is measured of a request that has ended.

use super::*;
use crate::api::ReviewDecision;

/// Settles, and tells the way of the request, as whoever writes its last status does.
fn ended(world: &mut World) -> Option<Milestones> {
    let mut last = None;
    for _ in 0..10 {
        let (request, plan) = (world.facts(), world.plan());
        if plan.steps.is_empty() {
            break;
        }
        for step in &plan.steps {
            if let Step::WriteStatus(status) = step {
                last = crate::audit::ended_at(status).and_then(|ended| Milestones::of(&request, status, ended));
            }
            world.apply(step);
        }
    }
    last
}

#[test]
fn the_way_of_a_request_is_told_once_it_has_ended() {
    let mut world = World::new("RequireApproval");
    assert_eq!(ended(&mut world), None, "it has not ended");
    world.now = at(40);
    world.review("mallory", "Approve", &format!("sha256:{}", "0".repeat(64)));
    world.now = at(60);
    world.approve("alice");
    world.now = at(61);
    let told = ended(&mut world).unwrap();
    assert_eq!(told.state, State::Released);
    assert_eq!(told.rule, Some(("production".into(), "prod-write".into())));
    assert_eq!(told.target, Some((TargetKind::Job, "job".into(), "j1".into())));
    assert_eq!((told.asked, told.shown, told.decided, told.ended), (at(0), Some(at(1)), Some(at(60)), at(61)));
    assert_eq!((told.took(), told.release_took()), (SignedDuration::from_secs(61), Some(SignedDuration::from_secs(1))));
    assert_eq!(
        told.reviews,
        [(at(40), ReviewDecision::Approve), (at(60), ReviewDecision::Approve)],
        "each as it was said"
    );
}

#[test]
fn the_operator_is_not_blamed_for_what_was_waited_for() {
    let mut world = World::new("RequireApproval");
    world.edit_policy("/rules/0", {
        let mut rule = policy("RequireApproval")["rules"][0].clone();
        rule["notBeforeSeconds"] = json!(30);
        rule["releaseTimeoutSeconds"] = json!(600);
        rule
    });
    world.settle();
    world.now = at(5);
    world.approve("alice");
    assert_eq!(ended(&mut world), None);
    assert_eq!(world.status().state, State::Approved);
    let waits_until = world.status().not_before.unwrap().0;
    world.now = waits_until + SignedDuration::from_secs(2);
    let told = ended(&mut world).unwrap();
    assert_eq!((told.state, told.decided, told.due), (State::Released, Some(at(5)), Some(waits_until)));
    assert_eq!(told.release_took(), Some(SignedDuration::from_secs(2)));
}

#[test]
fn an_end_that_rests_on_no_review_names_none() {
    let mut world = World::new("RequireApproval");
    world.settle();
    world.now = at(5000);
    let told = ended(&mut world).unwrap();
    assert_eq!((told.state, told.decided, told.release_took()), (State::Expired, None, None));

    let mut world = World::new("RequireApproval");
    world.settle();
    let digest = world.digest();
    world.now = at(9);
    world.review("alice", "Deny", &digest);
    let told = ended(&mut world).unwrap();
    assert_eq!((told.state, told.decided, told.release_took()), (State::Denied, Some(at(9)), None));

    let mut world = World::new("Allow");
    // An Allow rule sees facts alone, no tag that somebody only declares.
    world.policies[0].1["rules"][0].as_object_mut().unwrap().remove("when");
    let told = ended(&mut world).unwrap();
    assert_eq!((told.state, told.decided, told.release_took()), (State::Released, None, None));
}

#[test]
fn of_several_rules_the_strictest_governs_and_of_those_the_first() {
    let matched = |rule: &str, decision: &str| {
        serde_json::from_value(json!({"policy": "p", "rule": rule, "decision": decision})).unwrap()
    };
    let matches = [
        matched("a", "Allow"),
        matched("b", "RequireApproval"),
        matched("c", "RequireApproval"),
        matched("d", "Allow"),
    ];
    assert_eq!(governing(&matches).map(|rule| rule.rule.as_str()), Some("b"));
    assert_eq!(governing(&[]), None);
}
