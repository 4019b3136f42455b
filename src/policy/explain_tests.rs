use super::*;
use crate::api::Requester;
use crate::policy::{Outcome, compile, evaluate};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Policies by name, compiled or broken.
pub(in crate::policy) fn set(policies: &[(String, Value)]) -> PolicySet {
    let mut set = PolicySet::default();
    for (name, spec) in policies {
        match compile(name, spec, None) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => set.broken.push(Arc::from(broken)),
        }
    }
    set
}

/// What is asked in a test.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Asked {
    pub declared: Vec<String>,
    pub derived: Vec<DerivedTag>,
    pub groups: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl Asked {
    pub fn with<T>(&self, then: impl FnOnce(&Facts<'_>) -> T) -> T {
        let requester = Requester { username: "alice".into(), uid: None, groups: self.groups.clone() };
        then(&Facts {
            requested_by: "workflow.triage",
            declared_tags: &self.declared,
            claims: &Value::Null,
            derived_tags: &self.derived,
            requester: &requester,
            namespace: "payments",
            namespace_labels: &self.labels,
            object: None,
            asked: Timestamp::UNIX_EPOCH,
        })
    }

    pub fn of(&self, policies: &PolicySet) -> Outcome {
        self.with(|facts| evaluate(policies, facts))
    }
}

fn asked(declared: &[&str], derived: &[(&str, Option<&str>)]) -> Asked {
    let derived = derived.iter().map(|(tag, policy)| DerivedTag {
        tag: tag.to_string(),
        policy: policy.map(String::from),
        detail: String::new(),
        advisory: false,
    });
    Asked {
        declared: declared.iter().map(|t| t.to_string()).collect(),
        derived: derived.collect(),
        groups: vec!["developers".into()],
        labels: BTreeMap::from([("env".into(), "prod".into())]),
    }
}

fn one(rule: Value, asked: &Asked) -> RuleTrace {
    let mut rule = rule;
    rule["name"] = json!("r");
    if rule["decision"] == "RequireApproval" {
        rule["approvals"] = json!({"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]});
    }
    let policies = set(&[("p".into(), json!({"rules": [rule]}))]);
    assert_eq!(policies.broken.iter().map(|b| b.error.to_string()).collect::<Vec<_>>(), [""; 0]);
    let trace = asked.with(|facts| explain(&policies, facts));
    trace[0].rules[0].clone()
}

#[test]
fn the_part_that_does_not_hold_is_named() {
    let asked = asked(&["prod"], &[]);
    for (rule, expected) in [
        (json!({"when": {"riskTags": ["prod", "write"]}}), "riskTags: write is not among [prod]"),
        (json!({"when": {"anyRiskTags": ["drop", "purge"]}}), "anyRiskTags: none of [drop, purge] is among [prod]"),
        (json!({"when": {"requestedBy": ["agent.*"]}}), "requestedBy: workflow.triage matches none of [agent.*]"),
        (
            json!({"when": {"requesters": [{"kind": "Group", "name": "sre"}, {"kind": "User", "name": "bob"}]}}),
            "requesters: alice (groups [developers]) is none of [sre, user bob]",
        ),
        (
            json!({"when": {"namespaceSelector": {"matchLabels": {"env": "dev"}}}}),
            "namespaceSelector does not select the namespace payments",
        ),
        (json!({"unless": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}), "exempted by unless"),
    ] {
        let mut rule = rule;
        rule["decision"] = json!("RequireApproval");
        let trace = one(rule, &asked);
        assert_eq!((trace.matched, trace.missed.as_deref(), trace.hint), (false, Some(expected), None));
    }
    let trace = one(json!({"decision": "Deny", "when": {"riskTags": ["prod"]}}), &asked);
    assert_eq!((trace.matched, trace.missed), (true, None));
}

#[test]
fn the_part_that_failed_is_named_and_what_comes_of_it() {
    let (fails, holds) = (json!({"expression": "object.spec.missing == 1"}), json!({"expression": "object == null"}));
    let error = "null has no fields";
    for (decision, part, effect) in [
        ("Allow", "when", "so it allows nothing, and its bounds hold"),
        ("Allow", "unless", "so it allows nothing, and its bounds hold"),
        ("Deny", "when", "so nothing is approved until it is mended"),
        ("Deny", "unless", "so nothing is approved until it is mended"),
    ] {
        let trace = one(json!({"decision": decision, part: fails}), &asked(&[], &[]));
        let expected = format!("the expression of {part} failed, {effect}: {error}");
        assert_eq!((trace.matched, trace.missed, trace.failed.as_deref()), (false, Some(expected), Some(error)));
    }
    let trace = one(json!({"decision": "RequireApproval", "when": fails}), &asked(&[], &[]));
    assert_eq!((trace.matched, trace.missed, trace.failed.as_deref()), (true, None, Some(error)));
    for decision in ["Allow", "RequireApproval", "Deny"] {
        let trace = one(json!({"decision": decision, "when": fails, "unless": holds}), &asked(&[], &[]));
        let expected = (false, Some("exempted by unless".to_string()), None);
        assert_eq!((trace.matched, trace.missed, trace.failed), expected, "{decision}");
    }
}

#[test]
fn an_author_learns_that_a_claim_earns_no_allow() {
    let allow = json!({"decision": "Allow", "when": {"riskTags": ["read-only"]}});
    let hint = |rule: &Value, asked: &Asked| one(rule.clone(), asked).hint.unwrap_or_default();
    assert!(
        hint(&allow, &asked(&["read-only"], &[])).contains("would match if [read-only] were derived: a declared tag")
    );
    assert!(hint(&allow, &asked(&[], &[("read-only", Some("other"))])).contains("derived by this policy"));
    assert_eq!(hint(&allow, &asked(&["other"], &[])), "", "the tag is not there at all");
    assert_eq!(hint(&allow, &asked(&[], &[("read-only", Some("p"))])), "", "it matches");
    let two = json!({"decision": "Allow", "when": {"riskTags": ["read-only"], "namespaceSelector": {"matchLabels": {"env": "dev"}}}});
    assert_eq!(hint(&two, &asked(&["read-only"], &[])), "", "it would not match even then");
    let unless = json!({"decision": "RequireApproval", "unless": {"riskTags": ["drill"]}});
    assert!(hint(&unless, &asked(&["drill"], &[])).contains("would exempt it if [drill] were derived"));
    let trusting = json!({"decision": "Allow", "trustClaims": true, "when": {"riskTags": ["read-only"]}});
    assert!(one(trusting, &asked(&["read-only"], &[])).matched);
}

#[test]
fn a_policy_that_is_not_in_force_here_says_so() {
    let elsewhere = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "dev"}}},
        "rules": [{"name": "r", "decision": "Deny"}]});
    let broken_elsewhere = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "dev"}}}, "rules": []});
    let policies = set(&[
        ("d".into(), json!({"rules": [{"name": "r", "decision": "Deny"}]})),
        ("c".into(), elsewhere),
        ("b".into(), json!({"rules": []})),
        ("a".into(), broken_elsewhere),
    ]);
    let traces = asked(&[], &[]).with(|facts| explain(&policies, facts));
    let found: Vec<_> = traces.iter().map(|t| (t.policy.as_str(), t.standing, t.rules.len())).collect();
    assert_eq!(
        found,
        [
            ("a", Standing::BrokenElsewhere, 0),
            ("b", Standing::Broken, 0),
            ("c", Standing::Elsewhere, 0),
            ("d", Standing::Applies, 1)
        ]
    );
    assert_eq!(traces[1].error.as_deref(), Some("spec.rules: a policy needs at least one rule"));
}

