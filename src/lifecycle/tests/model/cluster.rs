//! What the API server holds, and the changes that people and time make to it.

use super::oracle::Invariant;
use super::*;
use std::collections::HashMap;
use std::hash::Hash;

/// Stands for a text or an object that a [`Table`] keeps.
pub(super) type Id = u32;

/// Gives equal things the same small number, so that states are small and compare fast.
pub(super) struct Table<T> {
    ids: HashMap<T, Id>,
    all: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ids: HashMap::new(), all: vec![] }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    pub(super) fn id(&mut self, thing: T) -> Id {
        if let Some(id) = self.ids.get(&thing) {
            return *id;
        }
        let id = Id::try_from(self.all.len()).unwrap();
        self.all.push(thing.clone());
        self.ids.insert(thing, id);
        id
    }

    pub(super) fn get(&self, id: Id) -> &T {
        &self.all[id as usize]
    }
}

/// Who reviews.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Voice {
    Alice,
    Bob,
    /// Whoever asked: of the right group, but they may not approve what they asked for.
    Requester,
    /// Of no group that policy names.
    Outsider,
}

impl Voice {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
            Self::Requester => "triage",
            Self::Outsider => "mallory",
        }
    }

    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Alice | Self::Bob)
    }
}

/// A stored review, and what the oracle knows of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Word {
    pub by: Voice,
    pub deny: bool,
    pub digest: Id,
    pub sealed: bool,
    pub clock: u8,
    /// What it speaks of is not what is shown, now or at some time since.
    pub void: bool,
    /// It came after the deadline that stood in the status.
    pub late: bool,
}

/// The stored request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Request {
    pub version: u8,
    pub words: Vec<Word>,
    pub cancel: bool,
    pub status: Option<Id>,
    /// The digest that was shown first.
    pub first: Option<Id>,
}

/// All that is stored, with the version of each kind that a list would tell.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct View {
    pub request: Id,
    pub job: Id,
    pub targets_version: u8,
    pub policy: Rule,
    pub policies_version: u8,
    pub clock: u8,
}

/// What the one policy says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Rule {
    /// One approval.
    One,
    /// Two approvals.
    Two,
    Allow,
    Deny,
    /// Nothing about this request.
    Silent,
}

impl Rule {
    pub(super) fn spec(self) -> Value {
        let mut spec = match self {
            Self::One | Self::Two | Self::Silent => policy("RequireApproval"),
            Self::Allow => policy("Allow"),
            Self::Deny => policy("Deny"),
        };
        match self {
            Self::Two => spec["rules"][0]["approvals"]["requirements"][0]["count"] = json!(2),
            Self::Silent => spec["rules"][0]["when"] = json!({"riskTags": ["other"]}),
            // Allow rules see facts only.
            Self::Allow => drop(spec["rules"][0].as_object_mut().unwrap().remove("when")),
            Self::One | Self::Deny => {}
        }
        if self == Self::Deny {
            spec = json!({"rules": [{"name": "stop", "when": {"riskTags": ["prod"]}, "decision": "Deny"}]});
        }
        spec
    }
}

/// The server, with what the oracle remembers of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Server {
    pub stored: View,
    /// What the policy says after the next edit.
    pub edited: Rule,
    /// How often the Job of each uid was started.
    pub starts: [u8; 2],
    /// Whether a policy has ever denied it.
    pub policy_denied: bool,
    pub stopped: bool,
    /// Whether what was started needed nobody's approval.
    pub allowed: bool,
    /// Whether a start was let pass that came late, as policy allows it.
    pub let_pass: bool,
}

/// Something that people or time do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// A review through admission, of what the status shows now, or of what it showed first.
    Say {
        by: Voice,
        deny: bool,
        old: bool,
    },
    /// An entry in alice's name that admission never saw.
    Forge,
    EditPolicy,
    EditJob,
    /// The Job is deleted and created anew under its name.
    Recreate,
    /// Somebody suspends the Job that runs.
    Stop,
    Withdraw,
    /// A deadline passes.
    Tick,
}

/// When a clock stands at `tick`: before any deadline, after the first, and after all.
pub(super) fn time(tick: u8) -> Timestamp {
    at(1 + 700 * i64::from(tick))
}

impl Memo {
    /// Every event that can happen now.
    pub(super) fn events(&mut self, server: &Server) -> Vec<Event> {
        let request = self.requests.get(server.stored.request).clone();
        let job = self.job(server.stored.job);
        let mut events = vec![Event::EditPolicy];
        if let Some(digest) = self.status(request.status).digest {
            let say = |by, deny| Event::Say { by, deny, old: false };
            events.extend([say(Voice::Alice, false), say(Voice::Bob, false), say(Voice::Bob, true)]);
            events.extend([say(Voice::Requester, false), say(Voice::Outsider, false), Event::Forge]);
            if request.first != Some(digest) {
                events.push(Event::Say { by: Voice::Alice, deny: false, old: true });
            }
        }
        if job.held && server.starts[job.uid] == 0 {
            events.push(Event::EditJob);
        }
        if job.uid == 0 {
            events.push(Event::Recreate);
        }
        if !job.held && !server.stopped {
            events.push(Event::Stop);
        }
        if !request.cancel {
            events.push(Event::Withdraw);
        }
        if server.stored.clock < 2 {
            events.push(Event::Tick);
        }
        events
    }

