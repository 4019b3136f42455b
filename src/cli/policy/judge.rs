//! What policy says of a staged request, and what its reviews come to: by the functions that the operator runs.

use crate::api::policy::Decision;
use crate::api::{Constraints, Review, ReviewDecision, Reviewer, Subject};
use crate::cli::case::World;
use crate::cli::policy::fixture::{Release, ReviewHere};
use crate::cli::policy::stage::{Staged, with_own_groups};
use crate::lifecycle::{barred, excluded};
use crate::policy::{
    DerivedTag, JoinedWindow, MAX_APPROVALS, Outcome, Passable, PolicySet, PolicyTrace, evaluate, explain,
    opening_past, shortfall,
};
use crate::review::{CountedReview, Tally, Terms, covers, fold};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// What every review of a test names: what stands now.
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A judged request.
#[derive(Debug)]
pub struct Judged {
    /// Tags that classifiers derive.
    pub derived: Vec<DerivedTag>,
    /// What the matching rules say together.
    pub outcome: Outcome,
    /// Every policy and rule.
    pub traces: Vec<PolicyTrace>,
    /// Bounds in force, with those that the requester offers.
    pub constraints: Constraints,
    /// What the reviews come to.
    pub tally: Tally,
    /// Why nothing is approved, whatever rules and reviewers say.
    pub held: Vec<String>,
    /// When nothing was missing any more; none while something is, and after a denial.
    pub approved_at: Option<Timestamp>,
    /// When it could be released.
    pub released: Release,
}

/// Judges a request with these reviews.
pub fn judge(policies: &PolicySet, world: &World, staged: &Staged, reviews: &[ReviewHere]) -> Judged {
    let case = &staged.case;
    let derived = case.derived(policies, world);
    let facts = case.facts(&derived);
    let outcome = evaluate(policies, &facts);
    let traces = explain(policies, &facts);
    let reviews: Vec<_> = reviews.iter().map(|review| review.sealed(case.asked)).collect();
    let own = case.parties();
    let excluded = excluded(&outcome, case.target.as_ref().map(|target| &target.marks));
    let tally = fold(
        &reviews,
        &Terms {
            requirements: &outcome.requirements,
            passers: &outcome.passers(),
            denials: outcome.denials,
            self_approval: outcome.self_approval,
            requester: &case.requester,
            parties: &own,
            excluded: &excluded,
            require_comment: outcome.require_comment,
            digest: DIGEST,
        },
    );
    let held =
        held(&outcome, &|person| barred(person, outcome.self_approval, &excluded, &case.requester.username, &own));
    let approved_at = approved_at(&outcome, &tally, &held, case.asked);
    let released = released(&outcome, &reviews, &tally, approved_at, case.asked);
    let constraints = outcome.constraints.tightest(&staged.offered);
    Judged { constraints, derived, traces, tally, held, approved_at, released, outcome }
}

impl ReviewHere {
    /// The review as admission would store it.
    fn sealed(&self, asked: Timestamp) -> CountedReview {
        let review = Review {
            reviewer: Reviewer {
                username: self.reviewer.clone(),
                uid: None,
                groups: with_own_groups(&self.reviewer, &self.groups),
                authorized: self.authorized.clone(),
            },
            decision: self.decision,
            digest: DIGEST.into(),
            comment: self.comment.clone(),
            time: MicroTime(later(asked, i64::from(self.after))),
            seal: String::new(),
        };
        CountedReview { review, sealed: true }
    }
}

fn held(outcome: &Outcome, barred: &dyn Fn(&Subject) -> bool) -> Vec<String> {
    let doubts = outcome.doubts.iter().map(|d| format!("policy {} {}: {}", d.policy, d.what, d.error));
    let many = Some(outcome.approvals_required()).filter(|n| *n > MAX_APPROVALS);
    let many = many.map(|n| format!("the matching rules ask for {n} approvals together; at most 64 can be recorded"));
    let short = shortfall(&outcome.requirements, barred).map(|short| format!("nobody can approve this: {short}"));
    doubts.chain(many).chain(short).collect()
}

/// When nothing was missing any more: at once where nobody is asked.
fn approved_at(outcome: &Outcome, tally: &Tally, held: &[String], asked: Timestamp) -> Option<Timestamp> {
    if tally.denied || !held.is_empty() {
        return None;
    }
    match outcome.decision {
        Some(Decision::Allow) => Some(asked),
        Some(Decision::RequireApproval) => {
            tally.approved_at.filter(|at| *at <= later(asked, outcome.pending_timeout_seconds))
        }
        Some(Decision::Deny) | None => None,
    }
}

/// When it is released: the first time that no window holds it any more, once it is approved and its delay is over.
fn released(
    outcome: &Outcome,
    reviews: &[CountedReview],
    tally: &Tally,
    approved: Option<Timestamp>,
    asked: Timestamp,
) -> Release {
    let Some(approved) = approved else { return Release::Never };
    let from = approved.max(later(asked, outcome.not_before_seconds.unwrap_or(0)));
    let windows: Vec<Passable<'_>> =
        outcome.windows.iter().map(|window| (window.compiled(), passed_at(window, reviews, tally))).collect();
    match opening_past(&windows, from) {
        None => Release::Never,
        Some(at) if at == approved => Release::Now,
        Some(at) => Release::At(at),
    }
}

/// When somebody approved who may pass the window.
fn passed_at(window: &JoinedWindow, reviews: &[CountedReview], tally: &Tally) -> Option<Timestamp> {
    let counts = |review: &&Review| {
        review.decision == ReviewDecision::Approve
            && tally.approving.contains(&review.reviewer)
            && covers(&window.window().may_pass, &review.reviewer)
    };
    reviews.iter().map(|counted| &counted.review).filter(counts).map(|review| review.time.0).min()
}

fn later(t: Timestamp, seconds: i64) -> Timestamp {
    t.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