fn tags() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set(prop::sample::select(vec!["a", "b", "c"]), 0..3)
        .prop_map(|set| set.into_iter().map(str::to_string).collect())
}

fn selector() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!({"matchLabels": {"env": "prod"}}),
        json!({"matchLabels": {"env": "dev"}}),
    ])
}

pub(in crate::policy) fn arbitrary_rule() -> impl Strategy<Value = Value> {
    let decision = prop::sample::select(vec!["Allow", "RequireApproval", "Deny"]);
    let group = prop::sample::select(vec!["sre", "developers"]);
    let numbers = (1..4i32, prop::option::of(1..99i64), prop::option::of(1..99i64), any::<bool>(), any::<bool>());
    (decision, tags(), tags(), selector(), group, any::<bool>(), numbers).prop_map(
        |(decision, all, unless, selector, group, trust, (count, runtime, wait, flag, other))| {
            let mut rule = json!({"name": "x", "decision": decision, "trustClaims": trust, "when": {"riskTags": all}});
            if !selector.is_null() {
                rule["when"]["namespaceSelector"] = selector;
            }
            if flag {
                rule["when"]["requesters"] = json!([{"kind": "Group", "name": group}]);
            }
            if !unless.is_empty() {
                rule["unless"] = json!({"anyRiskTags": unless});
            }
            if let Some(runtime) = runtime {
                rule["constraints"] = json!({"maxRuntimeSeconds": runtime, "maxCpu": format!("{runtime}m"), "limits": {"n": runtime}});
            }
            if let Some(wait) = wait.filter(|_| decision != "Deny") {
                rule["notBeforeSeconds"] = json!(wait);
                rule["requireImageDigests"] = json!(other);
                rule["freezeWindows"] = json!([{"name": "w", "start": "0 18 * * 5", "durationSeconds": 60 * wait}]);
            }
            if decision == "RequireApproval" {
                rule["approvals"] = json!({"denials": count, "selfApproval": if other { "Allow" } else { "Forbid" },
                    "requireComment": flag,
                    "requirements": [{"name": group, "count": count, "approvers": [{"kind": "Group", "name": group}]}]});
            }
            rule
        },
    )
}

