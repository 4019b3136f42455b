//! My inbox: the requests that an approval of mine could move, most urgent first.

mod follow;
mod list;
mod standing;
mod table;

pub(super) use follow::changes;
pub(super) use list::{Listed, columns, listed, nothing, read, run, understood};
pub use standing::{Me, standing};
pub use table::{Columns, Widths, line, object_list, table};

use crate::api::State;
use crate::lifecycle::RequestFacts;
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Ordering;

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// As this version reads it.
    pub request: RequestFacts,
    /// As stored.
    pub stored: Value,
    /// Why it is not mine to approve; none where it is.
    pub why_not: Option<String>,
}

impl Waiting {
    /// When its time runs out.
    pub fn deadline(&self) -> Option<Timestamp> {
        let status = &self.request.status;
        let (pending, release) = (status.pending_until.as_ref(), status.release_by.as_ref());
        match status.state {
            State::Approved => release.or(pending).map(|time| time.0),
            _ => pending.map(|time| time.0),
        }
    }

    /// Most urgent first: by when the time runs out, what never does last; then the older, then by name.
    pub fn urgency(&self, other: &Self) -> Ordering {
        let key = |w: &Self| {
            let r = &w.request;
            (w.deadline().unwrap_or(Timestamp::MAX), r.created, r.namespace.clone(), r.name.clone())
        };
        key(self).cmp(&key(other))
    }
}

/// Those that wait, most urgent first: mine, or `all` of them with the reason why the others are not.
pub fn inbox(
    requests: impl IntoIterator<Item = (RequestFacts, Value)>,
    me: &Me,
    all: bool,
    now: Timestamp,
) -> Vec<Waiting> {
    let mut waiting: Vec<Waiting> = requests
        .into_iter()
        .filter_map(|(request, stored)| {
            let why_not = standing(&request, &stored, me, now)?.err();
            (all || why_not.is_none()).then_some(Waiting { request, stored, why_not })
        })
        .collect();
    waiting.sort_by(Waiting::urgency);
    waiting
}

#[cfg(test)]
mod tests;
