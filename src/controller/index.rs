//! What the watches have told, as facts, and which requests each change concerns.
//!
//! Facts are taken from an object once, when it arrives; a decision only borrows them. No I/O: tests drive it directly.

use crate::binding::{Keyring, sha256};
use crate::lifecycle::{
    BrokenRequest, Claim, Contender, JobFacts, NamespaceFacts, Observed, PolicyFacts, RequestFacts, Target, claim,
    version,
};
use crate::policy::{PolicySet, compile};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Namespace and name.
type Name = (String, String);

/// Something to look at.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// A request, by namespace and name.
    Request(String, String),
    /// A policy, by name.
    Policy(String),
}

enum Request {
    Read(Arc<RequestFacts>),
    Broken(BrokenRequest),
}

#[derive(Default)]
struct State {
    requests: HashMap<Name, Request>,
    /// Requests by the Job they target.
    by_target: HashMap<Name, BTreeSet<String>>,
    jobs: HashMap<Name, Arc<JobFacts>>,
    namespaces: HashMap<String, Arc<NamespaceFacts>>,
    policies: BTreeMap<String, Arc<PolicyFacts>>,
    compiled: BTreeMap<String, Compiled>,
    policy_set: Arc<PolicySet>,
    policies_version: i64,
    jobs_version: i64,
}

type Compiled = Result<Arc<crate::policy::CompiledPolicy>, Arc<crate::policy::BrokenPolicy>>;

/// Facts of everything that the operator watches.
pub struct Index {
    key: Arc<Keyring>,
    state: RwLock<State>,
}

/// All that one decision rests on, held together.
pub struct Observation {
    /// The request.
    pub request: Arc<RequestFacts>,
    job: Option<(Arc<JobFacts>, Claim)>,
    policies: Arc<PolicySet>,
    policies_version: i64,
    jobs_version: i64,
    namespace: Option<Arc<NamespaceFacts>>,
}

impl Observation {
    /// As the decision takes it.
    pub fn observed<'a>(
        &'a self,
        key: &'a Keyring,
        fresh: bool,
        refused: Option<&'a str>,
        now: Timestamp,
    ) -> Observed<'a> {
        let target = match (&self.request.spec.target, &self.job) {
            (None, _) => Target::None,
            (Some(_), None) => Target::Missing,
            (Some(_), Some((job, claim))) => Target::Job(job, claim.clone()),
        };
        Observed {
            request: &self.request,
            target,
            policies: &self.policies,
            policies_version: self.policies_version,
            jobs_version: self.jobs_version,
            namespace: self.namespace.as_deref(),
            fresh,
            refused,
            key,
            now,
        }
    }
}

impl Index {
    /// An empty index; seals and receipts are checked with `key`.
    pub fn new(key: Arc<Keyring>) -> Self {
        Self { key, state: RwLock::default() }
    }

    /// What is known for one request; none where it is gone or cannot be read.
    pub fn observe(&self, namespace: &str, name: &str) -> Option<Observation> {
        let state = self.read();
        let Request::Read(request) = state.requests.get(&(namespace.into(), name.into()))? else { return None };
        let job = request.spec.target.as_ref().and_then(|target| {
            let at = (namespace.to_string(), target.name.clone());
            let job = state.jobs.get(&at)?.clone();
            let others = state.contenders(&at, namespace);
            let whose = claim(&Contender::of(request), &job, &others);
            Some((job, whose))
        });
        Some(Observation {
            request: request.clone(),
            job,
            policies: state.policy_set.clone(),
            policies_version: state.policies_version,
            jobs_version: state.jobs_version,
            namespace: state.namespaces.get(namespace).cloned(),
        })
    }

    /// A request that cannot be read and that is to be let go.
    pub fn letting_go(&self, namespace: &str, name: &str) -> Option<BrokenRequest> {
        match self.read().requests.get(&(namespace.into(), name.into()))? {
            Request::Broken(broken) => Some(broken.clone()).filter(|b| b.letting_go.is_some()),
            Request::Read(_) => None,
        }
    }

    /// What is known of one policy.
    pub fn policy(&self, name: &str) -> Option<Arc<PolicyFacts>> {
        self.read().policies.get(name).cloned()
    }

