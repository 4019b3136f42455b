use super::*;
use crate::audit::tests_support as support;

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

fn keys() -> Keys {
    verify::by_name(&[key().public()])
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.set_read();
    ledger
}

fn written(ledger: &Ledger) -> Value {
    ledger.next(&key()).unwrap().unwrap().spec
}

#[test]
fn what_waits_is_written_once_in_order_and_then_known() {
    let mut ledger = ledger();
    assert!(ledger.next(&key()).unwrap().is_none());
    assert!(ledger.offer(support::entry("a/0/Requested")));
    assert!(!ledger.offer(support::entry("a/0/Requested")), "it waits already");
    assert!(ledger.offer(support::entry("b/0/Requested")));
    assert!(ledger.knows("a/0/Requested") && !ledger.is_recorded("a/0/Requested"));
    let first = written(&ledger);
    assert_eq!((&first["sequence"], &first["last"], &first["previous"]), (&1.into(), &2.into(), &"genesis".into()));
    // The answer got lost, or another came first: until a record is learned, the same waits.
    assert_eq!(written(&ledger), first);
    let uids = ledger.learn(&first, &keys()).unwrap();
    assert_eq!(uids, BTreeSet::from(["a".into(), "b".into()]));
    assert!(ledger.is_recorded("a/0/Requested") && ledger.waiting() == 0);
    assert!(!ledger.offer(support::entry("a/0/Requested")), "it is recorded");
    ledger.offer(support::entry("a/1/Evaluated"));
    let second = written(&ledger);
    assert_eq!((&second["sequence"], &second["previous"]), (&3.into(), &chain::hash(&first).unwrap().into()));
}

/// What was sealed here is taken for what is stored only where it is.
#[test]
fn a_record_is_what_is_stored_and_not_what_was_sent() {
    let mut ledger = ledger();
    ledger.offer(support::entry("a/0/Requested"));
    let sealed = ledger.next(&key()).unwrap().unwrap();
    assert_eq!(sealed.spec, serde_json::to_value(&sealed.record).unwrap());
    assert_eq!(sealed.signed, chain::signed_bytes(&sealed.spec).unwrap());
    let mut changed = sealed.spec.clone();
    changed["entries"][0]["message"] = "nothing happened".into();
    let fault = ledger.learn_sealed(sealed.clone(), &changed, &keys()).unwrap_err();
    assert!(matches!(fault, Fault::Edited { sequence: 1, .. }), "{fault}");
    assert!(!ledger.is_recorded("a/0/Requested") && ledger.head().length == 0);
    let stored = sealed.spec.clone();
    assert_eq!(ledger.learn_sealed(sealed, &stored, &keys()).unwrap(), BTreeSet::from(["a".into()]));
    assert_eq!(ledger.head(), &Head { length: 1, hash: chain::hash(&stored).unwrap() });
}

/// Two operators: whoever comes second reads what the first wrote, and writes only what is left.
#[test]
fn the_second_writer_goes_on_where_the_first_stopped() {
    let (mut one, mut two) = (ledger(), ledger());
    one.offer(support::entry("a/0/Requested"));
    two.offer(support::entry("a/0/Requested"));
    two.offer(support::entry("b/0/Requested"));
    let record = written(&one);
    assert_eq!(written(&two)["sequence"], record["sequence"], "both would create the same object");
    two.learn(&record, &keys()).unwrap();
    let rest = written(&two);
    assert_eq!((&rest["sequence"], rest["entries"].as_array().unwrap().len()), (&2.into(), 1));
    one.learn(&record, &keys()).unwrap();
    one.learn(&rest, &keys()).unwrap();
    assert_eq!(one.head(), &Head { length: 2, hash: chain::hash(&rest).unwrap() });
    assert!(one.is_recorded("b/0/Requested"));
}

#[test]
fn nothing_is_written_before_the_trail_was_read() {
    let mut ledger = Ledger::default();
    ledger.offer(support::entry("a/0/Requested"));
    assert!(ledger.next(&key()).unwrap().is_none() && !ledger.is_read());
}

