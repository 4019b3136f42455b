//! `cargo demo`: an incident, an approval and the Job that follows, on a real control plane of its own.
//!
//! The example is two programs. Called as `… countersign …` it is the real `countersign` command, which is how it starts
//! the operator; otherwise it plays the story.
#![forbid(unsafe_code)]

/// Prints a line. Whoever has stopped reading misses the rest, which is no error.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}

mod afterwards;
mod shell;
mod stage;
mod story;
mod timeline;

use anyhow::Result;
use clap::Parser;
use countersign::cli;
use std::ffi::OsString;
use std::process::ExitCode;

const ABOUT: &str = "An incident, from the alert to the finished Job, on a real Kubernetes control plane.

Starts etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback with a simulated node, installs \
Countersign, and plays: a workflow asks, mallory is refused, alice approves with one kubectl patch, the Job runs. Every \
command that is shown is the one that runs. All state is in a temporary directory that goes when the demo ends.

Needs Go 1.26 or newer the first time, to build the Kubernetes programs into the cache directory (some minutes), or \
their directory in KUBEBUILDER_ASSETS. Takes about 15 seconds after that.";

/// An incident, from the alert to the finished Job, on a real control plane
#[derive(Parser)]
#[command(name = "demo", bin_name = "cargo demo", long_about = ABOUT)]
struct Options {
    /// Leave everything running until Ctrl-C, and print commands to try as alice, bob, carol and mallory
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(dispatch(words)));
    outcome.unwrap_or_else(|error| {
        eprintln!("\nThe demo did not go as it should: {error:#}");
        ExitCode::FAILURE
    })
}

async fn dispatch(mut words: Vec<OsString>) -> Result<ExitCode> {
    if words.get(1).is_some_and(|word| word == "countersign") {
        // An error only says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        return cli::run(cli::Args::parse_from(words.split_off(1))).await;
    }
    // The alias ends with dashes of its own, so those of `cargo demo -- --keep` arrive here.
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let options = Options::parse_from(words);
    play(options.keep).await?;
    Ok(ExitCode::SUCCESS)
}

async fn play(keep: bool) -> Result<()> {
    let stage = stage::Stage::set().await?;
    story::play(&stage).await?;
    if keep {
        afterwards::invite(&stage).await?;
    }
    Ok(())
}
