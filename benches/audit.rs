//! How long an honest trail takes to verify: `cargo bench --bench audit`.

use countersign::api::RecordEntry;
use countersign::audit::{Checkpoint, Head, Trusted, chain, checkpoint, seal, verify};
use countersign::binding::Keyring;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Records of the trail; what a busy cluster writes in some weeks.
const RECORDS: usize = 10_000;

/// The entry of a release, with a scope and rules as they usually are.
fn entry(number: usize) -> RecordEntry {
    let entry = json!({"key": format!("5b3f7c1e-0000-0000-0000-{number:012}/1/Released"), "transition": "Released",
        "time": "2026-11-20T17:01:10.000000Z", "reason": "Approved", "message": "approved by alice", "by": [{"username": "alice"}],
        "request": {"namespace": "payments", "name": "run-8f9a-remediate", "uid": "5b3f7c1e", "runID": "run_8f9a", "stepID": "remediate",
            "requestedBy": "workflow.incident-triage"},
        "seen": {"revision": 1, "digest": format!("sha256:{}", "0".repeat(64)), "jobHash": format!("sha256:{}", "1".repeat(64)),
            "constraints": {"maxRuntimeSeconds": 900}, "scope": [{"tag": "write", "source": "Derived",
                "detail": "serviceaccount triage may patch deployments.apps, by Role triage through RoleBinding triage in payments"}],
            "matches": [{"policy": "production", "rule": "prod-write", "decision": "RequireApproval", "reason": "prod write detected"}]}});
    serde_json::from_value(entry).expect("an entry")
}

fn trail(key: &Keyring) -> (Vec<String>, Head) {
    let mut head = Head::default();
    let lines = (0..RECORDS).map(|number| {
        let spec = serde_json::to_value(seal(&head, vec![entry(number)], key).expect("a record")).expect("JSON");
        head = Head { length: head.length + 1, hash: chain::hash(&spec).expect("a hash") };
        spec.to_string()
    });
    (lines.collect(), head)
}

fn benches(criterion: &mut Criterion) {
    let key = Keyring::from_seed(&[7; 32]).expect("a key");
    let (lines, head) = trail(&key);
    let first: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let origin = checkpoint::origin(&chain::hash(&first).expect("a hash"));
    let trusted = Trusted { keys: vec![key.public()], checkpoints: vec![Checkpoint { origin, head }] };
    // As the command does it: read the lines, then verify.
    let whole = || {
        let specs: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let report = verify(&specs, &trusted);
        assert_eq!((report.records, report.fault), (RECORDS, None));
    };
    let began = Instant::now();
    whole();
    println!("an honest trail of {RECORDS} records, read and verified once: {:?}", began.elapsed());
    let mut group = criterion.benchmark_group("audit");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function(format!("verify {RECORDS} records"), |bencher| bencher.iter(whole));
    group.finish();
}

criterion_group!(audit, benches);
criterion_main!(audit);
