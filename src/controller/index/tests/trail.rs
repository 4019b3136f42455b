//! What there is to record, as it arrives.

use super::*;
use crate::audit::{Keys, by_name};

fn keys() -> Keys {
    by_name(&[Keyring::from_seed(&[7; 32]).unwrap().public()])
}

/// Writes what waits. Returns the transitions, and what to look at.
fn write(index: &Index) -> (Vec<String>, Vec<Key>) {
    let Some(record) = index.next_record().unwrap() else { return (vec![], vec![]) };
    let told = record.record.entries.iter().map(|e| e.transition.as_str().to_string()).collect();
    let looked_at = index.learn_record(&record.spec, &keys()).unwrap();
    (told, looked_at)
}

fn released(version: i64) -> DynamicObject {
    ended(version, "Released")
}

fn ended(version: i64, state: &str) -> DynamicObject {
    let mut request = request(version, "u", "job", state);
    request.data["status"]["conditions"] = json!([{"type": state, "status": "True", "reason": "Decided",
        "message": "", "lastTransitionTime": "2026-01-01T00:01:00Z"}]);
    request
}

#[test]
fn what_arrives_is_recorded_once_and_kept_in_full_until_then() {
    let index = index();
    index.set_trail_read();
    index.set_request(request(1, "u", "job", "Pending"));
    assert_eq!(write(&index), (vec!["Requested".into()], run()), "what waited for its record is looked at");
    index.set_request(released(2));
    let reason = || Some(index.observe("a", "run")?.request.spec.reason.clone());
    assert_eq!(reason().as_deref(), Some("why"), "its record is not written yet");
    assert_eq!(write(&index), (vec!["Released".into()], vec![]));
    assert_eq!(reason(), None, "the text of what is released and recorded is forgotten");
    index.set_request(released(3));
    assert_eq!((index.unrecorded(), reason()), (0, None), "seen again, it tells nothing new");
    // Once deletion is asked for, it is let go only because everything is recorded.
    let mut deleting = released(4);
    deleting.metadata.deletion_timestamp = deleting.metadata.creation_timestamp.clone();
    index.set_request(deleting);
    let observation = index.observe("a", "run").unwrap();
    let key = Keyring::from_seed(&[7; 32]).unwrap();
    assert!(observation.observed(&key, true, None, jiff::Timestamp::now()).recorded);
}

#[test]
fn of_what_ended_otherwise_the_details_are_forgotten() {
    let index = index();
    index.set_trail_read();
    index.set_request(ended(1, "Denied"));
    assert_eq!(write(&index).0, ["Requested", "Denied"]);
    assert_eq!(index.observe("a", "run").unwrap().request.spec.reason, "", "an override may still come");
}

/// What we made ourselves is known before a list that began earlier ends, or before the deletion of what had its name is told.
#[test]
fn what_is_newer_than_the_news_is_not_gone() {
    let index = index();
    index.set_trail_read();
    index.set_request(request(5, "u", "job", "Pending"));
    assert_eq!(write(&index).0, ["Requested"]);
    assert!(index.remove_request("a", "run", 4).is_empty());
    index.set_request(request(5, "u", "job", "Pending"));
    assert_eq!(write(&index).0, [] as [&str; 0], "forgotten, it would be recorded again");
    index.set_target(TargetKind::Job, job(7, "job"));
    let is_there = || known(&index, Kind::Target(TargetKind::Job)).contains(&("a".into(), "job".into()));
    index.remove_target(TargetKind::Job, "a", "job", 6);
    assert!(is_there());
    index.remove_target(TargetKind::Job, "a", "job", 8);
    assert!(!is_there());
    index.remove_request("a", "run", 6);
    assert!(known(&index, Kind::Request).is_empty(), "its own deletion");
}

/// After a restart: what the trail tells already is not told again, whatever order things arrive in.
#[test]
fn after_a_restart_only_what_is_missing_is_recorded() {
    let before = index();
    before.set_trail_read();
    before.set_request(request(1, "u", "job", "Pending"));
    let record = before.next_record().unwrap().unwrap().spec;
    let index = index();
    index.learn_record(&record, &keys()).unwrap();
    index.set_trail_read();
    index.set_request(released(2));
    assert_eq!(write(&index).0, ["Released"]);
    index.forget_the_gone();
    index.set_request(released(3));
    assert_eq!(index.unrecorded(), 0, "what is known of those that are there is kept");
}

/// What is refused while the trail cannot be written goes on being counted, and never fills up what waits.
#[test]
fn refusals_are_handed_over_once_those_before_are_recorded() {
    use crate::api::record::RecordedCaller;
    use crate::audit::{Attempt, Refusals};
    let index = index();
    let mut refusals = Refusals::new("5a", jiff::SignedDuration::from_secs(1));
    let mut refuse = |second: i64| {
        let now = jiff::Timestamp::from_second(second).unwrap();
        let caller = RecordedCaller { username: "mallory".into(), uid: None, groups: vec![] };
        let (operation, resource, namespace, name) = ("UPDATE", "jobs", "a", "job".to_string());
        let word = "Held";
        refusals.count(Attempt { caller, operation, resource, namespace, name, request: None, word }, now);
        index.record_refusals(&mut refusals, now);
        index.unrecorded()
    };
    assert_eq!((1..50).map(|n| refuse(10 * n)).collect::<Vec<_>>(), [1; 49]);
    index.set_trail_read();
    assert_eq!(write(&index), (vec!["Refused".into()], vec![]));
    assert_eq!(refuse(500), 1);
    let record = index.next_record().unwrap().unwrap().record;
    assert_eq!((record.entries[0].count, record.entries[0].key.as_str()), (Some(49), "refused-5a/2/Refused"));
}

#[test]
fn a_trail_that_is_not_whole_is_not_gone_on_with() {
    let index = index();
    index.set_trail_read();
    index.set_trail_broken();
    index.set_request(request(1, "u", "job", "Pending"));
    assert!(index.next_record().unwrap().is_none() && index.unrecorded() == 1);
    let observation = index.observe("a", "run").unwrap();
    let key = Keyring::from_seed(&[7; 32]).unwrap();
    let observed = observation.observed(&key, true, None, jiff::Timestamp::now());
    assert!(observed.unrecorded.is_some_and(|stop| stop.why.contains("cannot be gone on with")) && !observed.recorded);
}
