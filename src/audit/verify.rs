//! Whether a trail is whole: nothing edited, missing, reordered, cut off, forked, or signed by somebody else.

use crate::api::{ApprovalRecordSpec, Transition};
use crate::audit::{Checkpoint, GENESIS, Head, Signers, chain, checkpoint};
use crate::binding::{hash_text, key_name, verify as signed_by};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a verifier goes by.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The public keys that vouch for its beginning, and for where it goes on after a key was lost. The others it names itself.
    pub keys: Vec<[u8; 32]>,
    /// What was kept of earlier states of the trail, checked already.
    pub checkpoints: Vec<Checkpoint>,
}

/// What is wrong with a trail.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// Its content is not what was signed.
    #[error("edited: the record beginning with entry {sequence} is not what key {key} signed")]
    Edited {
        /// The number of its first entry.
        sequence: i64,
        /// The key that it names.
        key: String,
    },
    /// It is signed by a key that is not trusted.
    #[error("signed by another key: the record beginning with entry {sequence} names key {key}, which is not trusted")]
    ForeignKey {
        /// The number of its first entry.
        sequence: i64,
        /// The key that it names.
        key: String,
    },
    /// It is signed by a key that is trusted, and that may not sign at this place.
    #[error(
        "signed by a key that was not introduced: the record beginning with entry {sequence} names key {key}, and no record before \
         it says that this key may sign"
    )]
    NotIntroduced {
        /// The number of its first entry.
        sequence: i64,
        /// The key that it names.
        key: String,
    },
    /// It is signed by a key after that was retired.
    #[error(
        "signed by a retired key: the record beginning with entry {sequence} names key {key}, which a record before it retired"
    )]
    RetiredKey {
        /// The number of its first entry.
        sequence: i64,
        /// The key that it names.
        key: String,
    },
    /// Entries are not there.
    #[error("missing: entries {from} to {to}")]
    Missing {
        /// The first that is missing.
        from: i64,
        /// The last that is missing.
        to: i64,
    },
    /// The records are all there, in another order.
    #[error("reordered: where entry {expected} should stand, there stands entry {found}")]
    Reordered {
        /// The number that should stand there.
        expected: i64,
        /// The number that does.
        found: i64,
    },
    /// A record is there twice.
    #[error("twice: the record beginning with entry {0} stands there again")]
    Twice(i64),
    /// There are two different continuations of one chain, both signed.
    #[error("forked: the record beginning with entry {0} does not follow from the one before it, though it is signed")]
    Forked(i64),
    /// Something happened twice, or is told of twice.
    #[error("told twice: {key} stands in entries {first} and {second}")]
    Repeated {
        /// The key of the entries.
        key: String,
        /// The number of the first.
        first: i64,
        /// The number of the second.
        second: i64,
    },
    /// It is shorter than it was.
    #[error("cut off: it ends with entry {length}, and a checkpoint knows of {stated}")]
    Truncated {
        /// Where it ends.
        length: i64,
        /// Where it had come to.
        stated: i64,
    },
    /// It is another one than it was.
    #[error("rewritten: at entry {0} it is not the trail that a checkpoint knows")]
    Rewritten(i64),
}

/// What verifying found. `fault` is the first thing that is wrong.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Records up to the first fault.
    pub records: usize,
    /// Number of the last entry before the first fault.
    pub entries: i64,
    /// Entries at its beginning that were pruned, as it says itself.
    pub pruned: i64,
    /// Checkpoints that are about what was pruned: a trail that has it is needed to compare them.
    pub uncompared: usize,
    /// The name of the trail; none where it is empty.
    pub origin: Option<String>,
    /// Where the whole part ends.
    pub head: Head,
    /// Where the first fault is: a line of the input, from 1; none where it is the end of the trail.
    pub line: Option<usize>,
    /// The first fault.
    pub fault: Option<Fault>,
    /// Who may sign, where the whole part ends.
    pub signers: Signers,
}

