//! The tables of the index, and how they hang together.

use crate::api::{InputKind, TargetKind};
use crate::audit::Ledger;
use crate::binding::{InputFacts, InputRef, InputState};
use crate::controller::index::{Key, Name};
use crate::lifecycle::{BrokenRequest, Contender, Gate, NamespaceFacts, PolicyFacts, RequestFacts, TargetFacts};
use crate::policy::{BrokenPolicy, CompiledPolicy, PolicySet};
use crate::risk::{Grants, NetworkPolicies};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespace, kind and name of a Job or Pod.
pub(super) type At = (String, TargetKind, String);

/// Namespace, kind and name of a ConfigMap or Secret.
pub(super) type Input = (String, InputKind, String);

pub(super) type Compiled = Result<Arc<CompiledPolicy>, Arc<BrokenPolicy>>;

pub(super) enum Request {
    Read(Arc<RequestFacts>),
    Broken(BrokenRequest),
}

#[derive(Default)]
pub(super) struct State {
    pub requests: HashMap<Name, Request>,
    /// Names of requests by their uid.
    pub by_uid: HashMap<String, Name>,
    /// The audit trail.
    pub ledger: Ledger,
    /// Requests by what they target.
    pub by_target: HashMap<At, BTreeSet<String>>,
    pub targets: HashMap<At, Arc<TargetFacts>>,
    /// Jobs by the uid of the CronJob they were made from.
    pub by_cron_job: HashMap<String, BTreeSet<At>>,
    /// ConfigMaps, and Secrets where they are read.
    pub inputs: HashMap<Input, InputFacts>,
    /// What is held and reads an input.
    pub read_by: HashMap<Input, BTreeSet<At>>,
    pub inputs_version: i64,
    pub grants: Grants,
    pub network_policies: NetworkPolicies,
    pub surroundings_version: i64,
    pub namespaces: HashMap<String, Arc<NamespaceFacts>>,
    pub policies: BTreeMap<String, Arc<PolicyFacts>>,
    pub compiled: BTreeMap<String, Compiled>,
    pub policy_set: Arc<PolicySet>,
    pub policies_version: i64,
    pub jobs_version: i64,
    pub pods_version: i64,
    /// What somebody other than us started, not told yet.
    pub foreign_starts: Vec<Arc<TargetFacts>>,
    /// What carries an override, and is to be looked at for the audit trail: it may be that no request tells of it.
    pub overrides: BTreeSet<At>,
}

impl State {
    pub fn request_version(&self, name: &Name) -> Option<i64> {
        self.requests.get(name).map(|request| match request {
            Request::Read(facts) => facts.version,
            Request::Broken(broken) => broken.version,
        })
    }

    pub fn targets_version(&self, kind: TargetKind) -> i64 {
        match kind {
            TargetKind::Job => self.jobs_version,
            TargetKind::Pod => self.pods_version,
        }
    }

    pub fn targets_at(&mut self, kind: TargetKind, version: i64) {
        let known = match kind {
            TargetKind::Job => &mut self.jobs_version,
            TargetKind::Pod => &mut self.pods_version,
        };
        *known = version.max(*known);
    }

    pub fn gate(&self, namespace: &str) -> Gate {
        self.namespaces.get(namespace).map_or(Gate::Off, |n| n.gate)
    }

    /// Forgets what this request targets. Returns the target.
    pub fn forget_target(&mut self, request: &Name) -> Option<At> {
        let Request::Read(facts) = self.requests.get(request)? else { return None };
        let at = target_of(facts)?;
        if let Some(names) = self.by_target.get_mut(&at) {
            names.remove(&request.1);
            if names.is_empty() {
                self.by_target.remove(&at);
            }
        }
        Some(at)
    }

    /// Forgets a request.
    pub fn remove_request(&mut self, name: &Name) {
        if let Some(Request::Read(facts)) = self.requests.remove(name) {
            self.by_uid.remove(&facts.uid);
            self.ledger.forget(&facts.uid);
            if let Some((at, bound)) = target_of(&facts).zip(facts.status.target.as_ref()) {
                self.forget_gone(&at, &bound.uid);
            }
        }
    }

    /// Forgets what the trail tells of a Job or Pod that is gone, once no request is bound to it any more either.
    fn forget_gone(&mut self, at: &At, uid: &str) {
        let there = self.targets.get(at).is_some_and(|target| target.uid == uid);
        if !there && !self.bound_to(at, uid).any(|_| true) {
            self.ledger.forget(uid);
        }
    }

