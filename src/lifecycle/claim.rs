//! One request owns a Job uid.

use crate::api::State;
use crate::lifecycle::{JobFacts, RequestFacts};
use jiff::Timestamp;

/// Whose a Job is, as seen by one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// This request's.
    Owner,
    /// Another request's, by name.
    Taken(String),
    /// Nobody's any more: a request for this Job was denied.
    Denied(String),
}

/// Another request for the same Job name in the same namespace.
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
    /// The Job uid it asks for, if it names one.
    pub asked_uid: Option<String>,
    /// The Job uid it is bound to, if it is.
    pub bound_uid: Option<String>,
}

impl Contender {
    /// The same request, as the others see it.
    pub fn of(request: &RequestFacts) -> Self {
        Self {
            name: request.name.clone(),
            uid: request.uid.clone(),
            created: request.created,
            state: request.status.state,
            asked_uid: request.spec.target.as_ref().and_then(|t| t.uid.clone()),
            bound_uid: request.status.target.as_ref().map(|t| t.uid.clone()),
        }
    }

    fn bound_to(&self, job: &JobFacts) -> bool {
        self.bound_uid.as_ref() == Some(&job.uid)
    }

    /// Those that are bound come first, then the oldest; the uid breaks ties, so that every replica agrees.
    fn order(&self, job: &JobFacts) -> (bool, Timestamp, &str) {
        (!self.bound_to(job), self.created, &self.uid)
    }
}

/// Whose the Job is for `me`, among all `others` that target its name. Denied is final for a Job's uid; after Expired or
/// Cancelled another request may bind.
pub fn claim(me: &Contender, job: &JobFacts, others: &[Contender]) -> Claim {
    if let Some(receipt) = job.receipt.as_ref().filter(|r| r.request.uid != me.uid) {
        return Claim::Taken(receipt.request.name.clone());
    }
    for other in others.iter().filter(|o| o.uid != me.uid && o.bound_to(job)) {
        match other.state {
            State::Denied => return Claim::Denied(other.name.clone()),
            State::Released => return Claim::Taken(other.name.clone()),
            _ => {}
        }
    }
    // The request that was denied may be gone; what it wrote on the Job is not. A bound request reads its own end there.
    if !me.bound_to(job) && job.closed.as_deref().is_some_and(|c| c.starts_with("Denied ")) {
        return Claim::Denied("an earlier request".into());
    }
    let rival = others
        .iter()
        .filter(|o| o.uid != me.uid && !o.state.is_final())
        .filter(|o| o.asked_uid.as_ref().is_none_or(|uid| *uid == job.uid))
        // One that was bound to an earlier Job of this name will never take this one.
        .filter(|o| o.bound_uid.as_ref().is_none_or(|uid| *uid == job.uid))
        .find(|o| o.order(job) < me.order(job));
    rival.map_or(Claim::Owner, |o| Claim::Taken(o.name.clone()))
}
