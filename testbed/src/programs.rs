//! Where the Kubernetes programs are found, and how they are built when they are not.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Progress;
use crate::go_build::{CONTROL_PLANE, GoModule, NODE, Toolchain, link_flags};

/// Names the directory with ready-made programs, as other Kubernetes test tools do.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Prefix of a build's scratch directory inside the cache.
const SCRATCH: &str = "partial-";

/// A program, and the package it is built from.
struct Source {
    name: &'static str,
    module: &'static GoModule,
    package: &'static str,
}

const SOURCES: [Source; 6] = [
    Source::new("etcd", &CONTROL_PLANE, "go.etcd.io/etcd/server/v3"),
    Source::new("kube-apiserver", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-apiserver"),
    Source::new("kube-controller-manager", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Source::new("kube-scheduler", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-scheduler"),
    Source::new("kubectl", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubectl"),
    Source::new("kwok", &NODE, "sigs.k8s.io/kwok/cmd/kwok"),
];

impl Source {
    const fn new(name: &'static str, module: &'static GoModule, package: &'static str) -> Self {
        Self { name, module, package }
    }
}

/// The programs a control plane is made of.
#[derive(Clone, Debug)]
pub struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
    pub(crate) kube_controller_manager: PathBuf,
    pub(crate) kube_scheduler: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) kwok: PathBuf,
}

impl Programs {
    /// Takes each program from `KUBEBUILDER_ASSETS`, else from the cache, else builds it into the cache.
    ///
    /// The cache is `COUNTERSIGN_CACHE`, else `countersign` under `XDG_CACHE_HOME` or `~/.cache`. The first build
    /// takes minutes and needs Go; every later call only looks. Blocks the thread.
    pub fn find_or_build(progress: Progress) -> Result<Self> {
        // Without any cache directory, a full set of ready-made programs still works.
        let cache = cache_dir();
        let missing = |source: &&Source| find(source.name, cache.as_deref().ok()).is_none();
        if SOURCES.iter().any(|source| missing(&source)) {
            build_missing(cache.as_deref().map_err(|error| anyhow::anyhow!("{error:#}"))?, progress)?;
        }
        let cache = cache.as_deref().ok();
        let program = |name| find(name, cache).with_context(|| format!("{name} has gone from the cache"));
        Ok(Self {
            etcd: program("etcd")?,
            kube_apiserver: program("kube-apiserver")?,
            kube_controller_manager: program("kube-controller-manager")?,
            kube_scheduler: program("kube-scheduler")?,
            kubectl: program("kubectl")?,
            kwok: program("kwok")?,
        })
    }

    /// The kubectl of the same release as the API server.
    pub fn kubectl(&self) -> &Path {
        &self.kubectl
    }
}

fn find(name: &str, cache: Option<&Path>) -> Option<PathBuf> {
    let assets = non_empty_dir(ASSETS);
    let places = assets.iter().map(PathBuf::as_path).chain(cache);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// The directory of this build: another pin or flag is another directory, so a version bump rebuilds.
fn cache_dir() -> Result<PathBuf> {
    let root = non_empty_dir("COUNTERSIGN_CACHE")
        .or_else(|| non_empty_dir("XDG_CACHE_HOME").map(|dir| dir.join("countersign")))
        .or_else(|| non_empty_dir("HOME").map(|dir| dir.join(".cache/countersign")))
        .context("no place for the Kubernetes programs: set COUNTERSIGN_CACHE or HOME")?;
    let pins = [&CONTROL_PLANE, &NODE].map(|module| [module.go_mod, module.go_sum].concat()).concat() + &link_flags();
    Ok(root.join(format!("testbed-{:016x}", fnv1a(pins.as_bytes()))))
}

/// An absolute path, because the programs run in another directory than ours.
fn non_empty_dir(variable: &str) -> Option<PathBuf> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    std::path::absolute(value).ok()
}

/// FNV-1a, which unlike the standard library's hasher is the same in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn build_missing(cache: &Path, progress: Progress) -> Result<()> {
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    // Held until the end of the function, and released by the kernel if we are killed.
    let _lock = lock(&cache.join("lock"), progress)?;
    let missing: Vec<_> = SOURCES.iter().filter(|source| find(source.name, Some(cache)).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    remove_abandoned_builds(cache)?;
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(cache)?;
    let toolchain = Toolchain::find(scratch.path())?;
    progress(&format!(
        "building {} of {} Kubernetes programs into {}: only once, all of them take about 6 minutes on 2 cores",
        missing.len(),
        SOURCES.len(),
        cache.display()
    ));
    for (index, source) in missing.iter().enumerate() {
        let label = format!("{} ({} of {})", source.name, index + 1, missing.len());
        let built = toolchain.build(source.module, source.package, &label, progress)?;
        // The name appears complete or not at all.
        fs::rename(built, cache.join(source.name))?;
    }
    Ok(())
}

fn lock(path: &Path, progress: Progress) -> Result<File> {
    let file = File::create(path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error).context("locking the cache"),
    }
    progress("another process is building the Kubernetes programs; waiting for it");
    file.lock().context("locking the cache")?;
    Ok(file)
}

/// Only the holder of the lock builds, so whatever is left over belongs to a build that was killed.
fn remove_abandoned_builds(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
