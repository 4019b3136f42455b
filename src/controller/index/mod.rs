//! What the watches have told, as facts, and what each change concerns.
//!
//! Facts are taken from an object once, when it arrives; a decision only borrows them. No I/O: tests drive it directly.

mod kept;
mod kind;
mod observe;
mod outline;
mod policies;
mod state;
mod summary;
mod surroundings;
mod trail;

use crate::api::{InputKind, TargetKind};
use crate::binding::{InputFacts, Keyring};
use crate::lifecycle::{BrokenRequest, Cluster, Gate, NamespaceFacts, RequestFacts, TargetFacts, version};
pub use kind::Key;
pub(super) use kind::Kind;
use kube::core::DynamicObject;
pub use observe::{HeldObservation, Observation};
use state::{At, Request, State};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use summary::OpenRequests;
use tokio::sync::Notify;
pub(super) use trail::KeptTrail;

/// Namespace and name.
pub(in crate::controller) type Name = (String, String);

/// Facts of everything that the operator watches.
pub struct Index {
    key: Arc<Keyring>,
    /// The operator's own namespace, which is never gated.
    home: String,
    /// Whether Secrets are read as inputs.
    secrets: bool,
    /// What the cluster can do.
    cluster: Cluster,
    /// Whether every watch has listed everything once.
    complete: AtomicBool,
    /// Told when something waits to be recorded.
    to_record: Notify,
    state: RwLock<State>,
}

impl Index {
    /// An empty index; seals and receipts are checked with `key`, the operator lives in `home`, and `secrets` says whether
    /// it may read Secrets.
    pub fn new(key: Arc<Keyring>, home: String, secrets: bool, cluster: Cluster) -> Self {
        Self {
            key,
            home,
            secrets,
            cluster,
            complete: AtomicBool::new(false),
            to_record: Notify::new(),
            state: RwLock::default(),
        }
    }

    /// Every watch has listed everything once.
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether every watch has listed everything once: before that, what is not here may be there.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Whether inputs of that kind are read.
    pub(super) fn reads(&self, kind: InputKind) -> bool {
        kind == InputKind::ConfigMap || self.secrets
    }

    /// A request arrived. Returns what to look at.
    pub fn set_request(&self, object: DynamicObject) -> Vec<Key> {
        let name = Arc::new(name_of(&object));
        let known = |state: &State| state.request_version(&name) >= Some(version(&object.metadata));
        // Most of what a watch tells of requests is what we wrote ourselves: that costs nothing.
        if known(&self.read()) {
            return vec![];
        }
        let facts = RequestFacts::read(&object, &self.key);
        let mut state = self.write();
        if known(&state) {
            return vec![];
        }
        // A list may bring another request of that name where the deletion in between went unseen.
        state.forget_target(&name);
        state.remove_other(&name, object.metadata.uid.as_deref().unwrap_or_default());
        match facts {
            Ok(facts) => self.take_in_request(&mut state, &name, facts, object),
            Err(broken) => take_in_broken(&mut state, name, broken, object.metadata.uid.as_deref()),
        }
    }

    fn take_in_request(
        &self,
        state: &mut State,
        name: &Arc<Name>,
        facts: RequestFacts,
        object: DynamicObject,
    ) -> Vec<Key> {
        if state.record(&facts, &object) {
            self.to_record.notify_one();
        }
        let finished = facts.status.state.is_final() && !facts.deleting;
        let bound = facts.status.bound_at.map_or(0, |at| at.policies);
        state.policies_bound = state.policies_bound.max(bound);
        state.insert_request(name, Arc::new(facts), object);
        let mut keys = BTreeSet::new();
        if let Some(at) = state.request(name).and_then(|kept| kept.outline.at.clone()) {
            keys.extend(state.waiting_for(&at));
            state.look_for_override(&at);
        }
        if !finished {
            keys.insert(Key::request(name));
        }
        keys.into_iter().collect()
    }

    /// Our own write returned this request: known at once, before the watch tells. Not where it is gone meanwhile.
    pub fn wrote_request(&self, object: DynamicObject) -> Vec<Key> {
        let known = self.read().requests.contains_key(&name_of(&object));
        if known { self.set_request(object) } else { vec![] }
    }

