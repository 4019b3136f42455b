//! The directory that holds everything a control plane writes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::processes::Janitor;

/// Set to anything to keep temporary directories, for their logs.
const KEEP: &str = "COUNTERSIGN_TESTBED_KEEP";

/// Either the caller's directory, or a temporary one that goes when the control plane does.
pub(crate) struct StateDir {
    path: PathBuf,
    _janitor: Option<Janitor>,
}

impl StateDir {
    pub(crate) fn create(chosen: Option<PathBuf>) -> Result<Self> {
        let (path, janitor) = match chosen {
            Some(path) => (chosen_dir(path)?, None),
            None => temporary_dir()?,
        };
        for part in ["logs", "identities"] {
            fs::create_dir_all(path.join(part))?;
        }
        Ok(Self { path, _janitor: janitor })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn chosen_dir(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    // The certificates would not fit the old data, and old data is not ours to delete.
    if path.join("pki").exists() {
        bail!("{} already holds the state of a control plane", path.display());
    }
    Ok(fs::canonicalize(path)?)
}

fn temporary_dir() -> Result<(PathBuf, Option<Janitor>)> {
    let path = tempfile::Builder::new().prefix("countersign-").tempdir()?.keep();
    let janitor = match env::var_os(KEEP) {
        Some(_) => None,
        None => Some(Janitor::start(&path)?),
    };
    Ok((path, janitor))
}
