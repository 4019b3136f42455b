//! Expressions that fail: always on the safe side, and only where it matters.

use super::*;
use crate::binding::Snapshot;
use crate::policy::compare;
use proptest::prelude::*;

const TRUE: &str = "request.namespace == \"payments\"";
const FALSE: &str = "request.namespace == \"elsewhere\"";
const FAILS: &str = "namespaceObject.metadata.labels.missing == \"x\"";

fn of(policies: &[(&str, Value)]) -> Outcome {
    Asked::with_tags(&[]).of(&set(policies))
}

/// A policy of one rule, called as its policy is.
fn single<'n>(name: &'n str, decision: &str, change: impl Fn(&mut Value)) -> (&'n str, Value) {
    let mut rule = rule(name, json!({}), decision);
    change(&mut rule);
    (name, json!({"rules": [rule]}))
}

fn hash(outcome: &Outcome) -> String {
    Snapshot::of(outcome.snapshot()).unwrap().hash
}

#[test]
fn true_false_and_failing_in_when_and_unless() {
    let values = [TRUE, FALSE, FAILS];
    // By `when`, then by `unless`: m matches, - does not, ? might.
    let table = [["-", "m", "?"], ["-", "-", "-"], ["-", "?", "?"]];
    for (decision, counts) in [("Allow", false), ("RequireApproval", true), ("Deny", false)] {
        for (when, row) in values.iter().zip(table) {
            for (unless, expected) in values.iter().zip(row) {
                let outcome = of(&[single("r", decision, |r| {
                    r["when"] = json!({"expression": when});
                    r["unless"] = json!({"expression": unless});
                })]);
                let matched = expected == "m" || (expected == "?" && counts);
                let found = (outcome.matches.len(), outcome.failures.len(), outcome.doubts.len());
                let doubted = expected == "?" && decision == "Deny";
                let wanted = (usize::from(matched), usize::from(expected == "?"), usize::from(doubted));
                assert_eq!(found, wanted, "{decision}, when {when}, unless {unless}");
                assert_eq!(outcome.decision.is_some(), matched, "{decision}, when {when}, unless {unless}");
            }
        }
    }
}

#[test]
fn an_allow_that_fails_keeps_its_bounds() {
    let open = || single("open", "Allow", |r| r["pendingTimeoutSeconds"] = json!(600));
    let held = || single("held", "RequireApproval", |_| ());
    for (part, text) in [("when", FAILS), ("unless", FAILS), ("when", TRUE)] {
        let bounded = single("bounded", "Allow", |r| {
            r[part] = json!({"expression": text});
            r["constraints"] = json!({"maxRuntimeSeconds": 3600});
            r["requireImageDigests"] = json!(true);
            r["requireImmutableInputs"] = json!(true);
            r["notBeforeSeconds"] = json!(300);
            r["pendingTimeoutSeconds"] = json!(60);
            r["freezeWindows"] = json!([{"name": "w", "start": "0 18 * * 5", "durationSeconds": 3600}]);
        });
        for (decision, beside) in [(Decision::Allow, open()), (Decision::RequireApproval, held())] {
            let outcome = of(&[beside, bounded.clone()]);
            assert_eq!(outcome.decision, Some(decision), "{part} {text}");
            assert_eq!(outcome.constraints.max_runtime_seconds, Some(3600), "{part} {text}");
            assert!(outcome.require_image_digests && outcome.require_immutable_inputs, "{part} {text}");
            assert_eq!((outcome.not_before_seconds, outcome.windows.len()), (Some(300), 1), "{part} {text}");
            let shortest = if decision == Decision::Allow { 60 } else { 3600 };
            assert_eq!(outcome.pending_timeout_seconds, shortest, "{part} {text}");
        }
        let alone = of(&[bounded]);
        assert_eq!(alone.decision.is_some(), text == TRUE, "by itself it allows nothing");
    }
    let false_ = single("bounded", "Allow", |r| {
        r["when"] = json!({"expression": FALSE});
        r["constraints"] = json!({"maxRuntimeSeconds": 3600});
    });
    assert_eq!(of(&[open(), false_]).constraints.max_runtime_seconds, None, "what is false bounds nothing");
}

#[test]
fn a_failure_that_changes_nothing_is_not_in_the_snapshot() {
    let held = || single("held", "RequireApproval", |_| ());
    let allow = |name: &'static str, part: &'static str, text: &'static str| {
        single(name, "Allow", move |r| r[part] = json!({"expression": text}))
    };
    let alone = hash(&of(&[held()]));
    assert_eq!(hash(&of(&[held(), allow("other", "when", FALSE)])), alone);
    assert_eq!(hash(&of(&[held(), allow("other", "when", FAILS)])), alone, "an Allow that fails bounds nothing");
    let exempt = single("exempt", "RequireApproval", |r| {
        r["when"] = json!({"expression": FAILS});
        r["unless"] = json!({"expression": TRUE});
    });
    assert_eq!(hash(&of(&[held(), exempt])), alone);

    let bounded = |text: &'static str| {
        single("bounded", "Allow", move |r| {
            r["when"] = json!({"expression": text});
            r["constraints"] = json!({"maxRuntimeSeconds": 60});
        })
    };
    let failing = of(&[held(), bounded(FAILS)]);
    assert_ne!(hash(&failing), alone);
    assert_eq!(failing.snapshot()["failures"], json!([{"policy": "bounded", "rule": "bounded"}]));
    let another = of(&[held(), bounded("object.spec.missing == 1")]);
    assert_ne!(failing.failures[0].error, another.failures[0].error);
    assert_eq!(hash(&failing), hash(&another), "how it fails is no part of the outcome");
}

