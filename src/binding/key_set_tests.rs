use super::*;
use crate::api::status::InputKind;
use crate::binding::{InputFacts, InputRef, InputState, Receipt, bound, seal, verify_seal};
use kube::core::ObjectMeta;
use serde_json::{Value, json};

fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<KeySet, KeyError> {
    KeySet::read(data.iter().map(|(entry, bytes)| (entry.as_str(), bytes.as_slice())))
}

fn first() -> KeySet {
    KeySet::new([1; 32])
}

fn added() -> KeySet {
    first().add([2; 32]).unwrap()
}

fn promoted() -> KeySet {
    added().promote(|_| true).unwrap()
}

fn retired() -> KeySet {
    promoted().retire().unwrap()
}

fn name(seed: u8) -> String {
    key_name(&key_of(&[seed; 32]))
}

fn names(set: &KeySet) -> Vec<(String, Role)> {
    set.roles().into_iter().map(|(key, role)| (key_name(&key), role)).collect()
}

#[test]
fn a_key_is_added_promoted_and_the_one_before_retired() {
    use Role::{Next, Previous, Retired, Signs};
    assert_eq!(names(&first()), [(name(1), Signs)]);
    assert_eq!(names(&added()), [(name(1), Signs), (name(2), Next)]);
    assert_eq!(names(&promoted()), [(name(2), Signs), (name(1), Previous)]);
    assert_eq!(names(&retired()), [(name(2), Signs), (name(1), Retired)]);
    let again = retired().add([3; 32]).unwrap().promote(|_| true).unwrap().retire().unwrap();
    assert_eq!(names(&again), [(name(3), Signs), (name(1), Retired), (name(2), Retired)]);
    for set in [first(), added(), promoted(), retired(), again] {
        assert_eq!(read(&set.data()).unwrap(), set, "as it is stored");
    }
    let seeds = retired().data();
    assert!(!seeds.values().any(|bytes| bytes == &[1; 32]), "of a retired key the public half alone is kept");
}

#[test]
fn a_step_out_of_order_is_refused_and_says_what_comes_next() {
    let next = |refused: Result<KeySet, OutOfOrder>| refused.unwrap_err().to_string();
    for refused in [next(added().add([3; 32])), next(first().add([2; 32]).unwrap().promote(|_| false))] {
        assert!(
            refused.contains("restart every operator") && refused.ends_with("then countersign keys promote"),
            "{refused}"
        );
    }
    for refused in [next(promoted().add([3; 32])), next(promoted().promote(|_| true))] {
        assert!(refused.ends_with("next: restart every operator, then countersign keys retire"), "{refused}");
    }
    assert!(next(first().promote(|_| true)).ends_with("next: countersign keys add"));
    assert!(next(first().retire()).ends_with("next: countersign keys add"));
    assert!(next(added().retire()).ends_with("next: countersign keys promote"));
    for (set, seed) in [(first(), 1), (retired(), 1), (retired(), 2)] {
        assert_eq!(set.add([seed; 32]), Err(OutOfOrder::Seen(name(seed))));
    }
}

#[test]
fn a_secret_that_is_not_as_it_should_be_is_refused() {
    let with = |entries: &[(&str, &[u8])]| KeySet::read(entries.iter().copied()).unwrap_err().to_string();
    let (one, two) = ([1u8; 32].as_slice(), [2u8; 32].as_slice());
    assert!(with(&[]).starts_with("has no entry seed"));
    assert!(with(&[("next", two)]).starts_with("has no entry seed"));
    assert_eq!(with(&[("seed", b"short")]), "its entry seed has 5 bytes, not 32");
    assert_eq!(with(&[("seed", one), ("next", b"")]), "its entry next has 0 bytes, not 32");
    assert_eq!(with(&[("seed", one), ("retired", &[0; 33])]), "its entry retired has 33 bytes, no multiple of 32");
    assert!(with(&[("seed", one), ("nxet", two)]).contains("entry nxet"));
    assert!(with(&[("seed", one), ("next", two), ("previous", &[3; 32])]).starts_with("has both next and previous"));
    assert_eq!(with(&[("seed", one), ("next", one)]), format!("holds key {} twice", name(1)));
    assert_eq!(with(&[("seed", one), ("retired", &key_of(&[1; 32]))]), format!("holds key {} twice", name(1)));
}

