//! A plain operator as controller-runtime has it: the same three writes, from caches and a work queue, with nothing decided.

use crate::null_writer::Template;
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Identity, find_or_build_plain_operator, progress_to_stderr};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The program, and what it writes.
pub struct Plain {
    program: PathBuf,
    template: PathBuf,
    identity: Identity,
    running: Option<Child>,
}

impl Plain {
    /// Builds it where it is not there yet.
    pub fn new(cluster: &ControlPlane, identity: Identity, template: &Template) -> Result<Self> {
        let program = tokio::task::block_in_place(|| find_or_build_plain_operator(progress_to_stderr))?;
        let file = cluster.dir().join("plain-operator.json");
        let writes = json!({"release": template.release(""), "status": template.status("", "")});
        std::fs::write(&file, writes.to_string())?;
        Ok(Self { program, template: file, identity, running: None })
    }

    /// Starts it, and waits until its caches are filled.
    pub async fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.template.with_extension("log"))?;
        let mut child = Command::new(&self.program)
            .args([&self.identity.kubeconfig, &self.template])
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let said = BufReader::new(child.stdout.take().context("its output")?).lines().next_line().await?;
        anyhow::ensure!(said.as_deref() == Some("ready"), "the plain operator did not start: {said:?}");
        self.running = Some(child);
        Ok(())
    }

    /// Ends it, if it runs.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref()?.id()
    }
}