/// A record that was read, and what is signed of it.
pub(super) struct Read {
    pub record: ApprovalRecordSpec,
    pub signed: Vec<u8>,
}

/// Public keys by their names.
pub type Keys = BTreeMap<String, [u8; 32]>;

/// Public keys by their names.
pub fn by_name(keys: &[[u8; 32]]) -> Keys {
    keys.iter().map(|key| (key_name(key), *key)).collect()
}

/// Checks a trail from its first record: each item is a record's `spec`, in order. It begins with entry 1, or behind what it
/// says was pruned.
pub fn verify(specs: &[Value], trusted: &Trusted) -> Report {
    let mut seen = Seen::default();
    let mut report = Report::default();
    let keys = by_name(&trusted.keys);
    let sequences = sequences(specs);
    let anchored = anchored(specs);
    for (line, spec) in specs.iter().enumerate() {
        let checked = read(spec).and_then(|read| {
            let by = report.signers.check(&read.record, &read.signed, &keys)?;
            seen.begin(&read.record, anchored, &mut report);
            seen.follows(&read, &report.head, &sequences)?;
            seen.no_twins(&read.record)?;
            seen.agrees(&read.record)?;
            Ok((read, by))
        });
        match checked {
            Ok((read, by)) => {
                report.signers.learn(&read.record, by);
                report.head = seen.take(&read);
                report.records += 1;
                report.entries = read.record.last;
            }
            Err(fault) => {
                report.line = Some(line + 1);
                report.fault = Some(fault);
                break;
            }
        }
    }
    report.origin = seen.first.as_deref().map(checkpoint::origin);
    if report.fault.is_none() {
        let mut kept: Vec<_> = trusted.checkpoints.iter().collect();
        kept.sort_by_key(|checkpoint| checkpoint.head.length);
        report.uncompared = kept.iter().filter(|checkpoint| checkpoint.head.length < report.pruned).count();
        report.fault = kept.into_iter().find_map(|checkpoint| against(checkpoint, &report, &seen.heads));
    }
    report
}

/// How far the trail says itself that its beginning was pruned.
fn anchored(specs: &[Value]) -> i64 {
    let entries = specs.iter().filter_map(|spec| spec["entries"].as_array()).flatten();
    entries.filter_map(|entry| entry["pruned"]["through"].as_i64()).max().unwrap_or(0)
}

/// What was seen of a trail so far.
#[derive(Default)]
struct Seen {
    /// Hash of the trail's first record, which names the trail.
    first: Option<String>,
    /// What each length that a checkpoint may name had for its hash.
    heads: HashMap<i64, String>,
    /// Hashes of records, by the number of their first entry.
    records: HashMap<i64, String>,
    /// Numbers of entries, by their keys.
    told: HashMap<String, i64>,
}

impl Seen {
    /// Where the first record is not the trail's first, and the trail says so, what is before it was pruned.
    fn begin(&mut self, record: &ApprovalRecordSpec, anchored: i64, report: &mut Report) {
        if report.records > 0 || anchored == 0 || record.sequence <= 1 {
            return;
        }
        let before = before(record);
        report.pruned = before.length.min(anchored);
        // What is missing behind the anchor is missing.
        report.head = if before.length > anchored { Head { length: anchored, ..Head::default() } } else { before };
        self.heads.insert(report.head.length, report.head.hash.clone());
    }

    fn follows(&self, read: &Read, head: &Head, sequences: &HashSet<i64>) -> Result<(), Fault> {
        let other = |found: &i64| self.records.get(found).is_some_and(|hash| *hash != hash_text(&read.signed));
        match follows(&read.record, head, sequences) {
            Err(Fault::Twice(found)) if other(&found) => Err(Fault::Forked(found)),
            outcome => outcome,
        }
    }

