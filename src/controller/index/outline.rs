//! What is known of requests, Jobs and Pods without looking into them: what says whom a change concerns.

use crate::api::{Requester, State as Stands};
use crate::binding::InputRef;
use crate::controller::index::Name;
use crate::controller::index::kept::{Kept, Shared};
use crate::controller::index::state::At;
use crate::lifecycle::{Contender, RequestFacts, TargetFacts, governing};
use jiff::Timestamp;
use std::sync::Arc;

/// A request.
pub(super) type KeptRequest = Kept<RequestOutline, RequestFacts>;
/// A Job or Pod.
pub(super) type KeptTarget = Kept<TargetOutline, TargetFacts>;

/// What many outlines have in common.
#[derive(Default)]
pub(super) struct Common {
    requesters: Shared<Requester>,
    /// Policies and rules, by name.
    rules: Shared<(String, String)>,
    words: Shared<str>,
}

/// Of a request.
pub(super) struct RequestOutline {
    pub uid: Arc<str>,
    pub version: i64,
    pub created: Timestamp,
    pub state: Stands,
    pub deleting: bool,
    pub reviewed: bool,
    /// What it targets.
    pub at: Option<Arc<At>>,
    /// The target's uid that it asks for, if it names one.
    pub asked_uid: Option<Box<str>>,
    /// The target's uid that it is bound to, if it is.
    pub bound_uid: Option<Arc<str>>,
    /// Who created it; forgotten of finished ones.
    pub requester: Option<Arc<Requester>>,
    /// The policy and the rule that govern it.
    pub rule: Option<Arc<(String, String)>>,
}

impl RequestOutline {
    /// Of a request for the target at that place, whose uid, where one is known there, is `there`. `uid` is its own where that
    /// is kept already.
    pub fn of(
        facts: &RequestFacts,
        uid: Option<Arc<str>>,
        at: Option<Arc<At>>,
        there: Option<&Arc<str>>,
        common: &mut Common,
    ) -> Self {
        let status = &facts.status;
        let shared = |uid: &str| there.filter(|there| ***there == *uid).cloned().unwrap_or_else(|| uid.into());
        let finished = status.state.is_final();
        Self {
            uid: uid.unwrap_or_else(|| facts.uid.as_str().into()),
            version: facts.version,
            created: facts.created,
            state: status.state,
            deleting: facts.deleting,
            reviewed: !facts.reviews.is_empty(),
            at,
            asked_uid: facts.spec.target.as_ref().and_then(|target| target.uid.as_deref()).map(Into::into),
            bound_uid: status.target.as_ref().map(|bound| shared(&bound.uid)),
            requester: facts.spec.requester.clone().map(|who| common.requesters.of(Arc::new(who))),
            rule: governing(&status.matches)
                .filter(|_| !finished)
                .map(|rule| common.rules.of(Arc::new((rule.policy.clone(), rule.rule.clone())))),
        }
    }

    /// As the others that ask for the same target see it.
    pub fn contender(&self, name: &Name) -> Contender {
        Contender {
            name: name.1.clone(),
            uid: self.uid.to_string(),
            created: self.created,
            state: self.state,
            kind: self.at.as_ref().map(|at| at.1),
            asked_uid: self.asked_uid.as_deref().map(Into::into),
            bound_uid: self.bound_uid.as_deref().map(Into::into),
            requester: self.requester.clone(),
        }
    }

    /// Whether there may be something to do about it.
    pub fn is_open(&self) -> bool {
        !self.state.is_final() || self.deleting
    }
}

/// Of a Job or Pod.
pub(super) struct TargetOutline {
    pub uid: Arc<str>,
    pub version: i64,
    pub created: Timestamp,
    pub held: bool,
    pub started: bool,
    pub finished: bool,
    pub deleting: bool,
    /// Whether it is told that a request for it ended.
    pub closed: bool,
    /// Whether it carries a receipt of ours.
    pub receipt: bool,
    /// Whether it carries the reason of an override.
    pub marked: bool,
    /// The uid of the CronJob that it was made from.
    pub cron_job: Option<Arc<str>>,
    /// The service account that its pod spec names, while it is held.
    pub service_account: Option<Arc<str>>,
    /// What it reads; kept while it is held.
    pub inputs: Box<[InputRef]>,
}

impl TargetOutline {
    /// Of a Job or Pod; `uid` is its own where that is kept already.
    pub fn of(facts: &TargetFacts, uid: Option<Arc<str>>, common: &mut Common) -> Self {
        let account = facts.work.traits.service_account.as_str();
        Self {
            uid: uid.unwrap_or_else(|| facts.uid.as_str().into()),
            version: facts.version,
            created: facts.created,
            held: facts.held,
            started: facts.started,
            finished: facts.finished,
            deleting: facts.deleting,
            closed: facts.closed.is_some(),
            receipt: facts.receipt.is_some(),
            marked: facts.marks.overridden.is_some(),
            cron_job: facts.marks.cron_job.as_ref().map(|(uid, _)| common.words.of(uid.as_str().into())),
            service_account: facts.held.then(|| common.words.of(account.into())),
            inputs: facts.reads.inputs.clone().into(),
        }
    }

    /// As [`TargetFacts::overridden`].
    pub fn is_overridden(&self) -> bool {
        self.marked && !self.held && !self.receipt
    }

    /// Whether it was released: nothing is decided about it any more, but that nobody else may ask for it.
    pub fn is_done(&self) -> bool {
        self.receipt && !self.held && !self.marked
    }

    /// Whether it runs without a receipt of ours.
    pub fn is_past_the_gate(&self) -> bool {
        !self.held && !self.receipt && !self.finished
    }
}