    /// A request is gone. Returns what to look at: itself, where something was still to be waited for.
    pub fn remove_request(&self, namespace: &str, name: &str, version: i64) -> Vec<Key> {
        let mut state = self.write();
        let name = (namespace.into(), name.into());
        if is_late(version, state.request_version(&name)) {
            return vec![];
        }
        let open = state.request(&name).is_some_and(|kept| kept.outline.is_open());
        let at = state.forget_target(&name);
        state.remove_request(&name);
        at.iter().for_each(|at| state.look_for_override(at));
        let mut keys = at.map(|at| state.waiting_for(&at)).unwrap_or_default();
        keys.extend(open.then_some(Key::Request(name.0, name.1)));
        keys
    }

    /// A Job or held Pod arrived. Returns what to look at.
    pub fn set_target(&self, kind: TargetKind, object: DynamicObject) -> Vec<Key> {
        let at = at_of(kind, &object);
        let (before, was_past) = {
            let state = self.read();
            let known = state.targets.get(&at);
            if known.is_some_and(|known| known.outline.version >= version(&object.metadata)) {
                return vec![];
            }
            // What rests saves no work: it would have to be read first.
            (known.and_then(|known| known.awake().cloned()), known.map(|known| known.outline.is_past_the_gate()))
        };
        let facts = Arc::new(TargetFacts::read(kind, &object, &self.key, before.as_deref()));
        let mut state = self.write();
        // The answer to our own write and the watch may tell of the same object at the same time.
        if state.targets.get(&at).is_some_and(|known| known.outline.version >= facts.version) {
            return vec![];
        }
        state.targets_at(kind, facts.version);
        if state.record_target(kind, &facts) {
            self.to_record.notify_one();
        }
        let gate = state.gate(&at.0);
        if gate == Gate::Enforce && started_by_others(was_past == Some(true), &facts) {
            state.foreign_starts.push(facts.clone());
        }
        state.insert_target(at.clone(), facts, object);
        state.look_for_override(&at);
        let mut keys = state.waiting_for(&at);
        if gate == Gate::Warn && was_past.is_none() {
            keys.push(Key::Target(at.0, at.1, at.2));
        }
        keys
    }

    /// Our own write returned this Job or Pod. Not where it is gone meanwhile.
    pub fn wrote_target(&self, kind: TargetKind, object: DynamicObject) -> Vec<Key> {
        let known = self.read().targets.contains_key(&at_of(kind, &object));
        if known { self.set_target(kind, object) } else { vec![] }
    }

    /// A Job or Pod is gone. Returns what to look at.
    pub fn remove_target(&self, kind: TargetKind, namespace: &str, name: &str, version: i64) -> Vec<Key> {
        let at = (namespace.to_string(), kind, name.to_string());
        let mut state = self.write();
        if is_late(version, state.targets.get(&at).map(|known| known.outline.version)) {
            return vec![];
        }
        state.remove_target(&at);
        state.waiting_for(&at)
    }

    /// Jobs and Pods that somebody other than us started since the last call.
    pub fn take_foreign_starts(&self) -> Vec<Arc<TargetFacts>> {
        if self.read().foreign_starts.is_empty() {
            return vec![];
        }
        std::mem::take(&mut self.write().foreign_starts)
    }

    /// A ConfigMap or Secret arrived; with `metadata_only`, nothing but its metadata. Returns what to look at.
    pub fn set_input(&self, kind: InputKind, object: &DynamicObject, metadata_only: bool) -> Vec<Key> {
        let facts = match metadata_only {
            true => InputFacts::of_metadata(kind, &object.metadata),
            false => InputFacts::read(kind, &object.metadata, &object.data, &self.key),
        };
        let (namespace, name) = name_of(object);
        let at = (namespace, kind, name);
        let mut state = self.write();
        state.inputs_version = state.inputs_version.max(version(&object.metadata));
        let same = |before: &InputFacts| {
            let untouched = InputFacts { resource_version: facts.resource_version.clone(), ..before.clone() };
            facts.hash.is_some() && untouched == facts
        };
        let unchanged = state.inputs.get(&at).is_some_and(same);
        state.inputs.insert(at.clone(), facts);
        if unchanged { vec![] } else { state.reading(&at) }
    }

    /// A ConfigMap or Secret is gone, as of that resource version. Returns what to look at.
    pub fn remove_input(&self, kind: InputKind, namespace: &str, name: &str, version: i64) -> Vec<Key> {
        let at = (namespace.to_string(), kind, name.to_string());
        let mut state = self.write();
        state.inputs_version = state.inputs_version.max(version);
        state.inputs.remove(&at);
        state.reading(&at)
    }

