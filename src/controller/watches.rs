//! What is watched, and when each watch last spoke.

use crate::controller::index::Kind;
use crate::controller::settings::ReadSecrets;
use crate::controller::watch::Pulse;
use std::time::Duration;

/// The watches of an operator. Clones tell of the same ones.
#[derive(Debug)]
pub struct Watches(Vec<(Kind, Pulse)>);

impl Watches {
    /// None of them has spoken yet.
    pub fn new(secrets: ReadSecrets) -> Self {
        Self(secrets.kinds().into_iter().map(|kind| (kind, Pulse::new())).collect())
    }

    /// How long each has been silent, by kind; since the start where it has not spoken.
    pub fn silences(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.0.iter().map(|(kind, pulse)| (kind.as_str(), pulse.silence()))
    }

    /// The kinds of which not everything is listed yet, in the order in which they are watched.
    pub fn unlisted(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, pulse)| !pulse.has_spoken()).map(|(kind, _)| kind.as_str()).collect()
    }

    /// Whether every watch has spoken lately.
    pub(super) fn are_fresh(&self) -> bool {
        self.0.iter().all(|(_, pulse)| pulse.is_fresh())
    }

    pub(super) fn all(&self) -> &[(Kind, Pulse)] {
        &self.0
    }
}
