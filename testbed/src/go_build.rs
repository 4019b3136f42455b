//! Builds programs with Go from pinned modules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Progress;
use crate::processes::tail;

const POLL: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_secs(10);
const LOG_LINES_SHOWN: usize = 30;

const ADVICE: &str = "install Go from your distribution or from https://go.dev/dl, or set KUBEBUILDER_ASSETS to a \
                      directory that holds etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl \
                      and kwok (for a real node also the programs under go/containers and go/programs)";

/// A Go module: one that only pins programs, or the one that holds ours.
pub(crate) struct GoModule {
    name: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// Source files of our own: path and text.
    sources: &'static [(&'static str, &'static str)],
    /// Build tags, separated by commas.
    tags: &'static str,
}

pub(crate) const CONTROL_PLANE: GoModule = GoModule::new(
    "control-plane",
    include_str!("../go/control-plane/go.mod"),
    include_str!("../go/control-plane/go.sum"),
);

/// The simulated node.
pub(crate) const NODE: GoModule =
    GoModule::new("node", include_str!("../go/node/go.mod"), include_str!("../go/node/go.sum"));

/// What else Kubernetes runs on a real node. Apart from the control plane, so that the one is not built anew for the other.
pub(crate) const AGENTS: GoModule =
    GoModule::new("agents", include_str!("../go/agents/go.mod"), include_str!("../go/agents/go.sum"));

/// What runs containers on a real node, and gives them a network.
pub(crate) const CONTAINERS: GoModule = GoModule {
    // Snapshots on other file systems than ours would need C libraries.
    tags: "no_btrfs,no_devmapper,no_zfs",
    ..GoModule::new("containers", include_str!("../go/containers/go.mod"), include_str!("../go/containers/go.sum"))
};

pub(crate) const HELM: GoModule =
    GoModule::new("helm", include_str!("../go/helm/go.mod"), include_str!("../go/helm/go.sum"));

/// Our own small programs, from the standard library alone.
pub(crate) const PROGRAMS: GoModule = GoModule {
    sources: &[
        ("pause/main.go", include_str!("../go/programs/pause/main.go")),
        ("relay/main.go", include_str!("../go/programs/relay/main.go")),
        ("worker/main.go", include_str!("../go/programs/worker/main.go")),
    ],
    ..GoModule::new("programs", include_str!("../go/programs/go.mod"), "")
};

/// An operator as controller-runtime has it, to be measured beside ours.
pub(crate) const PLAIN_OPERATOR: GoModule = GoModule {
    sources: &[("main.go", include_str!("../go/plain-operator/main.go"))],
    ..GoModule::new(
        "plain-operator",
        include_str!("../go/plain-operator/go.mod"),
        include_str!("../go/plain-operator/go.sum"),
    )
};

impl GoModule {
    const fn new(name: &'static str, go_mod: &'static str, go_sum: &'static str) -> Self {
        Self { name, go_mod, go_sum, sources: &[], tags: "" }
    }

    /// Everything that a build depends on, except for the flags of the linker.
    pub(crate) fn pins(&self) -> String {
        let sources = self.sources.iter().flat_map(|(path, text)| [*path, *text]);
        [self.go_mod, self.go_sum].into_iter().chain(sources).chain([self.tags]).collect()
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let pins = [("go.mod", self.go_mod), ("go.sum", self.go_sum)];
        for (path, text) in pins.iter().chain(self.sources) {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    /// The version of a required or replaced module, as `go.mod` writes it.
    fn version_of(&self, module: &str) -> Option<&'static str> {
        self.go_mod.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("require ");
            let version = line.strip_prefix(module)?.strip_prefix(' ')?;
            version.split_whitespace().next()
        })
    }

    /// The Go release that `go.mod` asks for.
    fn go_version(&self) -> &'static str {
        let line = self.go_mod.lines().find_map(|line| line.strip_prefix("go "));
        line.unwrap_or("1.26").trim()
    }
}

/// A usable Go, with a scratch directory for its modules and output.
pub(crate) struct Toolchain<'a> {
    scratch: &'a Path,
}

impl<'a> Toolchain<'a> {
    /// Writes the modules into `scratch`, since the source checkout may be read-only, and checks that there is
    /// a Go that can build them.
    pub(crate) fn find(scratch: &'a Path, modules: &[&GoModule]) -> Result<Self> {
        let toolchain = Self { scratch };
        for module in modules {
            module.write(&scratch.join(module.name))?;
            toolchain.check_version(module)?;
        }
        Ok(toolchain)
    }

