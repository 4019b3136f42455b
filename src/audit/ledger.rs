//! What is recorded, what waits to be recorded, and the record to write next. No I/O: tests drive it directly.

use crate::api::record::MAX_ENTRIES;
use crate::api::{ApprovalRecordSpec, Pruned, RecordEntry, Transition};
use crate::audit::verify::{self, Fault, Keys, Read};
use crate::audit::{Checkpoint, Head, Sealed, Signers, chain, checkpoint};
use crate::binding::{CanonicalError, Keyring, hash_text};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// Bytes of one record, beyond which no further entry joins it. One entry alone is far below what etcd takes.
const MOST_BYTES: usize = 256 * 1024;
/// Entries that may wait to be recorded. Beyond that nothing is released, unless the trail goes on.
pub const MOST_WAITING: usize = 1000;
/// Entries that may wait while the trail goes on, only more slowly than what there is to record.
pub const MOST_BEHIND: usize = 10_000;

/// The state of the trail, as one operator sees it.
#[derive(Debug, Default)]
pub struct Ledger {
    head: Head,
    /// Hash of the first record, which names the trail.
    first: Option<String>,
    /// Entries at its beginning that are not there any more.
    missing: i64,
    /// What it says itself was pruned.
    pruned: Option<Pruned>,
    /// Whether everything that is stored was read.
    read: bool,
    /// Whether it was found not whole: nothing is built upon it.
    broken: bool,
    /// Who may sign.
    signers: Signers,
    /// What is recorded, by uid: revision, transition, and the number of the entry.
    recorded: HashMap<String, Vec<(i64, Transition, i64)>>,
    waiting: VecDeque<RecordEntry>,
    waiting_keys: HashSet<String>,
    /// When something was recorded last, or began to wait where nothing did.
    went_on: Option<Timestamp>,
}

impl Ledger {
    /// How far the chain has come.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Everything that is stored was read: from now on records can be written.
    pub fn set_read(&mut self) {
        self.read = true;
    }

    /// Whether the trail begins where it should: with its first entry, or behind what it says was pruned.
    pub fn check_beginning(&self) -> Result<(), Fault> {
        let anchored = self.pruned.as_ref().map_or(0, |pruned| pruned.through);
        if self.missing > anchored {
            return Err(Fault::Missing { from: anchored + 1, to: self.missing });
        }
        Ok(())
    }

    /// What the trail says was pruned last, and the number of the first entry that is there.
    pub fn pruned(&self) -> (Option<&Pruned>, i64) {
        (self.pruned.as_ref(), self.missing + 1)
    }

    /// Entries up to that number are not there any more.
    pub fn set_missing(&mut self, through: i64) {
        self.missing = self.missing.max(through);
    }

    /// Whether what ended at that time was recorded when the beginning of the trail was pruned: nothing of it has to be
    /// recorded, though its entries may be gone. (Set the clock back by more than records take to settle, and crash before
    /// the entry of what ends then is written, and that entry is lost. Nothing less breaks this.)
    pub fn is_settled(&self, ended: Timestamp) -> bool {
        self.pruned.as_ref().is_some_and(|pruned| ended <= pruned.until.0)
    }

