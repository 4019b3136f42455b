//! All that one decision rests on, held together.

use crate::admission::GateView;
use crate::api::{State as RequestState, TargetKind};
use crate::binding::{InputRef, InputState, Keyring};
use crate::controller::index::kept::Which;
use crate::controller::index::outline::KeptTarget;
use crate::controller::index::state::{At, Request, State};
use crate::controller::index::{Index, Key, Name};
use crate::lifecycle::{
    BrokenRequest, Claim, Cluster, Contender, Gate, Held, NamespaceFacts, Observed, RequestFacts, Surroundings, Target,
    TargetFacts, Unrecorded, claim,
};
use crate::policy::PolicySet;
use jiff::Timestamp;
use kube::core::DynamicObject;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one request's next step is decided from.
pub struct Observation {
    /// The request.
    pub request: Arc<RequestFacts>,
    target: Option<(Arc<TargetFacts>, Claim)>,
    policies: Arc<PolicySet>,
    policies_version: i64,
    targets_version: i64,
    inputs: Vec<(InputRef, InputState)>,
    inputs_version: i64,
    surroundings: Surroundings,
    cluster: Cluster,
    namespace: Option<Arc<NamespaceFacts>>,
    recorded: bool,
    unrecorded: Option<Unrecorded>,
}

/// What becomes of a Job or Pod in a gated namespace is decided from this.
pub struct HeldObservation {
    /// The Job or Pod.
    pub target: Arc<TargetFacts>,
    /// Its namespace.
    pub namespace: Arc<NamespaceFacts>,
    requests: Vec<Contender>,
    inputs: Vec<(InputRef, InputState)>,
    surroundings: Surroundings,
    cluster: Cluster,
    waiting: usize,
    policies: Arc<PolicySet>,
    unrecorded: Option<Unrecorded>,
}

impl Observation {
    /// What stands around the target.
    #[cfg(test)]
    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Whether everything that there is to record of the request is recorded.
    #[cfg(test)]
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// As the decision takes it.
    pub fn observed<'a>(
        &'a self,
        key: &'a Keyring,
        fresh: bool,
        refused: Option<&'a str>,
        now: Timestamp,
    ) -> Observed<'a> {
        let target = match (&self.request.spec.target, &self.target) {
            (None, _) => Target::None,
            (Some(_), None) => Target::Missing,
            (Some(_), Some((target, claim))) => Target::Found(target, claim.clone()),
        };
        Observed {
            request: &self.request,
            target,
            policies: &self.policies,
            policies_version: self.policies_version,
            targets_version: self.targets_version,
            inputs: &self.inputs,
            inputs_version: self.inputs_version,
            surroundings: &self.surroundings,
            cluster: self.cluster,
            namespace: self.namespace.as_deref(),
            fresh,
            recorded: self.recorded,
            unrecorded: self.unrecorded.as_ref(),
            refused,
            key,
            now,
        }
    }
}

impl HeldObservation {
    /// As the decision takes it.
    pub fn held<'a>(&'a self, key: &'a Keyring, fresh: bool, refused: Option<&'a str>, now: Timestamp) -> Held<'a> {
        Held {
            target: &self.target,
            namespace: &self.namespace,
            policies: &self.policies,
            requests: &self.requests,
            inputs: &self.inputs,
            surroundings: &self.surroundings,
            cluster: self.cluster,
            waiting: self.waiting,
            unrecorded: self.unrecorded.as_ref(),
            fresh,
            refused,
            key,
            now,
        }
    }
}

