use super::*;
use crate::audit::tests_support as support;
use crate::audit::{Checkpoint, Ledger, Trusted, checkpoint, verify};
use crate::binding::Keyring;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A trail of ten entries in five records, one an hour from noon on.
fn trail() -> Vec<Value> {
    let mut head = Head::default();
    let record = |hour: i64| {
        let entries = (0..2).map(|n| {
            let time = at("2026-11-20T12:00:00Z") + HOUR * i32::try_from(hour).unwrap();
            RecordEntry { time: MicroTime(time), ..support::entry(&format!("u{hour}/{n}/Reviewed")) }
        });
        support::next(&mut head, entries.collect(), &key())
    };
    (0..5).map(record).collect()
}

fn everything() -> Limits {
    Limits { exported: 10, checkpointed: 10, unfinished: None }
}

fn kept(age: Option<SignedDuration>, entries: Option<i64>) -> Retention {
    Retention { age, entries, settles: SignedDuration::from_mins(10) }
}

/// How far the trail is pruned by the end of that day, and what stands against more.
fn walked(retention: Retention, limits: Limits, now: &str) -> (i64, Option<Held>) {
    let keys = verify::by_name(&[key().public()]);
    let mut walk = Walk::new(&retention, &limits, &keys, 10, at(now));
    for spec in trail() {
        if !walk.goes(&spec, at("2026-11-20T12:00:00Z")).unwrap() {
            break;
        }
    }
    let held = walk.held;
    (walk.through().map_or(0, |head| head.length), held)
}

#[test]
fn what_is_beyond_age_or_number_goes_and_nothing_else() {
    let evening = "2026-11-20T15:30:00Z";
    for (retention, gone) in [
        (kept(None, None), 0),
        (kept(Some(HOUR * 24), None), 0),
        (kept(Some(HOUR), None), 6),
        (kept(Some(HOUR * 3), None), 2),
        (kept(None, Some(10)), 0),
        (kept(None, Some(9)), 0),
        (kept(None, Some(8)), 2),
        (kept(Some(HOUR), Some(2)), 8),
        (kept(Some(HOUR * 3), Some(8)), 2),
        // The last one is not over yet at that time.
        (kept(None, Some(0)), 8),
    ] {
        assert_eq!(walked(retention, everything(), evening), (gone, None), "{retention:?}");
    }
}

#[test]
fn what_is_young_stays_by_its_entries_and_by_its_record() {
    let retention = kept(None, Some(0));
    assert_eq!(walked(retention, everything(), "2026-11-20T12:09:00Z").0, 0);
    assert_eq!(walked(retention, everything(), "2026-11-20T12:11:00Z").0, 2);
    // Entries that were made up long after, and are old.
    let (keys, limits) = (verify::by_name(&[key().public()]), everything());
    let mut walk = Walk::new(&retention, &limits, &keys, 10, at("2026-11-23T12:00:00Z"));
    assert!(!walk.goes(&trail()[0], at("2026-11-23T11:59:00Z")).unwrap());
}

#[test]
fn what_no_export_and_no_checkpoint_covers_stays_and_says_so() {
    let (retention, night) = (kept(Some(HOUR), None), "2026-11-21T00:00:00Z");
    let limits = |exported, checkpointed, unfinished| Limits { exported, checkpointed, unfinished };
    for (limits, gone, held) in [
        (limits(10, 10, None), 10, None),
        (limits(0, 10, None), 0, Some(Held::NotExported(1))),
        (limits(4, 10, None), 4, Some(Held::NotExported(5))),
        // In the middle of a record: the export has a part of it only if it has all of it.
        (limits(5, 10, None), 4, Some(Held::NotExported(6))),
        (limits(10, 7, None), 6, Some(Held::NoCheckpoint(7))),
        (limits(10, 10, Some(3)), 2, Some(Held::Unfinished(3))),
        (limits(10, 10, Some(4)), 2, Some(Held::Unfinished(4))),
        (limits(10, 10, Some(1)), 0, Some(Held::Unfinished(1))),
    ] {
        assert_eq!(walked(retention, limits, night), (gone, held), "{limits:?}");
    }
}

#[test]
fn a_trail_that_is_not_whole_is_not_pruned() {
    let (retention, limits) = (kept(None, Some(0)), everything());
    let keys = verify::by_name(&[key().public()]);
    let later = at("2026-11-23T12:00:00Z");
    let mut edited = trail();
    edited[1]["entries"][0]["message"] = "mallory was never here".into();
    let mut walk = Walk::new(&retention, &limits, &keys, 10, later);
    assert_eq!(walk.goes(&edited[0], later - HOUR), Ok(true));
    assert!(matches!(walk.goes(&edited[1], later - HOUR), Err(Fault::Edited { sequence: 3, .. })));
    let mut walk = Walk::new(&retention, &limits, &keys, 10, later);
    assert_eq!(walk.goes(&trail()[0], later - HOUR), Ok(true));
    assert!(matches!(walk.goes(&trail()[2], later - HOUR), Err(Fault::Missing { from: 3, to: 4 })));
}

