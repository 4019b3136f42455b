//! How long a reviewer's answer takes: `cargo bench --profile dev --bench approve`. One `kubectl approve NAME --yes` after the
//! other, on loopback: how long the command itself takes without waiting for what comes of it, and how long it is from its
//! start to the write that starts the Job, by the API server's own audit log (both clocks are this machine's).

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use countersign_testbed::AuditFilter;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Instant;
use support::{Space, by_sre, cluster};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
const APPROVALS: usize = 40;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "approve").await?;
    space.policy(by_sre()).await?;
    let alice = cluster.user("alice", &["sre"])?;
    let kubeconfig = alice.kubeconfig.to_str().context("path")?;
    let mark = cluster.audit_log().settle().await?;
    let (mut took, mut began) = (vec![], BTreeMap::new());
    for run in 0..APPROVALS {
        let name = format!("run-{run}");
        space.bound(&name).await?;
        began.insert(name.clone(), Timestamp::now());
        let since = Instant::now();
        let mut approve = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-approve"));
        approve.args([&name, "--yes", "--wait", "0", "-n", "approve", "--kubeconfig", kubeconfig]);
        let output = approve.output().await?;
        took.push(since.elapsed().as_secs_f64() * 1000.0);
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        space.state(&name, "Released").await?;
    }
    let log = cluster.audit_log();
    log.settle().await?;
    let patched = AuditFilter::new().user(OPERATOR).verb("patch").resource("jobs").subresource("").namespace("approve");
    let mut started = BTreeMap::new();
    for event in log.select(mark, &patched.code(200).stage("ResponseComplete"))? {
        let name = event["objectRef"]["name"].as_str().context("a name")?.to_string();
        let at: Timestamp = event["stageTimestamp"].as_str().context("a time")?.parse()?;
        let began = began.get(&name).context("a Job that nobody approved was started")?;
        started.entry(name).or_insert(at.duration_since(*began).as_secs_f64() * 1000.0);
    }
    ensure!(started.len() == APPROVALS, "{} of {APPROVALS} Jobs were started", started.len());
    report("the command itself", took);
    report("from its start to the Job's", started.into_values().collect());
    Ok(())
}

fn report(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(times.len().saturating_sub(1) as f64 * share) as usize];
    println!("{what}: median {:.1} ms, p95 {:.1} ms, longest {:.1} ms, of {}", at(0.5), at(0.95), at(1.0), times.len());
}
