//! What the log tells of one Job or Pod.

use std::collections::BTreeMap;

use super::event::{Cause, Write};

/// The writes of one object, by the version each stored. A write that changes nothing answers with the version it found,
/// so that several may share one.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) namespace: String,
    pub(super) name: String,
    created: Option<u64>,
    writes: BTreeMap<u64, Vec<Step>>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) event: String,
    pub(super) user: String,
    pub(super) cause: Cause,
    held: bool,
}

impl Track {
    pub(super) fn add(&mut self, version: u64, write: &Write<'_>) {
        self.namespace = write.namespace().to_owned();
        self.name = write.name().to_owned();
        if write.created {
            self.created = Some(version);
        }
        let (event, user) = (write.id().to_owned(), write.user().to_owned());
        let step = Step { event, user, cause: write.cause(), held: write.held() };
        self.writes.entry(version).or_default().push(step);
    }

    /// When it was made, if the log says so yet.
    pub(super) fn created(&self) -> Option<u64> {
        self.created
    }

    /// The version stored next after `version`, as far as is known.
    pub(super) fn after(&self, version: u64) -> Option<u64> {
        self.writes.range(version.saturating_add(1)..).next().map(|(next, _)| *next)
    }

    /// The steps to `version`, if that is where it came free.
    pub(super) fn freed_at(&self, version: u64) -> Option<&[Step]> {
        let steps = self.writes.get(&version)?;
        let before = self.writes.range(..version).next_back()?.1;
        (is_held(before) && !is_held(steps)).then_some(steps.as_slice())
    }

    /// Every time that it came free.
    pub(super) fn freed(&self) -> impl Iterator<Item = (u64, &[Step])> {
        self.writes.keys().filter_map(|version| Some((*version, self.freed_at(*version)?)))
    }

    /// Whether it was let go before `version`.
    pub(super) fn let_go_before(&self, version: u64) -> bool {
        self.freed().any(|(at, steps)| at < version && cause(steps) != &Cause::Neither)
    }
}

fn is_held(steps: &[Step]) -> bool {
    steps.first().is_some_and(|step| step.held)
}

/// What brought about a version: of several writes that answered with it, one did, and the others changed nothing.
pub(super) fn cause(steps: &[Step]) -> &Cause {
    let known = steps.iter().map(|step| &step.cause).find(|cause| **cause != Cause::Neither);
    known.unwrap_or(&Cause::Neither)
}