pub(in crate::policy) fn arbitrary_policies() -> impl Strategy<Value = Vec<(String, Value)>> {
    let policy = prop::collection::vec(arbitrary_rule(), 1..4).prop_map(|mut rules| {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule["name"] = json!(format!("r{i}"));
        }
        json!({"rules": rules})
    });
    prop::collection::vec(policy, 0..4)
        .prop_map(|specs| specs.into_iter().enumerate().map(|(i, spec)| (format!("p{i}"), spec)).collect())
}

pub(in crate::policy) fn arbitrary_asked() -> impl Strategy<Value = Asked> {
    let policy = prop::option::of(prop::sample::select(vec!["p0", "p1"]));
    let derived = prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), policy), 0..3);
    (tags(), derived, any::<bool>()).prop_map(|(declared, derived, sre)| {
        let declared: Vec<&str> = declared.iter().map(String::as_str).collect();
        let mut all = asked(&declared, &derived);
        all.groups = if sre { vec!["sre".into()] } else { vec![] };
        all
    })
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_evaluated(policies in arbitrary_policies(), asked in arbitrary_asked()) {
        let policies = set(&policies);
        let outcome = asked.of(&policies);
        let matches: Vec<_> = outcome.matches.iter().map(|m| (m.policy.to_string(), m.rule.name.clone())).collect();
        let traces = asked.with(|facts| explain(&policies, facts));
        let rules = || traces.iter().flat_map(|t| t.rules.iter().map(|r| (t.policy.clone(), r)));
        let explained: Vec<_> = rules().filter(|(_, r)| r.matched).map(|(p, r)| (p, r.rule.clone())).collect();
        prop_assert_eq!(explained, matches);
        prop_assert_eq!(rules().count(), policies.ready.iter().map(|p| p.rules.len()).sum::<usize>());
        for (_, rule) in rules() {
            prop_assert_eq!(rule.matched, rule.missed.is_none());
        }
    }
}
