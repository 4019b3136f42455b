use super::*;
use crate::policy::compile;
use proptest::prelude::*;
use serde_json::{Value, json};

fn user(name: &str) -> Subject {
    Subject { kind: SubjectKind::User, name: name.into(), namespace: None }
}

fn group(name: &str) -> Subject {
    Subject { kind: SubjectKind::Group, ..user(name) }
}

fn joined(name: &str, count: i32, approvers: Vec<Subject>) -> JoinedRequirement {
    JoinedRequirement { name: name.into(), count, approvers }
}

/// The error of a rule with these requirements: name, count, approvers.
fn error(requirements: &[(&str, i32, Value)]) -> Option<String> {
    let requirements: Vec<Value> = requirements
        .iter()
        .map(|(name, count, approvers)| json!({"name": name, "count": count, "approvers": approvers}))
        .collect();
    let rule = json!({"name": "r", "decision": "RequireApproval", "approvals": {"requirements": requirements}});
    compile("p", &json!({"rules": [rule]}), None).err().map(|broken| broken.error.to_string())
}

#[test]
fn a_rule_that_its_own_people_cannot_meet_is_refused_with_field_and_reason() {
    let users = |names: &[&str]| names.iter().map(|n| json!({"kind": "User", "name": n})).collect::<Value>();
    let ci = json!({"kind": "ServiceAccount", "namespace": "ci", "name": "bot"});
    let same = json!({"kind": "User", "name": "system:serviceaccount:ci:bot"});
    let sre = json!([{"kind": "Group", "name": "sre"}]);
    let authorized = json!([{"kind": "Authorized", "name": "p"}, {"kind": "User", "name": "alice"}]);
    for (requirements, expected) in [
        (
            vec![("sre", 1, users(&["alice"])), ("security", 1, users(&["alice"]))],
            Some(
                "2 people are needed for sre and security, and only user alice is named; user alice stands in both, and counts once",
            ),
        ),
        (
            vec![("a", 2, users(&["alice", "bob"])), ("b", 1, users(&["bob", "alice"])), ("c", 1, users(&["carol"]))],
            Some(
                "3 people are needed for a and b, and only user alice and user bob are named; user alice and user bob stand in both, and each counts once",
            ),
        ),
        (
            vec![("a", 1, users(&["alice", "bob"])), ("b", 1, users(&["bob"])), ("c", 1, users(&["alice"]))],
            Some(
                "3 people are needed for a, b and c, and only user alice and user bob are named; user alice and user bob stand in several of them, and each counts once",
            ),
        ),
        (
            vec![("a", 2, json!([ci, same]))],
            Some("2 people are needed for a, and only serviceaccount ci/bot is named; nobody could meet it"),
        ),
        (
            vec![("a", 1, json!([ci])), ("b", 1, json!([same]))],
            Some("only serviceaccount ci/bot is named; serviceaccount ci/bot stands in both"),
        ),
        // The group may be anybody, but no group helps where alice alone is asked for twice.
        (
            vec![("g", 9, sre.clone()), ("a", 1, users(&["alice"])), ("b", 1, users(&["alice"]))],
            Some("user alice stands in both"),
        ),
        (vec![("g", 9, sre.clone()), ("a", 1, users(&["alice"]))], None),
        (vec![("a", 1, authorized), ("b", 1, users(&["alice"]))], None),
        (vec![("a", 1, users(&["alice", "bob"])), ("b", 1, users(&["bob", "alice"]))], None),
        (vec![("a", 2, users(&["alice", "bob"])), ("b", 1, users(&["bob", "carol"]))], None),
    ] {
        let found = error(&requirements);
        match expected {
            None => assert_eq!(found, None, "{requirements:?}"),
            Some(expected) => {
                let found = found.unwrap_or_default();
                assert!(found.starts_with("spec.rules[r].approvals.requirements: "), "{found}");
                assert!(found.contains(expected) && found.ends_with(". List more people, or lower a count"), "{found}");
            }
        }
    }
}

#[test]
fn a_shortfall_says_who_is_left_and_who_does_not_count() {
    let requirements = [
        joined("admins", 1, vec![user("alice")]),
        joined("leads", 1, vec![user("bob"), user("carol")]),
        joined("sre", 3, vec![group("sre")]),
    ];
    let without = |names: &'static [&str]| shortfall(&requirements, &move |s| names.contains(&s.name.as_str()));
    assert_eq!(without(&[]), None);
    assert_eq!(without(&["bob", "sre"]), None, "whoever stands behind a group is not known");
    let alice =
        "1 person is needed for admins, and nobody is left; user alice is listed and does not count for this request";
    assert_eq!(without(&["alice"]).as_deref(), Some(alice));
    let both = "1 person is needed for leads, and nobody is left; user bob and user carol are listed and do not count for this request";
    assert_eq!(without(&["bob", "carol"]).as_deref(), Some(both));
    // Each rule by itself could be met; together they cannot.
    let together = [joined("a", 1, vec![user("alice")]), joined("a", 2, vec![user("alice"), user("bob")])];
    let expected = "3 people are needed for a and a, and only user alice and user bob are left; each counts once";
    assert_eq!(shortfall(&together, &|_| false).as_deref(), Some(expected));
    let account = [joined("ci", 1, vec![user("system:serviceaccount:ci:bot")])];
    let gone = |s: &Subject| s.covers("system:serviceaccount:ci:bot", &[]);
    assert!(shortfall(&account, &gone).is_some_and(|s| s.contains("serviceaccount ci/bot is listed")));
    let many = joined("x", 64, (0..20).map(|i| user(&format!("u{i:02}"))).collect());
    assert!(shortfall(&[many], &|_| false).is_some_and(|s| s.contains("user u07 and 12 more are left")));
}

proptest! {
    /// What is refused cannot be met by any choice of people, and what is not refused can.
    #[test]
    fn refuses_exactly_what_no_choice_of_people_meets(
        raw in prop::collection::vec((1..3i32, prop::collection::btree_set(0..4usize, 1..4)), 1..4),
        out in prop::collection::btree_set(0..4usize, 0..3),
    ) {
        let name = |i: &usize| format!("u{i}");
        let requirements: Vec<_> = raw.iter().enumerate()
            .map(|(i, (count, people))| joined(&format!("r{i}"), *count, people.iter().map(|p| user(&name(p))).collect()))
            .collect();
        let barred: Vec<String> = out.iter().map(name).collect();
        // Hall: every choice of requirements names at least as many people as it takes.
        let possible = (1..1usize << raw.len()).all(|chosen| {
            let of = || raw.iter().enumerate().filter(move |(i, _)| chosen & (1 << i) != 0).map(|(_, r)| r);
            let people: BTreeSet<_> = of().flat_map(|(_, people)| people.difference(&out)).collect();
            of().map(|(count, _)| *count as usize).sum::<usize>() <= people.len()
        });
        let found = shortfall(&requirements, &|s| barred.contains(&s.name));
        prop_assert_eq!(found.is_none(), possible, "{:?}", found);
    }
}
