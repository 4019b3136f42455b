//! `kubectl approve` and `kubectl deny`: the reviewer's inbox, the card, and the one patch.
//!
//! What is shown, asked and said is decided by pure functions ([`inbox`], [`changes`], [`outcome`], [`refusal`]); reading,
//! patching, watching and asking are thin around them. `--tui` puts the same on a screen.

mod args;
mod batch;
pub mod changes;
mod cluster;
mod complete;
mod connection;
mod decide;
#[cfg(test)]
mod fixture;
pub mod inbox;
pub mod outcome;
pub mod refusal;
mod send;
mod settle;
mod terminal;
mod tui;

pub use args::{Args, Form, command, parse};
pub use connection::{Connection, duration};

use crate::api::ReviewDecision;
use crate::cli::escape::visible;
use cluster::Cluster;
use kube::Config;
use std::cell::Cell;
use std::process::ExitCode;

/// Which of the two commands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// `kubectl approve`
    Approve,
    /// `kubectl deny`
    Deny,
}

impl Verb {
    /// As kubectl calls it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Approve => "Approve what waits for you at the gate, after you have read it",
            Self::Deny => "Deny what waits at the gate, or take back an approval",
        }
    }

    fn question(self) -> &'static str {
        match self {
            Self::Approve => "Approve",
            Self::Deny => "Deny",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Deny => "denied",
        }
    }

    fn decision(self) -> ReviewDecision {
        match self {
            Self::Approve => ReviewDecision::Approve,
            Self::Deny => ReviewDecision::Deny,
        }
    }
}

/// How it went, as the exit code says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Refused = 3,
    Changed = 4,
    Undecided = 5,
    OtherEnd = 6,
    Interrupted = 130,
}

impl Exit {
    /// That of the first that did not go well.
    fn then(self, next: Self) -> Self {
        if self == Self::Done { next } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// How far a review has come: what somebody who interrupts has to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Reading,
    Sending,
    Stored,
}

/// What every part of a command knows.
struct Session {
    verb: Verb,
    args: Args,
    cluster: Cluster,
    config: Config,
    phase: Cell<Phase>,
}

impl Session {
    /// The namespace that the requests are in.
    fn namespace(&self) -> &str {
        self.args.namespace.as_deref().unwrap_or(&self.cluster.namespace)
    }

    /// Where a list is read: one namespace, or all.
    fn place(&self) -> Option<&str> {
        (!self.args.all_namespaces).then(|| self.namespace())
    }
}

/// Runs one of the commands.
pub fn main(verb: Verb) -> ExitCode {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(verb, &error.into()),
    };
    let words: Vec<_> = std::env::args_os().collect();
    let exit = if words.get(1).is_some_and(|word| word == complete::WORD) {
        runtime.block_on(complete::run(verb, &words[2..]))
    } else {
        match args::parse(verb, words) {
            Ok(args) => runtime.block_on(run(verb, args)),
            Err(error) => {
                // Nobody is left to tell when the terminal is gone.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        }
    };
    // A question that nobody will answer any more is not waited for.
    runtime.shutdown_background();
    exit
}

async fn run(verb: Verb, args: Args) -> ExitCode {
    let mut config = match args.connection.config().await {
        Ok(config) => config,
        Err(error) => return failed(verb, &error),
    };
    if args.watch {
        // Nothing may happen for hours.
        config.read_timeout = None;
    }
    let cluster = match Cluster::new(config.clone()) {
        Ok(cluster) => cluster,
        Err(error) => return failed(verb, &error),
    };
    let session = Session { verb, args, cluster, config, phase: Cell::new(Phase::Reading) };
    tokio::select! {
        exit = dispatch(&session) => exit.into(),
        // Where the signal cannot be heard, it ends the process as it does any other.
        // On a screen, it is the screen that gives way first.
        Ok(()) = tokio::signal::ctrl_c(), if !session.args.tui => interrupted(&session).into(),
    }
}

async fn dispatch(session: &Session) -> Exit {
    if session.args.tui {
        return tui::run(session).await;
    }
    match (session.args.all, session.args.names.is_empty()) {
        (true, _) => batch::run(session).await,
        (false, true) => inbox::run(session).await,
        (false, false) => decide::run(session).await,
    }
}

fn interrupted(session: &Session) -> Exit {
    let told = match session.phase.get() {
        Phase::Reading => "interrupted; nothing more was decided",
        Phase::Sending => {
            "interrupted while the review was sent; whether it was stored is not known: look with kubectl get apr"
        }
        Phase::Stored => "interrupted; the review is stored, and what comes of it was not waited for",
    };
    eprintln!("\n{told}");
    Exit::Interrupted
}

fn failed(verb: Verb, error: &anyhow::Error) -> ExitCode {
    eprintln!("kubectl {}: {}", verb.command(), visible(&format!("{error:#}")));
    Exit::Failed.into()
}

/// Writes to stdout. A reader that has seen enough is no error.
fn tell(text: &str) {
    let _ = crate::cli::print(text);
}
