//! A Python for the examples that are written in it.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// A Python that has this module: the machine's, or one of our own beside the build, where `pip install ARGS` brings it.
pub async fn python(module: &str, args: &[&str]) -> Result<PathBuf> {
    let import = format!("import {module}");
    let has = async |python: &Path| {
        let asked = Command::new(python).args(["-c", &import]).output().await;
        asked.is_ok_and(|output| output.status.success())
    };
    let machine = PathBuf::from("python3");
    if has(&machine).await {
        return Ok(machine);
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{module}"));
    let own = home.join("bin/python3");
    if !has(&own).await {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&home).output().await;
        let made = made.context("python3 is missing: install Python 3.9 or newer, with its venv module")?;
        ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
        let mut pip = Command::new(&own);
        let installed = pip.args([&["-m", "pip", "install", "--quiet"], args].concat()).output().await?;
        ensure!(installed.status.success(), "pip install {args:?}: {}", String::from_utf8_lossy(&installed.stderr));
    }
    Ok(own)
}
