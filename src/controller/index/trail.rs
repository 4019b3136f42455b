//! The audit trail beside what is watched: what there is to record of each request as it arrives.

use crate::api::{TargetKind, Transition};
use crate::audit::{
    self, Checkpoint, Fault, Head, Keys, Ledger, MOST_BEHIND, MOST_WAITING, Overriding, Refusals, Sealed, Signers, Told,
};
use crate::binding::{CanonicalError, Keyring, job_hash};
use crate::controller::index::state::{At, Request, State, forget_details};
use crate::controller::index::{Index, Key};
use crate::lifecycle::{Gate, RequestFacts, TargetFacts, Unrecorded, tells_of_override};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};

impl Index {
    /// Takes in a stored record. Returns what to look at: what waited for it.
    pub fn learn_record(&self, spec: &Value, keys: &Keys) -> Result<Vec<Key>, Fault> {
        self.learn(spec, |ledger| ledger.learn(spec, keys))
    }

    /// Takes in the record that was sealed here and is stored like this.
    pub fn learn_sealed(&self, sealed: Sealed, stored: &Value, keys: &Keys) -> Result<Vec<Key>, Fault> {
        self.learn(stored, |ledger| ledger.learn_sealed(sealed, stored, keys))
    }

    fn learn(
        &self,
        spec: &Value,
        learn: impl FnOnce(&mut Ledger) -> Result<BTreeSet<String>, Fault>,
    ) -> Result<Vec<Key>, Fault> {
        let mut state = self.write();
        let mut uids = learn(&mut state.ledger)?;
        // An override is recorded under the uid of what was started, and a request may wait for that to be let go.
        for (at, uid) in overridden(spec) {
            uids.extend(state.bound_to(&at, &uid).map(|kept| kept.outline.uid.to_string()));
        }
        Ok(uids.iter().filter_map(|uid| state.recorded(uid, &self.key)).collect())
    }

    /// Offers to the trail the overrides that no request tells of, once everything is known. Of a start that no field tells
    /// the time of, it is `now`.
    pub fn record_overrides(&self, now: Timestamp) {
        if !self.is_complete() || self.read().overrides.is_empty() {
            return;
        }
        let mut state = self.write();
        let mut new = false;
        for at in std::mem::take(&mut state.overrides) {
            new |= state.record_override(&at, &self.key, now);
        }
        if new {
            self.to_record.notify_one();
        }
    }

    /// The whole trail was read.
    pub fn set_trail_read(&self) {
        self.write().ledger.set_read();
    }

    /// Whether the whole trail was read.
    pub fn is_trail_read(&self) -> bool {
        self.read().ledger.is_read()
    }

    /// The trail cannot be gone on with: nothing is released any more.
    pub fn set_trail_broken(&self) {
        self.write().ledger.set_broken();
    }

    /// Whether the trail cannot be gone on with.
    pub fn is_trail_broken(&self) -> bool {
        self.read().ledger.is_broken()
    }

    /// Says in the trail that it goes on under our key, and not under `before`.
    pub fn anchor_trail(&self, before: &str, now: Timestamp) {
        let mut state = self.write();
        let entry = audit::anchored(before, self.key.id(), state.ledger.head().length, now);
        state.ledger.offer(entry);
        self.to_record.notify_one();
    }

    /// Every request is known: what the trail tells of others is not needed any more.
    pub fn forget_the_gone(&self) {
        let state = &mut *self.write();
        let (requests, targets) = (&state.by_uid, &state.targets);
        let mut running: HashSet<&str> = targets.values().map(|target| &*target.outline.uid).collect();
        for request in state.requests.values() {
            if let Request::Read(kept) = request {
                running.extend(kept.outline.bound_uid.as_deref());
            }
        }
        state.ledger.keep(|uid| requests.contains_key(uid) || running.contains(uid));
    }

    /// Whether the trail begins where it should.
    pub fn check_trail_beginning(&self) -> Result<(), Fault> {
        self.read().ledger.check_beginning()
    }

    /// Entries of the trail up to that number are not there any more.
    pub fn set_trail_missing(&self, through: i64) {
        self.write().ledger.set_missing(through);
    }

    /// Says in the trail that everything up to `through` goes.
    pub fn prune_trail(&self, through: &Head, until: Timestamp, now: Timestamp) {
        let mut state = self.write();
        let Some(first) = state.ledger.first().map(String::from) else { return };
        let entry = audit::retention::pruned(through, &first, state.ledger.signers(), until, now);
        state.ledger.offer(entry);
        self.to_record.notify_one();
    }

    /// What there is to know of the trail before something of it is pruned.
    pub fn kept_trail(&self) -> KeptTrail {
        let state = self.read();
        let (pruned, first) = state.ledger.pruned();
        KeptTrail {
            first,
            length: state.ledger.head().length,
            pruned: pruned.map_or(0, |pruned| pruned.through),
            whole: self.is_complete() && state.is_readable(),
            waits_since: state.ledger.waits_since(),
            unfinished: state.first_unfinished(),
        }
    }