#[test]
fn a_record_that_does_not_fit_is_not_built_upon() {
    let trail = support::trail(&key(), &[2, 1, 1]);
    let mut ledger = ledger();
    assert_eq!(ledger.learn(&trail[1], &keys()), Err(Fault::Missing { from: 1, to: 2 }));
    ledger.learn(&trail[0], &keys()).unwrap();
    assert_eq!(ledger.learn(&trail[0], &keys()), Err(Fault::Twice(1)));
    let other = support::other_trail(&key(), &[2, 1]);
    assert_eq!(ledger.learn(&other[1], &keys()), Err(Fault::Forked(3)));
    let stranger = Keyring::from_seed(&[8; 32]).unwrap();
    let foreign = support::trail(&stranger, &[2, 1]);
    assert!(matches!(ledger.learn(&foreign[1], &keys()), Err(Fault::ForeignKey { sequence: 3, .. })));
    let mut edited = trail[1].clone();
    edited["entries"][0]["reason"] = serde_json::json!("Deny");
    assert!(matches!(ledger.learn(&edited, &keys()), Err(Fault::Edited { sequence: 3, .. })));
    assert!(matches!(ledger.learn(&serde_json::json!({"sequence": 3}), &keys()), Err(Fault::Unreadable(_))));
    assert_eq!(ledger.head().length, 2);
    let checkpoint = ledger.checkpoint().unwrap();
    assert_eq!(checkpoint.origin, checkpoint::origin(&chain::hash(&trail[0]).unwrap()));
    assert_eq!(&checkpoint.head, ledger.head());
}

#[test]
fn a_record_is_bounded_in_number_and_in_bytes() {
    let mut ledger = ledger();
    for n in 0..MOST_WAITING + 1 {
        assert!(!ledger.is_full());
        ledger.offer(support::entry(&format!("a/{n}/Reviewed")));
    }
    assert!(ledger.is_full() && ledger.went_on().is_none());
    // One that goes on may be further behind, and not without end.
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    ledger.go_on(now);
    for n in MOST_WAITING + 1..MOST_BEHIND {
        ledger.offer(support::entry(&format!("a/{n}/Reviewed")));
    }
    assert_eq!(ledger.went_on(), Some(now));
    ledger.offer(support::entry("b/1/Reviewed"));
    assert_eq!(ledger.went_on(), None);
    assert_eq!(ledger.next(&key()).unwrap().unwrap().record.entries.len(), MAX_ENTRIES);
    let mut ledger = self::ledger();
    for n in 0..3 {
        let review = serde_json::json!({"comment": "x".repeat(MOST_BYTES / 2)});
        ledger.offer(RecordEntry { review: Some(review), ..support::entry(&format!("a/{n}/Reviewed")) });
    }
    assert_eq!(ledger.next(&key()).unwrap().unwrap().record.entries.len(), 1, "a second one would pass the limit");
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut ledger = ledger();
    ledger.learn(&support::trail(&key(), &[2])[0], &keys()).unwrap();
    ledger.keep(|uid| uid == "uid");
    assert!(ledger.is_recorded("uid/1/Reviewed"));
    ledger.forget("uid");
    assert!(!ledger.is_recorded("uid/1/Reviewed"));
}

#[test]
fn the_number_of_an_entry_is_known_once_it_is_recorded() {
    let mut ledger = ledger();
    ledger.offer(support::entry("a/0/Requested"));
    ledger.offer(support::entry("a/1/Released"));
    assert_eq!(ledger.number("a/1/Released"), None);
    ledger.learn(&written(&ledger), &keys()).unwrap();
    ledger.offer(support::entry("b/0/Requested"));
    ledger.learn(&written(&ledger), &keys()).unwrap();
    let numbers = ["a/0/Requested", "a/1/Released", "b/0/Requested", "b/1/Released", "x"].map(|key| ledger.number(key));
    assert_eq!(numbers, [Some(1), Some(2), Some(3), None, None]);
}

/// An operator that refuses for years keeps nothing of it.
#[test]
fn refusals_wait_and_are_written_and_leave_nothing_in_memory() {
    let mut ledger = ledger();
    let refused =
        RecordEntry { transition: Transition::Refused, count: Some(7), ..support::entry("refused-5a/1/Refused") };
    assert!(!ledger.waits(Transition::Refused));
    assert!(ledger.offer(refused));
    assert!(ledger.waits(Transition::Refused));
    assert!(ledger.learn(&written(&ledger), &keys()).unwrap().is_empty());
    assert!(!ledger.waits(Transition::Refused) && ledger.recorded.is_empty() && ledger.head().length == 1);
}
