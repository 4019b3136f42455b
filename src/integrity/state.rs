//! All objects that hold the gate together: what is wrong now, and what of that is news.

use crate::api::condition;
use crate::api::{Condition, ConditionStatus};
use crate::integrity::Kind;
use crate::integrity::compare::{Finding, compare};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Type of the condition.
pub const GATE_INTACT: &str = "GateIntact";
/// How long a Job that somebody else started counts against the gate. Nothing tells that it will not happen again.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// Most such Jobs that are remembered by name; the oldest goes first.
const MOST_JOBS: usize = 20;
/// Findings that the condition's message names.
const NAMED: usize = 5;
/// Longest message, in bytes: as long as a condition takes.
const LONGEST: usize = 2000;

/// An object that cannot be watched over.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwatchable {
    /// Its kind is none of those that hold the gate.
    #[error("{0:?} is not a kind of object that holds the gate")]
    Kind(String),
    /// It has no name.
    #[error("a {0} has no name")]
    Nameless(&'static str),
    /// It is there twice.
    #[error("{0} is expected twice")]
    Twice(String),
}

/// What changed since the last time it was told.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What was found and was not told before, also if it is mended by now.
    pub found: Vec<Finding>,
    /// Objects that are as they should be again.
    pub mended: Vec<String>,
    /// Whether nothing is wrong any more.
    pub whole_again: bool,
}

/// Most ways in which an object may be stored: more are not on their way at once.
const MOST_WAYS: usize = 4;

#[derive(Debug)]
struct Object {
    kind: Kind,
    name: String,
    /// How it may be stored, the last one to become so last. One that is seen rules out those before it. None where that is
    /// not known yet.
    expected: Vec<Value>,
    /// As it is stored, or that it is not; none while it was not looked at.
    stored: Option<Option<Value>>,
    findings: Vec<Finding>,
}

impl Object {
    fn new(kind: Kind, name: &str, expected: Vec<Value>) -> Self {
        Self { kind, name: name.into(), expected, stored: None, findings: vec![] }
    }

    fn expect(&mut self, value: Value) {
        self.expected.retain(|known| *known != value);
        self.expected.push(value);
        let beyond = self.expected.len().saturating_sub(MOST_WAYS);
        self.expected.drain(..beyond);
    }

    /// Compares what is stored with every way in which it may be. Where it is none of them, the nearest tells what is wrong.
    fn judge(&mut self) {
        let Some(stored) = &self.stored else { return };
        let compared = self.expected.iter().map(|expected| compare(expected, stored.as_ref())).enumerate();
        let nearest = compared.rev().min_by_key(|(_, findings)| findings.len());
        let (way, findings) = nearest.unwrap_or_default();
        if findings.is_empty() {
            self.expected.drain(..way);
        }
        self.findings = findings;
    }
}

/// What is expected, and what is wrong with what is stored.
#[derive(Debug)]
pub struct State {
    objects: BTreeMap<(Kind, String), Object>,
    unseen: BTreeSet<Kind>,
    unserved: BTreeSet<Kind>,
    started_elsewhere: VecDeque<(Timestamp, Finding)>,
    told: BTreeSet<Finding>,
    /// All that was found since the last time it was told, mended since or not: a gate that was open for a moment was open.
    since: BTreeSet<Finding>,
    conditions: Vec<Condition>,
}

impl State {
    /// Expects exactly these objects.
    pub fn new(expected: Vec<Value>) -> Result<Self, Unwatchable> {
        let mut objects = BTreeMap::new();
        for expected in expected {
            let name = expected["kind"].as_str().unwrap_or_default();
            let kind = Kind::named(name).ok_or_else(|| Unwatchable::Kind(name.into()))?;
            let name = expected.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if name.is_empty() {
                return Err(Unwatchable::Nameless(kind.name()));
            }
            let id = format!("{}/{name}", kind.name());
            let object = Object::new(kind, &name, vec![expected]);
            if objects.insert((kind, name), object).is_some() {
                return Err(Unwatchable::Twice(id));
            }
        }
        let unseen = objects.keys().map(|(kind, _)| *kind).collect();
        Ok(Self {
            objects,
            unseen,
            unserved: BTreeSet::new(),
            started_elsewhere: VecDeque::new(),
            told: BTreeSet::new(),
            since: BTreeSet::new(),
            conditions: vec![],
        })
    }

    /// Expects an object of that kind and name as well, in a way that is told later.
    pub fn await_one(&mut self, kind: Kind, name: &str) {
        self.unseen.insert(kind);
        self.objects.entry((kind, name.to_owned())).or_insert_with(|| Object::new(kind, name, vec![]));
    }

    /// From now on an object may also be stored like this, and only like this once it was. One of another kind or name than
    /// those that are expected is passed over.
    pub fn expect(&mut self, expected: Value) {
        let kind = expected["kind"].as_str().and_then(Kind::named);
        let name = expected.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(object) = kind.and_then(|kind| self.objects.get_mut(&(kind, name))) else { return };
        object.expect(expected);
        object.judge();
        self.since.extend(object.findings.iter().cloned());
    }

