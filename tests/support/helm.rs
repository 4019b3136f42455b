//! Helm, in a home of its own.

use anyhow::Result;
use countersign_testbed::{Identity, Output, find_or_build_helm, progress_to_stderr};
use std::path::PathBuf;
use tokio::process::Command;

/// Where the chart is.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/countersign");

/// The program. The first call may build it.
pub async fn program() -> Result<PathBuf> {
    tokio::task::spawn_blocking(|| find_or_build_helm(progress_to_stderr)).await?
}

/// Runs Helm, as somebody or without a cluster.
pub async fn helm(who: Option<&Identity>, args: &[&str]) -> Result<Output> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(program().await?);
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
