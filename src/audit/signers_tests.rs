use super::*;
use crate::audit::{Head, Report, Trusted, anchored, chain, tests_support as support, verify::verify as verified};
use crate::binding::KeySet;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key(seed: u8) -> Keyring {
    Keyring::from_seed(&[seed; 32]).unwrap()
}

fn id(seed: u8) -> String {
    key(seed).id().into()
}

fn added(seed: u8) -> RecordEntry {
    Signers::default().added(&key(seed).public(), "k", NOW)
}

fn removed(seed: u8) -> RecordEntry {
    retired(&key(seed).public(), "k", NOW)
}

fn lost(seed: u8) -> RecordEntry {
    anchored("k", &id(seed), 0, NOW)
}

/// Records of one entry each: by whom, and what.
fn trail(records: &[(u8, Option<RecordEntry>)]) -> Vec<Value> {
    let mut head = Head::default();
    let entry = |n: usize, told: &Option<RecordEntry>| {
        told.clone().unwrap_or_else(|| support::entry(&format!("uid/{n}/Reviewed")))
    };
    let one = |(n, (by, told)): (usize, &(u8, _))| support::next(&mut head, vec![entry(n, told)], &key(*by));
    records.iter().enumerate().map(one).collect()
}

fn report(records: &[(u8, Option<RecordEntry>)], trusted: &[u8]) -> Report {
    let keys = trusted.iter().map(|seed| key(*seed).public()).collect();
    verified(&trail(records), &Trusted { keys, checkpoints: vec![] })
}

fn fault(records: &[(u8, Option<RecordEntry>)], trusted: &[u8]) -> Option<Fault> {
    report(records, trusted).fault
}

/// From one to two and on to three.
fn rotations() -> Vec<(u8, Option<RecordEntry>)> {
    let first = [(1, None), (1, Some(added(2))), (1, None), (2, None), (1, None), (2, Some(removed(1))), (2, None)];
    let second = [(2, Some(added(3))), (3, None), (2, None), (3, Some(removed(2))), (3, None)];
    first.into_iter().chain(second).collect()
}

#[test]
fn a_trail_is_whole_for_whoever_trusts_the_key_that_it_began_under() {
    let whole = report(&rotations(), &[1]);
    assert_eq!((whole.fault, whole.entries), (None, 12));
    assert_eq!(whole.signers.live().keys().collect::<Vec<_>>(), [&id(3)]);
    assert_eq!(whole.signers.known().len(), 3);
    assert!(whole.signers.is_retired(&id(1)) && whole.signers.is_retired(&id(2)) && !whole.signers.is_retired(&id(3)));
    assert_eq!(whole.signers.last(), Some(id(3).as_str()));
    assert_eq!(fault(&rotations(), &[3]), Some(Fault::ForeignKey { sequence: 1, key: id(1) }));
}

#[test]
fn a_retired_key_is_named_whoever_trusts_it() {
    let retired = |at| Some(Fault::RetiredKey { sequence: at, key: id(1) });
    let rotated = &rotations()[..7];
    for told in [None, Some(added(1)), Some(removed(2)), Some(lost(1))] {
        assert_eq!(fault(&[rotated, &[(1, told)]].concat(), &[1, 2]), retired(8));
    }
    // Nobody brings it back.
    assert_eq!(fault(&[rotated, &[(2, Some(added(1))), (2, None), (1, None)]].concat(), &[1]), retired(10));
    assert_eq!(fault(&[rotated, &[(2, Some(lost(2))), (1, None)]].concat(), &[1, 2]), retired(9));
}

