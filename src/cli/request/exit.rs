//! How a call ends: the exit code, and the words beside it. Pure.

use std::process::ExitCode;

/// What a script learns. Documented in `--help` and in docs/workflows.md.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Released; without `--wait`, stored.
    Done = 0,
    /// Anything else.
    Failed = 1,
    /// The command line asks for what cannot be.
    Usage = 2,
    /// A policy or the reviewers said no.
    Denied = 3,
    /// A clock ran out first.
    Expired = 4,
    /// Withdrawn, its target went away, or the request itself is gone.
    Cancelled = 5,
    /// What is stored under that name is not what this call asks.
    Changed = 6,
    /// `--timeout` passed first; the request stands.
    StillWaiting = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An end, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// The exit code.
    pub exit: Exit,
    /// For a person, in one line. Not escaped.
    pub text: String,
}

impl End {
    /// An end with these words.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}