    /// Who may sign, as far as the trail was read.
    pub fn signers(&self) -> Signers {
        self.read().ledger.signers().clone()
    }

    /// Offers to the trail what it is to tell of keys, before anything else.
    pub fn tell_of_keys(&self, now: Timestamp) {
        let mut state = self.write();
        for entry in state.ledger.signers().news(&self.key, now) {
            state.ledger.offer(entry);
        }
        self.to_record.notify_one();
    }

    /// The number that the next record begins with.
    pub fn next_sequence(&self) -> i64 {
        self.read().ledger.head().length + 1
    }

    /// The record to write next, if there is something to record.
    pub fn next_record(&self) -> Result<Option<Sealed>, CanonicalError> {
        self.read().ledger.next(&self.key)
    }

    /// Something was recorded, or begins to wait where nothing did.
    pub fn trail_goes_on(&self, now: Timestamp) {
        self.write().ledger.go_on(now);
    }

    /// How many entries wait to be recorded.
    pub fn unrecorded(&self) -> usize {
        self.read().ledger.waiting()
    }

    /// The number that the last entry that waits will have; that of the last one there is, where none does.
    pub fn last_entry(&self) -> i64 {
        let read = self.read();
        let waiting = i64::try_from(read.ledger.waiting()).unwrap_or(i64::MAX);
        read.ledger.head().length.saturating_add(waiting)
    }

    /// The number of the entry of that key, once it is recorded.
    pub fn entry_number(&self, key: &str) -> Option<i64> {
        self.read().ledger.number(key)
    }

    /// Hands over to the trail what was refused, where that is due and what was handed over before is recorded: however
    /// much is refused while the trail cannot be written, it keeps nothing from being released.
    pub fn record_refusals(&self, refusals: &mut Refusals, now: Timestamp) {
        if !refusals.are_due(now) {
            return;
        }
        let mut state = self.write();
        if state.ledger.is_broken() || state.ledger.waits(Transition::Refused) {
            return;
        }
        for entry in refusals.take(now) {
            state.ledger.offer(entry);
        }
        self.to_record.notify_one();
    }

    /// How far the trail has come; none while it is empty.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.read().ledger.checkpoint()
    }

    /// Waits until something is there to be recorded. May return early.
    pub async fn something_to_record(&self) {
        loop {
            let told = self.to_record.notified();
            if self.unrecorded() > 0 {
                return;
            }
            told.await;
        }
    }
}

/// How much of the trail there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeptTrail {
    /// Number of the first entry that is there.
    pub first: i64,
    /// Number of the last entry.
    pub length: i64,
    /// The trail says that entries up to this one are pruned; 0 where it says nothing.
    pub pruned: i64,
    /// Whether everything that there is to record is known.
    pub whole: bool,
    /// When the oldest of what is not recorded yet happened.
    pub waits_since: Option<Timestamp>,
    /// The first entry about something that has not ended.
    pub unfinished: Option<i64>,
}

impl KeptTrail {
    /// Whether everything that had ended by then is recorded.
    pub fn is_settled(&self, until: Timestamp) -> bool {
        self.whole && self.waits_since.is_none_or(|since| since > until)
    }
}

impl State {
    /// A request that cannot be read may have something to record, and nobody knows what.
    fn is_readable(&self) -> bool {
        let readable = |request: &Request| matches!(request, Request::Read(_));
        !self.ledger.is_broken() && self.requests.values().all(readable)
    }

    /// The first entry about a request that has not ended, or about a Job or Pod that is there and was overridden: of that no
    /// object tells the time, so that the entry would be made up anew.
    fn first_unfinished(&self) -> Option<i64> {
        let requests = self.outlines().map(|(_, outline)| outline).filter(|outline| !outline.state.is_final());
        let targets = self.targets.values().map(|target| &target.outline).filter(|target| !target.receipt);
        let uids = requests.map(|outline| &*outline.uid).chain(targets.map(|target| &*target.uid));
        self.ledger.first_about(uids)
    }

    /// Offers to the trail what there is to record of a request that arrived.
    pub fn record(&mut self, facts: &RequestFacts, object: &DynamicObject) -> bool {
        if self.is_settled(facts) {
            return false;
        }
        let reviews = object.data.pointer("/spec/reviews").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let ledger = &self.ledger;
        let entries = audit::of_request(&told(facts), reviews, |key| ledger.knows(key));
        let mut new = false;
        for entry in entries {
            new |= self.ledger.offer(entry);
        }
        new
    }

