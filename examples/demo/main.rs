//! `cargo demo`: an incident, an approval and the Job that follows, on a real control plane of its own.
//!
//! Called by the name of one of Countersign's commands, which links beside the control plane do, the example is that
//! command: so the operator and whoever watches have them all without another build. By its own name it plays the story.
#![forbid(unsafe_code)]

/// Prints a line. Whoever has stopped reading misses the rest, which is no error.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

mod afterwards;
mod hands_on;
mod node;
mod shell;
mod stage;
mod story;
mod timeline;

use anyhow::Result;
use clap::Parser;
use countersign::cli;
use countersign::cli::review::{self, Verb};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

const ABOUT: &str = "An incident, from the alert to the finished Job, on a real Kubernetes control plane.

Starts etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback, and as root on Linux a real node: \
kubelet, containerd and runc in namespaces of their own; elsewhere the node is simulated. Installs Countersign, and plays: a workflow asks, mallory is refused, alice approves with one kubectl patch, the Job runs. Every \
command that is shown is the one that runs. All state is in a temporary directory that goes when the demo ends.

Needs Go 1.26 or newer the first time, to build the Kubernetes programs into the cache directory (some minutes), or \
their directory in KUBEBUILDER_ASSETS. Takes about 20 seconds after that.";

/// An incident, from the alert to the finished Job, on a real control plane
#[derive(Parser)]
#[command(name = "demo", bin_name = "cargo demo", long_about = ABOUT)]
struct Options {
    /// Leave everything running until Ctrl-C, and print commands to try as alice, bob, carol and mallory
    #[arg(long)]
    keep: bool,
    /// Simulate the node, also where a real one could run: without containers, and without what that takes to build
    #[arg(long)]
    simulated: bool,
    /// Play no story, and open a shell on the control plane instead, beside a simulated node: see docs/tutorial.md. All of
    /// it ends with the shell
    #[arg(long, conflicts_with = "keep")]
    shell: bool,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    match called {
        Some("countersign") => cli::main(),
        Some("kubectl-approve") => review::main(Verb::Approve),
        Some("kubectl-deny") => review::main(Verb::Deny),
        _ => demo(words),
    }
}

fn demo(mut words: Vec<OsString>) -> ExitCode {
    // The alias ends with dashes of its own, so those of `cargo demo -- --keep` arrive here.
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let options = Options::parse_from(words);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(play(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo did not go as it should: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(options: &Options) -> Result<()> {
    // Whoever plays runs Jobs of their own, whose images no real node would find.
    let stage = stage::Stage::set(options.simulated || options.shell).await?;
    if options.shell {
        return hands_on::open(&stage).await;
    }
    story::play(&stage).await?;
    if options.keep {
        afterwards::invite(&stage).await?;
    }
    Ok(())
}