    /// Builds `package` and returns the finished program.
    pub(crate) fn build(&self, module: &GoModule, package: &str, label: &str, progress: Progress) -> Result<PathBuf> {
        let program = self.scratch.join("program");
        let log = self.scratch.join("build.log");
        let output = File::create(&log)?;
        let mut child = self
            .go(module)
            .args(["build", "-mod=readonly", "-buildvcs=false", "-tags", module.tags, "-ldflags", &link_flags(), "-o"])
            .arg(&program)
            .arg(package)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        progress(&format!("building {label}"));
        let began = Instant::now();
        let mut reported = began;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                progress(&format!("building {label}: {} s", began.elapsed().as_secs()));
            }
            thread::sleep(POLL);
        };
        if !status.success() {
            let tail = tail(&log, LOG_LINES_SHOWN);
            bail!("go build {package} failed ({status}); the end of its output:\n{tail}");
        }
        Ok(program)
    }

    /// Go downloads a newer release of itself where it is allowed to; asking it inside the module tells.
    fn check_version(&self, module: &GoModule) -> Result<()> {
        let wanted = module.go_version();
        let output = match self.go(module).args(["env", "GOVERSION"]).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("Go is not installed, and Go {wanted} or newer has to build Kubernetes once: {ADVICE}")
            }
            other => other.context("running go env GOVERSION")?,
        };
        let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("this Go cannot build Kubernetes, which needs Go {wanted} or newer: {ADVICE}\n{reason}");
        }
        if release(&found) < release(wanted) {
            bail!("{found} is too old, Kubernetes needs Go {wanted} or newer: {ADVICE}");
        }
        Ok(())
    }

    fn go(&self, module: &GoModule) -> Command {
        let mut command = Command::new("go");
        command
            .current_dir(self.scratch.join(module.name))
            .env("CGO_ENABLED", "0")
            // A workspace above the cache directory is not ours.
            .env("GOWORK", "off")
            .stdin(Stdio::null());
        command
    }
}

/// Built outside its own repository, Kubernetes would report version v0.0.0, and clients go by its version.
/// The second package is where the names in user agents come from.
pub(crate) fn link_flags() -> String {
    let version = CONTROL_PLANE.version_of("k8s.io/kubernetes").unwrap_or("v0.0.0");
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    let stamps = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!(
            " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
             -X {package}.gitCommit=unknown"
        )
    });
    format!("-s -w{}", stamps.concat())
}

/// `go1.26.8` as `[1, 26, 8]`. A release candidate counts as its release.
fn release(version: &str) -> Vec<u32> {
    let version = version.trim_start_matches("go");
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version.split('.').map_while(|part| digits(part).parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(release("go1.9.2") < release("1.26.0"));
        assert!(release("go1.26.8") >= release("1.26.0"));
        assert!(release("go1.27rc1 X:experiment") > release("1.26.0"));
        assert!(release("go2.0") > release("1.26.0"));
    }

    #[test]
    fn the_pinned_kubernetes_release_is_stamped() {
        let version = CONTROL_PLANE.version_of("k8s.io/kubernetes");
        assert!(version.is_some_and(|version| version.starts_with("v1.")), "{version:?}");
        assert!(link_flags().contains(&format!("gitVersion={}", version.unwrap_or_default())));
    }

    #[test]
    fn a_real_node_is_of_the_same_release() {
        let replaced = |module: &GoModule| module.go_mod.split_once("replace (").map(|(_, rest)| rest.to_owned());
        assert_eq!(AGENTS.version_of("k8s.io/kubernetes"), CONTROL_PLANE.version_of("k8s.io/kubernetes"));
        assert_eq!(replaced(&AGENTS), replaced(&CONTROL_PLANE));
    }

    #[test]
    fn a_module_is_pinned_by_its_sources_too() {
        assert!(PROGRAMS.pins().contains("func main()"));
        assert!(CONTAINERS.pins().ends_with("no_btrfs,no_devmapper,no_zfs"));
        // As it was before there were others, so that what is cached stays.
        assert_eq!(NODE.pins(), [NODE.go_mod, NODE.go_sum].concat());
    }
}
