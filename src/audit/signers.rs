//! Who may sign records, as the trail itself tells: it begins under one key, entries `KeyAdded` and `KeyRetired` say which other
//! one may sign from when until when, and `Anchored` that it goes on under another, since the one before was lost.
//!
//! Trusted keys vouch for the beginning and for each anchor, and for nothing in between.

use crate::api::{ApprovalRecordSpec, Pruned, RecordEntry, Transition};
use crate::audit::entries::blank;
use crate::audit::verify::{self, Fault, Keys, by_name};
use crate::binding::{Keyring, key_name};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// The keys of a trail, as far as it was read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Signers {
    /// Those that may sign now.
    live: Keys,
    /// Those that signed, or might have.
    known: Keys,
    /// Those that never sign again.
    retired: BTreeSet<String>,
    /// The one that signed the last record.
    last: Option<String>,
    /// How often the trail went on under another key without being told by the one before.
    anchors: usize,
    /// Whether its beginning is missing, so that it cannot tell of all keys: trusted ones then sign as well.
    beheaded: bool,
}

/// Why whoever holds these keys cannot go on with a trail.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// Another key signed the last record.
    #[error("the audit trail was signed by key {0}, which is not in the Secret")]
    OtherKey(String),
    /// The trail does not know the key.
    #[error("key {0} signs now, and no operator introduced it in the audit trail before")]
    NotIntroduced(String),
    /// The trail says that the key signs no more.
    #[error("key {0} was retired in the audit trail and never signs again")]
    Retired(String),
    /// The trail takes records by a key that nobody here knows.
    #[error("key {0} may sign the audit trail and is not in the Secret")]
    Stranger(String),
}

impl Signers {
    /// Checks that a record is signed by a key that may sign at this place, and returns that. `trusted` vouch for the beginning
    /// and for anchors.
    pub fn check(&self, record: &ApprovalRecordSpec, signed: &[u8], trusted: &Keys) -> Result<[u8; 32], Fault> {
        let (sequence, key) = (record.sequence, record.key_id.clone());
        if self.retired.contains(&key) {
            return Err(Fault::RetiredKey { sequence, key });
        }
        let public = match (self.live.get(&key), trusted.get(&key)) {
            (Some(public), _) => *public,
            (None, Some(public)) if self.takes_trusted(record) => *public,
            (None, Some(_)) => return Err(Fault::NotIntroduced { sequence, key }),
            (None, None) => return Err(Fault::ForeignKey { sequence, key }),
        };
        verify::signature(record, signed, &public)?;
        Ok(public)
    }

    fn takes_trusted(&self, record: &ApprovalRecordSpec) -> bool {
        let anchors = |entry: &RecordEntry| entry.transition == Transition::Anchored;
        self.last.is_none() || self.beheaded || record.entries.iter().any(anchors)
    }

    /// Takes in a record that was checked, and is signed by that key.
    pub fn learn(&mut self, record: &ApprovalRecordSpec, by: [u8; 32]) {
        if self.last.is_none() {
            self.beheaded = record.sequence != 1;
        }
        self.admit(by);
        for entry in &record.entries {
            match entry.transition {
                Transition::Anchored => self.anchor(by),
                Transition::KeyAdded => named(entry).into_iter().for_each(|key| self.admit(key)),
                Transition::KeyRetired => named(entry).into_iter().for_each(|key| self.retire(key)),
                Transition::Pruned => entry.pruned.iter().for_each(|pruned| self.begin_anew(pruned)),
                _ => {}
            }
        }
        self.last = Some(record.key_id.clone());
    }

    /// A key that was retired never comes back.
    fn admit(&mut self, key: [u8; 32]) {
        let name = key_name(&key);
        if !self.retired.contains(&name) {
            self.live.insert(name.clone(), key);
        }
        self.known.insert(name, key);
    }

    fn retire(&mut self, key: [u8; 32]) {
        let name = key_name(&key);
        self.live.remove(&name);
        self.retired.insert(name);
    }

