//! Runs command lines exactly as they are printed.

use anyhow::{Context, Result, bail};
use countersign_testbed::{ControlPlane, Identity};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// The repository: printed paths are relative to it.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The commands that this program is, by their names.
const COMMANDS: [&str; 3] = ["countersign", "kubectl-approve", "kubectl-deny"];

/// A shell in the repository, with this control plane's kubectl and this build's commands on its path.
pub struct Shell {
    programs: PathBuf,
    cache: PathBuf,
}

impl Shell {
    /// Puts the commands into a directory beside the control plane's state.
    pub fn new(cluster: &ControlPlane) -> Result<Self> {
        let programs = cluster.dir().join("bin");
        fs::create_dir_all(&programs).with_context(|| format!("creating {}", programs.display()))?;
        symlink(cluster.kubectl_path(), programs.join("kubectl")).context("linking kubectl")?;
        let demo = std::env::current_exe().context("finding this program")?;
        for command in COMMANDS {
            symlink(&demo, programs.join(command)).with_context(|| format!("linking {command}"))?;
        }
        Ok(Self { programs, cache: cluster.dir().join("kubectl-cache") })
    }

    /// Where a command of that name is.
    pub fn command(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Prints a command and its output, and expects it to succeed.
    pub async fn shows(&self, who: &Identity, line: &str) -> Result<String> {
        let output = self.quietly(who, line).await?;
        say!("{}", indented(&output));
        Ok(output)
    }

    /// Prints a command, not its output, and expects it to succeed.
    pub async fn quietly(&self, who: &Identity, line: &str) -> Result<String> {
        announce(who, line);
        let output = self.run(who, line).await?;
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("`{line}` as {} failed: {}", short(who), error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Prints a command and why it is refused, and expects it to be.
    pub async fn refused(&self, who: &Identity, line: &str) -> Result<String> {
        announce(who, line);
        let output = self.run(who, line).await?;
        if output.status.success() {
            bail!("`{line}` as {} was to be refused, and was not", short(who));
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        say!("{}", indented(&error));
        Ok(error)
    }

    /// What to export for the same commands in another terminal.
    pub fn exports(&self) -> String {
        format!("export PATH={}:\"$PATH\" KUBECACHEDIR={} KUBERC=off", quoted(&self.programs), quoted(&self.cache))
    }

    /// A program that finds the commands, and acts with a kubeconfig.
    pub fn program(&self, name: &str, kubeconfig: &Path) -> Command {
        let mut command = Command::new(name);
        command
            .env("PATH", self.path())
            .env("KUBECONFIG", kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            // The preferences of whoever watches must not change the commands.
            .env("KUBERC", "off");
        command
    }

    async fn run(&self, who: &Identity, line: &str) -> Result<Output> {
        self.program("sh", &who.kubeconfig)
            .args(["-c", line])
            .current_dir(ROOT)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting sh")
    }

    fn path(&self) -> OsString {
        let mut path = self.programs.clone().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        path
    }
}

/// `triage` for `system:serviceaccount:payments:triage`.
pub fn short(who: &Identity) -> &str {
    who.name.rsplit(':').next().unwrap_or(&who.name)
}

/// A path as one word of a shell.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

fn announce(who: &Identity, line: &str) {
    say!("\n  {}$ {line}", short(who));
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}").trim_end().to_string()).collect::<Vec<_>>().join("\n")
}