    /// The requests that are bound to the Job or Pod of that uid.
    pub fn bound_to<'a>(&'a self, at: &'a At, uid: &'a str) -> impl Iterator<Item = &'a Arc<RequestFacts>> {
        self.targeting(at).filter(move |facts| facts.status.target.as_ref().is_some_and(|bound| bound.uid == uid))
    }

    /// Forgets a request of that name that is not the one of that uid.
    pub fn remove_other(&mut self, name: &Name, uid: &str) {
        if matches!(self.requests.get(name), Some(Request::Read(facts)) if facts.uid != uid) {
            self.remove_request(name);
        }
    }

    fn targeting<'a>(&'a self, at: &'a At) -> impl Iterator<Item = &'a Arc<RequestFacts>> {
        let names = self.by_target.get(at).into_iter().flatten();
        names.filter_map(move |name| match self.requests.get(&(at.0.clone(), name.clone())) {
            Some(Request::Read(facts)) => Some(facts),
            _ => None,
        })
    }

    pub fn contenders(&self, at: &At) -> Vec<Contender> {
        self.targeting(at).map(|facts| Contender::of(facts)).collect()
    }

    /// Unfinished requests that target this, and itself where its namespace is gated.
    pub fn waiting_for(&self, at: &At) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .targeting(at)
            .filter(|facts| !facts.status.state.is_final())
            .map(|facts| Key::Request(facts.namespace.clone(), facts.name.clone()))
            .collect();
        keys.extend(self.gated_key(at));
        keys
    }

    /// The target's own key, where the gate has something to decide about it.
    pub fn gated_key(&self, at: &At) -> Option<Key> {
        let target = self.targets.get(at)?;
        let open = (target.held && !target.finished) || target.overridden().is_some();
        let gated = self.gate(&at.0) == Gate::Enforce;
        (gated && open).then(|| Key::Target(at.0.clone(), at.1, at.2.clone()))
    }

    /// Everything in gated namespaces that the gate has something to decide about.
    pub fn gated(&self, wanted: impl Fn(&str) -> bool) -> Vec<Key> {
        let found = self.targets.keys().filter(|at| wanted(&at.0));
        found.filter_map(|at| self.gated_key(at)).collect()
    }

    /// Requests that cannot be read and that are to be let go.
    pub fn letting_go(&self) -> Vec<Key> {
        let broken = |request: &Request| matches!(request, Request::Broken(broken) if broken.letting_go.is_some());
        let found = self.requests.iter().filter(|(_, request)| broken(request));
        found.map(|((namespace, name), _)| Key::Request(namespace.clone(), name.clone())).collect()
    }

    pub fn unfinished(&self, wanted: impl Fn(&Name) -> bool) -> Vec<Key> {
        let open = |request: &Request| matches!(request, Request::Read(f) if !f.status.state.is_final() || f.deleting);
        let found = self.requests.iter().filter(|(name, request)| open(request) && wanted(name));
        found.map(|((namespace, name), _)| Key::Request(namespace.clone(), name.clone())).collect()
    }

    /// Older Jobs of the same CronJob that wait.
    pub fn waiting_before(&self, target: &TargetFacts) -> usize {
        let Some((cron_job, _)) = &target.marks.cron_job else { return 0 };
        let jobs = self.by_cron_job.get(cron_job).into_iter().flatten().filter_map(|at| self.targets.get(at));
        let older = |job: &TargetFacts| (job.created, &job.uid) < (target.created, &target.uid);
        jobs.filter(|job| job.held && job.closed.is_none() && !job.deleting && !job.started && older(job)).count()
    }

    /// What a held target reads, as it is now. `known` tells which kinds are read at all.
    pub fn inputs_of(&self, target: &TargetFacts, known: impl Fn(InputKind) -> bool) -> Vec<(InputRef, InputState)> {
        let state = |input: &InputRef| {
            let at = (target.namespace.clone(), input.kind, input.name.clone());
            match self.inputs.get(&at) {
                _ if !known(input.kind) => InputState::Unknown,
                Some(facts) => InputState::Present(facts.clone()),
                None => InputState::Absent,
            }
        };
        target.reads.inputs.iter().map(|input| (input.clone(), state(input))).collect()
    }

    /// What rests on an input.
    pub fn reading(&self, input: &Input) -> Vec<Key> {
        self.read_by.get(input).into_iter().flatten().flat_map(|at| self.waiting_for(at)).collect()
    }

    fn reads(&mut self, at: &At, facts: &TargetFacts) {
        for input in facts.reads.inputs.iter().filter(|_| facts.held) {
            let key = (at.0.clone(), input.kind, input.name.clone());
            self.read_by.entry(key).or_default().insert(at.clone());
        }
    }

    fn forget_reads(&mut self, at: &At) {
        let Some(facts) = self.targets.get(at).cloned() else { return };
        for input in &facts.reads.inputs {
            let key = (at.0.clone(), input.kind, input.name.clone());
            if let Some(readers) = self.read_by.get_mut(&key) {
                readers.remove(at);
                if readers.is_empty() {
                    self.read_by.remove(&key);
                }
            }
        }
    }

    pub fn insert_target(&mut self, at: At, facts: Arc<TargetFacts>) {
        self.forget_cron_job(&at);
        self.forget_reads(&at);
        self.reads(&at, &facts);
        if let Some((uid, _)) = &facts.marks.cron_job {
            self.by_cron_job.entry(uid.clone()).or_default().insert(at.clone());
        }
        self.targets.insert(at, facts);
    }

    pub fn remove_target(&mut self, at: &At) {
        self.forget_cron_job(at);
        self.forget_reads(at);
        if let Some(facts) = self.targets.remove(at) {
            self.forget_gone(at, &facts.uid);
        }
    }

    fn forget_cron_job(&mut self, at: &At) {
        let Some((uid, _)) = self.targets.get(at).and_then(|t| t.marks.cron_job.clone()) else { return };
        if let Some(jobs) = self.by_cron_job.get_mut(&uid) {
            jobs.remove(at);
            if jobs.is_empty() {
                self.by_cron_job.remove(&uid);
            }
        }
    }

    pub fn rebuild_policies(&mut self) {
        let ready = self.compiled.values().filter_map(|c| c.as_ref().ok().cloned()).collect();
        let broken = self.compiled.values().filter_map(|c| c.as_ref().err().cloned()).collect();
        self.policy_set = Arc::new(PolicySet { ready, broken });
    }
}

/// What a request targets.
pub(super) fn target_of(request: &RequestFacts) -> Option<At> {
    let target = request.spec.target.as_ref()?;
    Some((request.namespace.clone(), target.kind, target.name.clone()))
}