    /// Whatever was introduced before is of a key that was lost, and may be anybody's.
    fn anchor(&mut self, by: [u8; 32]) {
        self.live = by_name(&[by]);
        self.anchors += 1;
        self.beheaded = false;
    }

    /// What was pruned may have introduced and retired keys: from the entry that says so, the trail tells of all again.
    fn begin_anew(&mut self, pruned: &Pruned) {
        if !std::mem::take(&mut self.beheaded) {
            return;
        }
        self.retired.extend(pruned.retired.iter().cloned());
        self.live.clear();
        for key in pruned.keys.iter().filter_map(|key| decode(key)) {
            self.admit(key);
        }
    }

    /// The names of keys that never sign again.
    pub fn retired(&self) -> impl Iterator<Item = &str> {
        self.retired.iter().map(String::as_str)
    }

    /// Whether that key may sign now.
    pub fn may_sign(&self, name: &str) -> bool {
        self.live.contains_key(name)
    }

    /// Whether that key never signs again.
    pub fn is_retired(&self, name: &str) -> bool {
        self.retired.contains(name)
    }

    /// The keys that may sign now.
    pub fn live(&self) -> &Keys {
        &self.live
    }

    /// The keys that signed, or might have.
    pub fn known(&self) -> &Keys {
        &self.known
    }

    /// The name of the key that signed the last record.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether an operator with these keys may go on with the trail. What they accept decides, and no key that is only published:
    /// the last record binds all before it, so one of ours under it stands for the whole.
    pub fn fit(&self, key: &Keyring) -> Result<(), Misfit> {
        let Some(last) = &self.last else { return Ok(()) };
        let ours: BTreeSet<String> = key.accepted().iter().chain(key.retired()).map(key_name).collect();
        if self.is_retired(key.id()) {
            return Err(Misfit::Retired(key.id().into()));
        }
        if !ours.contains(last) {
            return Err(Misfit::OtherKey(last.clone()));
        }
        if let Some(stranger) = self.live.keys().find(|name| !ours.contains(*name)) {
            return Err(Misfit::Stranger(stranger.clone()));
        }
        if !self.may_sign(key.id()) {
            return Err(Misfit::NotIntroduced(key.id().into()));
        }
        Ok(())
    }

    /// What an operator with these keys has to tell in the trail before it does anything else: the key that will sign next, and
    /// those that are accepted no longer.
    pub fn news(&self, key: &Keyring, now: Timestamp) -> Vec<RecordEntry> {
        let fresh = |public: &[u8; 32]| !self.may_sign(&key_name(public)) && !self.is_retired(&key_name(public));
        let added = key.next().filter(fresh).map(|public| self.added(&public, key.id(), now));
        let unretired = key.retired().iter().filter(|public| !self.is_retired(&key_name(public)));
        added.into_iter().chain(unretired.map(|public| retired(public, key.id(), now))).collect()
    }

    fn added(&self, public: &[u8; 32], by: &str, now: Timestamp) -> RecordEntry {
        let name = key_name(public);
        RecordEntry {
            // Once in each part of the trail that an anchor begins.
            key: format!("{name}/{}/KeyAdded", self.anchors),
            reason: "KeyAdded".into(),
            message: format!("key {name} may sign from here on, beside key {by}"),
            public_key: Some(STANDARD.encode(public)),
            ..blank(Transition::KeyAdded, now)
        }
    }
}

fn retired(public: &[u8; 32], by: &str, now: Timestamp) -> RecordEntry {
    let name = key_name(public);
    RecordEntry {
        key: format!("{name}/0/KeyRetired"),
        reason: "KeyRetired".into(),
        message: format!("key {name} signs nothing from here on; key {by} goes on"),
        public_key: Some(STANDARD.encode(public)),
        ..blank(Transition::KeyRetired, now)
    }
}

/// The key that an entry is about; none where it names none.
fn named(entry: &RecordEntry) -> Option<[u8; 32]> {
    decode(entry.public_key.as_ref()?)
}

fn decode(key: &str) -> Option<[u8; 32]> {
    STANDARD.decode(key).ok()?.try_into().ok()
}

#[cfg(test)]
#[path = "signers_tests.rs"]
mod tests;
