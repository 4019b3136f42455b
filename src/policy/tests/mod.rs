//! Matching and joining, case by case.

mod failing;
mod generate;
mod join;
mod properties;

use super::*;
use crate::api::policy::Decision;
use crate::api::{OnDenied, Requester, SelfApproval};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn set(policies: &[(&str, Value)]) -> PolicySet {
    let mut set = PolicySet::default();
    for (name, spec) in policies {
        match compile(name, spec, None) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => set.broken.push(Arc::from(broken)),
        }
    }
    set
}

#[derive(Clone, Debug)]
pub struct Asked {
    requested_by: String,
    declared: Vec<String>,
    derived: Vec<DerivedTag>,
    requester: Requester,
    labels: BTreeMap<String, String>,
    claims: Value,
    object: Option<Value>,
    asked: jiff::Timestamp,
}

impl Asked {
    fn with_tags(tags: &[&str]) -> Self {
        Self {
            requested_by: "workflow.incident-triage".into(),
            declared: tags.iter().map(|t| t.to_string()).collect(),
            derived: vec![],
            requester: Requester {
                username: "system:serviceaccount:payments:triage".into(),
                uid: None,
                groups: vec!["system:serviceaccounts".into()],
            },
            labels: BTreeMap::from([("env".into(), "prod".into())]),
            claims: Value::Null,
            object: None,
            asked: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn of(&self, policies: &PolicySet) -> Outcome {
        self.with(self.object.as_ref(), |facts| evaluate(policies, facts))
    }

    fn with<T>(&self, object: Option<&Value>, then: impl FnOnce(&Facts<'_>) -> T) -> T {
        then(&Facts {
            requested_by: &self.requested_by,
            declared_tags: &self.declared,
            derived_tags: &self.derived,
            requester: &self.requester,
            namespace_labels: &self.labels,
            claims: &self.claims,
            namespace: "payments",
            object,
            asked: self.asked,
        })
    }
}

fn approval(count: i32, group: &str) -> Value {
    json!({"requirements": [{"name": group, "count": count, "approvers": [{"kind": "Group", "name": group}]}]})
}

fn rule(name: &str, when: Value, decision: &str) -> Value {
    let mut rule = json!({"name": name, "when": when, "decision": decision});
    if decision == "RequireApproval" {
        rule["approvals"] = approval(1, "sre");
    }
    rule
}

fn error(spec: Value) -> String {
    compile("p", &spec, None).map(|_| ()).unwrap_err().error.to_string()
}

#[test]
fn the_strictest_matching_rule_wins_whatever_the_order() {
    let rules = [
        rule("any", json!({}), "Allow"),
        rule("write", json!({"riskTags": ["prod", "write"]}), "RequireApproval"),
        rule("drop", json!({"anyRiskTags": ["drop", "purge"]}), "Deny"),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let spec = json!({"rules": order.map(|i| rules[i].clone())});
        let policies = set(&[("p", spec)]);
        let decide = |tags: &[&str]| Asked::with_tags(tags).of(&policies).decision;
        assert_eq!(decide(&[]), Some(Decision::Allow));
        assert_eq!(decide(&["prod"]), Some(Decision::Allow));
        assert_eq!(decide(&["write", "prod"]), Some(Decision::RequireApproval));
        assert_eq!(decide(&["write", "prod", "purge"]), Some(Decision::Deny));
    }
    assert_eq!(Asked::with_tags(&[]).of(&set(&[])).decision, None);
}

#[test]
fn requirements_add_up_by_normalised_approver_set() {
    let two = |name: &str, count, approvers: Value| {
        json!({"rules": [{"name": "r", "decision": "RequireApproval", "approvals":
            {"denials": 3, "requirements": [{"name": name, "count": count, "approvers": approvers}]}}]})
    };
    let (sre, alice) = (json!({"kind": "Group", "name": "sre"}), json!({"kind": "User", "name": "alice"}));
    let policies = set(&[
        ("a", two("zeta", 1, json!([sre, alice]))),
        ("b", two("alpha", 2, json!([alice, sre, sre]))),
        ("c", json!({"rules": [rule("r", json!({}), "RequireApproval")]})),
    ]);
    let outcome = Asked::with_tags(&[]).of(&policies);
    let found: Vec<_> = outcome.requirements.iter().map(|r| (r.name.as_str(), r.count, r.approvers.len())).collect();
    assert_eq!(found, [("alpha", 2, 2), ("sre", 1, 1)]);
    assert_eq!((outcome.denials, outcome.approvals_required()), (1, 3));
}

/// Both must be met, by two people: a second requirement of the same approvers is no repetition of the first.
#[test]
fn requirements_of_one_rule_add_up_and_rules_do_not() {
    let rule = |requirements: &[(&str, i32, &str)]| {
        let requirements: Vec<Value> = requirements
            .iter()
            .map(|(name, count, group)| json!({"name": name, "count": count, "approvers": [{"kind": "Group", "name": group}]}))
            .collect();
        json!({"rules": [{"name": "r", "decision": "RequireApproval", "approvals": {"requirements": requirements}}]})
    };
    let of = |policies: &[(&str, Value)]| {
        let joined = Asked::with_tags(&[]).of(&set(policies)).requirements;
        joined.into_iter().map(|r| (r.name, r.count)).collect::<Vec<_>>()
    };
    let twice = rule(&[("second", 1, "sre"), ("first", 1, "sre"), ("other", 1, "security")]);
    let both = [("first".to_string(), 2), ("other".to_string(), 1)];
    assert_eq!(of(&[("a", twice.clone())]), both);
    assert_eq!(of(&[("a", twice.clone()), ("b", twice.clone())]), both, "the same rule again asks for nothing more");
    assert_eq!(of(&[("a", twice.clone()), ("b", rule(&[("x", 1, "sre")]))]), both);
    let three = rule(&[("a", 3, "sre")]);
    assert_eq!(of(&[("a", twice), ("b", three)]), [("a".to_string(), 3), ("other".to_string(), 1)]);
}

#[test]
fn self_approval_needs_every_matching_rule_to_grant_it() {
    let granting = json!({"rules": [{"name": "r", "decision": "RequireApproval", "approvals":
        {"selfApproval": "Allow", "requirements": approval(1, "sre")["requirements"]}}]});
    let asked = Asked::with_tags(&[]);
    assert_eq!(asked.of(&set(&[("a", granting.clone())])).self_approval, SelfApproval::Allow);
    let silent = json!({"rules": [rule("r", json!({}), "RequireApproval")]});
    assert_eq!(asked.of(&set(&[("a", granting), ("b", silent)])).self_approval, SelfApproval::Forbid);
    let allow_only = json!({"rules": [rule("r", json!({}), "Allow")]});
    assert_eq!(asked.of(&set(&[("a", allow_only)])).self_approval, SelfApproval::Forbid);
}

#[test]
fn what_one_rule_demands_of_inputs_and_images_holds_for_all() {
    let with = |name: &str, decision: &str, field: &str, value: Value| {
        let mut rule = rule(name, json!({}), decision);
        rule[field] = value;
        rule
    };
    let plain = json!({"rules": [rule("r", json!({}), "RequireApproval")]});
    let inputs = json!({"rules": [with("r", "Allow", "requireImmutableInputs", json!(true))]});
    let images = json!({"rules": [with("r", "RequireApproval", "requireImageDigests", json!(true))]});
    let of = |policies: &[(&str, Value)]| Asked::with_tags(&[]).of(&set(policies));
    let demands = |o: &Outcome| (o.require_immutable_inputs, o.require_image_digests);
    assert_eq!(demands(&of(&[("a", plain.clone())])), (false, false));
    assert_eq!(demands(&of(&[("a", plain.clone()), ("b", inputs.clone())])), (true, false), "an Allow rule counts too");
    let all = of(&[("a", plain.clone()), ("b", inputs), ("c", images)]);
    assert_eq!(demands(&all), (true, true));
    let snapshot = all.snapshot();
    assert_eq!((&snapshot["requireImmutableInputs"], &snapshot["requireImageDigests"]), (&json!(true), &json!(true)));

    let delete = json!({"rules": [with("r", "RequireApproval", "onDenied", json!("Delete"))]});
    let hold = json!({"rules": [with("r", "Deny", "onDenied", json!("Hold"))]});
    let silent = of(&[("a", plain.clone())]);
    assert_eq!((silent.on_denied, silent.after_denial(true)), (None, OnDenied::Delete));
    assert_eq!((silent.snapshot()["onDenied"].clone(), silent.after_denial(false)), (Value::Null, OnDenied::Hold));
    let deleting = of(&[("a", plain.clone()), ("b", delete.clone())]);
    assert_eq!((deleting.on_denied, deleting.after_denial(false)), (Some(OnDenied::Delete), OnDenied::Delete));
    let holding = of(&[("a", plain), ("b", delete), ("c", hold)]);
    assert_eq!((holding.on_denied, holding.after_denial(true)), (Some(OnDenied::Hold), OnDenied::Hold));
    assert_eq!(holding.snapshot()["onDenied"], "Hold");
}

#[test]
fn an_allow_and_an_unless_see_facts_only() {
    let derived = |policy: Option<&str>| DerivedTag {
        tag: "read".into(),
        policy: policy.map(str::to_string),
        detail: "".into(),
        advisory: false,
    };
    let allow = set(&[("p", json!({"rules": [rule("r", json!({"riskTags": ["read"]}), "Allow")]}))]);
    let mut asked = Asked::with_tags(&["read"]);
    assert_eq!(asked.of(&allow).decision, None, "a declared tag earns no Allow");
    asked.derived = vec![derived(Some("other"))];
    assert_eq!(asked.of(&allow).decision, None, "nor does a tag of another policy's classifier");
    asked.derived = vec![derived(Some("p"))];
    assert_eq!(asked.of(&allow).decision, Some(Decision::Allow));

    let mut held = rule("r", json!({}), "RequireApproval");
    held["unless"] = json!({"riskTags": ["read"]});
    let unless = set(&[("p", json!({"rules": [held.clone()]}))]);
    assert_eq!(Asked::with_tags(&["read"]).of(&unless).decision, Some(Decision::RequireApproval));
    asked.derived = vec![derived(None)];
    assert_eq!(asked.of(&unless).decision, None);
    held["trustClaims"] = json!(true);
    assert_eq!(Asked::with_tags(&["read"]).of(&set(&[("p", json!({"rules": [held]}))])).decision, None);
}

#[test]
fn a_policy_that_does_not_compile_covers_what_it_might() {
    let everywhere = json!({"rules": []});
    let staging = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "staging"}}}, "rules": []});
    let unreadable = json!({"match": {"namespaceSelector": {"matchLabels": {"bad key!": "x"}}}, "rules": []});
    let asked = Asked::with_tags(&[]);
    assert_eq!(asked.of(&set(&[("a", everywhere)])).doubts.len(), 1);
    assert_eq!(asked.of(&set(&[("a", staging)])).doubts.len(), 0);
    assert_eq!(asked.of(&set(&[("a", unreadable)])).doubts.len(), 1);
}