    /// The first entry that is about one of these uids.
    pub fn first_about<'a>(&self, uids: impl Iterator<Item = &'a str>) -> Option<i64> {
        uids.filter_map(|uid| self.recorded.get(uid)?.first()).map(|(.., number)| *number).min()
    }

    /// The hash of the trail's first record.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Whether everything that is stored was read.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// The trail was found not whole, or cannot be gone on with.
    pub fn set_broken(&mut self) {
        self.broken = true;
    }

    /// Whether the trail was found not whole.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Takes in the stored record, by its `spec`: the next one of the chain, signed by a key that may sign there. These keys vouch
    /// for the beginning and for anchors. What it records waits no longer. Returns the uids that it is about.
    pub fn learn(&mut self, spec: &Value, keys: &Keys) -> Result<BTreeSet<String>, Fault> {
        self.take_in(verify::read(spec)?, keys)
    }

    /// Takes in the record that was sealed here and is stored like this. What is stored as it was sealed is not computed again.
    pub fn learn_sealed(&mut self, sealed: Sealed, stored: &Value, keys: &Keys) -> Result<BTreeSet<String>, Fault> {
        let Sealed { record, spec, signed } = sealed;
        if *stored == spec { self.take_in(Read { record, signed }, keys) } else { self.learn(stored, keys) }
    }

    fn take_in(&mut self, read: Read, keys: &Keys) -> Result<BTreeSet<String>, Fault> {
        let Read { record, signed } = read;
        self.begin(&record);
        let by = self.signers.check(&record, &signed, keys)?;
        verify::follows(&record, &self.head, &HashSet::new())?;
        let hash = hash_text(&signed);
        if record.sequence == 1 {
            self.first = Some(hash.clone());
        }
        self.head = Head { length: record.last, hash };
        self.signers.learn(&record, by);
        let mut uids = BTreeSet::new();
        let mut written = HashSet::new();
        for (number, entry) in (record.sequence..).zip(record.entries) {
            // What was refused is offered once, and nobody asks for it again.
            if let Some((uid, (revision, transition))) =
                split(&entry.key).filter(|_| entry.transition != Transition::Refused)
            {
                let recorded = self.recorded.entry(uid.into()).or_default();
                // A handful each, of very many.
                recorded.reserve_exact(1);
                recorded.push((revision, transition, number));
                uids.insert(uid.into());
            }
            if let Some(pruned) = &entry.pruned {
                self.anchor(pruned);
            }
            if self.waiting_keys.remove(&entry.key) {
                written.insert(entry.key);
            }
        }
        if !written.is_empty() {
            self.waiting.retain(|entry| !written.contains(&entry.key));
        }
        Ok(uids)
    }

    /// Where the first record that is there is not the trail's first, the trail has to say so: see [`Self::check_beginning`].
    fn begin(&mut self, record: &ApprovalRecordSpec) {
        if !self.read && self.head == Head::default() && record.sequence > 1 {
            self.head = verify::before(record);
            self.missing = self.head.length;
        }
    }

    fn anchor(&mut self, pruned: &Pruned) {
        if self.pruned.as_ref().is_none_or(|known| known.through < pruned.through) {
            self.first.get_or_insert_with(|| pruned.first.clone());
            self.pruned = Some(pruned.clone());
        }
    }

    /// Who may sign, as far as the trail was read.
    pub fn signers(&self) -> &Signers {
        &self.signers
    }

    /// Whether there is an entry of that key.
    pub fn is_recorded(&self, key: &str) -> bool {
        self.number(key).is_some()
    }

    /// The number of the entry of that key, once it is recorded.
    pub fn number(&self, key: &str) -> Option<i64> {
        let (uid, place) = split(key)?;
        let recorded = self.recorded.get(uid)?.iter();
        recorded.rev().find(|(revision, transition, _)| (*revision, *transition) == place).map(|(.., number)| *number)
    }

    /// Whether an entry of that transition waits to be recorded.
    pub fn waits(&self, transition: Transition) -> bool {
        self.waiting.iter().any(|entry| entry.transition == transition)
    }

    /// Whether an entry of that key is recorded, or waits to be.
    pub fn knows(&self, key: &str) -> bool {
        self.waiting_keys.contains(key) || self.is_recorded(key)
    }

    /// Takes an entry to be recorded, unless there is one of its key. Returns whether it was taken.
    pub fn offer(&mut self, entry: RecordEntry) -> bool {
        if self.is_recorded(&entry.key) || !self.waiting_keys.insert(entry.key.clone()) {
            return false;
        }
        self.waiting.push_back(entry);
        true
    }

    /// Nothing will be asked about that uid any more.
    pub fn forget(&mut self, uid: &str) {
        self.recorded.remove(uid);
    }

    /// Keeps what is known of these uids, and forgets the rest: what the trail tells of requests that are gone.
    pub fn keep(&mut self, known: impl Fn(&str) -> bool) {
        self.recorded.retain(|uid, _| known(uid));
    }

    /// When the oldest of what waits happened.
    pub fn waits_since(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|entry| entry.time.0).min()
    }

    /// How many entries wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether more waits to be recorded than may while nothing is.
    pub fn is_full(&self) -> bool {
        self.waiting.len() > MOST_WAITING
    }

    /// Something was recorded, or begins to wait where nothing did.
    pub fn go_on(&mut self, now: Timestamp) {
        self.went_on = Some(now);
    }

    /// When the trail went on last; none where so much waits that it does not matter.
    pub fn went_on(&self) -> Option<Timestamp> {
        self.went_on.filter(|_| self.waiting.len() <= MOST_BEHIND)
    }

    /// The record to write next; none where nothing waits, or where the trail has not been read yet.
    pub fn next(&self, key: &Keyring) -> Result<Option<Sealed>, CanonicalError> {
        if !self.read || self.broken || self.waiting.is_empty() {
            return Ok(None);
        }
        let mut bytes = 0;
        let mut batch = vec![];
        for entry in self.waiting.iter().take(MAX_ENTRIES) {
            bytes += serde_json::to_string(entry)?.len();
            if bytes > MOST_BYTES && !batch.is_empty() {
                break;
            }
            batch.push(entry.clone());
        }
        chain::sealed(&self.head, batch, key).map(Some)
    }

    /// A statement of how far the trail has come; none while it is empty.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let first = self.first.as_ref()?;
        Some(Checkpoint { origin: checkpoint::origin(first), head: self.head.clone() })
    }
}

/// A key as uid, revision and transition.
fn split(key: &str) -> Option<(&str, (i64, Transition))> {
    let mut parts = key.splitn(3, '/');
    let (uid, revision, transition) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    Some((uid, (revision, Transition::parse(transition)?)))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
