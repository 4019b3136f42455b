//! What holds for all policies and requests: more rules never mean less, and order never matters.

use super::*;
use proptest::prelude::*;

fn tags() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set(prop::sample::select(vec!["a", "b", "c", "d"]), 0..4)
        .prop_map(|set| set.into_iter().map(str::to_string).collect())
}

/// What a rule demands beside its terms, as far as it fits the decision.
#[derive(Clone, Debug)]
struct Demands {
    inputs: bool,
    images: bool,
    on_denied: Option<&'static str>,
    comment: bool,
    exclude: Vec<&'static str>,
    not_before: Option<i64>,
    cpu: Option<&'static str>,
    retries: Option<i32>,
    /// An expression, in `when`, in `unless`, or nowhere.
    expression: Option<(bool, &'static str)>,
}

/// One that holds, one that does not, one that says something of the work, one that fails.
const EXPRESSIONS: [&str; 4] = [
    "namespaceObject.metadata.name == \"payments\"",
    "request.userInfo.username == \"mallory\"",
    "object.spec.parallelism > 1",
    "object.spec.missing == 1",
];

fn arbitrary_demands() -> impl Strategy<Value = Demands> {
    let on_denied = prop::option::of(prop::sample::select(vec!["Delete", "Hold"]));
    let exclude = prop::sample::subsequence(vec!["JobCreator", "PolicyEditor"], 0..=2);
    let cpu = prop::option::of(prop::sample::select(vec!["500m", "1", "1000m", "2"]));
    let expression = prop::option::of((any::<bool>(), prop::sample::select(EXPRESSIONS.to_vec())));
    let bounds = (prop::option::of(1..5000i64), cpu, prop::option::of(0..5i32), expression);
    (any::<(bool, bool, bool)>(), on_denied, exclude, bounds).prop_map(
        |((inputs, images, comment), on_denied, exclude, (not_before, cpu, retries, expression))| Demands {
            inputs,
            images,
            on_denied,
            comment,
            exclude,
            not_before,
            cpu,
            retries,
            expression,
        },
    )
}

fn demanding(mut rule: Value, demands: Demands) -> Value {
    if rule["decision"] != "Deny" {
        rule["requireImmutableInputs"] = json!(demands.inputs);
        rule["requireImageDigests"] = json!(demands.images);
        if let Some(seconds) = demands.not_before {
            rule["notBeforeSeconds"] = json!(seconds);
        }
    }
    if let Some(on_denied) = demands.on_denied.filter(|_| rule["decision"] != "Allow") {
        rule["onDenied"] = json!(on_denied);
    }
    if rule["decision"] == "RequireApproval" {
        rule["approvals"]["requireComment"] = json!(demands.comment);
        rule["approvals"]["exclude"] = json!(demands.exclude);
    }
    if let Some(cpu) = demands.cpu {
        rule["constraints"]["maxCpu"] = json!(cpu);
    }
    if let Some(retries) = demands.retries {
        rule["constraints"]["maxRetries"] = json!(retries);
    }
    if let Some((unless, text)) = demands.expression {
        rule[if unless { "unless" } else { "when" }]["expression"] = json!(text);
    }
    rule
}

fn arbitrary_rule() -> impl Strategy<Value = Value> {
    (arbitrary_terms(), arbitrary_demands()).prop_map(|(rule, demands)| demanding(rule, demands))
}

fn arbitrary_terms() -> impl Strategy<Value = Value> {
    let decision = prop::sample::select(vec!["Allow", "RequireApproval", "Deny"]);
    let numbers = (1..4i32, 1..4i32, 1..5000i64, 1..5000i64, prop::option::of(1..5000i64));
    (decision, tags(), tags(), tags(), any::<bool>(), prop::sample::select(vec!["sre", "security"]), numbers).prop_map(
        |(decision, when, any_of, unless, own, group, (count, denials, pending, release, runtime))| {
            let mut rule = json!({"name": "x", "decision": decision, "when": {"riskTags": when, "anyRiskTags": any_of},
                "pendingTimeoutSeconds": pending, "releaseTimeoutSeconds": release});
            if !unless.is_empty() {
                rule["unless"] = json!({"riskTags": unless});
            }
            if let Some(runtime) = runtime {
                rule["constraints"] = json!({"maxRuntimeSeconds": runtime, "limits": {"n": runtime}});
            }
            if decision == "RequireApproval" {
                rule["approvals"] = approval(count, group);
                rule["approvals"]["denials"] = json!(denials);
                rule["approvals"]["selfApproval"] = json!(if own { "Allow" } else { "Forbid" });
            }
            rule
        },
    )
}

fn arbitrary_policy() -> impl Strategy<Value = Value> {
    let env = prop::option::of(prop::sample::select(vec!["prod", "staging"]));
    let classifier = prop::option::of(prop::sample::select(vec!["a", "b"]));
    (prop::collection::vec(arbitrary_rule(), 1..5), env, classifier).prop_map(|(mut rules, env, classifier)| {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule["name"] = json!(format!("r{i}"));
        }
        let mut spec = json!({"rules": rules});
        if let Some(tag) = classifier {
            let when = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
            spec["classifiers"] = json!([{"tag": tag, "when": when}]);
        }
        if let Some(env) = env {
            spec["match"] = json!({"namespaceSelector": {"matchLabels": {"env": env}}});
        }
        spec
    })
}

