//! What the inbox on a screen knows. Pure: no client, no clock.

use crate::cli::card::{Row, short_digest};
use crate::cli::escape::visible;
use crate::cli::review::Verb;
use crate::cli::review::changes::{Seen, changes};
use crate::cli::review::inbox::{Columns, Me, Waiting, standing};
use crate::cli::review::tui::input::Outcome;
use crate::lifecycle::RequestFacts;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// What does not change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether what is not mine to approve is listed as well.
    pub all: bool,
    /// Columns of the list.
    pub columns: Columns,
    /// Where it looks, for the title; safe to show.
    pub place: String,
    /// What to say where nothing waits; safe to show.
    pub nothing: String,
    /// Whether to mark by colour as well.
    pub colour: bool,
}

/// What a decision is about: nothing else than what was on the screen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The request.
    pub uid: String,
    /// All of the digest.
    pub digest: String,
}

impl Pin {
    /// What that request stands for now; none while it is not bound.
    pub fn of(request: &RequestFacts) -> Option<Self> {
        Some(Self { uid: request.uid.clone(), digest: request.status.digest.clone()? })
    }
}

/// What is asked of the person at the terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prompt {
    /// Approve or deny.
    pub verb: Verb,
    /// What.
    pub pin: Pin,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a decision has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Whether that is meant. Only an explicit yes goes on.
    Confirm,
    /// Their words.
    Comment(String),
}

/// What the last frame that was drawn had on it. Keys are about that alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// The card.
    pub card: Option<Pin>,
    /// The question: with which verb, about what, and whether it was for the comment.
    pub asked: Option<(Verb, Pin, bool)>,
    /// Lines that there is room for below each other.
    pub page: usize,
    /// Lines that there are.
    pub lines: usize,
}

/// A card, and what a reviewer saw of it before.
#[derive(Clone, Debug)]
pub struct Card {
    /// The request.
    pub uid: String,
    /// As it was first shown.
    pub first: Option<Seen>,
    /// As it is shown; none while it is read.
    pub view: Option<View>,
    /// Why there is nothing to decide any more: it left the list.
    pub over: Option<String>,
}

/// What is on a card.
#[derive(Clone, Debug)]
pub struct View {
    /// The request as this version reads it.
    pub request: RequestFacts,
    /// As stored, and what it would run.
    pub seen: Seen,
    /// What is another than in the last release.
    pub before: Vec<String>,
    /// Whether something else stands there now, and is being read.
    pub stale: bool,
}

impl Card {
    /// What is different from what was first shown: nothing while that is what stands there.
    pub fn changes(&self) -> Vec<Row> {
        let (Some(first), Some(view)) = (&self.first, &self.view) else { return vec![] };
        let digest = |seen: &Seen| seen.request.pointer("/status/digest").and_then(Value::as_str).map(String::from);
        let (old, new) = (digest(first), digest(&view.seen));
        if old == new {
            return vec![];
        }
        let short = |digest: Option<String>| digest.map_or("nothing yet".into(), |digest| short_digest(&digest));
        let now = format!("{} is now {}:", short(old), short(new));
        let lines = changes(first, &view.seen);
        let lines = lines.iter().map(|line| Row::new("Changed", &visible(line)));
        [Row::alarm("Changed", &now)].into_iter().chain(lines).collect()
    }
}

/// Something that was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// In one line, safe to show.
    pub text: String,
    /// Whether it warns.
    pub alarm: bool,
}

/// The inbox on a screen.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What does not change.
    pub settings: Settings,
    /// Who the caller is.
    pub me: Me,
    /// Policies about which the authorizer was asked.
    pub asked: BTreeSet<String>,
    /// What is listed, most urgent first.
    pub listed: Vec<Waiting>,
    /// What waits and is not listed: it is not mine.
    pub others: Vec<Waiting>,
    /// How many requests cannot be read by this version.
    pub unreadable: usize,
    /// The request whose card is open.
    pub card: Option<Card>,
    /// Where it stands in the list, or stood last.
    pub cursor: usize,
    /// The first line of the card that is on the screen.
    pub scroll: usize,
    /// What is asked.
    pub prompt: Option<Prompt>,
    /// The review that is on its way.
    pub sending: Option<(Verb, Pin)>,
    /// Whether the list is being read anew.
    pub reading: bool,
    /// While the watch lists all that waits anew: what it has named so far.
    pub again: Option<BTreeSet<String>>,
    /// What was said last.
    pub said: Option<Said>,
    /// What came of each review, in order.
    pub outcomes: Vec<Outcome>,
    /// Why the list may not be what stands there now.
    pub trouble: Option<String>,
    /// Whether the keys are explained.
    pub help: bool,
    /// What is on the screen.
    pub shown: Shown,
    /// When the list was last asked for because of trouble.
    pub tried: Option<Timestamp>,
}

impl State {
    /// The request of the card as the list has it.
    pub fn current(&self) -> Option<&Waiting> {
        let uid = &self.card.as_ref()?.uid;
        self.listed.iter().chain(&self.others).find(|one| one.request.uid == *uid)
    }

    /// Where the request of the card stands in the list.
    pub fn position(&self) -> Option<usize> {
        let uid = &self.card.as_ref()?.uid;
        self.listed.iter().position(|one| one.request.uid == *uid)
    }

    /// Takes in a request, unless a newer one is known.
    pub fn put(&mut self, request: RequestFacts, stored: Value, now: Timestamp) {
        let known = |one: &Waiting| one.request.uid == request.uid;
        if self.listed.iter().chain(&self.others).any(|one| known(one) && one.request.version > request.version) {
            return;
        }
        self.remove(&request.uid);
        let standing = standing(&request, &stored, &self.me, now);
        if let Some(standing) = standing {
            self.file(Waiting { request, stored, why_not: standing.err() });
        }
    }

    /// Takes a request out of the list.
    pub fn remove(&mut self, uid: &str) {
        self.listed.retain(|one| one.request.uid != uid);
        self.others.retain(|one| one.request.uid != uid);
    }

    /// Asks of each request anew whether it is mine; or only of those whose time has run out.
    pub fn judge(&mut self, all: bool, now: Timestamp) {
        let due = |one: &Waiting| all || (one.why_not.is_none() && one.deadline().is_some_and(|end| end <= now));
        if !self.listed.iter().chain(&self.others).any(due) {
            return;
        }
        let waiting: Vec<Waiting> = self.listed.drain(..).chain(self.others.drain(..)).collect();
        for mut one in waiting {
            if due(&one) {
                match standing(&one.request, &one.stored, &self.me, now) {
                    Some(standing) => one.why_not = standing.err(),
                    None => continue,
                }
            }
            self.file(one);
        }
    }

    /// Puts a request in its place.
    fn file(&mut self, one: Waiting) {
        if self.settings.all || one.why_not.is_none() {
            let at = self.listed.partition_point(|other| other.urgency(&one).is_lt());
            self.listed.insert(at, one);
        } else {
            self.others.push(one);
        }
    }

    /// Says something.
    pub fn say(&mut self, text: impl Into<String>) {
        self.said = Some(Said { text: text.into(), alarm: false });
    }

    /// Says something that warns.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.said = Some(Said { text: text.into(), alarm: true });
    }
}
