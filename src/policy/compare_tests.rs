use super::*;
use crate::policy::explain::tests::{Asked, arbitrary_asked, arbitrary_policies, arbitrary_rule, set};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn nothing_said() -> Asked {
    Asked { declared: vec![], derived: vec![], groups: vec![], labels: BTreeMap::new() }
}

fn of(rules: Value) -> Outcome {
    let policies = set(&[("p".into(), json!({"rules": rules}))]);
    assert!(policies.broken.is_empty(), "{:?}", policies.broken[0].error);
    nothing_said().of(&policies)
}

fn by(group: &str, more: Value) -> Value {
    let mut rule = json!({"name": "r", "decision": "RequireApproval", "approvals":
        {"requirements": [{"name": group, "approvers": [{"kind": "Group", "name": group}]}]}});
    merge(&mut rule, &more);
    rule
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        match (&mut into[key], value) {
            (slot @ Value::Object(_), Value::Object(_)) => merge(slot, value),
            (slot, value) => *slot = value.clone(),
        }
    }
}

/// The differences that are weaker, and whether there are any others.
fn found(before: Value, after: Value) -> (Vec<String>, bool) {
    let all = compare(&of(before), &of(after));
    let weak = all.iter().filter(|d| d.weaker).map(|d| d.what.clone()).collect();
    (weak, all.iter().any(|d| !d.weaker))
}

#[test]
fn each_part_is_weaker_one_way_and_not_the_other() {
    let two = json!({"approvals": {"requirements": [{"name": "sre", "count": 2, "approvers": [{"kind": "Group", "name": "sre"}]}]}});
    let window = |seconds: i64, passers: Value| json!({"freezeWindows": [{"name": "w", "start": "0 18 * * 5", "durationSeconds": seconds, "mayPass": passers}]});
    for (looser, tighter, what) in [
        (json!({}), two, "requirements"),
        (json!({"approvals": {"denials": 2}}), json!({}), "denials"),
        (json!({"approvals": {"selfApproval": "Allow"}}), json!({}), "selfApproval"),
        (json!({}), json!({"approvals": {"exclude": ["JobCreator"]}}), "excludeJobCreator"),
        (json!({}), json!({"approvals": {"requireComment": true}}), "requireComment"),
        (json!({}), json!({"constraints": {"maxRuntimeSeconds": 9}}), "constraints.maxRuntimeSeconds"),
        (
            json!({"constraints": {"maxRetries": 1}}),
            json!({"constraints": {"maxRetries": 0}}),
            "constraints.maxRetries",
        ),
        (json!({}), json!({"constraints": {"maxParallelism": 1}}), "constraints.maxParallelism"),
        (json!({"constraints": {"maxCpu": "1"}}), json!({"constraints": {"maxCpu": "500m"}}), "constraints.maxCpu"),
        (
            json!({"constraints": {"maxMemory": "1Gi"}}),
            json!({"constraints": {"maxMemory": "1G"}}),
            "constraints.maxMemory",
        ),
        (json!({}), json!({"constraints": {"limits": {"lines": 1}}}), "constraints.limits.lines"),
        (json!({}), json!({"notBeforeSeconds": 60}), "notBeforeSeconds"),
        (json!({"pendingTimeoutSeconds": 4000}), json!({}), "pendingTimeoutSeconds"),
        (json!({"releaseTimeoutSeconds": 4000}), json!({}), "releaseTimeoutSeconds"),
        (json!({}), json!({"requireImmutableInputs": true}), "requireImmutableInputs"),
        (json!({}), json!({"requireImageDigests": true}), "requireImageDigests"),
        (json!({"onDenied": "Delete"}), json!({"onDenied": "Hold"}), "onDenied"),
        (json!({}), window(60, json!([])), "freezeWindows"),
        (window(60, json!([])), window(90, json!([])), "freezeWindows"),
        (window(60, json!([{"kind": "Group", "name": "sre"}])), window(60, json!([])), "freezeWindows"),
    ] {
        let (looser, tighter) = (json!([by("sre", looser)]), json!([by("sre", tighter)]));
        assert_eq!(
            found(tighter.clone(), looser.clone()),
            (vec![what.to_string()], what == "freezeWindows" && looser != json!([by("sre", json!({}))])),
            "{what}"
        );
        assert_eq!(found(looser.clone(), tighter), (vec![], true), "{what}");
        assert_eq!(compare(&of(looser.clone()), &of(looser)), []);
    }
}

#[test]
fn one_amount_in_two_spellings_is_no_difference() {
    let bound =
        |cpu: &str, memory: &str| json!([by("sre", json!({"constraints": {"maxCpu": cpu, "maxMemory": memory}}))]);
    for (one, other) in [(bound("1", "1Gi"), bound("1000m", "1024Mi")), (bound("0.5", "1e9"), bound("500m", "1G"))] {
        assert_eq!(compare(&of(one.clone()), &of(other.clone())), []);
        assert_eq!(compare(&of(other), &of(one)), []);
    }
    let (less, more) = (bound("1000m", "1Gi"), bound("1001m", "1Gi"));
    assert_eq!(found(less.clone(), more.clone()), (vec!["constraints.maxCpu".to_string()], false));
    assert_eq!(found(more, less), (vec![], true));
}

