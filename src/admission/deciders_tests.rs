use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Grants what the last letter of the username says, and counts.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Authorizer for Counting {
    fn may_approve<'a>(&'a self, caller: &'a Caller, _: &'a str) -> BoxFuture<'a, Result<bool, Unanswered>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(caller.username.ends_with('y')) })
    }
}

fn caller(username: &str) -> Caller {
    Caller { username: username.into(), uid: None, groups: vec!["sre".into()], extra: BTreeMap::new() }
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_remembered_for_ten_seconds_and_a_refusal_for_three() {
    let counting = Arc::new(Counting::default());
    let deciders = Deciders::new(counting.clone());
    let policies = ["production".to_string()];
    let asked = async |who: &Caller| {
        let before = counting.0.load(Ordering::Relaxed);
        let granted = deciders.granted(who, &policies, false).await.unwrap();
        (granted.len(), counting.0.load(Ordering::Relaxed) - before)
    };
    let (yes, no) = (caller("y"), caller("n"));
    for (after, yes_asked, no_asked) in [(0, 1, 1), (2999, 0, 0), (1, 0, 1), (6999, 0, 1), (1, 1, 0)] {
        tokio::time::advance(Duration::from_millis(after)).await;
        assert_eq!((asked(&yes).await, asked(&no).await), ((1, yes_asked), (0, no_asked)), "after {after} ms more");
    }
}

#[tokio::test]
async fn an_answer_is_for_one_whole_identity_and_one_policy() {
    let counting = Arc::new(Counting::default());
    let deciders = Deciders::new(counting.clone());
    let alice = caller("alicy");
    let extra = BTreeMap::from([("scope".to_string(), vec!["x".to_string()])]);
    let others = [
        (caller("bobby"), "a"),
        (Caller { uid: Some("1".into()), ..alice.clone() }, "a"),
        (Caller { groups: vec![], ..alice.clone() }, "a"),
        (Caller { groups: vec!["sre,".into()], ..alice.clone() }, "a"),
        (Caller { extra, ..alice.clone() }, "a"),
        (alice.clone(), "b"),
        (alice, "a"),
    ];
    for _ in 0..2 {
        for (who, policy) in &others {
            deciders.granted(who, &[policy.to_string()], false).await.unwrap();
        }
    }
    assert_eq!(counting.0.load(Ordering::Relaxed), others.len());
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut lately = Lately::default();
    let now = Instant::now();
    for i in 0..MOST + 10 {
        lately.put(i.to_string(), true, now);
        // Said again and again: it holds one place.
        lately.put("again".into(), true, now);
        assert!(lately.answers.len() <= MOST && lately.order.len() <= MOST);
    }
    assert_eq!(lately.get("0", now), None);
    assert_eq!(lately.get("again", now), Some(true));
    assert_eq!(lately.get(&(MOST + 9).to_string(), now), Some(true));
    assert_eq!(lately.get("again", now + YES), None, "and it ends with its time");
}

#[test]
fn the_question_names_the_verb_the_policy_and_the_whole_identity() {
    let mut alice = caller("alice");
    alice.uid = Some("u-1".into());
    alice.extra.insert("scope".into(), vec!["x".into()]);
    let asked = serde_json::to_value(question(&alice, "production")).unwrap();
    assert_eq!(
        asked["spec"],
        json!({"user": "alice", "uid": "u-1", "groups": ["sre"], "extra": {"scope": ["x"]}, "resourceAttributes": {
            "verb": "approve", "group": "countersign.dev", "version": "*", "resource": "approvalpolicies", "name": "production"}})
    );
}

#[test]
fn an_authorizer_in_trouble_says_neither_yes_nor_no() {
    let said = |allowed, denied, error: Option<&str>| {
        let evaluation_error = error.map(String::from);
        answer(SubjectAccessReviewStatus { allowed, denied, evaluation_error, reason: None }).ok()
    };
    for (allowed, denied, error, expected) in [
        (true, None, None, Some(true)),
        (true, None, Some("another authorizer failed"), Some(true)),
        (true, Some(true), None, Some(false)),
        (false, None, None, Some(false)),
        (false, None, Some(""), Some(false)),
        (false, Some(true), Some("x"), Some(false)),
        (false, Some(false), Some("the webhook does not answer"), None),
    ] {
        assert_eq!(said(allowed, denied, error), expected, "{allowed} {denied:?} {error:?}");
    }
}
