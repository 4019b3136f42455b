//! How far the audit trail may be behind what is decided.

use jiff::{SignedDuration, Timestamp};

/// Why nothing may be released for the audit trail's sake.
#[derive(Clone, Debug)]
pub struct Unrecorded {
    /// For a person.
    pub why: String,
    /// When something was recorded last; none where that does not matter.
    pub went_on: Option<Timestamp>,
}

impl Unrecorded {
    /// How long the trail may stand still while much waits: an API server that is busy takes its time for a record.
    const STANDSTILL: SignedDuration = SignedDuration::from_secs(30);

    /// Whether nothing may be released now. A trail that goes on, only more slowly than what there is to record, catches up.
    pub fn stops(&self, now: Timestamp) -> bool {
        self.went_on.is_none_or(|last| now.duration_since(last) >= Self::STANDSTILL)
    }
}