#[test]
fn a_trusted_key_begins_a_trail_or_anchors_it_and_signs_nothing_in_between() {
    let unknown = |at| Some(Fault::NotIntroduced { sequence: at, key: id(2) });
    assert_eq!(fault(&[(1, None), (2, None)], &[1, 2]), unknown(2));
    assert_eq!(fault(&[(1, None), (2, Some(added(2)))], &[1, 2]), unknown(2), "nobody introduces himself");
    assert_eq!(fault(&[(1, None), (2, Some(lost(2))), (2, None)], &[1, 2]), None);
    assert_eq!(fault(&[(1, None), (2, Some(lost(2)))], &[1]), Some(Fault::ForeignKey { sequence: 2, key: id(2) }));
    // What the lost key introduced is lost with it, and may be introduced again.
    let anchored = [(1, Some(added(3))), (2, Some(lost(2)))];
    let alien = Some(Fault::ForeignKey { sequence: 3, key: id(3) });
    assert_eq!(fault(&[&anchored[..], &[(3, None)]].concat(), &[1, 2]), alien);
    let after = report(&anchored, &[1, 2]).signers;
    let again = after.added(&key(3).public(), "k", NOW);
    assert_eq!(fault(&[&anchored[..], &[(2, Some(again)), (3, None)]].concat(), &[1, 2]), None);
}

#[test]
fn an_entry_that_names_no_key_adds_and_retires_none() {
    for bad in [None, Some(String::new()), Some("AAAA".into()), Some("?".repeat(44))] {
        let added = RecordEntry { public_key: bad.clone(), ..added(2) };
        let removed = RecordEntry { public_key: bad, ..removed(1) };
        assert_eq!(fault(&[(1, Some(removed)), (1, None)], &[1]), None);
        assert_eq!(fault(&[(1, Some(added)), (2, None)], &[1]), Some(Fault::ForeignKey { sequence: 2, key: id(2) }));
    }
    // What other entries say of keys is nothing.
    let other = RecordEntry { public_key: added(2).public_key, ..support::entry("uid/9/Reviewed") };
    assert_eq!(fault(&[(1, Some(other)), (2, None)], &[1]), Some(Fault::ForeignKey { sequence: 2, key: id(2) }));
}

#[test]
fn a_name_alone_signs_nothing() {
    let mut specs = trail(&rotations()[..4]);
    specs[3]["signature"] = json!(STANDARD.encode(key(1).sign(&chain::signed_bytes(&specs[3]).unwrap())));
    let edited = Some(Fault::Edited { sequence: 4, key: id(2) });
    assert_eq!(verified(&specs, &Trusted { keys: vec![key(1).public()], checkpoints: vec![] }).fault, edited);
}

fn set(seed: u8) -> KeySet {
    KeySet::new([seed; 32])
}

fn rotating() -> [KeySet; 4] {
    let added = set(1).add([2; 32]).unwrap();
    let promoted = added.promote(|_| true).unwrap();
    let retired = promoted.retire().unwrap();
    [set(1), added, promoted, retired]
}

#[test]
fn an_operator_tells_of_its_keys_once_and_before_they_sign() {
    let [before, added, promoted, retired] = rotating().map(|set| set.keyring());
    let of = |records: &[(u8, Option<RecordEntry>)]| report(records, &[1]).signers;
    let news = |signers: &Signers, keys: &Keyring| -> Vec<String> {
        signers.news(keys, NOW).into_iter().map(|entry| entry.key).collect()
    };
    let told = (format!("{}/0/KeyAdded", id(2)), format!("{}/0/KeyRetired", id(1)));
    for fresh in [Signers::default(), of(&[(1, None)])] {
        assert_eq!((fresh.fit(&before), news(&fresh, &before)), (Ok(()), vec![]));
        assert_eq!((fresh.fit(&added), news(&fresh, &added)), (Ok(()), vec![told.0.clone()]));
    }
    let not_yet = of(&[(1, None)]);
    assert_eq!(not_yet.fit(&promoted), Err(Misfit::NotIntroduced(id(2))));
    let introduced = of(&[(1, None), (1, added_by(&not_yet, &added))]);
    assert_eq!((introduced.fit(&added), news(&introduced, &added)), (Ok(()), vec![]));
    assert_eq!((introduced.fit(&promoted), news(&introduced, &promoted)), (Ok(()), vec![]));
    // Whoever of the old replicas wrote last: as long as nobody retired its key, one of ours it is.
    assert_eq!((introduced.fit(&retired), news(&introduced, &retired)), (Ok(()), vec![told.1]));
    let over = of(&rotations()[..7]);
    assert_eq!((over.fit(&retired), news(&over, &retired)), (Ok(()), vec![]));
    for late in [&before, &added] {
        assert_eq!(over.fit(late), Err(Misfit::Retired(id(1))), "a Secret from before, such as a backup");
    }
}

