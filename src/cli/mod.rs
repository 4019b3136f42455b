//! The `countersign` command: its subcommands, and what they show.

mod admission;
mod audit;
mod bounds;
pub mod card;
mod case;
mod check;
pub mod client;
pub mod compact;
pub mod escape;
pub mod explain;
mod keys;
mod kubeconfig;
mod leader;
mod logging;
pub mod manifests;
mod observed;
pub mod operator;
pub mod policy;
mod receipt;
pub mod request;
mod retention;
pub mod review;
mod yaml;

use anyhow::Context;
use std::io::{ErrorKind, Write};
use std::num::NonZero;
use std::process::ExitCode;

const ABOUT: &str = "A human approval gate for high-impact automation on Kubernetes.

A workflow that is about to do something dangerous stops and creates an ApprovalRequest. Countersign evaluates it \
against the platform team's ApprovalPolicies, shows a reviewer who asks, why, and which bounds will hold, takes the \
reviewer's one patch, and then starts exactly the Job that was reviewed.

Set up a cluster with `countersign manifests | kubectl apply -f -`, run `countersign operator`, and ask with \
`countersign request`. Reviewers answer with `kubectl approve` and `kubectl deny`, or with kubectl alone; \
`countersign explain` tells them and you why a request waits, and \
`countersign policy test` holds policies to what you expect of them.";

/// The command line.
#[derive(clap::Parser, Debug)]
#[command(name = "countersign", version, about, long_about = ABOUT)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Run the operator: evaluate, admit, release
    Operator(operator::Args),
    /// Print what a cluster needs, for `kubectl apply -f -`
    Manifests(manifests::Args),
    /// Ask for approval of a workflow step
    Request(Box<request::Args>),
    /// Tell why a request stands where it stands: every policy, every rule, who still can approve, until when
    Explain(explain::Args),
    /// Look whether an installation does what it should
    Check(check::Args),
    /// Test policies offline, or try new ones on what a cluster was asked
    Policy(policy::Args),
    /// Export the audit trail, verify an export offline, or tell the story of one request
    Audit(audit::Args),
    /// Check the receipt that a release leaves on its Job, before acting on it
    Receipt(receipt::Args),
    /// Put another signing key in the place of the one there is, in three steps
    Keys(keys::Args),
}

/// Threads that work, on however large a node: an approval takes milliseconds of one, and the allocator keeps memory for each.
const MOST_THREADS: usize = 4;

/// The whole of the `countersign` binary: reads the command line, runs it, and reports a failure in one line.
pub fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(args)));
    outcome.unwrap_or_else(|error| {
        // Parts of an error may come from a file or a server, so nothing of it reaches the terminal unescaped.
        eprintln!("countersign: {}", escape::visible(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// Runs one command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Operator(args) => operator::run(args).await?,
        Command::Manifests(args) => print(&manifests::render(&args)?)?,
        Command::Request(args) => return request::run(&args).await,
        Command::Check(args) => return check::run(&args).await,
        Command::Explain(args) => print(&explain::run(&args).await?)?,
        Command::Audit(args) => return Ok(audit::run(args).await),
        Command::Keys(args) => return Ok(keys::run(args).await),
        Command::Receipt(args) => return Ok(receipt::run(args).await),
        Command::Policy(args) => return Ok(policy::run(args).await),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to stdout. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("writing to stdout"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
