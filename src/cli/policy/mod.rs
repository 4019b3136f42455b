//! `countersign policy`: policies against what is expected of them, and against what a cluster was asked.

mod changes;
mod coverage;
mod documents;
mod expect;
mod fixture;
mod judge;
mod junit;
mod names;
mod replay;
mod report;
mod stage;
mod test;

pub use test::{TestArgs, TestRun};

use crate::cli::escape::visible;
use std::process::ExitCode;

/// Exit code where something was found: a test that fails, an outcome that got weaker.
const FOUND: u8 = 1;
/// Exit code where nothing could be found out: unusable input, no cluster.
const UNUSABLE: u8 = 2;

/// Flags of `countersign policy`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `countersign policy`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Run *.test.yaml files: what policies say about requests that you write down. Needs no cluster
    Test(test::TestArgs),
    /// Tell what new policies would have said about the requests of a cluster. Changes nothing
    Replay(replay::ReplayArgs),
}

/// Runs one command. Exit code 0: as it should be; 1: a test failed, or an outcome is weaker; 2: the input is unusable.
pub async fn run(args: Args) -> ExitCode {
    let outcome = match args.command {
        Command::Test(args) => test::run(&args),
        Command::Replay(args) => replay::run(&args).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            // Parts of it may come from a file or a server.
            eprintln!("countersign: {}", visible(&format!("{error:#}")));
            ExitCode::from(UNUSABLE)
        }
    }
}
