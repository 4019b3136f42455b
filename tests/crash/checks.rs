//! What has to hold of all runs together, by the API server's audit log and the stored trail.

use crate::bench::{Bench, NAME_LENGTH, NAMESPACE};
use crate::rounds::Learned;
use crate::support::countersign;
use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, Mark};
use std::collections::HashMap;

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

/// Writes of the operator that a Job took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Writes {
    /// All of them.
    all: usize,
    /// Those that left it started.
    pub starts: usize,
}

/// The writes of each Job, by name.
pub async fn writes(bench: &Bench) -> Result<HashMap<String, Writes>> {
    let log = bench.cluster.audit_log();
    log.settle().await?;
    let filter = AuditFilter::new().user(OPERATOR).verb("patch").resource("jobs").namespace(NAMESPACE).code(200);
    let mut writes: HashMap<String, Writes> = HashMap::new();
    for event in log.select(Mark::START, &filter)? {
        let writes = writes.entry(event["objectRef"]["name"].as_str().unwrap_or_default().into()).or_default();
        writes.all += 1;
        writes.starts += usize::from(event["responseObject"]["spec"]["suspend"] == false);
    }
    Ok(writes)
}

/// Where a Job took other writes than in the runs without a fault.
pub fn more_or_less(writes: &HashMap<String, Writes>, learned: &Learned, name: &str) -> Option<String> {
    let of = |name: &str| writes.get(name).copied().unwrap_or_default();
    let (expected, found) = (of(&learned.names[0]), of(name));
    (found != expected || found.starts > 1).then(|| format!("the Job took {found:?}, and {expected:?} without a fault"))
}

/// The whole trail verifies: no gap, no twin, no fork.
pub async fn whole_trail(bench: &Bench, names: &[&str]) -> Result<()> {
    let file = |name: &str| bench.cluster.dir().join(name).display().to_string();
    let (trail, keys) = (file("crash.jsonl"), file("crash.keys"));
    let kubeconfig = bench.cluster.admin().kubeconfig;
    let kubeconfig = kubeconfig.to_str().context("a path")?;
    let export = ["audit", "export", "--output", &trail, "--keys", &keys, "--kubeconfig", kubeconfig];
    countersign().run(&export, "").await?.succeeded()?;
    countersign().run(&["audit", "verify", &trail, "--keys", &keys], "").await?.succeeded()?;
    let text = std::fs::read_to_string(&trail)?;
    for name in names {
        ensure!(text.contains(&name[..NAME_LENGTH]), "{name} is not in the trail");
    }
    Ok(())
}