impl Index {
    /// What is known for one request; none where it is gone or cannot be read.
    pub fn observe(&self, namespace: &str, name: &str) -> Option<Observation> {
        let known = |kind| self.reads(kind);
        let state = self.read();
        let name = (namespace.to_string(), name.to_string());
        // Nothing is decided about what was released and recorded.
        let kept = state.request(&name).filter(|kept| !kept.is_gone())?;
        let request = readable(kept.facts(|object| RequestFacts::read(object, &self.key).ok()), &name.0, &name.1)?;
        let facts = state.namespaces.get(namespace).cloned();
        let gate = facts.as_ref().map_or(Gate::Off, |n| n.gate);
        let at = kept.outline.at.clone();
        let kind = at.as_ref().map_or(TargetKind::Job, |at| at.1);
        let target = match at.as_deref().filter(|at| state.targets.contains_key(*at)) {
            None => None,
            Some(at) => {
                let found = self.target_at(&state, at)?;
                let whose = claim(&Contender::of(&request), &found, &state.contenders(at), gate);
                Some((found, whose))
            }
        };
        let observation = Observation {
            policies: state.policy_set.clone(),
            policies_version: state.policies_version,
            targets_version: state.targets_version(kind),
            inputs: target.as_ref().map(|(t, _)| state.inputs_of(t, known)).unwrap_or_default(),
            inputs_version: state.inputs_version,
            surroundings: target.as_ref().map(|(t, _)| state.surroundings_of(t)).unwrap_or_default(),
            cluster: self.cluster,
            target,
            namespace: facts,
            recorded: state.is_recorded(&request),
            unrecorded: state.unrecorded(),
            request,
        };
        drop(state);
        self.wake(Some((&name, &observation.request)), at.as_deref().zip(observation.target.as_ref().map(|(t, _)| t)));
        Some(observation)
    }

    /// Whether no time brings about anything for that request any more: it has ended, or is gone.
    pub(in crate::controller) fn is_over(&self, namespace: &str, name: &str) -> bool {
        match self.read().requests.get(&(namespace.to_string(), name.to_string())) {
            Some(Request::Read(kept)) => !kept.outline.is_open(),
            Some(Request::Broken(_)) => false,
            None => true,
        }
    }

    /// The Job or Pod that a request asks for, where it has to be read again before [`Self::observe`].
    pub(in crate::controller) fn unread(&self, namespace: &str, name: &str) -> Option<At> {
        let state = self.read();
        let kept = state.request(&(namespace.to_string(), name.to_string()))?;
        let at = kept.outline.at.as_deref().filter(|_| kept.outline.is_open())?;
        state.targets.get(at).filter(|target| target.is_gone()).map(|_| at.clone())
    }

    /// A Job or Pod was read again. Returns what to look at, where it has changed since.
    pub(in crate::controller) fn read_again(&self, kind: TargetKind, object: DynamicObject) -> Vec<Key> {
        let facts = Arc::new(TargetFacts::read(kind, &object, &self.key, None));
        let at: At = (facts.namespace.clone(), kind, facts.name.clone());
        let mut state = self.write();
        let same =
            |known: &&mut Box<KeptTarget>| known.outline.version == facts.version && *known.outline.uid == *facts.uid;
        match state.targets.get_mut(&at).filter(same) {
            Some(kept) => {
                kept.replace(object);
                kept.wake(facts.clone());
                let at = state.place(at);
                state.keep_awake(Which::Target(at), facts.version);
                vec![]
            }
            None => {
                drop(state);
                self.wrote_target(kind, object)
            }
        }
    }

    /// What is known for one Job or Pod; none where it, or its namespace, is not known.
    pub fn observe_held(&self, namespace: &str, kind: TargetKind, name: &str) -> Option<HeldObservation> {
        let state = self.read();
        let at: At = (namespace.to_string(), kind, name.to_string());
        let target = self.target_at(&state, &at)?;
        let observation = HeldObservation {
            requests: state.contenders(&at),
            inputs: state.inputs_of(&target, |kind| self.reads(kind)),
            surroundings: state.surroundings_of(&target),
            cluster: self.cluster,
            waiting: state.waiting_before(&target),
            namespace: state.namespaces.get(namespace)?.clone(),
            policies: state.policy_set.clone(),
            unrecorded: state.unrecorded(),
            target,
        };
        drop(state);
        self.wake(None, Some((&at, &observation.target)));
        Some(observation)
    }

    fn target_at(&self, state: &State, at: &At) -> Option<Arc<TargetFacts>> {
        let read = |object: &DynamicObject| Some(TargetFacts::read(at.1, object, &self.key, None));
        let kept = state.targets.get(at).filter(|kept| !kept.is_gone())?;
        readable(kept.facts(read), &at.0, &at.2)
    }

