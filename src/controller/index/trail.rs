//! The audit trail beside what is watched: what there is to record of each request as it arrives.

use crate::api::{ApprovalRecordSpec, TargetKind, Transition};
use crate::audit::{self, Checkpoint, Fault, Keys, MOST_WAITING, Refusals, Signers, Told};
use crate::binding::CanonicalError;
use crate::controller::index::state::{Request, State};
use crate::controller::index::{Index, Key};
use crate::lifecycle::{RequestFacts, TargetFacts};
use kube::core::DynamicObject;
use serde_json::Value;
use std::sync::Arc;

impl Index {
    /// Takes in a stored record. Returns what to look at: what waited for it.
    pub fn learn_record(&self, spec: &Value, keys: &Keys) -> Result<Vec<Key>, Fault> {
        let mut state = self.write();
        let uids = state.ledger.learn(spec, keys)?;
        Ok(uids.iter().filter_map(|uid| state.recorded(uid)).collect())
    }

    /// The whole trail was read.
    pub fn set_trail_read(&self) {
        self.write().ledger.set_read();
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
    pub fn anchor_trail(&self, before: &str, now: jiff::Timestamp) {
        let mut state = self.write();
        let entry = audit::anchored(before, self.key.id(), state.ledger.head().length, now);
        state.ledger.offer(entry);
        self.to_record.notify_one();
    }

    /// Every request is known: what the trail tells of others is not needed any more.
    pub fn forget_the_gone(&self) {
        let state = &mut *self.write();
        let (requests, targets) = (&state.by_uid, &state.targets);
        let running: std::collections::HashSet<&str> = targets.values().map(|t| t.uid.as_str()).collect();
        state.ledger.keep(|uid| requests.contains_key(uid) || running.contains(uid));
    }

    /// Who may sign, as far as the trail was read.
    pub fn signers(&self) -> Signers {
        self.read().ledger.signers().clone()
    }

    /// Offers to the trail what it is to tell of keys, before anything else.
    pub fn tell_of_keys(&self, now: jiff::Timestamp) {
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
    pub fn next_record(&self) -> Result<Option<ApprovalRecordSpec>, CanonicalError> {
        self.read().ledger.next(&self.key)
    }

    /// How many entries wait to be recorded.
    pub fn unrecorded(&self) -> usize {
        self.read().ledger.waiting()
    }

    /// The number of the entry of that key, once it is recorded.
    pub fn entry_number(&self, key: &str) -> Option<i64> {
        self.read().ledger.number(key)
    }

    /// Hands over to the trail what was refused, where that is due and what was handed over before is recorded: however
    /// much is refused while the trail cannot be written, it keeps nothing from being released.
    pub fn record_refusals(&self, refusals: &mut Refusals, now: jiff::Timestamp) {
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

impl State {
    /// Offers to the trail what there is to record of a request that arrived.
    pub fn record(&mut self, facts: &RequestFacts, object: &DynamicObject) -> bool {
        let reviews = object.data.pointer("/spec/reviews").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let ledger = &self.ledger;
        let entries = audit::of_request(&told(facts), reviews, |key| ledger.knows(key));
        let mut new = false;
        for entry in entries {
            new |= self.ledger.offer(entry);
        }
        new
    }

    /// Offers to the trail a Job or Pod that was started without a request: allowed by policy, or by an override.
    pub fn record_target(&mut self, kind: TargetKind, facts: &TargetFacts) -> bool {
        let allowed =
            facts.receipt.as_ref().filter(|receipt| receipt.request.is_none() && receipt.job.uid == facts.uid);
        let at = (facts.namespace.as_str(), facts.name.as_str());
        let entry = allowed.map(|receipt| audit::allowed(kind, at.0, at.1, receipt));
        entry.is_some_and(|entry| self.ledger.offer(entry))
    }

    /// Whether everything that there is to record of a request is recorded.
    pub fn is_recorded(&self, facts: &RequestFacts) -> bool {
        audit::keys(&told(facts)).iter().all(|key| self.ledger.is_recorded(key))
    }

    /// Why nothing may be released for the trail's sake, if so.
    pub fn unrecorded(&self) -> Option<String> {
        if self.ledger.is_broken() {
            return Some(
                "the audit trail cannot be gone on with; whoever runs Countersign finds why in its log".into(),
            );
        }
        let waiting = self.ledger.waiting();
        self.ledger.is_full().then(|| {
            format!("{waiting} entries of the audit trail could not be written yet, and nothing is released beyond {MOST_WAITING}")
        })
    }

    /// Something of that uid was recorded. Returns the request, if it is to be looked at for that.
    fn recorded(&mut self, uid: &str) -> Option<Key> {
        let name = self.by_uid.get(uid)?.clone();
        let Some(Request::Read(facts)) = self.requests.get(&name) else { return None };
        let facts = facts.clone();
        if !facts.status.state.is_final() || facts.deleting {
            return Some(Key::Request(name.0, name.1));
        }
        if self.is_recorded(&facts) {
            let mut facts = RequestFacts::clone(&facts);
            facts.forget_details();
            self.requests.insert(name, Request::Read(Arc::new(facts)));
        }
        None
    }
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
