//! What is read of a Secret.

use super::{DAY, at, days, good, name};
use crate::admission::certificate::{Authority, Flaw, Next, Stored};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One in the midst of a rotation.
fn rotating() -> Stored {
    static ROTATING: OnceLock<Stored> = OnceLock::new();
    let make = || {
        let (current, next, before) = (good(at(0), 30 * DAY), good(at(0), 90 * DAY), good(at(0), 10 * DAY));
        let announced = Some(at(7));
        let stored = Stored { current: Some(current), next: Some(Next { pair: next, announced }), previous: vec![] };
        stored.trusting(&before)
    };
    ROTATING.get_or_init(make).clone()
}

fn read(data: &BTreeMap<String, Vec<u8>>) -> (Stored, Option<Flaw>) {
    Stored::read(data, &name(), at(0))
}

#[test]
fn what_is_written_is_read() {
    let stored = rotating();
    assert_eq!(read(&stored.data()), (stored.clone(), None));
    let empty = Stored::default();
    assert_eq!(read(&empty.data()), (empty.clone(), Some(Flaw::Missing("ca.crt"))));
    assert_eq!(read(&BTreeMap::new()).0, empty);
    let keys: Vec<_> = empty.data().into_keys().collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"], "as a Secret of type kubernetes.io/tls demands");
    let later = Stored::read(&stored.data(), &name(), days(40));
    assert!(later.0.current.is_none() && later.0.next.is_some());
    assert_eq!(later.1, Some(Flaw::Expired));
}

#[test]
fn the_bundle_is_the_same_before_and_after_a_pair_moves_up_and_holds_each_once() {
    let stored = rotating();
    assert_eq!(stored.bundle().matches("BEGIN CERTIFICATE").count(), 3);
    let promoted = stored.clone().promoted();
    assert_eq!(promoted.bundle(), stored.bundle());
    assert_eq!(promoted.current, stored.next.map(|next| next.pair));
    assert_eq!(promoted.clone().promoted(), promoted);
}

#[test]
fn an_authority_that_cannot_be_read_is_left_out() {
    let mut data = rotating().data();
    let bad = |authority: &str| Authority { authority: authority.into(), until: days(9) };
    let junk = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let listed = serde_json::to_vec(&[&rotating().previous[0], &bad("x"), &bad(junk), &bad("")]).unwrap();
    data.insert("previous".into(), listed);
    assert_eq!(read(&data).0, rotating());
    data.insert("previous".into(), b"[{".to_vec());
    assert_eq!(read(&data).0.previous, []);
}

#[test]
fn only_so_many_authorities_are_remembered_and_the_newest_always() {
    let mut stored = Stored::default();
    for day in 1..20 {
        let pair = good(at(0), day * DAY);
        stored = stored.trusting(&pair);
        assert!(stored.trusts(&pair));
        assert!(stored.previous.len() <= 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Half-written, swapped or damaged: it is read without a panic, and a pair that is found is one that was written.
    #[test]
    fn a_damaged_secret_yields_what_was_written_or_nothing(
        damages in proptest::collection::vec((0..8usize, 0..5usize, any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let whole = rotating();
        let mut data = whole.data();
        let keys: Vec<_> = data.keys().cloned().collect();
        for (key, how, place, byte) in damages {
            let key = &keys[key % keys.len()];
            let bytes = data.get_mut(key).unwrap();
            match how {
                0 => drop(data.remove(key)),
                1 => bytes.truncate(place.index(bytes.len().max(1))),
                2 if !bytes.is_empty() => { let at = place.index(bytes.len()); bytes[at] = byte; }
                3 => { let other = place.get(&keys).clone(); *bytes = whole.data()[&other].clone(); }
                _ => bytes.insert(place.index(bytes.len() + 1), byte),
            }
            if !data.contains_key(key) {
                data.insert(key.clone(), vec![]);
            }
        }
        let (read, _) = read(&data);
        let pairs = [whole.current.clone().unwrap(), whole.next.clone().unwrap().pair];
        for found in read.current.iter().chain(read.next.as_ref().map(|next| &next.pair)) {
            prop_assert!(pairs.iter().any(|pair| pair.key.cert == found.key.cert));
        }
        // What can be used is written back as it is read.
        prop_assert_eq!(Stored::read(&read.data(), &name(), at(0)).0, read);
    }
}
