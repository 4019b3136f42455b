//! What must hold, told from what people saw, said and did; none of it by the code that is checked.

use super::cluster::{Id, Rule, Server, View, Voice, Word, time};
use super::*;
use std::collections::BTreeSet;

/// What must never be broken.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
}

impl Invariant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::I1 => "I1: no Job starts without a sealed, sufficient decision on just that Job",
            Self::I2 => "I2: final states absorb, and one request starts one Job once",
            Self::I3 => "I3: when faults stop, what is approved runs and nothing else does",
            Self::I4 => "I4: a decision is stored before it has an effect",
            Self::I5 => "I5: a fault changes no end",
        }
    }
}

/// What an operator looked at when it computed a digest: the Job's uid, what it runs, the rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Meaning {
    uid: usize,
    command: String,
    rule: Rule,
}

/// Where everything ends when nothing happens any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Settled {
    pub broken: Option<Invariant>,
    let_pass: bool,
    state: State,
    /// On what grounds it was started.
    on: Option<(Option<Id>, Vec<String>)>,
    starts: [u8; 2],
}

/// The uids of the Job and of the one that may take its name.
const JOBS: [&str; 2] = ["j0", "j1"];

/// Time between a deadline and its end, longer than what the operator grants.
const GRACE: SignedDuration = SignedDuration::from_secs(1);

impl Memo {
    fn meaning(&mut self, view: &View) -> Meaning {
        let job = self.job(view.job);
        Meaning { uid: job.uid, command: job.command.clone(), rule: view.policy }
    }

    /// Keeps what each digest means that this plan names first.
    pub(super) fn note_meanings(&mut self, view: &View, writes: &[Write]) {
        let stored = self.requests.get(view.request).status;
        let before = self.status(stored).digest;
        let starts = writes.iter().any(|write| matches!(write, Write::Release { .. }));
        for write in writes {
            let Write::Status { status, .. } = write else { continue };
            let info = self.status(Some(*status));
            // One that comes from the receipt on the Job was computed before.
            let repaired = info.state == State::Released && !starts;
            if let Some(digest) = info.digest.filter(|_| info.digest != before && !repaired) {
                let meaning = self.meaning(view);
                self.bound.entry(digest).or_default().insert(meaning);
            }
        }
    }

    /// The digest that a patch writes on the Job it starts.
    fn released(&mut self, patch: Id) -> Id {
        let operations: Value = serde_json::from_str(self.texts.get(patch)).unwrap();
        let path = "/metadata/annotations/countersign.dev~1released";
        let operation = operations.as_array().unwrap().iter().find(|operation| operation["path"] == path).unwrap();
        self.texts.id(operation["value"].as_str().unwrap().into())
    }

    /// Judges the start of the Job that is stored now, by an operator that saw the request `seen`.
    pub(super) fn judge_release(&mut self, server: &mut Server, patch: Id, seen: Id) -> Option<Invariant> {
        let digest = self.released(patch);
        let job = self.job(server.stored.job);
        let stored = self.requests.get(server.stored.request).clone();
        let meanings: Vec<Meaning> = self.bound.get(&digest).into_iter().flatten().cloned().collect();
        // Where policy allows a start at that moment, and nowhere else, one is let pass, and not followed any further: with a
        // Job that is deleted goes what it told of its request, be it that it was started before any status said so, or that
        // the request ended. The one that took its name may start.
        let allowed = meanings.iter().all(|m| m.rule == Rule::Allow);
        let info = self.status(stored.status);
        let ended = info.state.is_final() && info.state != State::Released;
        let other = info.uid.as_deref().is_some_and(|uid| uid != JOBS[job.uid]);
        let past = server.starts[1 - job.uid] > 0 || (ended && other);
        if server.starts[job.uid] > 0 || (ended && !other) || (past && !allowed) {
            return Some(Invariant::I2);
        }
        server.allowed = allowed;
        server.let_pass |= past;
        let same = |m: &Meaning| m.uid == job.uid && m.command == job.command;
        if meanings.is_empty() || !meanings.iter().all(same) {
            return Some(Invariant::I1);
        }
        let words = self.requests.get(seen).words.clone();
        if !meanings.iter().all(|m| sufficient(&words, digest, m.rule)) {
            return Some(Invariant::I1);
        }
        let durable = |word: &Word| stored.words.iter().any(|w| (w.by, w.digest, w.sealed) == (word.by, digest, true));
        let relied = words.iter().filter(|word| holds(word, digest));
        (!relied.clone().all(durable)).then_some(Invariant::I4)
    }

    /// Judges a status that is about to be stored.
    pub(super) fn judge_status(&mut self, server: &Server, status: Id) -> Option<Invariant> {
        let stored = self.requests.get(server.stored.request).status;
        let (before, after) = (self.status(stored), self.status(Some(status)));
        let started = server.starts.iter().any(|n| *n > 0);
        if before.state.is_final() {
            return Some(Invariant::I2);
        }
        (after.state == State::Released && !started).then_some(Invariant::I3)
    }

