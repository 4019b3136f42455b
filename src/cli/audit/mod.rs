//! `countersign audit`: export the trail, verify one offline, tell the story of one request, Job or Pod.

mod export;
pub(super) mod input;
mod show;
mod story;
mod verify;

use std::process::ExitCode;

/// Export the audit trail, verify an export offline, or tell the story of one request, Job or Pod.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Write the trail of a cluster as JSON lines, one record a line
    Export(export::Args),
    /// Check an export without a cluster: nothing edited, missing, reordered, cut off, forked or signed by another key
    Verify(verify::Args),
    /// Tell what happened to one request, Job or Pod, in order
    Show(show::Args),
}

/// Runs one of them. Exit code: 0 done, or the trail is whole; 1 the trail is not whole, or does not tell of the request;
/// 2 the input is unusable or the cluster refuses.
pub async fn run(args: Args) -> ExitCode {
    let outcome = match args.command {
        Command::Export(args) => export::run(&args).await,
        Command::Verify(args) => verify::run(&args),
        Command::Show(args) => show::run(&args).await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("countersign: {}", crate::cli::escape::visible(&format!("{error:#}")));
        ExitCode::from(2)
    })
}