    /// The kinds that are worth a watch.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.objects.keys().map(|(kind, _)| *kind).collect()
    }

    /// The kinds of which nothing is known yet, or not how they should be.
    pub fn unseen(&self) -> BTreeSet<Kind> {
        let unknown = self.objects.values().filter(|object| object.expected.is_empty()).map(|object| object.kind);
        self.unseen.iter().copied().chain(unknown).collect()
    }

    /// Whether an object of that kind and name is expected: others need not be looked at.
    pub fn expects(&self, kind: Kind, name: &str) -> bool {
        self.objects.contains_key(&(kind, name.to_owned()))
    }

    /// These are all objects of that kind, by name. Names that are not expected are passed over.
    pub fn all(&mut self, kind: Kind, stored: &BTreeMap<String, Value>) {
        self.unseen.remove(&kind);
        for object in self.objects.values_mut().filter(|object| object.kind == kind) {
            object.stored = Some(stored.get(&object.name).cloned());
            object.judge();
            self.since.extend(object.findings.iter().cloned());
        }
    }

    /// An object is stored like this, or gone.
    pub fn set(&mut self, kind: Kind, name: &str, stored: Option<&Value>) {
        if let Some(object) = self.objects.get_mut(&(kind, name.to_owned())) {
            object.stored = Some(stored.cloned());
            object.judge();
            self.since.extend(object.findings.iter().cloned());
        }
    }

    /// The API server does not know that kind.
    pub fn not_served(&mut self, kind: Kind) {
        self.unseen.remove(&kind);
        self.unserved.insert(kind);
        for object in self.objects.values_mut().filter(|object| object.kind == kind) {
            object.stored = Some(None);
            object.judge();
            for finding in &mut object.findings {
                finding.problem.push_str(": this API server does not serve the kind");
            }
            self.since.extend(object.findings.iter().cloned());
        }
    }

    /// Whether the API server knows that kind, as far as is known.
    pub fn is_served(&self, kind: Kind) -> bool {
        !self.unserved.contains(&kind)
    }

    /// Somebody other than the operator started a Job that the gate held.
    pub fn started_elsewhere(&mut self, kind: &str, namespace: &str, name: &str, now: Timestamp) {
        let finding = Finding {
            object: format!("{kind}/{namespace}/{name}"),
            problem: "started by somebody other than the operator, without an override".into(),
        };
        self.started_elsewhere.retain(|(_, known)| *known != finding);
        self.since.insert(finding.clone());
        self.started_elsewhere.push_back((now, finding));
        if self.started_elsewhere.len() > MOST_JOBS {
            self.started_elsewhere.pop_front();
        }
    }

    /// Forgets Jobs that were started long ago. When to ask again, if any is left.
    pub fn forget(&mut self, now: Timestamp) -> Option<Timestamp> {
        let until = |since: Timestamp| since.checked_add(REMEMBERED).unwrap_or(Timestamp::MAX);
        while self.started_elsewhere.front().is_some_and(|(since, _)| until(*since) <= now) {
            self.started_elsewhere.pop_front();
        }
        self.started_elsewhere.front().map(|(since, _)| until(*since))
    }

    /// Everything that is wrong now.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let objects = self.objects.values().flat_map(|object| &object.findings);
        objects.chain(self.started_elsewhere.iter().map(|(_, finding)| finding))
    }

    /// What changed since the last call. It is told once.
    pub fn changes(&mut self) -> Changes {
        let now: BTreeSet<Finding> = self.findings().cloned().collect();
        let told = std::mem::replace(&mut self.told, now.clone());
        let since = std::mem::take(&mut self.since);
        let broken = |object: &String| now.iter().any(|finding| finding.object == *object);
        let before: BTreeSet<String> = told.union(&since).map(|finding| finding.object.clone()).collect();
        Changes {
            whole_again: now.is_empty() && !before.is_empty(),
            mended: before.into_iter().filter(|object| !broken(object)).collect(),
            found: since.difference(&told).cloned().collect(),
        }
    }

    /// The condition `GateIntact`: unknown until everything was looked at, unless something is wrong already.
    pub fn condition(&mut self, now: Timestamp) -> Condition {
        let count = self.findings().count();
        let (status, reason) = match count {
            0 if !self.unseen().is_empty() => (ConditionStatus::Unknown, "NotSeenYet"),
            0 => (ConditionStatus::True, "AsExpected"),
            _ if self.started_elsewhere.is_empty() => (ConditionStatus::False, "ObjectsChanged"),
            _ => (ConditionStatus::False, "JobsStartedElsewhere"),
        };
        let message = match status {
            ConditionStatus::True => "every object that holds the gate is as expected".into(),
            ConditionStatus::Unknown => {
                let kinds: Vec<_> = self.unseen().into_iter().map(Kind::plural).collect();
                format!("not seen yet: {}", kinds.join(", "))
            }
            ConditionStatus::False => self.message(count),
        };
        condition::set(&mut self.conditions, GATE_INTACT, status, reason, &message, None, now);
        self.conditions[0].clone()
    }

    fn message(&self, count: usize) -> String {
        let named: Vec<_> = self.findings().take(NAMED).map(ToString::to_string).collect();
        let mut message = shortened(named.join("; "), LONGEST);
        if count > NAMED {
            message.push_str(&format!("; and {} more", count - NAMED));
        }
        message
    }
}

/// At most that many bytes, cut at a character.
pub(super) fn shortened(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let end = (0..=longest).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