    /// Lets one operator that sees everything go on until there is nothing left to write, and judges what comes of it.
    pub(super) fn settle(&mut self, server: &Server) -> Settled {
        if let Some(known) = self.settled.get(server) {
            return known.clone();
        }
        let mut end = server.clone();
        let (mut broken, mut rest) = (None, false);
        for _ in 0..12 {
            let writes = self.plan(&end.stored);
            rest = writes.is_empty();
            for write in writes.iter() {
                match self.write(&mut end, write) {
                    Ok(found) => broken = broken.or(found),
                    Err(()) => break,
                }
            }
            if rest || broken.is_some() {
                break;
            }
        }
        let info = self.stored_status(&end);
        if !end.let_pass {
            broken = broken.or((!rest).then_some(Invariant::I3)).or_else(|| self.judge_end(&end));
        }
        // What was shown last is told only of what was started: other ends may name what a later look would have shown.
        let on = (info.state == State::Released).then(|| (info.digest, info.approved_by.clone()));
        let settled = Settled { broken, let_pass: end.let_pass, state: info.state, on, starts: end.starts };
        self.settled.insert(server.clone(), settled.clone());
        settled
    }

    fn stored_status(&mut self, server: &Server) -> Arc<StatusInfo> {
        let status = self.requests.get(server.stored.request).status;
        self.status(status)
    }

    fn judge_end(&mut self, end: &Server) -> Option<Invariant> {
        let info = self.stored_status(end);
        let job = self.job(end.stored.job);
        let request = self.requests.get(end.stored.request).clone();
        let gone = info.uid.as_deref().is_some_and(|uid| uid != JOBS[job.uid]);
        let started = end.starts.iter().any(|n| *n > 0);
        let explained = match info.state {
            State::Released => return (!started).then_some(Invariant::I3),
            // With the Job goes the proof that it was started, if no status had said so by then.
            _ if started => return (end.starts[job.uid] > 0).then_some(Invariant::I3),
            State::Denied => end.policy_denied || request.words.iter().any(|w| w.deny && w.sealed && w.by.counts()),
            State::Expired => end.stored.clock > 0,
            State::Cancelled => request.cancel || gone,
            State::Pending | State::Approved => {
                let over = info.pending_until.is_some_and(|by| by + GRACE < time(end.stored.clock));
                let rule = end.stored.policy;
                let decided = info
                    .digest
                    .is_some_and(|digest| sufficient(&request.words, digest, rule) || denied(&request.words, digest));
                let now = self.meaning(&end.stored);
                let shown = |digest| self.bound.get(&digest).is_some_and(|meanings| meanings.iter().eq([&now]));
                let outdated = rule != Rule::Silent && info.digest.is_some_and(|digest| !shown(digest));
                let wrong = gone || request.cancel || over || rule == Rule::Deny || decided || outdated;
                return wrong.then_some(Invariant::I3);
            }
        };
        (!explained).then_some(Invariant::I5)
    }

    /// Judges a crash between two writes: whoever takes over comes to the same end as a plan that is carried out.
    pub(super) fn judge_crash(&mut self, server: &Server, left: &[Write]) -> Option<Invariant> {
        let mut well = server.clone();
        for write in left {
            if self.write(&mut well, write).is_err() {
                break;
            }
        }
        let job = self.job(server.stored.job);
        let info = self.stored_status(server);
        // A Job that is gone tells nothing.
        let gone = info.uid.as_deref().is_some_and(|uid| uid != JOBS[job.uid]);
        let planned = left.iter().find_map(|write| match write {
            Write::Status { status, .. } => Some(self.status(Some(*status)).state),
            _ => None,
        });
        let noted = job.closed.as_deref().and_then(|note| note.split(' ').next());
        let told = noted.is_some() && noted == planned.map(State::as_str);
        if gone || !(told || server.starts[job.uid] > 0) {
            return None;
        }
        let (well, crashed) = (self.settle(&well), self.settle(server));
        let whole = |end: &Settled| end.broken.is_none() && !end.let_pass;
        (whole(&well) && whole(&crashed) && well != crashed).then_some(Invariant::I5)
    }
}

/// An approval that counts for what was shown under that digest.
fn holds(word: &Word, digest: Id) -> bool {
    word.sealed && !word.deny && !word.void && !word.late && word.digest == digest && word.by.counts()
}

fn denied(words: &[Word], digest: Id) -> bool {
    words.iter().any(|w| w.sealed && w.deny && !w.void && w.digest == digest && w.by.counts())
}

fn sufficient(words: &[Word], digest: Id, rule: Rule) -> bool {
    let people: BTreeSet<Voice> = words.iter().filter(|word| holds(word, digest)).map(|word| word.by).collect();
    let needed = match rule {
        Rule::One => 1,
        Rule::Two => 2,
        Rule::Allow => 0,
        Rule::Deny | Rule::Silent => return false,
    };
    people.len() >= needed && !denied(words, digest)
}