    /// ConfigMaps or Secrets were listed, as of that resource version.
    pub fn inputs_at(&self, version: i64) {
        let mut state = self.write();
        state.inputs_version = state.inputs_version.max(version);
    }

    /// A namespace arrived. Returns what to look at.
    pub fn set_namespace(&self, object: &DynamicObject) -> Vec<Key> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let facts = NamespaceFacts {
            gate: Gate::of(&name, &labels, &self.home),
            deleting: object.metadata.deletion_timestamp.is_some(),
            version: version(&object.metadata),
            labels: Arc::new(labels),
        };
        let mut state = self.write();
        let same = state.namespaces.get(&name).is_some_and(|before| before.labels == facts.labels);
        state.namespaces.insert(name.clone(), Arc::new(facts));
        if same {
            return vec![];
        }
        let there: Vec<Arc<At>> = state.targets.keys().filter(|at| at.0 == name).cloned().collect();
        there.iter().for_each(|at| state.look_for_override(at));
        let mut keys = state.unfinished(|request| request.0 == name);
        keys.extend(state.gated(|namespace| namespace == name));
        keys
    }

    /// A namespace is gone.
    pub fn remove_namespace(&self, name: &str) {
        self.write().namespaces.remove(name);
    }

    /// Jobs or Pods are known up to that resource version. Requests that waited for this view to catch up are not looked at
    /// for it: what they waited for is itself a change.
    pub fn targets_at(&self, kind: TargetKind, version: i64) {
        self.write().targets_at(kind, version);
    }

    /// Names of what is known of one kind and a new list lacks.
    pub(super) fn missing(&self, kind: Kind, told: &HashSet<Name>) -> Vec<Name> {
        let state = self.read();
        let lacks = |name: &Name| !told.contains(name);
        let cluster = |name: &String| (String::new(), name.clone());
        let owned = |(namespace, name): (&str, &str)| (namespace.to_string(), name.to_string());
        match kind {
            Kind::Request => state.requests.keys().filter(|name| lacks(name)).map(|name| Name::clone(name)).collect(),
            Kind::Namespace => state.namespaces.keys().map(cluster).filter(lacks).collect(),
            Kind::Policy => state.policies.keys().map(cluster).filter(lacks).collect(),
            Kind::Target(kind) => {
                let found = state.targets.keys().filter(|at| at.1 == kind);
                found.map(|at| (at.0.clone(), at.2.clone())).filter(lacks).collect()
            }
            Kind::Input(kind) => {
                let found = state.inputs.keys().filter(|at| at.1 == kind);
                found.map(|at| (at.0.clone(), at.2.clone())).filter(lacks).collect()
            }
            Kind::Rbac(kind) => state.grants.names(kind).map(owned).filter(lacks).collect(),
            Kind::NetworkPolicy => state.network_policies.names().map(owned).filter(lacks).collect(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody other than us started it, with the reason of an override or without: it carries our stamp, so it was
/// held, and not our receipt. Told once, when it is first seen so.
fn started_by_others(was_past_the_gate: bool, now: &TargetFacts) -> bool {
    let stamped = now.marks.creator.is_some();
    let past = !now.held && now.receipt.is_none() && !now.finished;
    stamped && past && !was_past_the_gate
}

/// Whether news of that version says nothing of whether something is there that is known in a newer one. What we make ourselves is
/// known before any watch tells of it, and a list may have begun before: forgotten and told of again, it would be recorded twice.
fn is_late(version: i64, known: Option<i64>) -> bool {
    version > 0 && known.is_some_and(|known| known > version)
}

/// A request arrived that this version cannot read.
fn take_in_broken(state: &mut State, name: Arc<Name>, broken: BrokenRequest, uid: Option<&str>) -> Vec<Key> {
    tracing::warn!(
        namespace = name.0,
        name = name.1,
        uid,
        error = broken.error,
        "a stored request cannot be read; it is not approved"
    );
    let letting_go = broken.letting_go.map(|_| Key::request(&name));
    state.requests.insert(name, Request::Broken(broken));
    letting_go.into_iter().collect()
}

pub(super) fn name_of(object: &DynamicObject) -> Name {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

fn at_of(kind: TargetKind, object: &DynamicObject) -> At {
    let (namespace, name) = name_of(object);
    (namespace, kind, name)
}

#[cfg(test)]
mod override_tests;
#[cfg(test)]
mod released_tests;
#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod tests;
