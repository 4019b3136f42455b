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
                      and kwok";

/// A Go module that only pins programs.
pub(crate) struct GoModule {
    name: &'static str,
    pub(crate) go_mod: &'static str,
    pub(crate) go_sum: &'static str,
}

pub(crate) const CONTROL_PLANE: GoModule = GoModule {
    name: "control-plane",
    go_mod: include_str!("../go/control-plane/go.mod"),
    go_sum: include_str!("../go/control-plane/go.sum"),
};

pub(crate) const NODE: GoModule =
    GoModule { name: "node", go_mod: include_str!("../go/node/go.mod"), go_sum: include_str!("../go/node/go.sum") };

impl GoModule {
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
    pub(crate) fn find(scratch: &'a Path) -> Result<Self> {
        for module in [&CONTROL_PLANE, &NODE] {
            let dir = scratch.join(module.name);
            fs::create_dir(&dir)?;
            fs::write(dir.join("go.mod"), module.go_mod)?;
            fs::write(dir.join("go.sum"), module.go_sum)?;
        }
        let toolchain = Self { scratch };
        for module in [&CONTROL_PLANE, &NODE] {
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
            .args(["build", "-mod=readonly", "-buildvcs=false", "-ldflags", &link_flags(), "-o"])
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
}
