//! Hands out identities: certificates, tokens, and the kubeconfigs that lead to them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Identity;
use crate::pki::{Credential, Pki};
use crate::programs::Programs;

/// Writes kubeconfigs.
pub(crate) struct Identities {
    pub(crate) pki: Pki,
    pub(crate) server: String,
    dir: PathBuf,
    kubectl: PathBuf,
    cache: PathBuf,
}

impl Identities {
    pub(crate) fn new(pki: Pki, programs: &Programs, dir: &Path) -> Self {
        Self {
            pki,
            server: String::new(),
            dir: dir.join("identities"),
            kubectl: programs.kubectl.clone(),
            cache: dir.join("kubectl-cache"),
        }
    }

    /// From now on, kubeconfigs lead to this port.
    pub(crate) fn lead_to(&mut self, port: u16) {
        self.server = format!("https://127.0.0.1:{port}");
    }

    /// The directory of the control plane.
    pub(crate) fn state_dir(&self) -> Result<&Path> {
        self.dir.parent().context("identities have a directory")
    }

    pub(crate) fn with_certificate(&self, file: &str, name: &str, groups: &[&str]) -> Result<Identity> {
        self.write(file, name, &self.pki.issue(name, groups)?)
    }

    pub(crate) fn write(&self, file: &str, name: &str, credential: &Credential) -> Result<Identity> {
        // User names may hold characters that mean something in a path.
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._@".contains(character);
        let file = file.replace(|character| !plain(character), "_");
        let kubeconfig = self.dir.join(format!("{file}.kubeconfig"));
        self.pki.write_kubeconfig(&kubeconfig, &self.server, name, credential)?;
        Ok(Identity { name: name.to_owned(), kubeconfig, kubectl: self.kubectl.clone(), cache: self.cache.clone() })
    }
}
