//! Completion as kubectl does it for bash, zsh and fish: it asks `kubectl_complete-approve`.

use crate::support::{Space, by_sre, cluster};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

/// A PATH on which kubectl finds the commands and their completion.
fn path() -> Result<OsString> {
    let commands = Path::new(env!("CARGO_BIN_EXE_kubectl-approve")).parent().context("a directory")?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/completion");
    let system = std::env::var_os("PATH").unwrap_or_default();
    let all = [commands.to_owned(), scripts].into_iter().chain(std::env::split_paths(&system));
    Ok(std::env::join_paths(all)?)
}

fn kubectl(kubectl: &Path, kubeconfig: &Path, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(kubectl);
    command.args(args).env("PATH", path()?).env("KUBECONFIG", kubeconfig).env("KUBERC", "off");
    Ok(command.output()?)
}

#[tokio::test]
async fn kubectl_offers_the_names_of_what_waits() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "completion").await?;
    space.policy(by_sre()).await?;
    let done = space.bound("run-done").await?;
    space.bound("run-waits").await?;
    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "run-done", "Approve", &done).ok().await?;
    space.state("run-done", "Released").await?;
    let complete = |verb: &str, words: &[&str]| -> Result<String> {
        let words = [&["__complete", verb], words].concat();
        let output = kubectl(cluster.kubectl_path(), &alice.kubeconfig, &words)?;
        Ok(String::from_utf8(output.stdout)?)
    };
    for verb in ["approve", "deny"] {
        let names = complete(verb, &["-n", "completion", "ru"])?;
        ensure!(
            names.starts_with("run-waits\tprod-write, asked by system:serviceaccount:completion:triage\n"),
            "{names}"
        );
        ensure!(!names.contains("run-done") && names.trim_end().ends_with(":4"), "{names}");
        ensure!(!complete(verb, &["-n", "completion", "run-waits", ""])?.contains("run-waits"), "named already");
    }
    ensure!(complete("approve", &["--all-p"])?.starts_with("--all-pending\t"));
    ensure!(complete("approve", &["-n", "complet"])?.starts_with("completion\n"));
    ensure!(complete("approve", &["-o", ""])?.starts_with("wide\njson\nyaml\nname\n:4"));
    Ok(())
}

#[tokio::test]
async fn kubectl_finds_the_commands_by_their_names() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "plugin").await?;
    space.policy(by_sre()).await?;
    space.bound("run").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let help = kubectl(cluster.kubectl_path(), &alice.kubeconfig, &["deny", "--help"])?;
    let help = String::from_utf8(help.stdout)?;
    ensure!(help.contains("kubectl deny NAME") && help.contains("Exit codes:"), "{help}");
    let args = ["approve", "run", "-n", "plugin", "--yes", "--wait", "20s"];
    let output = kubectl(cluster.kubectl_path(), &alice.kubeconfig, &args)?;
    ensure!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("released"), "{output:?}");
    let unknown = kubectl(cluster.kubectl_path(), &alice.kubeconfig, &["approve", "nothing", "--yes", "-n", "plugin"])?;
    ensure!(unknown.status.code() == Some(3), "the exit code comes through: {unknown:?}");
    Ok(())
}
