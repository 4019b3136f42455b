//! The verifier in examples/audit, written from docs/audit.md alone, agrees with ours.

use crate::lab;
use crate::support::{Space, by_sre};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Output;
use tokio::process::Command;

/// A Python that has the package `cryptography`: the machine's, or one of our own beside the build.
async fn python() -> Result<PathBuf> {
    let machine = PathBuf::from("python3");
    let has = async |python: &Path| {
        let asked = Command::new(python).args(["-c", "import cryptography"]).output().await;
        asked.is_ok_and(|output| output.status.success())
    };
    if has(&machine).await {
        return Ok(machine);
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let own = home.join("bin/python3");
    if !has(&own).await {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&home).output().await;
        let made = made.context("python3 is missing: install Python 3.9 or newer, with its venv module")?;
        ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
        let installed = Command::new(&own).args(["-m", "pip", "install", "--quiet", "cryptography"]).output().await?;
        ensure!(installed.status.success(), "pip install cryptography: {}", String::from_utf8_lossy(&installed.stderr));
    }
    Ok(own)
}

async fn verify(python: &Path, args: &[&str]) -> Result<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/audit/verify.py");
    Ok(Command::new(python).arg(script).args(args).output().await?)
}

#[tokio::test]
async fn a_verifier_written_from_the_documentation_agrees() -> Result<()> {
    let python = python().await?;
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "audit-python").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let digest = space.bound("run").await?;
    let review = serde_json::json!({"decision": "Approve", "digest": digest, "comment": "für Zoë \u{1f600}\u{fb33} \u{1} \"\\ /"});
    space.patch(&alice, "run", serde_json::json!({"spec": {"review": review}})).ok().await?;
    let export = lab.export("python", &[("audit-python", "run", "Released")]).await?;
    let said = verify(&python, &[&export.trail, &export.keys, &export.checkpoint]).await?;
    ensure!(said.status.success() && said.stdout == b"whole\n", "{said:?}");
    let text = std::fs::read_to_string(&export.trail)?;
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines.len() >= 2, "{} records", lines.len());
    for (name, changed, expected) in [
        ("edited", text.replacen("workflow.incident-triage", "workflow.incident-triagf", 1), "line 1: edited"),
        ("missing", lines[1..].join("\n"), "line 1: missing, reordered or twice"),
        ("cut", lines[..lines.len() - 1].join("\n"), "cut off"),
    ] {
        let path = lab.file(&format!("python-{name}.jsonl"));
        std::fs::write(&path, changed)?;
        let path = path.to_str().context("a path")?;
        let said = verify(&python, &[path, &export.keys, &export.checkpoint]).await?;
        let told = String::from_utf8_lossy(&said.stdout);
        ensure!(
            said.status.code() == Some(1) && told.starts_with(&format!("NOT WHOLE: {expected}")),
            "{name}: {said:?}"
        );
        ensure!(!export.verify(path).await?.0, "{name}: ours agrees");
    }
    Ok(())
}