    fn no_twins(&mut self, record: &ApprovalRecordSpec) -> Result<(), Fault> {
        for (number, entry) in (record.sequence..).zip(&record.entries) {
            if entry.transition == Transition::Refused {
                continue;
            }
            if let Some(first) = self.told.insert(entry.key.clone(), number) {
                return Err(Fault::Repeated { key: entry.key.clone(), first, second: number });
            }
        }
        Ok(())
    }

    /// What an anchor says of the part before it is so, as far as that is here.
    fn agrees(&mut self, record: &ApprovalRecordSpec) -> Result<(), Fault> {
        for pruned in record.entries.iter().filter_map(|entry| entry.pruned.as_ref()) {
            let known = self.heads.get(&pruned.through);
            if known.is_some_and(|hash| *hash != pruned.hash) || pruned.through >= record.sequence {
                return Err(Fault::Rewritten(pruned.through));
            }
            if self.first.get_or_insert_with(|| pruned.first.clone()) != &pruned.first {
                return Err(Fault::Rewritten(1));
            }
        }
        Ok(())
    }

    fn take(&mut self, read: &Read) -> Head {
        let (hash, record) = (hash_text(&read.signed), &read.record);
        if record.sequence == 1 {
            self.first = Some(hash.clone());
        }
        self.heads.insert(record.last, hash.clone());
        self.records.insert(record.sequence, hash.clone());
        Head { length: record.last, hash }
    }
}

fn sequences(specs: &[Value]) -> HashSet<i64> {
    specs.iter().filter_map(|spec| spec["sequence"].as_i64()).collect()
}

pub(super) fn read(spec: &Value) -> Result<Read, Fault> {
    let record: ApprovalRecordSpec = serde_path_to_error::deserialize(spec)
        .map_err(|e| Fault::Unreadable(format!("spec.{}: {}", e.path(), e.inner())))?;
    let signed = chain::signed_bytes(spec).map_err(|e| Fault::Unreadable(e.to_string()))?;
    Ok(Read { record, signed })
}

pub(super) fn signature(record: &ApprovalRecordSpec, signed: &[u8], public: &[u8; 32]) -> Result<(), Fault> {
    let (sequence, key) = (record.sequence, record.key_id.clone());
    let holds = STANDARD.decode(&record.signature).is_ok_and(|signature| signed_by(public, signed, &signature));
    let counted =
        i64::try_from(record.entries.len()).is_ok_and(|n| record.sequence.checked_add(n - 1) == Some(record.last));
    if holds && counted && !record.entries.is_empty() { Ok(()) } else { Err(Fault::Edited { sequence, key }) }
}

/// Where a chain stood before this record.
pub(super) fn before(record: &ApprovalRecordSpec) -> Head {
    Head { length: record.sequence.saturating_sub(1), hash: record.previous.clone() }
}

pub(super) fn follows(record: &ApprovalRecordSpec, head: &Head, sequences: &HashSet<i64>) -> Result<(), Fault> {
    let (expected, found) = (head.length + 1, record.sequence);
    if found > expected {
        return Err(match sequences.contains(&expected) {
            true => Fault::Reordered { expected, found },
            false => Fault::Missing { from: expected, to: found - 1 },
        });
    }
    if found < expected {
        return Err(Fault::Twice(found));
    }
    let previous = if head.length == 0 { GENESIS } else { &head.hash };
    if record.previous == previous { Ok(()) } else { Err(Fault::Forked(found)) }
}

fn against(checkpoint: &Checkpoint, report: &Report, heads: &HashMap<i64, String>) -> Option<Fault> {
    let stated = checkpoint.head.length;
    if report.origin.as_deref().is_some_and(|origin| origin != checkpoint.origin) {
        return Some(Fault::Rewritten(1));
    }
    if stated < report.pruned {
        return None;
    }
    if stated > report.entries {
        return Some(Fault::Truncated { length: report.entries, stated });
    }
    (heads.get(&stated) != Some(&checkpoint.head.hash)).then_some(Fault::Rewritten(stated))
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
