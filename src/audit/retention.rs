//! How much of the trail is kept in the cluster. What goes is first exported, covered by a checkpoint, and stated in the trail.

use crate::api::{ApprovalRecordSpec, Pruned, RecordEntry, Transition};
use crate::audit::verify::{self, Fault, Keys};
use crate::audit::{Head, Signers, entries};
use crate::binding::hash_text;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::Value;
use std::collections::HashSet;

/// How long records are kept. Where neither is given, for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// Records older than this are pruned.
    pub age: Option<SignedDuration>,
    /// Entries beyond this many are pruned.
    pub entries: Option<i64>,
    /// Records younger than this stay, whatever else is said: by then every operator has read them, and every watch has told
    /// of what they tell.
    pub settles: SignedDuration,
}

/// What stands against pruning, beside age and number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The last entry that is exported.
    pub exported: i64,
    /// The last entry that a checkpoint covers.
    pub checkpointed: i64,
    /// The first entry about a request that has not ended yet, or about an override whose Job or Pod is there.
    pub unfinished: Option<i64>,
}

/// Why a record stays though it is due to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Held {
    /// No export has it.
    #[error(
        "entry {0} has not been exported; `countersign audit export --append --acknowledge` does, and says so to the operator"
    )]
    NotExported(i64),
    /// No checkpoint covers it.
    #[error("no checkpoint covers entry {0} yet")]
    NoCheckpoint(i64),
    /// It is about something that has not ended.
    #[error("entry {0} is about a request that has not ended, or about an override whose Job or Pod is still there")]
    Unfinished(i64),
}

/// A walk over the records from the first that is kept, to where what is due and may go ends.
#[derive(Debug)]
pub struct Walk<'a> {
    retention: &'a Retention,
    limits: &'a Limits,
    keys: &'a Keys,
    now: Timestamp,
    /// How far the trail has come.
    length: i64,
    head: Option<Head>,
    /// Why it ended where it did, where something that is due stays.
    pub held: Option<Held>,
}

impl<'a> Walk<'a> {
    /// Begins a walk over a trail of that length.
    pub fn new(retention: &'a Retention, limits: &'a Limits, keys: &'a Keys, length: i64, now: Timestamp) -> Self {
        Self { retention, limits, keys, now, length, head: None, held: None }
    }

    /// The next record, by its `spec` and when it was created. Returns whether it goes, and so whether to walk on. Something
    /// that is not whole is not pruned: it is evidence.
    pub fn goes(&mut self, spec: &Value, created: Timestamp) -> Result<bool, Fault> {
        let read = verify::read(spec)?;
        let (sequence, key) = (read.record.sequence, read.record.key_id.clone());
        let public = self.keys.get(&key).ok_or(Fault::ForeignKey { sequence, key })?;
        verify::signature(&read.record, &read.signed, public)?;
        let head = self.head.clone().unwrap_or_else(|| verify::before(&read.record));
        verify::follows(&read.record, &head, &HashSet::new())?;
        if !self.is_due(&read.record, created) {
            return Ok(false);
        }
        self.held = self.stays(&read.record);
        if self.held.is_some() {
            return Ok(false);
        }
        self.head = Some(Head { length: read.record.last, hash: hash_text(&read.signed) });
        Ok(true)
    }

    /// Where what goes ends.
    pub fn through(self) -> Option<Head> {
        self.head
    }

    /// Old is what tells of old things, and was written long ago itself.
    fn is_due(&self, record: &ApprovalRecordSpec, created: Timestamp) -> bool {
        let newest = record.entries.iter().map(|entry| entry.time.0).fold(created, Timestamp::max);
        let older = |than: SignedDuration| newest.checked_add(than).is_ok_and(|until| until < self.now);
        let beyond = self.retention.entries.is_some_and(|most| record.last <= self.length - most);
        older(self.retention.settles) && (beyond || self.retention.age.is_some_and(older))
    }

    fn stays(&self, record: &ApprovalRecordSpec) -> Option<Held> {
        let number = record.sequence;
        if let Some(first) = self.limits.unfinished.filter(|first| *first <= record.last) {
            return Some(Held::Unfinished(first));
        }
        if record.last > self.limits.exported {
            return Some(Held::NotExported(number.max(self.limits.exported + 1)));
        }
        (record.last > self.limits.checkpointed).then_some(Held::NoCheckpoint(number))
    }
}

/// The entry that anchors what is left once everything up to `through` is gone. `first` is the hash of the trail's first
/// record; `signers` may sign; what had ended before `until` is recorded.
pub fn pruned(through: &Head, first: &str, signers: &Signers, until: Timestamp, now: Timestamp) -> RecordEntry {
    let length = through.length;
    RecordEntry {
        key: format!("trail/{length}/Pruned"),
        reason: "Retention".into(),
        message: format!("entries 1 to {length} are no longer kept here; they were exported before"),
        pruned: Some(Pruned {
            through: length,
            hash: through.hash.clone(),
            first: first.into(),
            until: MicroTime(until),
            keys: signers.live().values().map(|key| STANDARD.encode(key)).collect(),
            retired: signers.retired().map(String::from).collect(),
        }),
        ..entries::blank(Transition::Pruned, now)
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
