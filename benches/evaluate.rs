//! How long it takes to evaluate one request, by the number of rules that apply to its namespace.
//!
//! `cargo bench --bench evaluate`

use countersign::api::Requester;
use countersign::policy::{DerivedTag, Facts, PolicySet, classify, compile, evaluate};
use countersign::risk::{Rights, Traits, Work};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

/// Rules in one policy.
const RULES: usize = 10;

/// What a platform team has: rules by tags, by people, by claims, by namespace; some with exceptions. One in a hundred
/// matches what is asked.
fn rule(number: usize) -> Value {
    let sre = json!({"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]});
    let when = match number % 100 {
        0 => json!({"riskTags": ["prod", "write"]}),
        n if n % 5 == 0 => json!({"riskTags": ["prod", format!("tag-{n}")]}),
        n if n % 5 == 1 => json!({"anyRiskTags": [format!("tag-{n}"), "schema", "drop"]}),
        n if n % 5 == 2 => json!({"requestedBy": [format!("workflow.team-{n}.*")]}),
        n if n % 5 == 3 => {
            json!({"requesters": [{"kind": "ServiceAccount", "namespace": "ci", "name": format!("bot-{n}")}]})
        }
        n => json!({"namespaceSelector": {"matchLabels": {"team": format!("team-{n}")}}}),
    };
    json!({
        "name": format!("rule-{number}"), "decision": "RequireApproval", "reason": "a second pair of eyes", "when": when,
        "unless": {"namespaceSelector": {"matchLabels": {"drill": "true"}}},
        "approvals": sre, "constraints": {"maxRuntimeSeconds": 900 + number, "limits": {"maxLinesChanged": 500}},
    })
}

fn policies(rules: usize) -> PolicySet {
    let all: Vec<Value> = (0..rules).map(rule).collect();
    let compiled = all.chunks(RULES).enumerate().map(|(number, rules)| {
        let classifiers = json!([{"tag": "prod", "when": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}]);
        let spec = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}, "classifiers": classifiers, "rules": rules});
        Arc::new(compile(&format!("policy-{number:04}"), &spec, None).expect("the benchmark's own policies compile"))
    });
    PolicySet { ready: compiled.collect(), broken: vec![] }
}

fn bench(c: &mut Criterion) {
    let requester = Requester {
        username: "system:serviceaccount:payments:triage".into(),
        uid: None,
        groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
    };
    let labels = BTreeMap::from([("env".to_string(), "prod".to_string()), ("team".into(), "payments".into())]);
    let traits = Traits::of(
        &json!({"serviceAccountName": "triage", "containers": [{"name": "main", "image": "registry.example/worker:1",
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}]}),
        &Value::Null,
    );
    let rights =
        Rights { writes: Some("patch deployments.apps, by Role w through RoleBinding w".into()), ..Rights::default() };
    let work = Work { traits: &traits, rights: &rights, open_egress: true };
    let declared = ["prod", "write"].map(String::from);
    let mut group = c.benchmark_group("one request");
    for rules in [10, 100, 1_000, 10_000] {
        let policies = policies(rules);
        let derived: Vec<DerivedTag> = classify(&policies, Some(&work), &labels);
        let facts = Facts {
            requested_by: "workflow.incident-triage",
            declared_tags: &declared,
            claims: &Value::Null,
            derived_tags: &derived,
            requester: &requester,
            namespace: "payments",
            namespace_labels: &labels,
            object: None,
            asked: Timestamp::UNIX_EPOCH,
        };
        group.throughput(Throughput::Elements(rules as u64));
        group.bench_with_input(BenchmarkId::new("evaluate, rules", rules), &facts, |b, facts| {
            b.iter(|| black_box(evaluate(&policies, facts)));
        });
        group.bench_with_input(BenchmarkId::new("classify and evaluate, rules", rules), &facts, |b, facts| {
            b.iter(|| {
                let derived = classify(&policies, Some(&work), &labels);
                black_box(evaluate(&policies, &Facts { derived_tags: &derived, ..*facts }))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
