//! How long it takes to evaluate one request.
//!
//! The headline, by the number of rules that apply to the namespace, is about rules as most are: by tags, people, claims and
//! labels; one in a hundred matches, no expression, no freeze window, and one cheap classifier a policy. The variants, each of
//! 1,000 rules in 100 policies, say what the rest costs: a real Job with classifiers that look at it, expressions, and many
//! rules that match at once.
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
/// Rules of a variant.
const MANY: usize = 1_000;

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

/// One rule in ten asks an expression about the Job or the requester; one in a hundred of those holds.
fn with_expression(number: usize) -> Value {
    let mut rule = rule(number);
    if number.is_multiple_of(10) {
        let n = number / 10;
        let expression = match n % 4 {
            0 => format!(
                "object != null && object.spec.template.spec.containers.exists(c, c.image.startsWith('other-{n}/'))"
            ),
            1 => format!("request.userInfo.groups.exists(g, g == 'team-{n}') || request.namespace == 'team-{n}'"),
            2 => format!("has(object.spec.parallelism) && object.spec.parallelism > {}", if n == 2 { 1 } else { n }),
            _ => format!(
                "object.spec.template.spec.containers.all(c, has(c.securityContext)) && time.getHours('UTC') == {}",
                n % 24
            ),
        };
        rule["when"] = json!({"expression": expression});
    }
    rule
}

/// One rule in ten matches, asks people of its own, and has a freeze window.
fn matching(number: usize) -> Value {
    let mut rule = rule(number);
    if number.is_multiple_of(10) {
        let team = format!("team-{}", number % 70);
        rule["when"] = json!({"riskTags": ["prod", "write"]});
        rule["approvals"] = json!({"requirements": [
            {"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]},
            {"name": team, "approvers": [{"kind": "Group", "name": team}, {"kind": "User", "name": "alice"}]},
        ]});
        rule["freezeWindows"] = json!([{"name": "weekend", "start": format!("{} 18 * * FRI", number % 60), "durationSeconds": 219600,
            "timeZone": "Europe/Berlin", "mayPass": [{"kind": "Group", "name": "release-managers"}]}]);
    }
    rule
}

/// One cheap classifier a policy.
fn by_namespace() -> Value {
    json!([{"tag": "prod", "when": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}])
}

/// Classifiers that look at what will run.
fn by_work() -> Value {
    json!([
        {"tag": "prod", "when": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}},
        {"tag": "foreign-image", "when": {"imagesOtherThan": ["registry.example/*", "mirror.example/*"]}},
        {"tag": "reads-secrets", "when": {"usesSecrets": true}},
    ])
}

fn policies(rules: usize, rule: fn(usize) -> Value, classifiers: &Value) -> PolicySet {
    let all: Vec<Value> = (0..rules).map(rule).collect();
    let compiled = all.chunks(RULES).enumerate().map(|(number, rules)| {
        let spec = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}, "classifiers": classifiers, "rules": rules});
        Arc::new(compile(&format!("policy-{number:04}"), &spec, None).expect("the benchmark's own policies compile"))
    });
    PolicySet { ready: compiled.collect(), broken: vec![] }
}

/// A Job as it is stored.
fn job() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": format!("registry.example/{name}:1"), "command": ["sh", "-c", "migrate --all && report"],
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}, {"name": "LEVEL", "value": "info"}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}, "securityContext": {"runAsNonRoot": true},
            "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}], "terminationMessagePath": "/dev/termination-log"})
    };
    json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "remediate-8f9a", "namespace": "payments", "labels": {"app": "remediate"}, "annotations": {}},
        "spec": {"suspend": true, "parallelism": 2, "completions": 2, "backoffLimit": 6, "template": {
            "metadata": {"labels": {"job-name": "remediate-8f9a"}},
            "spec": {"serviceAccountName": "triage", "restartPolicy": "Never", "volumes": [{"name": "scripts", "configMap": {"name": "scripts"}}],
                "initContainers": [container("fetch")], "containers": [container("main"), container("report")]}}}})
}

