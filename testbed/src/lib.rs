//! A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//! and a simulated node. No root, no containers, no downloads other than Go modules.
//!
//! Where containers have to run, [`Node::Real`] has a real node instead: kubelet, kube-proxy, containerd and runc, in namespaces
//! that leave nothing behind. That needs root on Linux; [`Image`] makes its images from files.
//!
//! [`ControlPlane::start`] is the entry point. The programs are built once from the pinned modules under `go/`
//! and cached; [`Programs`] says where they are looked for.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod audit;
mod certificate;
mod components;
mod control_plane;
mod fault_proxy;
mod given;
mod go_build;
mod identities;
mod identity;
mod image;
mod installation;
mod node;
mod observer;
mod pki;
mod processes;
mod programs;
mod readiness;
mod start;
mod state_dir;
mod storage;

pub use audit::{AuditFilter, AuditLog, Mark};
pub use control_plane::{ControlPlane, Options, Part, Paused};
pub use fault_proxy::{Answer, Asked, Effect, Fault, FaultProxy, Happened};
pub use identity::{Identity, Kubectl, Output};
pub use image::Image;
pub use installation::{Countersign, Operator};
pub use node::{Node, RealNode, real_node_possible};
pub use observer::{Counts, Observer, Violation};
pub use programs::{NodePrograms, Programs, find_or_build_helm, find_or_build_plain_operator};
pub use storage::Storage;

/// Receives one line of progress at a time.
pub type Progress = fn(&str);

/// Writes progress to standard error, past the test runner's capture: a first build takes minutes,
/// and whoever waits for it should see why.
pub fn progress_to_stderr(line: &str) {
    use std::io::Write;
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "testbed: {line}");
}

/// Drops progress.
pub fn no_progress(_line: &str) {}
