//! How long admission takes for a verdict, and evaluation for an outcome, by the number of policies.
//!
//! `cargo bench --bench admission` prints the distribution: a webhook holds up its caller, so the slowest calls matter
//! more than the mean. Without `--bench` (`cargo test --bench admission`) it only shows that everything runs.

use anyhow::{Result, ensure};
use countersign::admission;
use countersign::api::Requester;
use countersign::binding::Keyring;
use countersign::lifecycle::Surroundings;
use countersign::policy::{DerivedTag, Facts, PolicySet, compile, evaluate};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Policies, and rules in each.
const SIZES: [(usize, usize); 3] = [(1, 10), (100, 10), (1_000, 10)];
const WARM_UP: usize = 2_000;
const SAMPLES: usize = 20_000;

/// What admission answers from.
struct Admission {
    key: Keyring,
    policies: Arc<PolicySet>,
    labels: Arc<BTreeMap<String, String>>,
}

impl Admission {
    /// The one place that knows how admission is asked.
    fn respond(&self, body: &[u8]) -> Result<Value> {
        let now = Timestamp::UNIX_EPOCH;
        let context = admission::Context { key: &self.key, view: self, authorized: &[], now };
        Ok(admission::respond(body, &context)?)
    }
}

impl admission::GateView for Admission {
    fn policies(&self) -> Option<Arc<PolicySet>> {
        Some(self.policies.clone())
    }

    fn namespace(&self, _name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        Some(self.labels.clone())
    }

    fn surroundings(&self, _: &str, _: &str, _: &BTreeMap<String, String>) -> Surroundings {
        Surroundings::default()
    }

    fn speaks_for(&self, _namespace: &str, _job: &str) -> Option<(String, String)> {
        None
    }
}

fn main() -> Result<()> {
    let (warm_up, samples) = if std::env::args().any(|arg| arg == "--bench") { (WARM_UP, SAMPLES) } else { (10, 100) };
    println!("{samples} samples each, in µs");
    println!(
        "{:<40} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}  answer",
        "what", "policies", "p50", "p90", "p99", "p99.9", "max"
    );
    for (count, rules) in SIZES {
        let policies = policies(count, rules)?;
        for (what, labels) in
            [("evaluate, one policy applies", labels("team-0")), ("evaluate, all apply", labels("all"))]
        {
            let asked = Asked { labels, ..Asked::default() };
            let samples = if what.ends_with("all apply") && count > 100 { samples.div_ceil(100) } else { samples };
            let (times, outcome) = measure(warm_up.min(samples), samples, || Ok(evaluate(&policies, &asked.facts())))?;
            print(what, count, times, &format!("{:?} by {} rules", outcome.decision, outcome.matches.len()));
        }
        let (key, policies) = (Keyring::from_seed(&[7; 32])?, Arc::new(policies));
        let mut admission = Admission { key, policies, labels: Arc::new(labels("team-0")) };
        for (what, body) in reviews() {
            let (times, answer) = measure(warm_up, samples, || admission.respond(&body))?;
            print(what, count, times, &told(&answer));
        }
        admission.labels = Arc::new(labels("all"));
        let [_, (_, job)] = reviews();
        // Every policy of a thousand for one namespace is nobody's cluster: fewer samples show the order of it.
        let samples = if count > 100 { samples.div_ceil(100) } else { samples };
        let (times, answer) = measure(warm_up.min(samples), samples, || admission.respond(&job))?;
        print("respond, Job created, all apply", count, times, &told(&answer));
    }
    Ok(())
}

/// Every policy applies to the namespace of one team, and to one where all do. One rule in each matches what is asked.
fn policies(count: usize, rules: usize) -> Result<PolicySet> {
    let mut set = PolicySet::default();
    for number in 0..count {
        let team = json!([format!("team-{number}"), "all"]);
        let selector = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": team}]});
        let spec = json!({
            "match": {"namespaceSelector": selector},
            "rules": (0..rules).map(rule).collect::<Vec<_>>(),
        });
        let compiled = compile(&format!("policy-{number:04}"), &spec, None);
        ensure!(compiled.is_ok(), "a policy of the benchmark does not compile: {:?}", compiled.err());
        set.ready.extend(compiled.into_iter().map(Arc::new));
    }
    Ok(set)
}