/// What the benchmarks ask for.
struct Asked {
    requester: Requester,
    labels: BTreeMap<String, String>,
    job: Value,
    traits: Traits,
    rights: Rights,
    declared: [String; 2],
}

impl Asked {
    fn new() -> Self {
        let job = job();
        Self {
            requester: Requester {
                username: "system:serviceaccount:payments:triage".into(),
                uid: None,
                groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
            },
            labels: BTreeMap::from([("env".to_string(), "prod".to_string()), ("team".into(), "payments".into())]),
            traits: Traits::of(&job["spec"]["template"]["spec"], &job["spec"]["template"]["metadata"]["annotations"]),
            job,
            rights: Rights {
                writes: Some("patch deployments.apps, by Role w through RoleBinding w".into()),
                ..Rights::default()
            },
            declared: ["prod", "write"].map(String::from),
        }
    }

    fn work(&self) -> Work<'_> {
        Work { traits: &self.traits, rights: &self.rights, open_egress: true }
    }

    fn facts<'a>(&'a self, derived: &'a [DerivedTag], object: Option<&'a Value>) -> Facts<'a> {
        Facts {
            requested_by: "workflow.incident-triage",
            declared_tags: &self.declared,
            claims: &Value::Null,
            derived_tags: derived,
            requester: &self.requester,
            namespace: "payments",
            namespace_labels: &self.labels,
            object,
            asked: Timestamp::UNIX_EPOCH,
        }
    }
}

fn headline(c: &mut Criterion) {
    let asked = Asked::new();
    let work = asked.work();
    let mut group = c.benchmark_group("one request");
    for rules in [10, 100, 1_000, 10_000] {
        let policies = policies(rules, rule, &by_namespace());
        let derived = classify(&policies, Some(&work), &asked.labels);
        let facts = asked.facts(&derived, None);
        group.throughput(Throughput::Elements(rules as u64));
        group.bench_with_input(BenchmarkId::new("evaluate, rules", rules), &facts, |b, facts| {
            b.iter(|| black_box(evaluate(&policies, facts)));
        });
        group.bench_with_input(BenchmarkId::new("classify and evaluate, rules", rules), &facts, |b, facts| {
            b.iter(|| {
                let derived = classify(&policies, Some(&work), &asked.labels);
                black_box(evaluate(&policies, &Facts { derived_tags: &derived, ..*facts }))
            });
        });
    }
    group.finish();
}

/// Its name, what makes its rules, and how many of them match.
type Variant = (&'static str, fn(usize) -> Value, usize);

fn variants(c: &mut Criterion) {
    let asked = Asked::new();
    let work = asked.work();
    let mut group = c.benchmark_group("one request, 1000 rules");
    let variants: [Variant; 3] = [
        ("a Job and classifiers", rule, 10),
        ("100 expressions", with_expression, 1),
        ("100 rules match", matching, 100),
    ];
    for (name, rule, matches) in variants {
        let policies = policies(MANY, rule, &by_work());
        let derived = classify(&policies, Some(&work), &asked.labels);
        let facts = asked.facts(&derived, Some(&asked.job));
        let outcome = evaluate(&policies, &facts);
        assert_eq!((outcome.matches.len(), outcome.failures.len()), (matches, 0), "{name}: what is said of it");
        group.bench_function(BenchmarkId::new("evaluate", name), |b| {
            b.iter(|| black_box(evaluate(&policies, &facts)));
        });
        group.bench_function(BenchmarkId::new("classify and evaluate", name), |b| {
            b.iter(|| {
                let derived = classify(&policies, Some(&work), &asked.labels);
                black_box(evaluate(&policies, &Facts { derived_tags: &derived, ..facts }))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, headline, variants);
criterion_main!(benches);
