//! When what happened to a request that has ended: for whoever measures. Decides nothing.

use crate::api::status::RuleMatch;
use crate::api::{ApprovalRequestStatus, ReviewDecision, State, TargetKind};
use crate::lifecycle::RequestFacts;
use jiff::{SignedDuration, Timestamp};

/// The way of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Milestones {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The workflow that it is said to be for; a tenant's text.
    pub workflow: String,
    /// How it ended.
    pub state: State,
    /// Name of the policy and of the rule that governed it; none where no rule matched.
    pub rule: Option<(String, String)>,
    /// The Job or Pod: its kind, name, and uid.
    pub target: Option<(TargetKind, String, String)>,
    /// How often it was bound.
    pub revision: i64,
    /// When it was created; the API server tells whole seconds.
    pub asked: Timestamp,
    /// When that was bound which stood at the end, in whole seconds, rounded up.
    pub shown: Option<Timestamp>,
    /// The reviews that admission sealed, in their order.
    pub reviews: Vec<(Timestamp, ReviewDecision)>,
    /// When the last review came that this end rests on; none where it rests on none.
    pub decided: Option<Timestamp>,
    /// From when on only the operator was waited for.
    pub due: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
}

impl Milestones {
    /// The way of a request that ended with `status` at `ended`; none where it has not.
    pub fn of(request: &RequestFacts, status: &ApprovalRequestStatus, ended: Timestamp) -> Option<Self> {
        let rests_on = match status.state {
            State::Released => Some(ReviewDecision::Approve),
            State::Denied => Some(ReviewDecision::Deny),
            State::Expired | State::Cancelled => None,
            State::Pending | State::Approved => return None,
        };
        let sealed = || request.reviews.iter().filter(|counted| counted.sealed).map(|counted| &counted.review);
        let counts = |review: &&crate::api::Review| {
            Some(review.decision) == rests_on && status.digest.as_deref() == Some(review.digest.as_str())
        };
        let decided = sealed().filter(counts).map(|review| review.time.0).max();
        let waited = [status.not_before.as_ref(), request.status.waits_until.as_ref()];
        let due = decided.map(|decided| waited.into_iter().flatten().map(|time| time.0).fold(decided, Ord::max));
        let bound = status.target.as_ref().or(request.status.target.as_ref());
        let asked_for = request.spec.target.as_ref();
        Some(Self {
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            uid: request.uid.clone(),
            workflow: request.spec.requested_by.clone(),
            state: status.state,
            rule: governing(&status.matches).map(|rule| (rule.policy.clone(), rule.rule.clone())),
            target: asked_for.zip(bound).map(|(target, bound)| (target.kind, target.name.clone(), bound.uid.clone())),
            revision: status.revision,
            asked: request.created,
            shown: status.bound_time.as_ref().map(|time| time.0),
            reviews: sealed().map(|review| (review.time.0, review.decision)).collect(),
            decided,
            due,
            ended,
        })
    }

    /// From the question to the end.
    pub fn took(&self) -> SignedDuration {
        between(self.asked, self.ended)
    }

    /// From when only the operator was waited for to the release; none where nobody approved, or nothing was released.
    pub fn release_took(&self) -> Option<SignedDuration> {
        let due = self.due.filter(|_| self.state == State::Released)?;
        Some(between(due, self.ended))
    }
}

/// The rule that governs: the strictest that matched, and of those the first.
pub fn governing(matches: &[RuleMatch]) -> Option<&RuleMatch> {
    matches.iter().rev().max_by_key(|matched| matched.decision)
}

/// Two clocks may differ: what seems to have taken less than no time took none.
fn between(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from).max(SignedDuration::ZERO)
}