fn rule(number: usize) -> Value {
    let tags = if number == 0 { json!(["prod", "write"]) } else { json!(["prod", format!("never-{number}")]) };
    json!({
        "name": format!("rule-{number}"), "decision": "RequireApproval", "reason": "prod write detected",
        "when": {"riskTags": tags, "requestedBy": ["workflow.*"]},
        "unless": {"namespaceSelector": {"matchLabels": {"drill": "true"}}},
        "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]},
        "constraints": {"maxRuntimeSeconds": 900},
    })
}

fn labels(team: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("team".into(), team.into()), ("env".into(), "prod".into())])
}

/// What is known of the request that is evaluated.
struct Asked {
    declared: Vec<String>,
    derived: Vec<DerivedTag>,
    requester: Requester,
    labels: BTreeMap<String, String>,
}

impl Default for Asked {
    fn default() -> Self {
        let derived =
            DerivedTag { tag: "secrets".into(), policy: None, detail: "env from Secret db".into(), advisory: false };
        Self {
            declared: ["prod", "write"].map(String::from).to_vec(),
            derived: vec![derived],
            requester: Requester {
                username: "system:serviceaccount:payments:triage".into(),
                uid: None,
                groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
            },
            labels: BTreeMap::new(),
        }
    }
}

impl Asked {
    fn facts(&self) -> Facts<'_> {
        Facts {
            requested_by: "workflow.incident-triage",
            declared_tags: &self.declared,
            derived_tags: &self.derived,
            requester: &self.requester,
            namespace_labels: &self.labels,
            claims: &Value::Null,
            namespace: "payments",
            object: None,
            asked: Timestamp::UNIX_EPOCH,
        }
    }
}

/// What admission is asked, as the API server sends it.
fn reviews() -> [(&'static str, Vec<u8>); 2] {
    let request = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run-8f9a-remediate", "namespace": "payments"},
        "spec": {
            "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
            "reason": "prod write detected", "riskTags": ["prod", "write"],
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "remediate-8f9a"},
            "evidence": [{"title": "error rate", "text": "5xx 12%"}],
        },
    });
    let container = json!({"name": "main", "image": "registry.example/remediate@sha256:00", "command": ["remediate"],
        "env": [{"name": "TARGET", "value": "payments"}], "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "remediate-8f9a", "namespace": "payments", "annotations": {
            "countersign.dev/risk-tags": "prod,write", "countersign.dev/requested-by": "workflow.incident-triage"}},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    });
    [
        ("respond, ApprovalRequest created", review("countersign.dev", "v1alpha1", "approvalrequests", request)),
        ("respond, Job created", review("batch", "v1", "jobs", job)),
    ]
}

fn review(group: &str, version: &str, resource: &str, object: Value) -> Vec<u8> {
    let resource = json!({"group": group, "version": version, "resource": resource});
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": group, "version": version, "kind": object["kind"]},
            "resource": resource, "requestResource": resource, "subResource": "",
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "operation": "CREATE", "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            "userInfo": {
                "username": "system:serviceaccount:payments:triage", "uid": "4f2a",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:payments", "system:authenticated"],
            },
            "object": object, "oldObject": null,
        },
    });
    review.to_string().into_bytes()
}

/// The time of each call, and what the last one gave. Dropping what it gives is not timed.
fn measure<T>(warm_up: usize, samples: usize, mut call: impl FnMut() -> Result<T>) -> Result<(Vec<Duration>, T)> {
    let mut last = call()?;
    for _ in 0..warm_up {
        last = black_box(call()?);
    }
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let began = Instant::now();
        let given = black_box(call()?);
        times.push(began.elapsed());
        last = given;
    }
    Ok((times, last))
}

fn print(what: &str, policies: usize, mut times: Vec<Duration>, answer: &str) {
    times.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (times.len() * per_mille).div_ceil(1000).clamp(1, times.len());
        times[rank - 1].as_nanos() as f64 / 1000.0
    };
    let [p50, p90, p99, p999, max] = [500, 900, 990, 999, 1000].map(at);
    println!("{what:<40} {policies:>9} {p50:>10.3} {p90:>10.3} {p99:>10.3} {p999:>10.3} {max:>10.3}  {answer}");
}

/// A refusal takes another way than a pass, so the table says which was timed.
fn told(answer: &Value) -> String {
    match (answer["response"]["status"]["message"].as_str(), answer["response"]["warnings"][0].as_str()) {
        (Some(message), _) => format!("refused: {message}"),
        (None, Some(warning)) => warning.chars().take(60).collect(),
        (None, None) => "allowed".into(),
    }
}
