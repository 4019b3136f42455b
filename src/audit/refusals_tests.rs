use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn refusals() -> Refusals {
    Refusals::new("5a5a", SignedDuration::from_secs(30))
}

fn caller(username: &str) -> RecordedCaller {
    RecordedCaller { username: username.into(), uid: Some("u-1".into()), groups: vec!["developers".into()] }
}

fn request(uid: &str) -> RecordedRequest {
    RecordedRequest {
        namespace: "payments".into(),
        name: "run".into(),
        uid: uid.into(),
        run_id: "r".into(),
        step_id: "s".into(),
        requested_by: "w".into(),
    }
}

fn attempt<'a>(username: &str, namespace: &'a str, word: &'a str) -> Attempt<'a> {
    Attempt {
        caller: caller(username),
        operation: "UPDATE",
        resource: "approvalrequests",
        namespace,
        name: "\"run\"".into(),
        request: Some(request("r-1")),
        word,
    }
}

#[test]
fn refusals_of_one_kind_are_one_entry_with_the_last_of_them() {
    let mut refusals = refusals();
    assert!(!refusals.are_due(at(0)) && refusals.take(at(0)).is_empty());
    for second in 0..3 {
        refusals.count(attempt("mallory", "payments", "NotAnApprover"), at(second));
    }
    refusals.count(attempt("mallory", "payments", "OtherDigest"), at(3));
    let entries = refusals.take(at(4));
    assert_eq!(entries.len(), 2);
    let first = &entries[0];
    assert_eq!(
        (&*first.key, first.transition, first.count, &*first.reason),
        ("refused-5a5a/1/Refused", Transition::Refused, Some(3), "NotAnApprover")
    );
    assert_eq!(
        first.message,
        "UPDATE of approvalrequests \"run\" was refused: NotAnApprover; 3 times, this is the last"
    );
    assert_eq!((first.time.0, &first.by), (at(2), &vec![caller("mallory")]));
    assert_eq!(first.request, Some(request("r-1")));
    assert_eq!((&*entries[1].key, entries[1].count), ("refused-5a5a/2/Refused", Some(1)));
    assert_eq!(entries[1].message, "UPDATE of approvalrequests \"run\" was refused: OtherDigest");
    assert!(refusals.take(at(100)).is_empty(), "taken once");
}

#[test]
fn they_are_taken_no_more_often_than_said() {
    let mut refusals = refusals();
    refusals.count(attempt("mallory", "payments", "Held"), at(0));
    assert_eq!(refusals.take(at(0)).len(), 1);
    refusals.count(attempt("mallory", "payments", "Held"), at(1));
    assert!(!refusals.are_due(at(29)) && refusals.take(at(29)).is_empty());
    refusals.count(attempt("mallory", "payments", "Held"), at(29));
    assert_eq!(refusals.take(at(30))[0].count, Some(2));
    refusals.count(attempt("mallory", "payments", "Held"), at(31));
    assert!(refusals.are_due(at(-1000)), "a clock that was set back keeps nothing");
}

#[test]
fn a_request_is_named_only_where_all_were_about_it() {
    let mut refusals = refusals();
    refusals.count(attempt("mallory", "payments", "Held"), at(0));
    refusals.count(Attempt { request: Some(request("r-2")), ..attempt("mallory", "payments", "Held") }, at(0));
    refusals.count(Attempt { request: Some(request("r-2")), ..attempt("mallory", "payments", "Held") }, at(0));
    assert_eq!(refusals.take(at(0))[0].request, None);
}

/// Somebody who floods the trail with kinds hides neither the number nor who it was, and not what was there before.
#[test]
fn beyond_the_bound_they_are_counted_together_and_still_named() {
    let mut refusals = refusals();
    refusals.count(attempt("bob", "payments", "SelfApproval"), at(0));
    for n in 0..1000 {
        refusals.count(attempt("mallory", &format!("n{n}"), "Held"), at(1));
    }
    refusals.count(attempt("carol", "payments", "Held"), at(2));
    let (mut entries, mut seconds) = (vec![], 0);
    while refusals.are_due(at(seconds)) {
        let taken = refusals.take(at(seconds));
        assert!(taken.len() <= MOST_ENTRIES);
        entries.extend(taken);
        seconds += 30;
    }
    assert_eq!((entries.len(), seconds), (MOST_KINDS + 1, 150));
    assert_eq!(entries[0].by, [caller("bob")]);
    let others: Vec<_> = entries.iter().filter(|e| e.reason == "Others").collect();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].count, Some(1002 - MOST_KINDS as i64));
    let named: Vec<_> = others[0].by.iter().map(|who| &*who.username).collect();
    assert_eq!(named, ["carol", "mallory"]);
}

#[test]
fn an_entry_has_room_in_a_record_whatever_the_caller_is() {
    let mut refusals = refusals();
    let long = "é".repeat(10_000);
    let caller = RecordedCaller { username: long.clone(), uid: Some(long.clone()), groups: vec![long.clone(); 1000] };
    for _ in 0..2 {
        let name = long.clone();
        refusals.count(Attempt { caller: caller.clone(), name, ..attempt("", &long, &long) }, at(0));
    }
    let entry = refusals.take(at(0)).remove(0);
    assert_eq!(entry.count, Some(2), "what is cut is still the same caller");
    let by = &entry.by[0];
    assert!(by.username.len() <= 512 && by.uid.as_ref().is_some_and(|uid| uid.len() <= 256) && by.groups.len() <= 32);
    assert!(by.groups.iter().all(|group| group.len() <= 256));
    assert!(entry.message.len() <= 2048 && entry.reason.len() <= 64 && entry.key.len() <= 160);
}

proptest! {
    /// Every refusal is counted once, in entries of distinct keys.
    #[test]
    fn nothing_is_lost(attempts in prop::collection::vec((0..40u8, 0..20u8, 0..90i64), 0..600)) {
        let mut refusals = refusals();
        let (mut counted, mut keys, mut now) = (0, HashSet::new(), 0);
        for (who, namespace, later) in &attempts {
            now += later;
            refusals.count(attempt(&format!("u{who}"), &format!("n{namespace}"), "Held"), at(now));
            let taken = if later % 3 == 0 { refusals.take(at(now)) } else { vec![] };
            counted += taken.iter().filter_map(|e| e.count).sum::<i64>();
            prop_assert!(taken.into_iter().all(|entry| keys.insert(entry.key)));
        }
        for _ in 0..10 {
            now += 30;
            let taken = refusals.take(at(now));
            counted += taken.iter().filter_map(|e| e.count).sum::<i64>();
            prop_assert!(taken.into_iter().all(|entry| keys.insert(entry.key)));
        }
        prop_assert_eq!(counted, attempts.len() as i64);
    }
}
