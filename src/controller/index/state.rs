//! The tables of the index, and how they hang together.

use crate::api::{InputKind, State as Stands, TargetKind};
use crate::audit::Ledger;
use crate::binding::{InputFacts, InputRef, InputState};
use crate::controller::index::kept::{Asking, Awake, Kept, Which};
use crate::controller::index::outline::{Common, KeptRequest, KeptTarget, RequestOutline, TargetOutline};
use crate::controller::index::{Key, Name};
use crate::lifecycle::{BrokenRequest, Contender, Gate, NamespaceFacts, PolicyFacts, RequestFacts, TargetFacts};
use crate::policy::{BrokenPolicy, CompiledPolicy, PolicySet};
use crate::risk::{Grants, NetworkPolicies};
use kube::core::DynamicObject;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Namespace, kind and name of a Job or Pod.
pub(super) type At = (String, TargetKind, String);

/// Namespace, kind and name of a ConfigMap or Secret.
pub(super) type Input = (String, InputKind, String);

pub(super) type Compiled = Result<Arc<CompiledPolicy>, Arc<BrokenPolicy>>;

pub(super) enum Request {
    Read(Box<KeptRequest>),
    Broken(BrokenRequest),
}

#[derive(Default)]
pub(super) struct State {
    pub requests: HashMap<Arc<Name>, Request>,
    /// Names of requests by their uid.
    pub by_uid: HashMap<Arc<str>, Arc<Name>>,
    /// The audit trail.
    pub ledger: Ledger,
    /// Requests by what they target.
    pub by_target: HashMap<Arc<At>, Asking>,
    pub targets: HashMap<Arc<At>, Box<KeptTarget>>,
    /// What is kept whole of both.
    awake: Awake,
    /// What many of them have in common.
    pub common: Common,
    /// Jobs by the uid of the CronJob they were made from.
    pub by_cron_job: HashMap<Arc<str>, BTreeSet<Arc<At>>>,
    /// ConfigMaps, and Secrets where they are read.
    pub inputs: HashMap<Input, InputFacts>,
    /// What is held and reads an input.
    pub read_by: HashMap<Input, BTreeSet<Arc<At>>>,
    pub inputs_version: i64,
    pub grants: Grants,
    pub network_policies: NetworkPolicies,
    pub surroundings_version: i64,
    pub namespaces: HashMap<String, Arc<NamespaceFacts>>,
    pub policies: BTreeMap<String, Arc<PolicyFacts>>,
    pub compiled: BTreeMap<String, Compiled>,
    pub policy_set: Arc<PolicySet>,
    pub policies_version: i64,
    /// The newest version of policies that a request was bound from, by whichever operator.
    pub policies_bound: i64,
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
            Request::Read(kept) => kept.outline.version,
            Request::Broken(broken) => broken.version,
        })
    }

    /// The request of that name, if it can be read.
    pub fn request(&self, name: &Name) -> Option<&KeptRequest> {
        match self.requests.get(name)? {
            Request::Read(kept) => Some(kept),
            Request::Broken(_) => None,
        }
    }

    /// Every request that can be read.
    pub fn outlines(&self) -> impl Iterator<Item = (&Arc<Name>, &RequestOutline)> {
        self.requests.iter().filter_map(|(name, request)| match request {
            Request::Read(kept) => Some((name, &kept.outline)),
            Request::Broken(_) => None,
        })
    }

    /// That place, as it is kept if something is or may be there.
    pub fn place(&self, at: At) -> Arc<At> {
        let known = self.targets.get_key_value(&at).map(|(known, _)| known);
        let known = known.or_else(|| self.by_target.get_key_value(&at).map(|(known, _)| known));
        known.cloned().unwrap_or_else(|| Arc::new(at))
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

    /// Keeps a request that arrived. What was known of that name before is forgotten already.
    pub fn insert_request(&mut self, name: &Arc<Name>, facts: Arc<RequestFacts>, object: DynamicObject) {
        // Keys that are there already stay: each name and uid is kept once.
        let name = &self.requests.get_key_value(name).map_or_else(|| name.clone(), |(known, _)| known.clone());
        let uid = self.by_uid.get_key_value(facts.uid.as_str()).map(|(known, _)| known.clone());
        let at = target_of(&facts).map(|at| self.place(at));
        let there = at.as_ref().and_then(|at| self.targets.get(at)).map(|target| &target.outline.uid);
        let outline = RequestOutline::of(&facts, uid, at.clone(), there, &mut self.common);
        self.by_uid.insert(outline.uid.clone(), name.clone());
        if let Some(at) = at {
            match self.by_target.entry(at) {
                Entry::Vacant(vacant) => drop(vacant.insert(Asking::One(name.clone()))),
                Entry::Occupied(mut asking) => asking.get_mut().insert(name.clone()),
            }
        }
        let (version, finished) = (outline.version, outline.state.is_final() && !outline.deleting);
        let recorded = finished && self.is_recorded(&facts);
        let mut kept = Kept::new(outline, facts, object);
        match recorded {
            true => forget_details(&mut kept),
            false => self.keep_awake(Which::Request(name.clone()), version),
        }
        self.requests.insert(name.clone(), Request::Read(kept.into()));
    }

    /// This one is kept whole; what was kept longest is not any more.
    pub fn keep_awake(&mut self, which: Which, version: i64) {
        match self.awake.push(which, version) {
            None => {}
            Some((Which::Request(name), version)) => match self.requests.get_mut(&name) {
                Some(Request::Read(kept)) if kept.outline.version == version => kept.rest(),
                _ => {}
            },
            Some((Which::Target(at), version)) => {
                let asked = self.targeting(&at).any(|(_, request)| request.outline.is_open());
                match self.targets.get_mut(&at) {
                    Some(kept) if kept.outline.version != version => {}
                    Some(kept) if kept.outline.is_done() && !asked => kept.let_go(),
                    Some(kept) => kept.rest(),
                    None => {}
                }
            }
        }
    }

    /// Keeps a request whole, unless it is another by now.
    pub fn wake_request(&mut self, name: &Name, facts: &Arc<RequestFacts>) {
        let Some((name, Request::Read(kept))) = entry(&mut self.requests, name) else { return };
        if kept.awake().is_none() && kept.outline.version == facts.version && *kept.outline.uid == *facts.uid {
            kept.wake(facts.clone());
            self.keep_awake(Which::Request(name), facts.version);
        }
    }

    /// Keeps a Job or Pod whole, unless it is another by now.
    pub fn wake_target(&mut self, at: &At, facts: &Arc<TargetFacts>) {
        let Some((at, kept)) = entry(&mut self.targets, at) else { return };
        if kept.awake().is_none() && kept.outline.version == facts.version && *kept.outline.uid == *facts.uid {
            kept.wake(facts.clone());
            self.keep_awake(Which::Target(at), facts.version);
        }
    }

    /// Forgets what this request targets. Returns the target.
    pub fn forget_target(&mut self, name: &Name) -> Option<Arc<At>> {
        let at = self.request(name)?.outline.at.clone()?;
        if self.by_target.get_mut(&at).is_some_and(|asking| asking.remove(name)) {
            self.by_target.remove(&at);
        }
        Some(at)
    }

    /// Forgets a request.
    pub fn remove_request(&mut self, name: &Name) {
        if let Some(Request::Read(kept)) = self.requests.remove(name) {
            let outline = kept.outline;
            self.by_uid.remove(&outline.uid);
            self.ledger.forget(&outline.uid);
            if let Some((at, bound)) = outline.at.zip(outline.bound_uid) {
                self.forget_gone(&at, &bound);
            }
        }
    }

    /// Forgets what the trail tells of a Job or Pod that is gone, once no request is bound to it any more either.
    fn forget_gone(&mut self, at: &At, uid: &str) {
        let there = self.targets.get(at).is_some_and(|target| *target.outline.uid == *uid);
        if !there && !self.bound_to(at, uid).any(|_| true) {
            self.ledger.forget(uid);
        }
    }

    /// The requests that are bound to the Job or Pod of that uid.
    pub fn bound_to<'a>(&'a self, at: &'a At, uid: &'a str) -> impl Iterator<Item = &'a KeptRequest> {
        let bound = move |kept: &&KeptRequest| kept.outline.bound_uid.as_deref() == Some(uid);
        self.targeting(at).map(|(_, kept)| kept).filter(bound)
    }

    /// Forgets a request of that name that is not the one of that uid.
    pub fn remove_other(&mut self, name: &Name, uid: &str) {
        if self.request(name).is_some_and(|kept| *kept.outline.uid != *uid) {
            self.remove_request(name);
        }
    }

    fn targeting<'a>(&'a self, at: &'a At) -> impl Iterator<Item = (&'a Arc<Name>, &'a KeptRequest)> {
        let names = self.by_target.get(at).into_iter().flat_map(Asking::iter);
        names.filter_map(|name| Some((name, self.request(name)?)))
    }

    pub fn contenders(&self, at: &At) -> Vec<Contender> {
        self.targeting(at).map(|(name, kept)| kept.outline.contender(name)).collect()
    }

    /// Unfinished requests that target this, and itself where its namespace is gated.
    pub fn waiting_for(&self, at: &At) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .targeting(at)
            .filter(|(_, kept)| !kept.outline.state.is_final())
            .map(|(name, _)| Key::request(name))
            .collect();
        keys.extend(self.gated_key(at));
        keys
    }

    /// The target's own key, where the gate has something to decide about it.
    pub fn gated_key(&self, at: &At) -> Option<Key> {
        let target = &self.targets.get(at)?.outline;
        let open = (target.held && !target.finished) || target.is_overridden();
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
        found.map(|(name, _)| Key::request(name)).collect()
    }

    pub fn unfinished(&self, wanted: impl Fn(&Name) -> bool) -> Vec<Key> {
        let found = self.outlines().filter(|(name, outline)| outline.is_open() && wanted(name));
        found.map(|(name, _)| Key::request(name)).collect()
    }

    /// Older Jobs of the same CronJob that wait.
    pub fn waiting_before(&self, target: &TargetFacts) -> usize {
        let Some((cron_job, _)) = &target.marks.cron_job else { return 0 };
        let jobs = self.by_cron_job.get(cron_job.as_str()).into_iter().flatten().filter_map(|at| self.targets.get(at));
        let older = |job: &TargetOutline| (job.created, &*job.uid) < (target.created, target.uid.as_str());
        let waits = |job: &TargetOutline| job.held && !job.closed && !job.deleting && !job.started;
        jobs.filter(|job| waits(&job.outline) && older(&job.outline)).count()
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

    fn forget_reads(&mut self, at: &At, inputs: &[InputRef]) {
        for input in inputs {
            let key = (at.0.clone(), input.kind, input.name.clone());
            if let Some(readers) = self.read_by.get_mut(&key) {
                readers.remove(at);
                if readers.is_empty() {
                    self.read_by.remove(&key);
                }
            }
        }
    }

    /// Keeps a Job or Pod that arrived.
    pub fn insert_target(&mut self, at: At, facts: Arc<TargetFacts>, object: DynamicObject) {
        let at = self.place(at);
        let uid = self.targets.get(&at).map(|known| known.outline.uid.clone()).filter(|known| **known == *facts.uid);
        let outline = TargetOutline::of(&facts, uid, &mut self.common);
        self.forget_target_tables(&at);
        for input in outline.inputs.iter().filter(|_| outline.held) {
            let key = (at.0.clone(), input.kind, input.name.clone());
            self.read_by.entry(key).or_default().insert(at.clone());
        }
        if let Some(uid) = &outline.cron_job {
            self.by_cron_job.entry(uid.clone()).or_default().insert(at.clone());
        }
        self.keep_awake(Which::Target(at.clone()), outline.version);
        self.targets.insert(at, Kept::new(outline, facts, object).into());
    }

    pub fn remove_target(&mut self, at: &At) {
        self.forget_target_tables(at);
        if let Some(kept) = self.targets.remove(at) {
            self.forget_gone(at, &kept.outline.uid);
        }
    }

    /// Forgets what hangs on a Job or Pod as it is known.
    fn forget_target_tables(&mut self, at: &At) {
        let Some(kept) = self.targets.get_mut(at) else { return };
        let inputs = std::mem::take(&mut kept.outline.inputs);
        let cron_job = kept.outline.cron_job.take();
        self.forget_reads(at, &inputs);
        let Some(uid) = cron_job else { return };
        if let Some(jobs) = self.by_cron_job.get_mut(&uid) {
            jobs.remove(at);
            if jobs.is_empty() {
                self.by_cron_job.remove(&uid);
            }
        }
    }
}

/// A value to be changed, and its key as it is kept.
fn entry<'a, K: Eq + Hash, V>(table: &'a mut HashMap<Arc<K>, V>, key: &K) -> Option<(Arc<K>, &'a mut V)> {
    let kept = table.get_key_value(key)?.0.clone();
    let value = table.get_mut(key)?;
    Some((kept, value))
}

/// Of a request that is finished and recorded: what is left of it is asked for where an override comes after its end, and none does
/// after a release.
pub(super) fn forget_details(kept: &mut KeptRequest) {
    kept.outline.requester = None;
    if kept.outline.state == Stands::Released {
        return kept.let_go();
    }
    if let Some(mut object) = kept.object() {
        crate::lifecycle::forget_details(&mut object);
        kept.replace(object);
    }
    kept.rest();
}

/// What a request targets.
fn target_of(request: &RequestFacts) -> Option<At> {
    let target = request.spec.target.as_ref()?;
    Some((request.namespace.clone(), target.kind, target.name.clone()))
}