fn added_by(signers: &Signers, keys: &Keyring) -> Option<RecordEntry> {
    signers.news(keys, NOW).into_iter().next()
}

#[test]
fn an_operator_goes_on_with_no_trail_that_others_may_sign() {
    let of = |records: &[(u8, Option<RecordEntry>)]| report(records, &[1, 9]).signers;
    let ours = set(1).keyring();
    assert_eq!(of(&[(9, None)]).fit(&ours), Err(Misfit::OtherKey(id(9))));
    assert_eq!(of(&[(1, None), (9, Some(lost(9)))]).fit(&ours), Err(Misfit::OtherKey(id(9))));
    assert_eq!(of(&[(1, Some(added(9))), (1, None)]).fit(&ours), Err(Misfit::Stranger(id(9))));
    assert_eq!(of(&[(1, Some(added(9))), (1, Some(lost(1)))]).fit(&ours), Ok(()), "said so explicitly");
    let [.., promoted, _] = rotating();
    let beside = of(&[(1, Some(added(2))), (1, Some(added(9)))]);
    assert_eq!(beside.fit(&promoted.keyring()), Err(Misfit::Stranger(id(9))));
}

/// Where the beginning is gone, what it told of keys is gone with it.
#[test]
fn of_a_trail_without_its_beginning_trusted_keys_sign_until_they_are_retired() {
    let specs = trail(&rotations());
    let signers = |from: usize, to: usize, trusted: &[u8]| -> Result<Signers, Fault> {
        let (keys, mut signers) =
            (by_name(&trusted.iter().map(|s| key(*s).public()).collect::<Vec<_>>()), Signers::default());
        for spec in &specs[from..to] {
            let read = verify::read(spec)?;
            let by = signers.check(&read.record, &read.signed, &keys)?;
            signers.learn(&read.record, by);
        }
        Ok(signers)
    };
    assert!(signers(2, 12, &[1, 2]).is_ok());
    assert_eq!(signers(2, 12, &[1]), Err(Fault::ForeignKey { sequence: 4, key: id(2) }));
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    fn entry_of(what: u8, about: u8) -> Option<RecordEntry> {
        match what {
            0 => Some(added(about)),
            1 => Some(removed(about)),
            2 => Some(lost(about)),
            _ => None,
        }
    }

    proptest! {
        /// Whatever stands in a trail: a key signs only once it is vouched for, and never after it was retired.
        #[test]
        fn nobody_signs_who_may_not(steps in proptest::collection::vec((1u8..5, 0u8..6, 1u8..5), 1..12)) {
            let keys = by_name(&[key(1).public(), key(2).public()]);
            let (mut signers, mut live, mut gone) = (Signers::default(), BTreeSet::new(), BTreeSet::new());
            let mut head = Head::default();
            for (by, what, about) in steps {
                let told = entry_of(what, about);
                let before = head.clone();
                let entry = told.clone().unwrap_or_else(|| support::entry("uid/0/Reviewed"));
                let read = verify::read(&support::next(&mut head, vec![entry], &key(by))).unwrap();
                let trusted = by <= 2 && (live.is_empty() && gone.is_empty() || what == 2);
                let may = !gone.contains(&by) && (live.contains(&by) || trusted);
                let checked = signers.check(&read.record, &read.signed, &keys);
                prop_assert_eq!(checked.is_ok(), may, "{:?}", checked);
                let Ok(public) = checked else { head = before; continue };
                signers.learn(&read.record, public);
                live.insert(by);
                match what {
                    0 if !gone.contains(&about) => drop(live.insert(about)),
                    1 => { live.remove(&about); gone.insert(about); }
                    2 => live = BTreeSet::from([by]),
                    _ => {}
                }
                let names: BTreeSet<_> = live.iter().map(|seed| id(*seed)).collect();
                prop_assert_eq!(signers.live().keys().cloned().collect::<BTreeSet<_>>(), names);
            }
        }
    }
}
