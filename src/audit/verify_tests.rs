use super::*;
use crate::audit::{chain::seal, tests_support as support};
use crate::binding::Keyring;
use serde_json::json;

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).unwrap()
}

fn trusted(checkpoints: Vec<Checkpoint>) -> Trusted {
    Trusted { keys: vec![key().public()], checkpoints }
}

/// A trail of five records with three, one, two, one and four entries.
fn trail() -> Vec<Value> {
    support::trail(&key(), &[3, 1, 2, 1, 4])
}

fn checkpoint_after(specs: &[Value]) -> Checkpoint {
    let report = verify(specs, &trusted(vec![]));
    assert_eq!(report.fault, None);
    Checkpoint { origin: report.origin.unwrap(), head: report.head }
}

fn fault(specs: &[Value]) -> (Option<usize>, Option<Fault>) {
    let report = verify(specs, &trusted(vec![]));
    (report.line, report.fault)
}

/// Signs a record anew as the holder of `key` could.
fn resigned(mut spec: Value, key: &Keyring) -> Value {
    spec["keyID"] = json!(key.id());
    spec["signature"] = json!(STANDARD.encode(key.sign(&chain::signed_bytes(&spec).unwrap())));
    spec
}

#[test]
fn an_honest_trail_is_whole_and_agrees_with_every_checkpoint_of_it() {
    let specs = trail();
    let checkpoints: Vec<_> = (1..=5).map(|n| checkpoint_after(&specs[..n])).collect();
    let report = verify(&specs, &trusted(checkpoints));
    assert_eq!((report.records, report.entries, report.fault), (5, 11, None));
    assert_eq!(verify(&[], &trusted(vec![])), Report::default(), "nothing is whole, too");
}

#[test]
fn what_was_edited_is_named_whatever_it_was() {
    let specs = trail();
    let leaves = support::leaves(&specs[2]);
    assert!(leaves.len() > 20);
    for pointer in leaves {
        for change in [json!("x"), json!(77), json!(null)] {
            let mut edited = specs.clone();
            let at = edited[2].pointer_mut(&pointer).unwrap();
            if *at == change {
                continue;
            }
            *at = change;
            let (line, fault) = fault(&edited);
            assert!(line == Some(3) && fault.is_some(), "{pointer}");
        }
    }
    let mut added = specs.clone();
    added[2]["entries"][0]["extra"] = json!("a field that no version knows");
    assert_eq!(fault(&added), (Some(3), Some(Fault::Edited { sequence: 5, key: key().id().into() })));
}

#[test]
fn what_is_missing_reordered_or_there_twice_is_named() {
    let specs = trail();
    let mut missing = specs.clone();
    missing.remove(2);
    assert_eq!(fault(&missing), (Some(3), Some(Fault::Missing { from: 5, to: 6 })));
    assert_eq!(fault(&specs[1..]), (Some(1), Some(Fault::Missing { from: 1, to: 3 })));
    let mut reordered = specs.clone();
    reordered.swap(1, 3);
    assert_eq!(fault(&reordered), (Some(2), Some(Fault::Reordered { expected: 4, found: 7 })));
    let mut twice = specs.clone();
    twice.insert(3, specs[2].clone());
    assert_eq!(fault(&twice), (Some(4), Some(Fault::Twice(5))));
}

#[test]
fn what_was_cut_off_shows_against_a_checkpoint_alone() {
    let specs = trail();
    let kept = checkpoint_after(&specs);
    assert_eq!(fault(&specs[..3]).1, None, "a beginning is whole by itself");
    let report = verify(&specs[..3], &trusted(vec![kept.clone()]));
    assert_eq!((report.line, report.fault), (None, Some(Fault::Truncated { length: 6, stated: 11 })));
    assert_eq!(verify(&[], &trusted(vec![kept])).fault, Some(Fault::Truncated { length: 0, stated: 11 }));
}

