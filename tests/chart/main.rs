//! The chart as Helm reads it, and as API servers of every supported release take it. Pods only seem to run here: an operator
//! beside the cluster does their work, with nothing but the rights that the chart gave.

#[path = "../support/mod.rs"]
mod support;

mod life;
mod values;

use anyhow::Result;
use countersign_testbed::{Identity, Output, find_or_build_helm, progress_to_stderr};
use std::path::PathBuf;
use tokio::process::Command;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/countersign");
const HOME: &str = "countersign-system";

/// Runs Helm, as somebody or without a cluster, in a home of its own.
async fn helm(who: Option<&Identity>, args: &[&str]) -> Result<Output> {
    let program: PathBuf = tokio::task::spawn_blocking(|| find_or_build_helm(progress_to_stderr)).await??;
    let home = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.args(args).env_remove("KUBECONFIG").kill_on_drop(true);
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.path().join(name));
    }
    if let Some(who) = who {
        command.env("KUBECONFIG", &who.kubeconfig);
    }
    let output = command.output().await?;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