    /// A request arrived. Returns what to look at.
    pub fn set_request(&self, object: &DynamicObject) -> Vec<Key> {
        let name = name_of(object);
        let facts = RequestFacts::read(object, &self.key).map(|mut facts| {
            if facts.status.state.is_final() && !facts.deleting {
                facts.forget_details();
            }
            Arc::new(facts)
        });
        let mut state = self.write();
        if state.request_version(&name) >= Some(version(&object.metadata)) {
            return vec![];
        }
        // A list may bring another request of that name where the deletion in between went unseen.
        state.forget_target(&name);
        let mut keys = BTreeSet::new();
        match facts {
            Ok(facts) => {
                if let Some(target) = &facts.spec.target {
                    let at = (name.0.clone(), target.name.clone());
                    state.by_target.entry(at.clone()).or_default().insert(name.1.clone());
                    keys.extend(state.waiting_for(&at));
                }
                let finished = facts.status.state.is_final() && !facts.deleting;
                if !finished {
                    keys.insert(Key::Request(name.0.clone(), name.1.clone()));
                }
                state.requests.insert(name, Request::Read(facts));
            }
            Err(broken) => {
                tracing::warn!(
                    namespace = name.0,
                    name = name.1,
                    error = broken.error,
                    "a stored request cannot be read; it is not approved"
                );
                if broken.letting_go.is_some() {
                    keys.insert(Key::Request(name.0.clone(), name.1.clone()));
                }
                state.requests.insert(name, Request::Broken(broken));
            }
        }
        keys.into_iter().collect()
    }

    /// Our own write returned this request: known at once, before the watch tells. Not where it is gone meanwhile.
    pub fn wrote_request(&self, object: &DynamicObject) -> Vec<Key> {
        let known = self.read().requests.contains_key(&name_of(object));
        if known { self.set_request(object) } else { vec![] }
    }

    /// A request is gone. Returns what to look at.
    pub fn remove_request(&self, namespace: &str, name: &str) -> Vec<Key> {
        let mut state = self.write();
        let at = state.forget_target(&(namespace.into(), name.into()));
        state.requests.remove(&(namespace.into(), name.into()));
        at.map(|at| state.waiting_for(&at)).unwrap_or_default()
    }

    /// A Job arrived. Returns what to look at.
    pub fn set_job(&self, object: &DynamicObject) -> Vec<Key> {
        let name = name_of(object);
        let before = self.read().jobs.get(&name).cloned();
        if before.as_ref().is_some_and(|b| b.version >= version(&object.metadata)) {
            return vec![];
        }
        let facts = Arc::new(JobFacts::read(object, &self.key, before.as_deref()));
        let mut state = self.write();
        state.jobs_version = state.jobs_version.max(facts.version);
        state.jobs.insert(name.clone(), facts);
        state.waiting_for(&name)
    }

    /// Our own write returned this Job. Not where it is gone meanwhile.
    pub fn wrote_job(&self, object: &DynamicObject) -> Vec<Key> {
        let known = self.read().jobs.contains_key(&name_of(object));
        if known { self.set_job(object) } else { vec![] }
    }

    /// A Job is gone. Returns what to look at.
    pub fn remove_job(&self, namespace: &str, name: &str) -> Vec<Key> {
        let at = (namespace.to_string(), name.to_string());
        let mut state = self.write();
        state.jobs.remove(&at);
        state.waiting_for(&at)
    }