/// Who may sign behind these records.
fn signers(specs: &[Value]) -> Signers {
    verify(specs, &trusted(vec![])).signers
}

/// The trail, closed by the entry that says that everything through its second record goes.
fn anchored() -> Vec<Value> {
    let mut specs = trail();
    let hash = |spec: &Value| crate::audit::chain::hash(spec).unwrap();
    let through = Head { length: 4, hash: hash(&specs[1]) };
    let mut head = Head { length: 10, hash: hash(&specs[4]) };
    let entry =
        pruned(&through, &hash(&specs[0]), &signers(&specs), at("2026-11-20T23:00:00Z"), at("2026-11-21T00:00:00Z"));
    specs.push(support::next(&mut head, vec![entry], &key()));
    specs
}

fn trusted(checkpoints: Vec<Checkpoint>) -> Trusted {
    Trusted { keys: vec![key().public()], checkpoints }
}

/// The checkpoints of the whole trail: at 2, 4, 6, 8, 10 and 11 entries.
fn checkpoints() -> Vec<Checkpoint> {
    let specs = anchored();
    let origin = checkpoint::origin(&crate::audit::chain::hash(&specs[0]).unwrap());
    let stated = |spec: &Value| Checkpoint {
        origin: origin.clone(),
        head: Head { length: spec["last"].as_i64().unwrap(), hash: crate::audit::chain::hash(spec).unwrap() },
    };
    specs.iter().map(stated).collect()
}

#[test]
fn what_was_pruned_is_not_missing_and_every_checkpoint_still_counts() {
    let specs = anchored();
    // Before, in the midst of, and after the deletion.
    for (gone, uncompared) in [(0, 0), (1, 0), (2, 1)] {
        let report = verify(&specs[gone..], &trusted(checkpoints()));
        assert_eq!((report.fault, report.entries), (None, 11), "{gone}");
        assert_eq!((report.pruned, report.uncompared), (2 * i64::try_from(gone).unwrap(), uncompared));
        assert_eq!(report.origin, Some(checkpoints()[0].origin.clone()), "its name stays");
    }
    let mut other = checkpoints().remove(1);
    other.head.hash = format!("sha256:{}", "0".repeat(64));
    assert_eq!(verify(&specs[2..], &trusted(vec![other])).fault, Some(Fault::Rewritten(4)), "right before the anchor");
    let mut foreign = checkpoints().remove(0);
    foreign.origin = checkpoint::origin("sha256:ffffffffffffffffffff");
    assert_eq!(verify(&specs[2..], &trusted(vec![foreign])).fault, Some(Fault::Rewritten(1)), "of another trail");
}

#[test]
fn more_than_was_pruned_is_missing() {
    let specs = anchored();
    let fault = |specs: &[Value]| verify(specs, &trusted(vec![])).fault;
    assert_eq!(fault(&specs[3..]), Some(Fault::Missing { from: 5, to: 6 }));
    // Without the anchor everything is.
    assert_eq!(fault(&specs[2..5]), Some(Fault::Missing { from: 1, to: 4 }));
    // An anchor is signed like everything else, and one of another trail does not fit.
    let mut forged = specs[3..].to_vec();
    forged[2]["entries"][0]["pruned"]["through"] = 6.into();
    assert!(matches!(fault(&forged), Some(Fault::Edited { sequence: 11, .. })));
    // What the holder of the key says of a part that is there has to be so.
    let head = Head { length: 10, hash: crate::audit::chain::hash(&specs[4]).unwrap() };
    let through = Head { length: 4, hash: "sha256:other".into() };
    let first = crate::audit::chain::hash(&specs[0]).unwrap();
    for (through, first, found) in [(&through, &first, 4), (&checkpoints()[1].head, &"sha256:other".to_string(), 1)] {
        let entry = pruned(through, first, &signers(&specs), at("2026-11-20T23:00:00Z"), at("2026-11-21T00:00:00Z"));
        let lie = support::next(&mut head.clone(), vec![entry], &key());
        let lying: Vec<_> = specs[..5].iter().cloned().chain([lie]).collect();
        assert_eq!(fault(&lying), Some(Fault::Rewritten(found)));
    }
}