#[test]
fn errors_name_the_field_and_what_to_do() {
    let with = |change: Value| {
        let mut rule = rule("r", json!({}), "RequireApproval");
        for (key, value) in change.as_object().unwrap() {
            rule[key] = value.clone();
        }
        json!({"rules": [rule]})
    };
    for (spec, expected) in [
        (json!({"rules": []}), "spec.rules: a policy needs at least one rule"),
        (
            json!({"rules": [rule("r", json!({}), "Allow"), rule("r", json!({}), "Deny")]}),
            "spec.rules: two rules are named \"r\"",
        ),
        (
            with(json!({"approvals": approval(0, "sre")})),
            "spec.rules[r].approvals.requirements[sre].count: must be from 1",
        ),
        (with(json!({"approvals": {"requirements": []}})), "requirements: needs at least one"),
        (
            with(json!({"approvals": {"requirements": [{"name": "x", "approvers": []}]}})),
            "requirements[x].approvers: names nobody",
        ),
        (
            with(json!({"approvals": {"requirements": [{"name": "x", "count": 2, "approvers":
                [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "alice"}]}]}})),
            "count: is 2 but only 1 approvers are listed by name",
        ),
        (
            with(json!({"approvals": {"requirements": [
                {"name": "x", "count": 40, "approvers": [{"kind": "Group", "name": "sre"}]},
                {"name": "y", "count": 9, "approvers": [{"kind": "Group", "name": "security"}]}]}})),
            "spec.rules[r].approvals.requirements: take 49 people together; at most 48 approvals can be recorded",
        ),
        (
            with(json!({"approvals": {"denials": 3, "requirements": [{"name": "x", "approvers":
                [{"kind": "User", "name": "alice"}, {"kind": "User", "name": "bob"}, {"kind": "User", "name": "bob"}]}]}})),
            "spec.rules[r].approvals.denials: is 3, and only 2 people may deny",
        ),
        (
            with(
                json!({"approvals": {"denials": 4, "requirements": [{"name": "x", "approvers": [{"kind": "User", "name": "alice"}]}]},
                "freezeWindows": [{"name": "w", "start": "0 0 * * *", "durationSeconds": 60, "mayPass":
                    [{"kind": "User", "name": "bob"}, {"kind": "User", "name": "alice"}]}]}),
            ),
            "spec.rules[r].approvals.denials: is 4, and only 2 people may deny",
        ),
        (with(json!({"unless": {}})), "spec.rules[r].unless: is empty"),
        (
            with(json!({"unless": {"requestedBy": ["*"]}})),
            "spec.rules[r].unless.requestedBy: is the requester's own claim",
        ),
        (json!({"rules": [rule("r", json!({"requestedBy": ["*"]}), "Allow")]}), "spec.rules[r].when.requestedBy"),
        (with(json!({"pendingTimeoutSeconds": i64::MAX})), "spec.rules[r].pendingTimeoutSeconds: must be from 1 to"),
        (with(json!({"releaseTimeoutSeconds": 0})), "spec.rules[r].releaseTimeoutSeconds: must be from 1 to"),
        (
            with(json!({"constraints": {"maxRuntimeSeconds": 31_536_001}})),
            "spec.rules[r].constraints.maxRuntimeSeconds: is 31536001; must be from 1 to 31536000 (a year)",
        ),
        (with(json!({"constraints": {"maxRuntimeSeconds": 0}})), "constraints.maxRuntimeSeconds: is 0; must be from 1"),
        (with(json!({"constraints": {"maxRetries": -1}})), "constraints.maxRetries: is -1; must be from 0 to 1000"),
        (
            with(json!({"constraints": {"maxParallelism": 0}})),
            "constraints.maxParallelism: is 0; must be from 1 to 100000",
        ),
        (
            with(json!({"constraints": {"maxMemory": "0Gi"}})),
            "spec.rules[r].constraints.maxMemory: is 0Gi; must be more than 0",
        ),
        (
            with(json!({"constraints": {"limits": {"lines": -1}}})),
            "constraints.limits.lines: is -1; must be from 0 to 9007199254740991",
        ),
        (
            json!({"rules": [{"name": "r", "decision": "Allow", "onDenied": "Hold"}]}),
            "spec.rules[r].onDenied: belongs to decision RequireApproval or Deny",
        ),
        (
            json!({"rules": [{"name": "r", "decision": "Deny", "requireImmutableInputs": true}]}),
            "spec.rules[r].requireImmutableInputs: belongs to decision Allow or RequireApproval",
        ),
        (
            json!({"rules": [{"name": "r", "decision": "Deny", "requireImageDigests": true}]}),
            "spec.rules[r].requireImageDigests: belongs to decision Allow or RequireApproval",
        ),
        (with(json!({"onDenied": "Suspend"})), "spec.rules[0].onDenied"),
        (with(json!({"requireImageDigests": "yes"})), "spec.rules[0].requireImageDigests"),
        (with(json!({"colour": "blue"})), "spec.rules[0]"),
        (
            with(json!({"when": {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}})),
            "spec.rules[r].when.namespaceSelector.matchExpressions[0].values",
        ),
        (
            json!({"match": {"namespaceSelector": {"matchLabels": {"a b": "c"}}}, "rules": [rule("r", json!({}), "Deny")]}),
            "\"a b\" is not a label key",
        ),
    ] {
        let found = error(spec);
        assert!(found.contains(expected), "expected {expected:?} in {found:?}");
    }
}