    /// A namespace arrived. Returns what to look at.
    pub fn set_namespace(&self, object: &DynamicObject) -> Vec<Key> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let facts = NamespaceFacts { labels, version: version(&object.metadata) };
        let mut state = self.write();
        let same = state.namespaces.get(&name).is_some_and(|before| before.labels == facts.labels);
        state.namespaces.insert(name.clone(), Arc::new(facts));
        if same { vec![] } else { state.unfinished(|at| at.0 == name) }
    }

    /// A namespace is gone.
    pub fn remove_namespace(&self, name: &str) {
        self.write().namespaces.remove(name);
    }

    /// A policy arrived. Returns what to look at.
    pub fn set_policy(&self, object: &DynamicObject) -> Vec<Key> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let null = Value::Null;
        let spec = object.data.get("spec").unwrap_or(&null);
        let compiled = compile(&name, spec);
        let snapshot = sha256(spec).ok();
        let mut state = self.write();
        let before = state.policies.get(&name).cloned();
        if before.as_ref().is_some_and(|b| b.version >= version(&object.metadata)) {
            return vec![];
        }
        let facts = PolicyFacts {
            name: name.clone(),
            resource_version: object.metadata.resource_version.clone().unwrap_or_default(),
            version: version(&object.metadata),
            generation: object.metadata.generation,
            snapshot,
            compiled: compiled.as_ref().map(|_| ()).map_err(|broken| broken.error.clone()),
            status: object.data.get("status").and_then(|s| serde_json::from_value(s.clone()).ok()).unwrap_or_default(),
        };
        state.policies_version = state.policies_version.max(facts.version);
        let same = before.is_some_and(|b| b.snapshot.is_some() && b.snapshot == facts.snapshot);
        state.policies.insert(name.clone(), Arc::new(facts));
        let mut keys = vec![Key::Policy(name.clone())];
        if !same {
            state.compiled.insert(name, compiled.map(Arc::new).map_err(Arc::from));
            state.rebuild_policies();
            keys.extend(state.unfinished(|_| true));
        }
        keys
    }

    /// A policy is gone. Returns what to look at.
    pub fn remove_policy(&self, name: &str, at: i64) -> Vec<Key> {
        let mut state = self.write();
        state.policies_version = state.policies_version.max(at);
        state.policies.remove(name);
        state.compiled.remove(name);
        state.rebuild_policies();
        state.unfinished(|_| true)
    }

    /// Policies are known up to that resource version.
    pub fn policies_at(&self, version: i64) {
        let mut state = self.write();
        state.policies_version = state.policies_version.max(version);
    }

    /// Jobs are known up to that resource version. Requests that waited for this view to catch up are not looked at for
    /// it: what they waited for is itself a change.
    pub fn jobs_at(&self, version: i64) {
        let mut state = self.write();
        state.jobs_version = state.jobs_version.max(version);
    }

    /// Names of everything known of one kind, to find what a new list lacks.
    pub(super) fn names(&self, kind: Kind) -> HashSet<Name> {
        let state = self.read();
        match kind {
            Kind::Request => state.requests.keys().cloned().collect(),
            Kind::Job => state.jobs.keys().cloned().collect(),
            Kind::Namespace => state.namespaces.keys().map(|n| (String::new(), n.clone())).collect(),
            Kind::Policy => state.policies.keys().map(|n| (String::new(), n.clone())).collect(),
        }
    }

    /// Every unfinished request.
    pub(super) fn all_unfinished(&self) -> Vec<Key> {
        self.read().unfinished(|_| true)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Request,
    Policy,
    Namespace,
    Job,
}

impl State {
    fn request_version(&self, name: &Name) -> Option<i64> {
        self.requests.get(name).map(|request| match request {
            Request::Read(facts) => facts.version,
            Request::Broken(broken) => broken.version,
        })
    }

    /// Forgets that this request targets a Job. Returns the Job.
    fn forget_target(&mut self, request: &Name) -> Option<Name> {
        let Request::Read(facts) = self.requests.get(request)? else { return None };
        let at = (request.0.clone(), facts.spec.target.as_ref()?.name.clone());
        if let Some(names) = self.by_target.get_mut(&at) {
            names.remove(&request.1);
            if names.is_empty() {
                self.by_target.remove(&at);
            }
        }
        Some(at)
    }

    fn targeting<'a>(&'a self, at: &Name, namespace: &'a str) -> impl Iterator<Item = &'a Arc<RequestFacts>> {
        let names = self.by_target.get(at).into_iter().flatten();
        names.filter_map(move |name| match self.requests.get(&(namespace.to_string(), name.clone())) {
            Some(Request::Read(facts)) => Some(facts),
            _ => None,
        })
    }

    fn contenders(&self, at: &Name, namespace: &str) -> Vec<Contender> {
        self.targeting(at, namespace).map(|facts| Contender::of(facts)).collect()
    }

    /// Unfinished requests that target this Job.
    fn waiting_for(&self, at: &Name) -> Vec<Key> {
        self.targeting(at, &at.0)
            .filter(|facts| !facts.status.state.is_final())
            .map(|facts| Key::Request(facts.namespace.clone(), facts.name.clone()))
            .collect()
    }

    fn unfinished(&self, wanted: impl Fn(&Name) -> bool) -> Vec<Key> {
        let open = |request: &Request| matches!(request, Request::Read(f) if !f.status.state.is_final() || f.deleting);
        let found = self.requests.iter().filter(|(name, request)| open(request) && wanted(name));
        found.map(|((namespace, name), _)| Key::Request(namespace.clone(), name.clone())).collect()
    }

    fn rebuild_policies(&mut self) {
        let ready = self.compiled.values().filter_map(|c| c.as_ref().ok().cloned()).collect();
        let broken = self.compiled.values().filter_map(|c| c.as_ref().err().cloned()).collect();
        self.policy_set = Arc::new(PolicySet { ready, broken });
    }
}

pub(super) fn name_of(object: &DynamicObject) -> Name {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