#[test]
fn a_fork_shows_where_it_leaves_the_chain_and_a_rewritten_trail_against_a_checkpoint() {
    let specs = trail();
    let other = support::trail(&key(), &[3, 1, 2, 1, 3]);
    let early = support::other_trail(&key(), &[3, 1, 2, 1, 4]);
    let spliced: Vec<_> = specs[..2].iter().chain(&early[2..]).cloned().collect();
    assert_eq!(fault(&spliced), (Some(3), Some(Fault::Forked(5))));
    assert_eq!(fault(&other).1, None);
    // The holder of the key writes another history from some point on. Whoever kept a checkpoint sees it.
    let head = Head { length: 6, hash: chain::hash(&specs[2]).unwrap() };
    let forged =
        serde_json::to_value(seal(&head, vec![support::entry("mallory-was-never-here")], &key()).unwrap()).unwrap();
    let mut rewritten = specs[..3].to_vec();
    rewritten.push(forged);
    assert_eq!(fault(&rewritten).1, None);
    let kept = checkpoint_after(&specs[..4]);
    assert_eq!(verify(&rewritten, &trusted(vec![kept])).fault, Some(Fault::Rewritten(7)));
    // From the very beginning.
    let kept = checkpoint_after(&specs);
    assert_eq!(verify(&early, &trusted(vec![kept])).fault, Some(Fault::Rewritten(1)));
}

#[test]
fn another_key_is_named() {
    let specs = trail();
    let other = Keyring::from_seed(&[8; 32]).unwrap();
    let mut swapped = specs.clone();
    swapped[1] = resigned(swapped[1].clone(), &other);
    assert_eq!(fault(&swapped), (Some(2), Some(Fault::ForeignKey { sequence: 4, key: other.id().into() })));
    // Its name alone is not enough.
    let mut named = swapped.clone();
    named[1]["keyID"] = json!(key().id());
    assert_eq!(fault(&named).1, Some(Fault::Edited { sequence: 4, key: key().id().into() }));
    let both = Trusted { keys: vec![key().public(), other.public()], checkpoints: vec![] };
    let unknown = Fault::NotIntroduced { sequence: 4, key: other.id().into() };
    assert_eq!(verify(&swapped, &both).fault, Some(unknown), "it is trusted, and has no part in this trail");
    swapped[1] = resigned(specs[1].clone(), &key());
    swapped[1]["entries"][0]["reason"] = json!("Deny");
    swapped[1] = resigned(swapped[1].clone(), &key());
    assert_eq!(fault(&swapped).1, Some(Fault::Forked(5)), "the next one names the hash of another record");
}

#[test]
fn what_is_told_twice_is_named() {
    let mut head = Head::default();
    let specs: Vec<Value> = ["a/0/Requested", "b/0/Requested", "a/0/Requested"]
        .iter()
        .map(|key_of| support::next(&mut head, vec![support::entry(key_of)], &key()))
        .collect();
    let twin = Fault::Repeated { key: "a/0/Requested".into(), first: 1, second: 3 };
    assert_eq!(fault(&specs), (Some(3), Some(twin)));
}

/// Counts that do not fit are no way to hide an entry.
#[test]
fn numbers_that_do_not_agree_with_the_entries_are_named() {
    let specs = trail();
    for (field, value) in
        [("last", json!(6)), ("sequence", json!(3)), ("last", json!(9_007_199_254_740_991i64)), ("sequence", json!(-1))]
    {
        let mut lying = specs.clone();
        lying[1][field] = value;
        lying[1] = resigned(lying[1].clone(), &key());
        assert!(fault(&lying).1.is_some(), "{field}");
    }
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any one record taken away, doubled or moved is seen; so is any cut, by the checkpoint.
        #[test]
        fn no_change_goes_unseen(from in 0usize..5, to in 0usize..5, what in 0u8..4) {
            let specs = trail();
            let mut changed = specs.clone();
            match what {
                0 => { changed.remove(from); }
                1 => changed.swap(from, to),
                2 => changed.insert(to, specs[from].clone()),
                _ => changed.truncate(from),
            }
            let report = verify(&changed, &trusted(vec![checkpoint_after(&specs)]));
            prop_assert_eq!(report.fault.is_none(), changed == specs);
        }

        /// Bad input never panics.
        #[test]
        fn any_text_is_judged(text in ".{0,200}", number in any::<i64>()) {
            let spec = json!({"sequence": number, "last": number, "previous": text, "entries": [], "keyID": text, "signature": text});
            prop_assert!(verify(&[spec, json!(text), json!(number)], &trusted(vec![])).fault.is_some());
        }
    }
}
