//! Where the Kubernetes programs are found, and how they are built when they are not.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Progress;
use crate::go_build::{
    AGENTS, CONTAINERS, CONTROL_PLANE, GoModule, HELM, NODE, PLAIN_OPERATOR, PROGRAMS, Toolchain, link_flags,
};

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

impl Source {
    const fn new(name: &'static str, module: &'static GoModule, package: &'static str) -> Self {
        Self { name, module, package }
    }
}

/// Programs that are built and cached together.
struct Set {
    /// The first part of the name of its cache directory.
    name: &'static str,
    /// All that its sources name.
    modules: &'static [&'static GoModule],
    sources: &'static [Source],
    /// How long a build takes.
    cost: &'static str,
}

const TESTBED: Set = Set {
    name: "testbed",
    modules: &[&CONTROL_PLANE, &NODE],
    sources: &[
        Source::new("etcd", &CONTROL_PLANE, "go.etcd.io/etcd/server/v3"),
        Source::new("kube-apiserver", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-apiserver"),
        Source::new("kube-controller-manager", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-controller-manager"),
        Source::new("kube-scheduler", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-scheduler"),
        Source::new("kubectl", &CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubectl"),
        Source::new("kwok", &NODE, "sigs.k8s.io/kwok/cmd/kwok"),
    ],
    cost: "6 minutes",
};

const REAL_NODE: Set = Set {
    name: "node",
    modules: &[&AGENTS, &CONTAINERS, &PROGRAMS],
    sources: &[
        Source::new("kubelet", &AGENTS, "k8s.io/kubernetes/cmd/kubelet"),
        Source::new("kube-proxy", &AGENTS, "k8s.io/kubernetes/cmd/kube-proxy"),
        Source::new("containerd", &CONTAINERS, "github.com/containerd/containerd/v2/cmd/containerd"),
        Source::new(
            "containerd-shim-runc-v2",
            &CONTAINERS,
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        ),
        Source::new("ctr", &CONTAINERS, "github.com/containerd/containerd/v2/cmd/ctr"),
        Source::new("bridge", &CONTAINERS, "github.com/containernetworking/plugins/plugins/main/bridge"),
        Source::new("loopback", &CONTAINERS, "github.com/containernetworking/plugins/plugins/main/loopback"),
        Source::new("host-local", &CONTAINERS, "github.com/containernetworking/plugins/plugins/ipam/host-local"),
        Source::new("pause", &PROGRAMS, "./pause"),
        Source::new("relay", &PROGRAMS, "./relay"),
        Source::new("worker", &PROGRAMS, "./worker"),
    ],
    cost: "6 minutes",
};

const PACKAGER: Set = Set {
    name: "helm",
    modules: &[&HELM],
    sources: &[Source::new("helm", &HELM, "helm.sh/helm/v4/cmd/helm")],
    cost: "2 minutes",
};

const COMPARISON: Set = Set {
    name: "plain-operator",
    modules: &[&PLAIN_OPERATOR],
    sources: &[Source::new("plain-operator", &PLAIN_OPERATOR, ".")],
    cost: "2 minutes",
};

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
        let program = TESTBED.find_or_build(progress)?;
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

/// What a real node needs beyond [`Programs`].
#[derive(Clone, Debug)]
pub struct NodePrograms {
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_proxy: PathBuf,
    pub(crate) containerd: PathBuf,
    pub(crate) shim: PathBuf,
    pub(crate) ctr: PathBuf,
    /// Plugins that give containers a network.
    pub(crate) cni: [PathBuf; 3],
    pub(crate) pause: PathBuf,
    pub(crate) relay: PathBuf,
    pub(crate) worker: PathBuf,
}

impl NodePrograms {
    /// Finds or builds them where and as [`Programs::find_or_build`] does. Blocks the thread.
    pub fn find_or_build(progress: Progress) -> Result<Self> {
        let program = REAL_NODE.find_or_build(progress)?;
        Ok(Self {
            kubelet: program("kubelet")?,
            kube_proxy: program("kube-proxy")?,
            containerd: program("containerd")?,
            shim: program("containerd-shim-runc-v2")?,
            ctr: program("ctr")?,
            cni: [program("bridge")?, program("loopback")?, program("host-local")?],
            pause: program("pause")?,
            relay: program("relay")?,
            worker: program("worker")?,
        })
    }

    /// A program for images, which waits until it is told to end.
    pub fn pause(&self) -> &Path {
        &self.pause
    }

    /// A program for images, which says what it was asked to do and within which bounds, and is done.
    pub fn worker(&self) -> &Path {
        &self.worker
    }
}

/// Finds or builds Helm where and as [`Programs::find_or_build`] does the others. Blocks the thread.
pub fn find_or_build_helm(progress: Progress) -> Result<PathBuf> {
    PACKAGER.find_or_build(progress)?("helm")
}

/// Finds or builds the plain operator that benchmarks compare with, where and as [`Programs::find_or_build`] does the others. It
/// takes a kubeconfig and a file with what it writes: `{"release": [JSON Patch of a Job], "status": [JSON Patch of a request]}`.
/// Says `ready` once its caches are filled. Blocks the thread.
pub fn find_or_build_plain_operator(progress: Progress) -> Result<PathBuf> {
    COMPARISON.find_or_build(progress)?("plain-operator")
}

impl Set {
    /// Where each program is, once all are there.
    fn find_or_build(&'static self, progress: Progress) -> Result<impl Fn(&str) -> Result<PathBuf>> {
        // Without any cache directory, a full set of ready-made programs still works.
        let cache = self.cache_dir();
        if !self.missing(cache.as_deref().ok()).is_empty() {
            self.build_missing(cache.as_deref().map_err(|error| anyhow::anyhow!("{error:#}"))?, progress)?;
        }
        let cache = cache.ok();
        Ok(move |name: &str| find(name, cache.as_deref()).with_context(|| format!("{name} has gone from the cache")))
    }

    fn missing(&self, cache: Option<&Path>) -> Vec<&Source> {
        self.sources.iter().filter(|source| find(source.name, cache).is_none()).collect()
    }

    /// The directory of this build: another pin or flag is another directory, so a version bump rebuilds.
    fn cache_dir(&self) -> Result<PathBuf> {
        let root = non_empty_dir("COUNTERSIGN_CACHE")
            .or_else(|| non_empty_dir("XDG_CACHE_HOME").map(|dir| dir.join("countersign")))
            .or_else(|| non_empty_dir("HOME").map(|dir| dir.join(".cache/countersign")))
            .context("no place for the Kubernetes programs: set COUNTERSIGN_CACHE or HOME")?;
        let pins = self.modules.iter().map(|module| module.pins()).collect::<String>() + &link_flags();
        Ok(root.join(format!("{}-{:016x}", self.name, fnv1a(pins.as_bytes()))))
    }

    fn build_missing(&self, cache: &Path, progress: Progress) -> Result<()> {
        fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
        // Held until the end of the function, and released by the kernel if we are killed.
        let _lock = lock(&cache.join("lock"), progress)?;
        let missing = self.missing(Some(cache));
        if missing.is_empty() {
            return Ok(());
        }
        remove_abandoned_builds(cache)?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(cache)?;
        let toolchain = Toolchain::find(scratch.path(), self.modules)?;
        progress(&format!(
            "building {} of {} Kubernetes programs into {}: only once, all of them take about {} on 2 cores",
            missing.len(),
            self.sources.len(),
            cache.display(),
            self.cost
        ));
        for (index, source) in missing.iter().enumerate() {
            let label = format!("{} ({} of {})", source.name, index + 1, missing.len());
            let built = toolchain.build(source.module, source.package, &label, progress)?;
            // The name appears complete or not at all.
            fs::rename(built, cache.join(source.name))?;
        }
        Ok(())
    }
}

fn find(name: &str, cache: Option<&Path>) -> Option<PathBuf> {
    let assets = non_empty_dir(ASSETS);
    let places = assets.iter().map(PathBuf::as_path).chain(cache);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// An absolute path, because the programs run in another directory than ours.
fn non_empty_dir(variable: &str) -> Option<PathBuf> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    std::path::absolute(value).ok()
}

/// FNV-1a, which unlike the standard library's hasher is the same in every release.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
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