fn arbitrary_request() -> impl Strategy<Value = Asked> {
    let owners = prop::sample::select(vec![None, Some("p0".to_string()), Some("p1".to_string())]);
    let derived = prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), owners), 0..3);
    (tags(), derived).prop_map(|(declared, derived)| {
        let derived = derived
            .into_iter()
            .map(|(tag, policy)| DerivedTag { tag: tag.into(), policy, detail: String::new(), advisory: false })
            .collect();
        Asked { declared, derived, ..Asked::with_tags(&[]) }
    })
}

/// Whether `after` is at least as strict as `before`.
fn at_least(before: &Outcome, after: &Outcome) -> bool {
    let tighter = |a: Option<i64>, b: Option<i64>| a.is_none_or(|a| b.is_some_and(|b| b <= a));
    let bounds = tighter(before.constraints.max_runtime_seconds, after.constraints.max_runtime_seconds)
        && before.constraints.max_cpu.iter().all(|a| after.constraints.max_cpu.as_ref().is_some_and(|b| b <= a))
        && before.constraints.max_retries.is_none_or(|a| after.constraints.max_retries.is_some_and(|b| b <= a))
        && before.constraints.limits.iter().all(|(k, v)| after.constraints.limits.get(k).is_some_and(|w| w <= v));
    let quorum = || {
        before
            .requirements
            .iter()
            .all(|r| after.requirements.iter().any(|s| s.approvers == r.approvers && s.count >= r.count))
            && after.denials <= before.denials
            && after.self_approval <= before.self_approval
            && after.exclude_creator >= before.exclude_creator
            && after.exclude_editors.is_superset(&before.exclude_editors)
            && after.require_comment >= before.require_comment
            && after.pending_timeout_seconds <= before.pending_timeout_seconds
            && after.release_timeout_seconds <= before.release_timeout_seconds
    };
    let demands = before.require_immutable_inputs <= after.require_immutable_inputs
        && before.require_image_digests <= after.require_image_digests
        && before.on_denied <= after.on_denied
        && before.not_before_seconds <= after.not_before_seconds;
    let doubts = before.doubts.iter().all(|doubt| after.doubts.contains(doubt));
    match (before.decision, after.decision) {
        (None, _) => true,
        (Some(Decision::RequireApproval), Some(Decision::RequireApproval)) => bounds && demands && doubts && quorum(),
        (before, after) => after >= before && bounds && demands && doubts,
    }
}

fn named(policies: &[Value]) -> PolicySet {
    let named: Vec<_> = policies.iter().enumerate().map(|(i, spec)| (format!("p{i}"), spec.clone())).collect();
    let borrowed: Vec<_> = named.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect();
    set(&borrowed)
}

proptest! {
    #[test]
    fn another_policy_never_weakens(asked in arbitrary_request(), mut policies in prop::collection::vec(arbitrary_policy(), 0..4), more in arbitrary_policy()) {
        let before = asked.of(&named(&policies));
        policies.push(more);
        prop_assert!(at_least(&before, &asked.of(&named(&policies))));
    }

    #[test]
    fn another_rule_never_weakens(asked in arbitrary_request(), mut policies in prop::collection::vec(arbitrary_policy(), 1..4), mut more in arbitrary_rule()) {
        let before = asked.of(&named(&policies));
        more["name"] = json!("another");
        policies[0]["rules"].as_array_mut().unwrap().push(more);
        prop_assert!(at_least(&before, &asked.of(&named(&policies))));
    }

    #[test]
    fn another_declared_tag_never_weakens(mut asked in arbitrary_request(), policies in prop::collection::vec(arbitrary_policy(), 0..4), tag in "[a-e]") {
        let before = asked.of(&named(&policies));
        asked.declared.push(tag);
        prop_assert!(at_least(&before, &asked.of(&named(&policies))));
    }

    #[test]
    fn order_never_matters(asked in arbitrary_request(), mut policies in prop::collection::vec(arbitrary_policy(), 0..4)) {
        let mut named: Vec<_> = policies.drain(..).enumerate().map(|(i, spec)| (format!("p{i}"), spec)).collect();
        let of = |named: &[(String, Value)]| {
            asked.of(&set(&named.iter().map(|(n, s)| (n.as_str(), s.clone())).collect::<Vec<_>>())).snapshot()
        };
        let before = of(&named);
        named.reverse();
        for (_, spec) in &mut named {
            spec["rules"].as_array_mut().unwrap().reverse();
        }
        prop_assert_eq!(before, of(&named));
    }

    #[test]
    fn compiling_and_evaluating_is_total(text in "\\PC{0,200}", asked in arbitrary_request()) {
        let value: Value = serde_json::from_str(&text).unwrap_or(json!({"rules": [{"name": text}]}));
        let _ = asked.of(&set(&[("p", value)]));
    }
}