#[test]
fn the_expressions_of_a_policy_share_one_budget_by_name() {
    let costly = "object.spec.numbers.all(n, object.spec.numbers.all(m, n + m >= 0))";
    let of = |text: &str, names: &mut dyn Iterator<Item = i32>| {
        let one = |i: i32| {
            let mut rule = rule(&format!("r{i:02}"), json!({"expression": text}), "RequireApproval");
            rule["unless"] = json!({"expression": text});
            rule
        };
        json!({"rules": names.map(one).collect::<Vec<_>>()})
    };
    let object = json!({"kind": "Job", "spec": {"numbers": (0..2_000).collect::<Vec<i32>>()}});
    let asked = Asked::with_tags(&[]);
    let judged = |spec: Value| {
        let policies = set(&[("costly", spec), ("other", of("object.kind != 'Job'", &mut (0..1)))]);
        asked.with(Some(&object), |facts| evaluate(&policies, facts))
    };
    let outcome = judged(of(costly, &mut (0..64)));
    let failed = |outcome: &Outcome| {
        let of = |f: &Failure| (f.rule.policy.to_string(), f.rule.rule.name.clone(), f.error.clone());
        outcome.failures.iter().map(of).collect::<Vec<_>>()
    };
    let found = failed(&outcome);
    let alone = "too costly for this object: it takes too many steps";
    let together = "too costly for this object: the expressions of its policy together take too many steps";
    assert_eq!(found.len(), 64);
    for (i, (policy, name, error)) in found.iter().enumerate() {
        let expected = if i < 5 { alone } else { together };
        assert_eq!((policy.as_str(), name, error.as_str()), ("costly", &format!("r{i:02}"), expected));
    }
    assert_eq!(failed(&judged(of(costly, &mut (0..64).rev()))), found, "the order of rules says nothing");
}

/// A rule with an expression in each part, perhaps: how it is, and with some of them failing.
fn arbitrary_pair() -> impl Strategy<Value = (Value, Value)> {
    let decision = prop::sample::select(vec!["Allow", "RequireApproval", "Deny"]);
    let part = || (prop::option::of(prop::sample::select(vec![TRUE, FALSE, FAILS])), any::<bool>());
    let numbers = (prop::option::of(1..99i64), prop::option::of(1..99i64), any::<bool>(), any::<bool>());
    (decision, part(), part(), numbers).prop_map(|(decision, when, unless, (runtime, wait, digests, window))| {
        let mut before = rule("r", json!({}), decision);
        if let Some(runtime) = runtime {
            before["constraints"] = json!({"maxRuntimeSeconds": runtime, "limits": {"n": runtime}});
            before["pendingTimeoutSeconds"] = json!(runtime);
        }
        if let Some(wait) = wait.filter(|_| decision != "Deny") {
            before["notBeforeSeconds"] = json!(wait);
            before["requireImageDigests"] = json!(digests);
            if window {
                before["freezeWindows"] = json!([{"name": "w", "start": "0 18 * * 5", "durationSeconds": 60 * wait}]);
            }
        }
        if decision != "Allow" && digests {
            before["onDenied"] = json!("Hold");
        }
        let mut after = before.clone();
        for (part, (text, fails)) in [("when", when), ("unless", unless)] {
            if let Some(text) = text {
                before[part] = json!({"expression": text});
                after[part] = json!({"expression": if fails { FAILS } else { text }});
            }
        }
        (before, after)
    })
}

proptest! {
    #[test]
    fn failing_never_weakens(pairs in prop::collection::vec(arbitrary_pair(), 1..6)) {
        let of = |of: fn(&(Value, Value)) -> &Value| {
            let mut set = PolicySet::default();
            for (i, pair) in pairs.iter().enumerate() {
                set.ready.push(Arc::new(compile(&format!("p{i}"), &json!({"rules": [of(pair)]}), None).unwrap()));
            }
            Asked::with_tags(&[]).of(&set)
        };
        let (before, after) = (of(|pair| &pair.0), of(|pair| &pair.1));
        let nothing_runs = after.decision.is_none() || !after.doubts.is_empty();
        for difference in compare(&before, &after) {
            let held = nothing_runs && difference.what == "decision";
            prop_assert!(!difference.weaker || held, "{:?}", difference);
        }
        prop_assert!(after.not_before_seconds >= before.not_before_seconds);
        prop_assert!(after.windows.len() >= before.windows.len());
    }
}