#[test]
fn decisions_are_ordered_and_an_opened_gate_is_weaker() {
    let (allow, deny) = (json!([{"name": "r", "decision": "Allow"}]), json!([{"name": "r", "decision": "Deny"}]));
    let (ask, none) =
        (json!([by("sre", json!({}))]), json!([{"name": "r", "decision": "Deny", "when": {"riskTags": ["x"]}}]));
    let is_weaker = |before: &Value, after: &Value| weaker(&of(before.clone()), &of(after.clone()));
    for (before, after, expected) in [
        (&allow, &ask, false),
        (&ask, &deny, false),
        (&allow, &deny, false),
        (&ask, &allow, true),
        (&deny, &ask, true),
        (&deny, &allow, true),
        (&none, &ask, false),
        (&none, &deny, false),
        (&none, &allow, true),
        (&allow, &none, true),
        (&deny, &none, true),
    ] {
        assert_eq!(is_weaker(before, after), expected, "{before} {after}");
    }
    let bounded = json!([by("sre", json!({"constraints": {"maxRuntimeSeconds": 1}, "notBeforeSeconds": 9}))]);
    assert!(!is_weaker(&bounded, &deny), "where nothing runs, no bound is missing");
}

#[test]
fn other_approvers_are_weaker_even_where_there_are_more_of_them() {
    let (sre, security) = (json!([by("sre", json!({}))]), json!([by("security", json!({}))]));
    let all = compare(&of(sre), &of(security));
    let texts: Vec<_> = all.iter().map(|d| (d.before.as_str(), d.after.as_str(), d.weaker)).collect();
    assert_eq!(texts, [("", "1 from security", false), ("1 from sre", "", true)]);
}

#[test]
fn a_policy_that_compiles_again_lifts_what_it_held() {
    let broken = set(&[("p".into(), json!({"rules": []}))]);
    let before = nothing_said().of(&broken);
    let after = of(json!([by("sre", json!({}))]));
    let held: Vec<_> = compare(&before, &after).into_iter().filter(|d| d.weaker).collect();
    assert_eq!((held.len(), held[0].what.as_str()), (1, "held"));
    assert!(held[0].before.contains("policy p does not compile and might apply"), "{}", held[0].before);
    assert!(!weaker(&after, &before) || before.decision.is_none());
}

proptest! {
    #[test]
    fn one_rule_more_is_never_weaker(asked in arbitrary_asked(), mut policies in arbitrary_policies(), mut more in arbitrary_rule()) {
        let before = asked.of(&set(&policies));
        more["name"] = json!("another");
        policies.push(("another".into(), json!({"rules": [more]})));
        let after = asked.of(&set(&policies));
        let opened = before.decision.is_none() && after.decision == Some(crate::api::policy::Decision::Allow);
        prop_assert_eq!(weaker(&before, &after), opened, "{:?}", compare(&before, &after));
    }

    #[test]
    fn nothing_differs_from_itself(asked in arbitrary_asked(), policies in arbitrary_policies()) {
        let outcome = asked.of(&set(&policies));
        prop_assert_eq!(compare(&outcome, &outcome), vec![]);
    }

    #[test]
    fn of_two_that_differ_in_terms_one_is_weaker(asked in arbitrary_asked(), one in arbitrary_policies(), other in arbitrary_policies()) {
        let (one, other) = (asked.of(&set(&one)), asked.of(&set(&other)));
        let terms = |o: &Outcome| (o.requirements.clone(), o.constraints.clone(), o.denials, o.self_approval, o.not_before_seconds);
        let ask = |o: &Outcome| o.decision == Some(Decision::RequireApproval);
        if ask(&one) && ask(&other) && terms(&one) != terms(&other) {
            prop_assert!(weaker(&one, &other) || weaker(&other, &one));
        }
    }
}

#[test]
fn tags_suffice_without_expressions_and_with_the_same_classifiers() {
    let of = |spec: Value| set(&[("p".into(), spec)]);
    let rules = json!([by("sre", json!({}))]);
    let plain = || of(json!({"rules": rules}));
    let derives = |tag: &str| of(json!({"classifiers": [{"tag": tag, "when": {"usesSecrets": true}}], "rules": rules}));
    let asks = || of(json!({"rules": [by("sre", json!({"unless": {"expression": "object == null"}}))]}));
    let elsewhere = |mut spec: Value| {
        spec["match"] = json!({"namespaceSelector": {"matchLabels": {"env": "dev"}}});
        of(spec)
    };
    let prod = BTreeMap::from([("env".to_string(), "prod".to_string())]);
    let suffice = |before: PolicySet, after: PolicySet| tags_suffice(&before, &after, &prod);
    assert!(suffice(plain(), plain()) && suffice(derives("a"), derives("a")) && suffice(plain(), PolicySet::default()));
    assert!(!suffice(plain(), derives("a")) && !suffice(derives("a"), plain()) && !suffice(derives("a"), derives("b")));
    assert!(!suffice(asks(), plain()) && !suffice(plain(), asks()));
    let away = json!({"classifiers": [{"tag": "a", "when": {"usesSecrets": true}}], "rules": rules});
    assert!(suffice(plain(), elsewhere(away)));
}
