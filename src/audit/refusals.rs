//! Refused attempts, counted: however often somebody is refused, the trail grows by a few entries in a while. Pure.

use crate::api::record::{RecordedCaller, RecordedRequest};
use crate::api::{RecordEntry, Transition};
use crate::audit::entries::{blank, cut, cut_to};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Kinds of refusals that are counted apart at a time; the rest is counted together.
const MOST_KINDS: usize = 256;
/// Entries that are taken at a time; the rest waits for the next.
const MOST_ENTRIES: usize = 64;
/// Groups of a caller that are kept.
const MOST_GROUPS: usize = 32;
/// Callers that are named of what is counted together.
const MOST_CALLERS: usize = 64;

/// A refused attempt. Nothing in it is worded by a tenant but names.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// Whose it was.
    pub caller: RecordedCaller,
    /// The operation, as admission names it.
    pub operation: &'a str,
    /// The plural resource.
    pub resource: &'a str,
    /// The namespace, if there is one.
    pub namespace: &'a str,
    /// The object, as text that is safe to show.
    pub name: String,
    /// The stored request that it was about, if it was about one.
    pub request: Option<RecordedRequest>,
    /// Why it was refused, in one word.
    pub word: &'a str,
}

/// Counts refusals until they are taken.
#[derive(Debug)]
pub struct Refusals {
    /// Which start of the operator this is: its entries are told from those of every other.
    instance: String,
    /// The number of the last entry.
    number: i64,
    /// Least time between two times that entries are taken.
    every: SignedDuration,
    taken: Option<Timestamp>,
    /// In the order in which the first of each came.
    kinds: Vec<Kind>,
    others: Option<Others>,
}

/// Refusals of one caller, resource, namespace and word.
#[derive(Debug)]
struct Kind {
    caller: RecordedCaller,
    resource: String,
    namespace: String,
    word: String,
    count: i64,
    last: Timestamp,
    message: String,
    /// The request that all of them were about.
    request: Option<RecordedRequest>,
}

/// What is counted together.
#[derive(Debug)]
struct Others {
    callers: BTreeSet<String>,
    count: i64,
    last: Timestamp,
}

impl Refusals {
    /// Nothing was refused. `instance` differs from start to start.
    pub fn new(instance: &str, every: SignedDuration) -> Self {
        Self { instance: cut_to(instance, 64), number: 0, every, taken: None, kinds: vec![], others: None }
    }

    /// Counts a refused attempt.
    pub fn count(&mut self, attempt: Attempt<'_>, now: Timestamp) {
        let Attempt { caller, operation, resource, namespace, name, request, word } = attempt;
        let username = cut_to(&caller.username, 512);
        let of = |kind: &&mut Kind| {
            kind.caller.username == username
                && (&*kind.resource, &*kind.namespace, &*kind.word) == (resource, namespace, word)
        };
        let message = cut(&format!("{operation} of {resource} {name} was refused: {word}"));
        if let Some(kind) = self.kinds.iter_mut().find(of) {
            kind.count = kind.count.saturating_add(1);
            kind.last = now;
            kind.message = message;
            kind.caller = bounded(caller);
            kind.request = kind.request.take().filter(|before| request.as_ref().is_some_and(|r| r.uid == before.uid));
        } else if self.kinds.len() < MOST_KINDS {
            let (resource, namespace, word) = (resource.into(), namespace.into(), word.into());
            let caller = bounded(caller);
            self.kinds.push(Kind { caller, resource, namespace, word, count: 1, last: now, message, request });
        } else {
            let others = self.others.get_or_insert(Others { callers: BTreeSet::new(), count: 0, last: now });
            others.count = others.count.saturating_add(1);
            others.last = now;
            if others.callers.len() < MOST_CALLERS {
                others.callers.insert(username);
            }
        }
    }

    /// Whether there is something to take at that time.
    pub fn are_due(&self, now: Timestamp) -> bool {
        // A clock that was set back must not keep them.
        let waited = self.taken.is_none_or(|taken| now.duration_since(taken).abs() >= self.every);
        waited && (!self.kinds.is_empty() || self.others.is_some())
    }

    /// Takes what was counted, as entries, where it is due: first what came first.
    pub fn take(&mut self, now: Timestamp) -> Vec<RecordEntry> {
        if !self.are_due(now) {
            return vec![];
        }
        self.taken = Some(now);
        let others = self.others.take();
        let room = MOST_ENTRIES - usize::from(others.is_some());
        let taken: Vec<Kind> = self.kinds.drain(..room.min(self.kinds.len())).collect();
        let mut entries: Vec<RecordEntry> = taken.into_iter().map(|kind| self.entry(kind)).collect();
        entries.extend(others.map(|others| self.together(others)));
        entries
    }

    fn entry(&mut self, kind: Kind) -> RecordEntry {
        let more = if kind.count > 1 { format!("; {} times, this is the last", kind.count) } else { String::new() };
        RecordEntry {
            by: vec![kind.caller],
            request: kind.request,
            reason: cut_to(&kind.word, 64),
            message: cut(&format!("{}{more}", kind.message)),
            count: Some(kind.count),
            ..self.next(kind.last)
        }
    }

    fn together(&mut self, others: Others) -> RecordEntry {
        let caller = |username| RecordedCaller { username, uid: None, groups: vec![] };
        RecordEntry {
            by: others.callers.into_iter().map(caller).collect(),
            reason: "Others".into(),
            message: "refused beyond what is counted apart".into(),
            count: Some(others.count),
            ..self.next(others.last)
        }
    }

    fn next(&mut self, time: Timestamp) -> RecordEntry {
        self.number += 1;
        RecordEntry {
            key: format!("refused-{}/{}/Refused", self.instance, self.number),
            ..blank(Transition::Refused, time)
        }
    }
}

/// A caller as an entry takes one: a record that the API server refused would stop the trail.
fn bounded(caller: RecordedCaller) -> RecordedCaller {
    let mut groups = caller.groups;
    groups.truncate(MOST_GROUPS);
    RecordedCaller {
        username: cut_to(&caller.username, 512),
        uid: caller.uid.map(|uid| cut_to(&uid, 256)),
        groups: groups.iter().map(|group| cut_to(group, 256)).collect(),
    }
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
