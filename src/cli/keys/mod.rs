//! `countersign keys`: puts another signing key in the place of the one there is.

mod show;
mod state;
mod step;

use crate::api::names;
use crate::cli::client::Connection;
use crate::cli::escape::visible;
use std::process::ExitCode;

const STEPS: &str = "A key is replaced in three steps. After each, restart every operator, one after the other:
  1. countersign keys add       a second key is accepted, is introduced in the audit trail, and signs nothing yet
  2. countersign keys promote   it signs; the first one is accepted still
  3. countersign keys retire    the first one is accepted no longer

`countersign keys show` tells where you stand. The whole procedure, also for a key that leaked: docs/runbooks.md.

Takes the right to read and write Secrets in the operator's namespace, and to read the audit trail; `retire` and `show` also list \
requests. Exit code: 0 done; 1 this step is not the next one; 2 the cluster or a flag refuses.";

/// Put another signing key in the place of the one there is, in three steps.
#[derive(clap::Args, Debug)]
#[command(after_help = STEPS)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Tell which key signs, which are accepted, what the audit trail knows of them, and what comes next
    Show(Place),
    /// Make a second key, which is accepted and signs nothing yet
    Add(Place),
    /// Let the added key sign; the one before is accepted still
    Promote(Place),
    /// Accept the key that signed before no longer
    Retire(Retire),
}

/// Where the keys are.
#[derive(clap::Args, Debug)]
struct Place {
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Args, Debug)]
struct Retire {
    /// Go on where open requests have reviews that this key sealed: they stop to count, and are to be given again
    #[arg(long)]
    void_reviews: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs one of them. Exit code: 0 done; 1 it is not the next step; 2 it cannot be done.
pub async fn run(args: Args) -> ExitCode {
    outcome(args).await.unwrap_or_else(|error| {
        eprintln!("countersign: {}", visible(&format!("{error:#}")));
        ExitCode::from(if error.is::<step::NotNow>() { 1 } else { 2 })
    })
}

async fn outcome(args: Args) -> anyhow::Result<ExitCode> {
    let place = match &args.command {
        Command::Show(place) | Command::Add(place) | Command::Promote(place) => place,
        Command::Retire(args) => &args.place,
    };
    let (cluster, namespace) = (place.connection.cluster().await?, &place.operator_namespace);
    let told = match &args.command {
        Command::Show(_) => show::told(&state::read(&cluster, namespace).await?),
        Command::Add(_) => step::add(&cluster, namespace, fresh()?).await?,
        Command::Promote(_) => step::promote(&cluster, namespace).await?,
        Command::Retire(args) => step::retire(&cluster, namespace, args.void_reviews).await?,
    };
    crate::cli::print(&told)?;
    Ok(ExitCode::SUCCESS)
}

fn fresh() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow::anyhow!("no randomness for a signing key: {e}"))?;
    Ok(seed)
}
