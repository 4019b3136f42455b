//! Identities, and kubectl commands run as them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Somebody the API server knows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user name that the API server sees.
    pub name: String,
    /// A kubeconfig that needs no other file.
    pub kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) cache: PathBuf,
}

impl Identity {
    /// A kubectl command as this identity.
    pub fn kubectl(&self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Kubectl {
        Kubectl { identity: self.clone(), args: args.into_iter().map(Into::into).collect(), stdin: None }
    }

    /// The program that runs them.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }
}

/// A kubectl command, not yet run.
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it runs"]
pub struct Kubectl {
    identity: Identity,
    args: Vec<OsString>,
    stdin: Option<String>,
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that has to have succeeded.
    pub fn succeeded(self) -> Result<String> {
        if !self.status.success() {
            bail!("failed ({}): {}{}", self.status, self.stdout, self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

impl Kubectl {
    /// Gives the command `text` to read, as for `--filename -`.
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Runs the command, and fails only if it could not be run. Dropping the future ends the command.
    pub async fn run(self) -> Result<Output> {
        let mut child = self.command().spawn().context("starting kubectl")?;
        let input = child.stdin.take();
        let text = self.stdin.unwrap_or_default();
        let feed = async move {
            if let Some(mut input) = input {
                // A command may end without reading all of its input; its status tells the story.
                let _ = input.write_all(text.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.context("waiting for kubectl")?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the command, which has to succeed, and returns its standard output.
    pub async fn ok(self) -> Result<String> {
        let description = self.description();
        let output = self.run().await?;
        if !output.status.success() {
            bail!("{description} failed: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// Runs the command, which has to fail, and returns its standard error.
    pub async fn refused(self) -> Result<String> {
        let description = self.description();
        let output = self.run().await?;
        if output.status.success() {
            bail!("{description} was to be refused, but succeeded: {}", output.stdout.trim());
        }
        Ok(output.stderr)
    }

    /// Runs the command with `--output=json`, and returns what it printed.
    pub async fn json(mut self) -> Result<Value> {
        self.args.push("--output=json".into());
        let description = self.description();
        let text = self.ok().await?;
        serde_json::from_str(&text).with_context(|| format!("reading what {description} printed"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.identity.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.identity.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.identity.cache)
            .args(&self.args)
            // The preferences of whoever runs the tests must not change the command.
            .env("KUBERC", "off")
            .env_remove("KUBECONFIG")
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn description(&self) -> String {
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("kubectl {} as {}", args.join(" "), self.identity.name)
    }
}