#[test]
fn one_set_continues_another_by_the_seed_that_signed() {
    for set in [first(), added(), promoted()] {
        assert!(set.continues(&first()));
    }
    let planted = KeySet::new([9; 32]).add([1; 32]).unwrap();
    assert!(!planted.continues(&first()), "a seed that is there to sign some day proves nothing");
    assert!(!retired().continues(&first()));
}

#[test]
fn nothing_prints_a_seed() {
    let told = format!("{:?} {:?}", promoted(), promoted().keyring());
    assert!(told.contains(&name(2)) && !told.contains("[1, 1") && !told.contains("[2, 2"), "{told}");
}

/// The pairs of states that replicas are in at once, in the course of a rotation.
fn side_by_side() -> [(KeySet, KeySet); 3] {
    [(first(), added()), (added(), promoted()), (promoted(), retired())]
}

fn sealed(by: &KeySet) -> Value {
    let mut review = json!({"reviewer": {"username": "alice"}, "decision": "Approve"});
    review["seal"] = json!(seal(&by.keyring(), "uid", &review).unwrap());
    review
}

fn receipt(by: &KeySet) -> String {
    crate::binding::receipt::tests::receipt().sign(&by.keyring()).unwrap()
}

#[test]
fn replicas_on_both_sides_of_a_step_accept_what_either_seals() {
    for (before, after) in side_by_side() {
        assert!(verify_seal(&before.keyring(), "uid", &sealed(&after)), "{before:?} {after:?}");
        assert!(Receipt::open(&before.keyring(), &receipt(&after)).is_some());
    }
    for (before, after) in &side_by_side()[..2] {
        assert!(verify_seal(&after.keyring(), "uid", &sealed(before)), "{before:?} {after:?}");
        assert!(Receipt::open(&after.keyring(), &receipt(before)).is_some());
    }
    assert!(!verify_seal(&retired().keyring(), "uid", &sealed(&first())), "it is retired");
    assert!(Receipt::open(&retired().keyring(), &receipt(&first())).is_none());
    assert!(!verify_seal(&first().keyring(), "uid", &sealed(&promoted())), "not introduced yet");
}

#[test]
fn a_seal_counts_under_the_key_that_it_names_alone() {
    let mut review = sealed(&first());
    let seal = review["seal"].as_str().unwrap().to_string();
    review["seal"] = json!(seal.replacen(&name(1), &name(2), 1));
    assert!(!verify_seal(&promoted().keyring(), "uid", &review));
    for nonsense in ["", ".", "x", &name(2), &format!("{}.", name(2)), &format!("{}.%", name(2))] {
        review["seal"] = json!(nonsense);
        assert!(!verify_seal(&promoted().keyring(), "uid", &review), "{nonsense}");
    }
}

/// Names that are made again by whoever comes second.
#[test]
fn the_oldest_key_makes_names_until_it_is_retired() {
    let by = |set: &KeySet| set.keyring().sign_by_oldest(b"x");
    assert_eq!([by(&added()), by(&promoted())], [by(&first()), by(&first())]);
    assert_ne!(by(&retired()), by(&first()));
}

fn secret(by: &KeySet, content: &str) -> [(InputRef, InputState); 1] {
    let metadata = ObjectMeta { name: Some("token".into()), uid: Some("u".into()), ..ObjectMeta::default() };
    let facts = InputFacts::read(InputKind::Secret, &metadata, &json!({"data": {"token": content}}), &by.keyring());
    [(InputRef { kind: InputKind::Secret, name: "token".into(), optional: false }, InputState::Present(facts))]
}

/// Otherwise a promotion would void every approval of what uses a Secret, and two replicas would bind it anew for ever.
#[test]
fn what_is_bound_to_a_secret_stays_bound_through_a_rotation() {
    for (before, after) in side_by_side() {
        let old = bound(&secret(&before, "a"), false, &[]);
        let new = bound(&secret(&after, "a"), false, &[]);
        assert_eq!(bound(&secret(&before, "a"), false, &new), new, "{before:?} reads what {after:?} bound");
        assert_ne!(bound(&secret(&before, "b"), false, &new), new, "another content");
        if after != retired() {
            assert_eq!(bound(&secret(&after, "a"), false, &old), old, "{after:?} reads what {before:?} bound");
            assert_ne!(bound(&secret(&after, "b"), false, &old), old, "another content");
        }
    }
    let old = bound(&secret(&first(), "a"), false, &[]);
    assert_ne!(bound(&secret(&retired(), "a"), false, &old), old, "it is retired");
}