    /// Makes it happen; none where it changes nothing.
    pub(super) fn happen(&mut self, server: &mut Server, event: Event) -> Option<()> {
        match event {
            Event::Say { by, deny, old } => {
                let first = self.requests.get(server.stored.request).first;
                let digest = if old { first? } else { self.shown(server)? };
                self.say(server, Word::new(by, deny, digest, old))?;
            }
            Event::Forge => {
                let shown = self.shown(server)?;
                self.say(server, Word { sealed: false, ..Word::new(Voice::Alice, false, shown, false) })?;
            }
            Event::EditPolicy => {
                std::mem::swap(&mut server.stored.policy, &mut server.edited);
                server.policy_denied |= server.stored.policy == Rule::Deny;
                server.stored.policies_version += 1;
            }
            Event::EditJob => self.edit_job(server, |job| {
                let command = &mut job["spec"]["template"]["spec"]["containers"][0]["command"];
                *command = if *command == json!(["drain"]) { json!(["delete"]) } else { json!(["drain"]) };
            }),
            Event::Recreate => {
                server.stored.targets_version += 1;
                let version = server.stored.targets_version;
                server.stored.job = self.texts.id(job("j1", version.into()).to_string());
            }
            Event::Stop => {
                server.stopped = true;
                self.edit_job(server, |job| job["spec"]["suspend"] = json!(true));
            }
            Event::Withdraw => {
                let mut request = self.requests.get(server.stored.request).clone();
                request.cancel = true;
                self.store(server, request);
            }
            Event::Tick => server.stored.clock += 1,
        }
        Some(())
    }

    fn shown(&mut self, server: &Server) -> Option<Id> {
        let status = self.requests.get(server.stored.request).status;
        self.status(status).digest
    }

    fn say(&mut self, server: &mut Server, mut word: Word) -> Option<()> {
        let mut request = self.requests.get(server.stored.request).clone();
        word.clock = server.stored.clock;
        word.late = self.status(request.status).pending_until.is_some_and(|by| by < time(word.clock));
        if request.words.contains(&word) {
            return None;
        }
        request.words.push(word);
        self.store(server, request);
        Some(())
    }

    fn edit_job(&mut self, server: &mut Server, edit: impl FnOnce(&mut Value)) {
        let mut job: Value = serde_json::from_str(self.texts.get(server.stored.job)).unwrap();
        edit(&mut job);
        self.store_job(server, job);
    }

    fn store_job(&mut self, server: &mut Server, mut job: Value) {
        server.stored.targets_version += 1;
        let version = server.stored.targets_version;
        job["metadata"]["resourceVersion"] = json!(version.to_string());
        job["metadata"]["generation"] = json!(version);
        server.stored.job = self.texts.id(job.to_string());
    }

    fn store(&mut self, server: &mut Server, mut request: Request) {
        request.version += 1;
        server.stored.request = self.requests.id(request);
    }

    /// Carries out a write as the API server would; an error is its refusal.
    pub(super) fn write(&mut self, server: &mut Server, write: &Write) -> Result<Option<Invariant>, ()> {
        match write {
            Write::Release { patch, seen } => {
                let mut judged = server.clone();
                let broken = self.judge_release(&mut judged, *patch, *seen);
                self.patch_job(server, *patch)?;
                (server.allowed, server.let_pass) = (judged.allowed, judged.let_pass);
                let job = self.job(server.stored.job);
                server.starts[job.uid] += 1;
                Ok(broken)
            }
            Write::Close { patch } => self.patch_job(server, *patch).map(|()| None),
            Write::Status { status, guard } => {
                let mut request = self.requests.get(server.stored.request).clone();
                if request.version != *guard && !self.is(Mutant::StatusUnguarded) {
                    return Err(());
                }
                let broken = self.judge_status(server, *status);
                let ends = self.status(Some(*status)).state;
                server.let_pass |= server.allowed && ends.is_final() && ends != State::Released;
                let (before, after) = (self.status(request.status).digest, self.status(Some(*status)).digest);
                for word in request.words.iter_mut().filter(|w| before != after && Some(w.digest) == before) {
                    word.void = true;
                }
                request.status = Some(*status);
                request.first = request.first.or(after);
                self.store(server, request);
                Ok(broken)
            }
        }
    }

    fn patch_job(&mut self, server: &mut Server, patch: Id) -> Result<(), ()> {
        let mut job: Value = serde_json::from_str(self.texts.get(server.stored.job)).unwrap();
        let operations: Value = serde_json::from_str(self.texts.get(patch)).unwrap();
        if operations[0]["value"] != job["metadata"]["resourceVersion"] && !self.is(Mutant::JobUnguarded) {
            return Err(());
        }
        let operations: json_patch::Patch = serde_json::from_value(operations).unwrap();
        json_patch::patch(&mut job, &operations).map_err(drop)?;
        self.store_job(server, job);
        Ok(())
    }
}

impl Word {
    fn new(by: Voice, deny: bool, digest: Id, void: bool) -> Self {
        Self { by, deny, digest, sealed: true, clock: 0, void, late: false }
    }
}