#[test]
fn an_operator_begins_behind_what_was_pruned_and_nowhere_else() {
    let keys = verify::by_name(&[key().public()]);
    let read = |specs: &[Value]| {
        let mut ledger = Ledger::default();
        specs.iter().try_for_each(|spec| ledger.learn(spec, &keys).map(drop)).unwrap();
        let begins = ledger.check_beginning();
        ledger.set_read();
        (ledger, begins)
    };
    let specs = anchored();
    let (ledger, begins) = read(&specs[2..]);
    assert_eq!(begins, Ok(()));
    assert_eq!((ledger.pruned().0.unwrap().through, ledger.pruned().1), (4, 5));
    assert_eq!(ledger.checkpoint(), checkpoints().pop(), "its name stays");
    assert!(!ledger.is_recorded("u0/0/Reviewed") && ledger.is_recorded("u2/0/Reviewed"));
    // What ended before is not recorded anew.
    assert!(ledger.is_settled(at("2026-11-20T23:00:00Z")) && !ledger.is_settled(at("2026-11-20T23:00:01Z")));
    assert_eq!(ledger.first_about(["u3", "u2", "u0"].into_iter()), Some(5));
    assert_eq!(read(&specs[3..]).1, Err(Fault::Missing { from: 5, to: 6 }));
    assert_eq!(read(&specs[1..5]).1, Err(Fault::Missing { from: 1, to: 2 }));
    assert_eq!(read(&specs).1, Ok(()));
    // Once everything was read, the trail does not begin anew.
    let mut fresh = Ledger::default();
    fresh.set_read();
    assert_eq!(fresh.learn(&specs[2], &keys), Err(Fault::Missing { from: 1, to: 4 }));
}

/// What is gone may have introduced keys, and retired some: the anchor says which may sign from there on.
#[test]
fn an_anchor_tells_of_keys_that_were_introduced_before() {
    let (first, second) = (key(), Keyring::from_seed(&[8; 32]).unwrap());
    let of = |transition, key: &Keyring| RecordEntry {
        public_key: Some(STANDARD.encode(key.public())),
        transition,
        ..support::entry(&format!("{}/0/{}", key.id(), transition.as_str()))
    };
    let mut head = Head::default();
    let mut specs = vec![support::next(&mut head, vec![of(Transition::KeyAdded, &second)], &first)];
    specs.push(support::next(&mut head, vec![of(Transition::KeyRetired, &first)], &second));
    let start = crate::audit::chain::hash(&specs[0]).unwrap();
    let now = at("2026-11-21T00:00:00Z");
    let anchor = pruned(&head, &start, &signers(&specs), now, now);
    specs.push(support::next(&mut head, vec![anchor], &second));
    let whole = |specs: &[Value], keys: &[&Keyring]| {
        let keys = keys.iter().map(|key| key.public()).collect();
        verify(specs, &Trusted { keys, checkpoints: vec![] }).fault
    };
    assert_eq!(whole(&specs, &[&first]), None);
    assert_eq!(whole(&specs[2..], &[&second]), None);
    assert!(matches!(whole(&specs[2..], &[&first]), Some(Fault::ForeignKey { .. })));
    let forged = support::next(&mut head, vec![support::entry("x/0/Reviewed")], &first);
    specs.push(forged);
    for gone in [0, 2] {
        let fault = whole(&specs[gone..], &[&first, &second]);
        assert!(matches!(fault, Some(Fault::RetiredKey { sequence: 4, .. })), "{fault:?}");
    }
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing goes that is not due, exported, covered by a checkpoint, and about what has ended.
        #[test]
        fn nothing_goes_that_may_not(
            age in proptest::option::of(0i64..8), entries in proptest::option::of(0i64..12), exported in 0i64..12,
            checkpointed in 0i64..12, unfinished in proptest::option::of(1i64..12), hour in 0i64..10,
        ) {
            let retention = kept(age.map(SignedDuration::from_hours), entries);
            let limits = Limits { exported, checkpointed, unfinished };
            let now = at("2026-11-20T12:30:00Z") + SignedDuration::from_hours(hour);
            let (gone, _) = walked(retention, limits, &now.to_string());
            prop_assert!(gone % 2 == 0 && gone <= exported && gone <= checkpointed);
            prop_assert!(unfinished.is_none_or(|first| gone < first));
            let newest = at("2026-11-20T12:00:00Z") + SignedDuration::from_hours(gone / 2 - 1);
            let old = |age: i64| newest + SignedDuration::from_hours(age) < now;
            prop_assert!(gone == 0 || age.is_some_and(old) || entries.is_some_and(|most| gone <= 10 - most));
        }
    }
}
