//! Policies: compiled, and what they say of a request.

use crate::cost::within;
use crate::limits::{POLICY, config};
use crate::spoil::{spoilt, text};
use crate::world::{self, Kind, now, tell};
use countersign::api::Requester;
use countersign::api::policy::Decision;
use countersign::lifecycle::{plan, plan_gate, plan_policy};
use countersign::policy::{DerivedTag, Facts, PolicySet, compile, evaluate, explain};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is asked of them.
struct Asked {
    claims: Value,
    object: Value,
    tags: Vec<String>,
    derived: Vec<DerivedTag>,
    requester: Requester,
    labels: BTreeMap<String, String>,
}

impl Asked {
    fn new() -> Self {
        let derived = DerivedTag { tag: "secrets".into(), policy: None, detail: String::new(), advisory: false };
        Self {
            claims: world::request()["spec"].clone(),
            object: world::job(),
            tags: vec!["prod".into(), "write".into()],
            derived: vec![derived],
            requester: Requester { username: "workflow".into(), ..Requester::default() },
            labels: BTreeMap::from([("env".into(), "prod".into())]),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            requested_by: "workflow.triage",
            declared_tags: &self.tags,
            claims: &self.claims,
            derived_tags: &self.derived,
            requester: &self.requester,
            namespace: "payments",
            namespace_labels: &self.labels,
            object: Some(&self.object),
            asked: now(),
        }
    }
}

fn set(spec: &Value) -> PolicySet {
    let mut set = PolicySet::default();
    match compile("production", spec, Some("carol")) {
        Ok(policy) => set.ready.push(Arc::new(policy)),
        Err(broken) => set.broken.push(Arc::from(broken)),
    }
    set
}

/// What it says is told in bounds, and what is broken allows nothing. Whether it compiles.
fn judged(text: &[u8], asked: &Asked) -> Option<bool> {
    within(&POLICY, text.len(), || {
        let spec: Value = serde_json::from_slice(text).ok()?;
        let set = set(&spec);
        let outcome = evaluate(&set, &asked.facts());
        explain(&set, &asked.facts());
        let allows =
            outcome.decision == Some(Decision::Allow) && outcome.doubts.is_empty() && outcome.failures.is_empty();
        if let Some(broken) = set.broken.first() {
            assert!(!allows, "{}", broken.error);
        }
        Some(set.broken.is_empty())
    })
}

/// The operator itself, with that policy beside what it knows.
fn planned(text: &[u8]) {
    let (index, key) = (world::index(), world::key());
    within(&POLICY, text.len(), || {
        let Ok(spec) = serde_json::from_slice::<Value>(text) else { return };
        let mut policy = world::policy();
        (policy["spec"], policy["metadata"]["resourceVersion"]) = (spec, json!("9"));
        tell(&index, Kind::Policy, &serde_json::from_value(policy).expect("an object"));
        for name in ["request", "request-for-pod"] {
            let seen = index.observe("payments", name).expect("it is known");
            plan(&seen.observed(&key, true, None, now()));
        }
        let held = index.observe_held("payments", countersign::api::TargetKind::Job, "job").expect("it is known");
        plan_gate(&held.held(&key, true, None, now()));
        let status = plan_policy(&index.policy("production").expect("it is known"), now()).expect("it is another");
        let said = serde_json::to_string(&status).expect("JSON");
        assert!(said.len() <= 32_000, "a status of {} bytes", said.len());
    });
}

#[test]
fn a_spoilt_policy_allows_nothing_where_it_does_not_compile_and_costs_little() {
    let asked = Asked::new();
    let read = Cell::new([0; 3]);
    let count = |at: usize| {
        let mut counts = read.get();
        counts[at] += 1;
        read.set(counts);
    };
    assert_eq!(judged(&text(&world::policy_spec()), &asked), Some(true));
    TestRunner::new(config(1_000))
        .run(&spoilt(vec![world::policy_spec()]), |text| {
            match judged(&text, &asked) {
                None => count(0),
                Some(false) => count(1),
                Some(true) => count(2),
            }
            planned(&text);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let [noise, broken, ready] = read.get();
    assert!(noise < broken + ready && ready > 50, "{noise} no JSON, {broken} broken, {ready} in force");
}

#[test]
fn whatever_is_asked_a_policy_says_something_within_its_limit() {
    let set = set(&world::policy_spec());
    let parts =
        (spoilt(vec![world::job(), world::pod()]), spoilt(vec![world::request()["spec"].clone()]), any::<bool>());
    TestRunner::new(config(500))
        .run(&parts, |(object, claims, there)| {
            let (Ok(object), Ok(claims)) = (serde_json::from_slice(&object), serde_json::from_slice(&claims)) else {
                return Ok(());
            };
            let tags: Vec<Value> =
                serde_json::from_value::<Vec<Value>>(Value::clone(&claims)["riskTags"].clone()).unwrap_or_default();
            let tags = tags.iter().filter_map(|tag| tag.as_str().map(String::from)).collect();
            let asked = Asked { object, claims, tags, ..Asked::new() };
            let size = asked.object.to_string().len() + asked.claims.to_string().len();
            let facts = Facts { object: there.then_some(&asked.object), ..asked.facts() };
            let outcome = within(&POLICY, size, || {
                explain(&set, &facts);
                evaluate(&set, &facts)
            });
            prop_assert!(outcome.decision != Some(Decision::Allow), "no rule allows anything");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