    /// Offers to the trail a Job or Pod that policy allowed without a request.
    pub fn record_target(&mut self, kind: TargetKind, facts: &TargetFacts) -> bool {
        let allowed =
            facts.receipt.as_ref().filter(|receipt| receipt.request.is_none() && receipt.job.uid == facts.uid);
        let allowed = allowed.filter(|receipt| !self.ledger.is_settled(receipt.time));
        let at = (facts.namespace.as_str(), facts.name.as_str());
        let entry = allowed.map(|receipt| audit::allowed(kind, at.0, at.1, receipt));
        entry.is_some_and(|entry| self.ledger.offer(entry))
    }

    /// Notes that this may be an override that no request tells of. What was stopped since was started all the same.
    pub fn look_for_override(&mut self, at: &At) {
        let target = self.targets.get(at).map(|target| &target.outline);
        if target.is_some_and(|t| t.marked && !self.ledger.knows(&audit::override_of(&t.uid))) {
            self.overrides.insert(at.clone());
        }
    }

    /// Offers to the trail an override that no request tells of, or will tell of.
    fn record_override(&mut self, at: &At, key: &Keyring, now: Timestamp) -> bool {
        let gate = self.gate(&at.0);
        let Some(kept) = self.targets.get(at).filter(|kept| gate == Gate::Enforce && kept.outline.marked) else {
            return false;
        };
        let Some(target) = kept.facts(|object| Some(TargetFacts::read(at.1, object, key, None))) else { return false };
        let Some(start) = &target.marks.overridden else { return false };
        if tells_of_override(&target, &self.contenders(at), gate) {
            return false;
        }
        let hash = target.work_hash.as_ref().ok().and_then(|work| job_hash(&target.uid, work).ok());
        let start = Overriding {
            kind: target.kind,
            namespace: &target.namespace,
            name: &target.name,
            uid: &target.uid,
            job_hash: hash,
            by: &start.by,
            why: &start.reason,
            // Nobody's status puts it before the target was made, or after now.
            time: target.began.filter(|began| (target.created..=now).contains(began)).unwrap_or(now),
        };
        let ended = self.bound_to(at, &target.uid).filter(|request| request.outline.state.is_final());
        let ended = ended.max_by_key(|request| (request.outline.created, &request.outline.uid));
        let ended = ended.and_then(|request| request.facts(|object| RequestFacts::read(object, key).ok()));
        let entry = audit::overridden(&start, ended.as_deref().map(told).as_ref());
        self.ledger.offer(entry)
    }

    /// Whether everything that there is to record of a request is recorded.
    pub fn is_recorded(&self, facts: &RequestFacts) -> bool {
        self.is_settled(facts) || audit::keys(&told(facts)).iter().all(|key| self.ledger.is_recorded(key))
    }

    fn is_settled(&self, facts: &RequestFacts) -> bool {
        audit::ended_at(&facts.status).is_some_and(|ended| self.ledger.is_settled(ended))
    }

    /// Why nothing may be released for the trail's sake, if so.
    pub fn unrecorded(&self) -> Option<Unrecorded> {
        if self.ledger.is_broken() {
            let why = "the audit trail cannot be gone on with; whoever runs Countersign finds why in its log".into();
            return Some(Unrecorded { why, went_on: None });
        }
        let waiting = self.ledger.waiting();
        let most = if waiting > MOST_BEHIND { MOST_BEHIND } else { MOST_WAITING };
        let why = || {
            format!(
                "{waiting} entries of the audit trail could not be written yet, and nothing is released beyond {most}; whoever runs \
                 Countersign finds why in its log"
            )
        };
        self.ledger.is_full().then(|| Unrecorded { why: why(), went_on: self.ledger.went_on() })
    }

    /// Something of that uid was recorded. Returns the request, if it is to be looked at for that.
    fn recorded(&mut self, uid: &str, key: &Keyring) -> Option<Key> {
        let name = self.by_uid.get(uid)?.clone();
        let kept = self.request(&name)?;
        if kept.outline.is_open() {
            return Some(Key::request(&name));
        }
        let facts = kept.facts(|object| RequestFacts::read(object, key).ok())?;
        if self.is_recorded(&facts)
            && let Some(Request::Read(kept)) = self.requests.get_mut(&name)
        {
            forget_details(kept);
        }
        None
    }
}

/// What a stored record says was started by an override.
fn overridden(spec: &Value) -> Vec<(At, String)> {
    let entries = spec.get("entries").and_then(Value::as_array).into_iter().flatten();
    let told = entries.filter(|entry| entry["transition"] == Transition::Overridden.as_str());
    let of = |entry: &Value| {
        let text = |field: &str| entry["target"][field].as_str().map(String::from);
        let kind = serde_json::from_value(entry["target"]["kind"].clone()).ok()?;
        Some(((text("namespace")?, kind, text("name")?), text("uid")?))
    };
    told.filter_map(of).collect()
}

fn told(facts: &RequestFacts) -> Told<'_> {
    Told {
        namespace: &facts.namespace,
        name: &facts.name,
        uid: &facts.uid,
        created: facts.created,
        spec: &facts.spec,
        reviews: facts.reviews.len(),
        status: &facts.status,
    }
}