    /// Keeps whole what was looked at: it will be again.
    fn wake(&self, request: Option<(&Name, &Arc<RequestFacts>)>, target: Option<(&At, &Arc<TargetFacts>)>) {
        let asleep = {
            let state = self.read();
            let request =
                request.is_some_and(|(name, _)| state.request(name).is_some_and(|kept| kept.awake().is_none()));
            let target = target.is_some_and(|(at, _)| state.targets.get(at).is_some_and(|kept| kept.awake().is_none()));
            request || target
        };
        if !asleep {
            return;
        }
        let mut state = self.write();
        if let Some((name, facts)) = request {
            state.wake_request(name, facts);
        }
        if let Some((at, facts)) = target {
            state.wake_target(at, facts);
        }
    }

    /// A request that cannot be read and that is to be let go.
    pub fn letting_go(&self, namespace: &str, name: &str) -> Option<BrokenRequest> {
        match self.read().requests.get(&(namespace.into(), name.into()))? {
            Request::Broken(broken) => Some(broken.clone()).filter(|b| b.letting_go.is_some()),
            Request::Read(_) => None,
        }
    }

    /// The request that speaks for a Job, and where it stands.
    fn speaker(&self, namespace: &str, job: &str) -> Option<(String, RequestState)> {
        let state = self.read();
        let at: At = (namespace.to_string(), TargetKind::Job, job.to_string());
        let target = self.target_at(&state, &at)?;
        let gate = state.namespaces.get(namespace).map_or(Gate::Off, |n| n.gate);
        let mut requests = state.contenders(&at);
        requests.retain(|r| r.bound_to(&target) || r.may_speak_for(&target, gate));
        requests.sort_by_key(|r| (!r.bound_to(&target), r.created));
        requests.into_iter().next().map(|r| (r.name, r.state))
    }

    /// Every unfinished request, and everything that is held without one.
    pub(in crate::controller) fn everything_open(&self) -> Vec<Key> {
        let state = self.read();
        let mut keys = state.unfinished(|_| true);
        keys.extend(state.gated(|_| true));
        keys
    }

    /// Unfinished requests that were reviewed: whoever did waits.
    pub(in crate::controller) fn reviewed(&self) -> Vec<Key> {
        let state = self.read();
        let reviewed = state.outlines().filter(|(_, outline)| outline.reviewed && outline.is_open());
        reviewed.map(|(name, _)| Key::request(name)).collect()
    }

    /// Everything, for whoever begins to lead. What waits to be recorded waited for another until now: that it did says
    /// nothing of whether the trail goes on.
    pub(in crate::controller) fn take_over(&self, now: Timestamp) -> Vec<Key> {
        self.trail_goes_on(now);
        self.everything()
    }

    /// Everything that there may be something to do about.
    pub(in crate::controller) fn everything(&self) -> Vec<Key> {
        let mut keys = self.everything_open();
        let state = self.read();
        keys.extend(state.policies.keys().cloned().map(Key::Policy));
        keys.extend(state.letting_go());
        keys
    }
}

/// What was readable when it arrived and is not any more is not gone: nothing is decided about it.
fn readable<T>(facts: Option<T>, namespace: &str, name: &str) -> Option<T> {
    if facts.is_none() {
        tracing::error!(namespace, name, "what is kept of this object cannot be read; restart the operator");
    }
    facts
}

/// Admission asks the same index, so that no verdict waits for the API server.
impl GateView for Index {
    fn policies(&self) -> Option<Arc<PolicySet>> {
        self.is_complete().then(|| self.read().policy_set.clone())
    }

    fn namespace(&self, name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.read().namespaces.get(name).map(|n| n.labels.clone())
    }

    fn surroundings(
        &self,
        namespace: &str,
        service_account: &str,
        pod_labels: &BTreeMap<String, String>,
    ) -> Surroundings {
        self.read().surroundings(namespace, service_account, pod_labels)
    }

    fn speaks_for(&self, namespace: &str, job: &str) -> Option<(String, String)> {
        self.speaker(namespace, job).map(|(name, state)| (name, state.as_str().into()))
    }
}
