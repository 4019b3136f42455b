//! Identities on a cluster of which nothing is known but a kubeconfig.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::programs::Programs;
use crate::{Identity, Progress};

impl Identity {
    /// Whoever `kubeconfig` says, in its current context. What belongs to the identity is kept in `dir`. May build the programs,
    /// of which kubectl is one, and blocks the thread for that.
    pub fn given(kubeconfig: &Path, dir: &Path, progress: Progress) -> Result<Self> {
        let kubectl = Programs::find_or_build(progress)?.kubectl;
        let view = ["config", "view", "--raw", "--flatten", "--minify", "--output=json", "--kubeconfig"];
        let output = std::process::Command::new(&kubectl)
            .args(view)
            .arg(kubeconfig)
            .env_remove("KUBECONFIG")
            .output()
            .with_context(|| format!("starting {}", kubectl.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{}: {}", kubeconfig.display(), said.trim());
        let config: Value = serde_json::from_slice(&output.stdout).context("reading what kubectl printed")?;
        let name = config["contexts"][0]["context"]["user"].as_str();
        let name = name.with_context(|| format!("{}: its current context names no user", kubeconfig.display()))?;
        let own = dir.join("given.kubeconfig");
        write(&own, &config)?;
        Ok(Self { name: name.to_owned(), kubeconfig: own, kubectl, cache: dir.join("kubectl-cache") })
    }

    /// Somebody else, whom this identity impersonates: it must be allowed to.
    pub fn acting_as(&self, name: &str, groups: &[&str]) -> Result<Self> {
        let text = fs::read_to_string(&self.kubeconfig)?;
        let mut config: Value = serde_json::from_str(&text).context("a kubeconfig that this crate did not write")?;
        let user = config.pointer_mut("/users/0/user").context("a kubeconfig without a user")?;
        user["as"] = json!(name);
        user["as-groups"] = json!(groups);
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
        let file = [&[name], groups].concat().join(".").replace(|character| !plain(character), "_");
        let kubeconfig: PathBuf = self.kubeconfig.with_file_name(format!("as-{file}.kubeconfig"));
        write(&kubeconfig, &config)?;
        Ok(Self { name: name.to_owned(), kubeconfig, ..self.clone() })
    }
}

/// For the owner alone: it holds a credential.
fn write(path: &Path, config: &Value) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("writing {}", path.display()))?;
    Ok(file.write_all(config.to_string().as_bytes())?)
}
