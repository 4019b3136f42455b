//! How long the pure parts of one decision take: `cargo bench --bench decide`.

use countersign::api::status::JobBounds;
use countersign::api::{Constraints, Requester, SelfApproval, Subject, SubjectKind};
use countersign::binding::{BoundJob, Keyring, Shown, digest, job_hash, seal, verify_seal, work_hash};
use countersign::policy::JoinedRequirement;
use countersign::review::{CountedReview, Terms, fold};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;

const UID: &str = "3f0d2a54-9f6c-4e0b-8f2e-0d1c2b3a4f5e";
const HASH: &str = "sha256:6d1f0c0c7b4be1f3e9d9c7f4a8b5a3f1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7";

fn key() -> Keyring {
    Keyring::from_seed(&[7; 32]).expect("a seed of 32 bytes")
}

fn spec() -> Value {
    let container = json!({"name": "main", "image": "registry.example/remediate:1", "command": ["remediate", "--all"],
        "env": [{"name": "LEVEL", "value": "info"}], "resources": {"limits": {"cpu": "500m"}}});
    json!({"suspend": true, "parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {
        "metadata": {"labels": {"job-name": "remediate"}},
        "spec": {"restartPolicy": "Never", "serviceAccountName": "triage", "containers": [container]}}})
}

fn review(number: usize) -> Value {
    json!({"reviewer": {"username": format!("user-{number:03}"), "groups": ["sre", "system:authenticated"]},
        "decision": "Approve", "digest": HASH, "comment": "looks right", "time": "2026-01-01T00:00:00.000000Z"})
}

fn binding(c: &mut Criterion) {
    let (key, spec) = (key(), spec());
    let requester = Requester { username: "system:serviceaccount:payments:triage".into(), ..Requester::default() };
    let ask = json!({"runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
        "reason": "prod write detected", "riskTags": ["prod", "write"], "target": {"kind": "Job", "name": "remediate"}});
    let (bounds, constraints) = (JobBounds::default(), Constraints::default());
    let shown = Shown {
        uid: UID,
        revision: 1,
        ask: &ask,
        requester: &requester,
        scope: &[],
        rights: None,
        constraints: &constraints,
        policy_snapshot: HASH,
        job: Some(BoundJob { hash: HASH, bounds: &bounds, parties: &[] }),
        inputs: &[],
        excluded: &[],
    };
    let mut entry = review(1);
    entry["seal"] = json!(seal(&key, UID, &entry).expect("an entry has a canonical form"));
    assert!(verify_seal(&key, UID, &entry));
    let mut group = c.benchmark_group("binding");
    group.bench_function("hash a Job", |b| {
        b.iter(|| work_hash(black_box(&spec)).and_then(|work| job_hash(UID, &work)).expect("it has a canonical form"));
    });
    group.bench_function("digest", |b| b.iter(|| digest(black_box(&shown)).expect("it has a canonical form")));
    group.bench_function("seal", |b| b.iter(|| seal(&key, UID, black_box(&entry)).expect("it has a canonical form")));
    group.bench_function("verify a seal", |b| b.iter(|| verify_seal(&key, UID, black_box(&entry))));
    group.finish();
}

fn counting(c: &mut Criterion) {
    let subject = |name: &str| Subject { kind: SubjectKind::Group, name: name.into(), namespace: None };
    let needs = |name: &str| JoinedRequirement { name: name.into(), count: 2, approvers: vec![subject(name)] };
    let requirements = [needs("sre"), needs("security")];
    let terms = Terms {
        requirements: &requirements,
        passers: &[],
        denials: 1,
        self_approval: SelfApproval::Forbid,
        requester: const { &Requester::NOBODY },
        parties: &[],
        excluded: &[],
        require_comment: false,
        digest: HASH,
    };
    let mut group = c.benchmark_group("reviews");
    for count in [1, 10, 100] {
        let reviews: Vec<CountedReview> = (0..count)
            .map(|number| {
                let mut entry = review(number);
                entry["seal"] = json!("v1.key.seal");
                let review = serde_json::from_value(entry).expect("an entry as it is stored");
                CountedReview { review, sealed: true }
            })
            .collect();
        assert_eq!(fold(&reviews, &terms).approvers.len(), count);
        group.bench_function(format!("fold {count}"), |b| b.iter(|| fold(black_box(&reviews), &terms)));
    }
    group.finish();
}

criterion_group!(benches, binding, counting);
criterion_main!(benches);
