//! One request owns a target's uid.

use crate::api::{Requester, State, TargetKind};
use crate::lifecycle::target_patch::Closed;
use crate::lifecycle::{Gate, Marks, RequestFacts, TargetFacts};
use jiff::Timestamp;
use std::sync::Arc;

/// Whose a Job is, as seen by one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// This request's.
    Owner,
    /// Another request's, by name.
    Taken(String),
    /// Nobody's any more: a request for this target was denied.
    Denied(String),
    /// Its creator's, and this request is somebody else's, or not the one that the creator named: says whose it is.
    Foreign(String),
}

/// A request for a target's name in its namespace.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// Where it stands.
    pub state: State,
    /// The kind it asks for.
    pub kind: Option<TargetKind>,
    /// The target's uid it asks for, if it names one.
    pub asked_uid: Option<String>,
    /// The target's uid it is bound to, if it is.
    pub bound_uid: Option<String>,
    /// Who created it; forgotten of finished ones.
    pub requester: Option<Arc<Requester>>,
}

impl Contender {
    /// The same request, as the others see it.
    pub fn of(request: &RequestFacts) -> Self {
        Self {
            name: request.name.clone(),
            uid: request.uid.clone(),
            created: request.created,
            state: request.status.state,
            kind: request.spec.target.as_ref().map(|t| t.kind),
            asked_uid: request.spec.target.as_ref().and_then(|t| t.uid.clone()),
            bound_uid: request.status.target.as_ref().map(|t| t.uid.clone()),
            requester: request.spec.requester.clone().map(Arc::new),
        }
    }

    /// Whether it may speak for the target at all. In a gated namespace the creator of the target decides who does: by
    /// being the one who asks, and by naming the request where it names one. A name alone proves nothing.
    pub fn may_speak_for(&self, target: &TargetFacts, gate: Gate) -> bool {
        gate != Gate::Enforce || foreign(&target.marks, Some(&self.name), self.requester.as_deref()).is_none()
    }

    /// Whether it is bound to this very target.
    pub fn bound_to(&self, job: &TargetFacts) -> bool {
        self.bound_uid.as_ref() == Some(&job.uid)
    }

    /// Those that are bound come first, then the oldest; the uid breaks ties, so that every replica agrees.
    fn order(&self, job: &TargetFacts) -> (bool, Timestamp, &str) {
        (!self.bound_to(job), self.created, &self.uid)
    }
}

/// Whose the target is for `me`, among all `others` that target its name. Denied is final for a target's uid; after
/// Expired or Cancelled another request may bind.
pub fn claim(me: &Contender, job: &TargetFacts, others: &[Contender], gate: Gate) -> Claim {
    match job.receipt.as_ref().map(|r| r.request.as_ref()) {
        Some(Some(request)) if request.uid == me.uid => {}
        Some(Some(request)) => return Claim::Taken(format!("request {}", request.name)),
        Some(None) => return Claim::Taken("policy, which allowed it without a request,".into()),
        None => {}
    }
    if !me.may_speak_for(job, gate) {
        return Claim::Foreign(whose(&job.marks));
    }
    for other in others.iter().filter(|o| o.uid != me.uid && o.bound_to(job)) {
        match other.state {
            State::Denied => return Claim::Denied(other.name.clone()),
            State::Released => return Claim::Taken(format!("request {}", other.name)),
            _ => {}
        }
    }
    // The request that was denied may be gone; what it wrote on the Job is not. A bound request reads its own end there.
    let denied = |closed: Closed<'_>| closed.state == State::Denied.as_str() && !closed.is_of(&me.uid, None);
    if !me.bound_to(job) && job.closed.as_deref().map(Closed::read).is_some_and(denied) {
        return Claim::Denied("an earlier request".into());
    }
    let rival = others
        .iter()
        .filter(|o| o.uid != me.uid && !o.state.is_final() && o.may_speak_for(job, gate))
        .filter(|o| o.asked_uid.as_ref().is_none_or(|uid| *uid == job.uid))
        // One that was bound to an earlier Job of this name will never take this one.
        .filter(|o| o.bound_uid.as_ref().is_none_or(|uid| *uid == job.uid))
        .find(|o| o.order(job) < me.order(job));
    rival.map_or(Claim::Owner, |o| Claim::Taken(format!("request {}", o.name)))
}

/// Whether one of the requests that target its name tells that somebody started this very target by an override: one that
/// owns it and is unfinished will, while it runs, and one that was bound to it and is released does already.
pub fn tells_of_override(target: &TargetFacts, requests: &[Contender], gate: Gate) -> bool {
    let this_one = |uid: &Option<String>| uid.as_ref().is_none_or(|uid| *uid == target.uid);
    requests.iter().any(|request| match request.state {
        State::Released => request.bound_to(target),
        state if state.is_final() || target.overridden().is_none() => false,
        _ => {
            let owns = || claim(request, target, requests, gate) == Claim::Owner;
            this_one(&request.bound_uid) && this_one(&request.asked_uid) && owns()
        }
    })
}

/// Whose a target with these marks is in a gated namespace, where it is not this requester's to ask for, or its creator
/// names another request. `request` is the name of the request, where it has one yet.
pub fn foreign(marks: &Marks, request: Option<&str>, requester: Option<&Requester>) -> Option<String> {
    let named = marks.claims.request.as_deref().zip(request).is_none_or(|(named, name)| named == name);
    let same = |(creator, requester): (&Requester, &Requester)| {
        let same_uid = match (&creator.uid, &requester.uid) {
            (Some(a), Some(b)) => a == b,
            (None, None) => true,
            _ => false,
        };
        same_uid && creator.username == requester.username
    };
    let own = named && marks.creator.as_ref().zip(requester).is_some_and(same);
    (!own).then(|| whose(marks))
}

fn whose(marks: &Marks) -> String {
    match (&marks.creator, &marks.claims.request) {
        (None, _) => "nobody was stamped as its creator when it was made".into(),
        (Some(creator), None) => format!("it was created by {}", creator.username),
        (Some(creator), Some(name)) => format!("it was created by {}, who names request {name}", creator.username),
    }
}
