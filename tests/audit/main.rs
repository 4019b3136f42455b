//! The audit trail of a real API server: what it tells, what shows when it is tampered with, and what a crash leaves. One
//! control plane for all, but for those that replace keys, one test at a time: each reads the whole trail.

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod effects;
mod faults;
mod joined;
mod leader;
mod overrides;
mod python;
mod retention;
mod rotation;
mod secrecy;
mod story;
mod tamper;

use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Operator, Output};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{countersign, installed};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Where records are stored in etcd.
const RECORDS: &str = "/registry/countersign.dev/approvalrecords/countersign-system/";

/// The control plane, and the operator if one runs. Holding it keeps other tests waiting.
struct Lab {
    cluster: &'static ControlPlane,
    operator: MutexGuard<'static, Option<Operator>>,
}

/// A control plane for several tests.
struct Shared {
    cluster: OnceCell<ControlPlane>,
    operator: Mutex<Option<Operator>>,
}

impl Shared {
    const fn new() -> Self {
        Self { cluster: OnceCell::const_new(), operator: Mutex::const_new(None) }
    }
}

async fn lab() -> Result<Lab> {
    static SHARED: Shared = Shared::new();
    lab_on(&SHARED).await
}

async fn lab_on(shared: &'static Shared) -> Result<Lab> {
    let operator = shared.operator.lock().await;
    let cluster = shared.cluster.get_or_try_init(installed).await?;
    let mut lab = Lab { cluster, operator };
    if lab.operator.is_none() {
        lab.start(&[]).await?;
    }
    Ok(lab)
}

impl Lab {
    async fn start(&mut self, flags: &[&str]) -> Result<()> {
        let flags = [flags, &["--refusals-every", "1"]].concat();
        *self.operator = Some(countersign().start_with_admission(self.cluster, &flags).await?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    fn user(&self, name: &str, group: &str) -> Result<Identity> {
        self.cluster.user(name, &[group])
    }

    /// Runs `countersign audit` as admin.
    async fn audit(&self, args: &[&str]) -> Result<Output> {
        let kubeconfig = self.cluster.admin().kubeconfig;
        let kubeconfig = kubeconfig.to_str().context("a path")?;
        let cluster: &[&str] = if args[0] == "verify" { &[] } else { &["--kubeconfig", kubeconfig] };
        countersign().run(&[&["audit"], args, cluster].concat(), "").await
    }

    /// A file in the control plane's directory.
    fn file(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    /// Exports trail, checkpoint and keys, once the trail tells that each of these requests (by namespace and name) came to
    /// that, and the checkpoint has come as far as the trail.
    async fn export(&self, name: &str, told: &[(&str, &str, &str)]) -> Result<Export> {
        self.export_until(name, |entries| {
            told.iter().all(|(namespace, name, what)| transitions(entries, namespace, name).contains(what))
        })
        .await
    }

    /// The same, once the trail tells what is wanted.
    async fn export_until(&self, name: &str, told: impl Fn(&[Value]) -> bool) -> Result<Export> {
        let path = |ending: &str| self.file(&format!("{name}.{ending}")).display().to_string();
        let export = Export { trail: path("jsonl"), checkpoint: path("checkpoint"), keys: path("keys") };
        let began = Instant::now();
        loop {
            let (trail, checkpoint, keys) = (&export.trail, &export.checkpoint, &export.keys);
            let args = ["export", "--output", trail, "--checkpoint", checkpoint, "--keys", keys];
            let output = self.audit(&args).await?;
            let entries = if output.status.success() { export.entries()? } else { vec![] };
            if output.status.success() && told(&entries) && export.last()? == export.stated()? {
                return Ok(export);
            }
            ensure!(
                began.elapsed() < Duration::from_secs(30),
                "{name}: the trail does not tell what it should: {}",
                output.stderr
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// Files that an auditor has.
struct Export {
    trail: String,
    checkpoint: String,
    keys: String,
}

impl Export {
    fn records(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.trail)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    fn entries(&self) -> Result<Vec<Value>> {
        Ok(self.records()?.iter().flat_map(|r| r["entries"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// The number of the last entry.
    fn last(&self) -> Result<i64> {
        Ok(self.records()?.last().and_then(|r| r["last"].as_i64()).unwrap_or(0))
    }

    /// The length that the checkpoint states.
    fn stated(&self) -> Result<i64> {
        let note = std::fs::read_to_string(&self.checkpoint)?;
        note.lines().nth(1).context("a length")?.parse().context("a length")
    }

    /// Verifies a trail, by these keys and this checkpoint. What is said, and whether it is whole.
    async fn verify(&self, trail: &str) -> Result<(bool, String)> {
        let args = ["audit", "verify", trail, "--keys", &self.keys, "--checkpoint", &self.checkpoint];
        let output = countersign().run(&args, "").await?;
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{}", output.stderr);
        Ok((output.status.success(), output.stdout))
    }
}

/// The transitions of one request, in the order of the trail.
fn transitions<'a>(entries: &'a [Value], namespace: &str, name: &str) -> Vec<&'a str> {
    let about = |e: &&Value| e["request"]["namespace"] == namespace && e["request"]["name"] == name;
    entries.iter().filter(about).filter_map(|e| e["transition"].as_str()).collect()
}
