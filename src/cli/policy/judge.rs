//! What policy says of a staged request, and what its reviews come to: by the functions that the operator runs.

use crate::api::policy::Decision;
use crate::api::{Constraints, Review, ReviewDecision, Reviewer, Subject};
use crate::cli::case::World;
use crate::cli::policy::fixture::{Release, ReviewHere};
use crate::cli::policy::stage::{Staged, with_own_groups};
use crate::lifecycle::{barred, creator_unknown, excluded, never_opens, obstacles, unsatisfiable};
use crate::policy::{
    DerivedTag, Doubt, JoinedWindow, Outcome, Passable, PolicySet, PolicyTrace, evaluate, explain, released_at,
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
    /// What the reviews come to that came before the end.
    pub tally: Tally,
    /// The first review that came after it, and what the end was: nobody would have taken it.
    pub late: Option<String>,
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
    let mut reviews: Vec<_> = reviews.iter().map(|review| review.sealed(case.asked)).collect();
    reviews.sort_by_key(|counted| counted.review.time.0);
    let own = case.parties();
    let excluded = excluded(&outcome, case.target.as_ref().map(|target| &target.marks), case.gate());
    let passers = outcome.passers();
    let terms = Terms {
        requirements: &outcome.requirements,
        passers: &passers,
        denials: outcome.denials,
        self_approval: outcome.self_approval,
        requester: &case.requester,
        parties: &own,
        excluded: &excluded,
        require_comment: outcome.require_comment,
        digest: DIGEST,
    };
    let barred = |person: &Subject| barred(person, outcome.self_approval, &excluded, &case.requester.username, &own);
    let held = held(&outcome, staged, &barred);
    let Course { tally, approved_at, released, late } = follow(&outcome, &reviews, &terms, &held, case.asked);
    let constraints = outcome.constraints.tightest(&staged.offered);
    Judged { constraints, derived, traces, tally, late, held, approved_at, released, outcome }
}

/// How far reviews bring a request.
struct Course {
    tally: Tally,
    approved_at: Option<Timestamp>,
    released: Release,
    late: Option<String>,
}

/// Hears the reviews one after the other, until the request ends.
fn follow(
    outcome: &Outcome,
    reviews: &[CountedReview],
    terms: &Terms<'_>,
    held: &[String],
    asked: Timestamp,
) -> Course {
    let mut heard = 0;
    loop {
        let words = &reviews[..heard];
        let tally = fold(words, terms);
        let approved_at = approved_at(outcome, &tally, held, asked);
        let released = released(outcome, words, &tally, approved_at, asked);
        let mut course = Course { tally, approved_at, released, late: None };
        let Some(next) = reviews.get(heard).map(|counted| &counted.review) else { return course };
        if let Some(end) = course.ended(outcome, words, asked, next.time.0) {
            let (who, what, when) = (&next.reviewer.username, next.decision, next.time.0);
            course.late = Some(format!("{what:?} by {who} at {when}, and it had ended before: {end}"));
            return course;
        }
        heard += 1;
    }
}

impl Course {
    /// How it ended by that time, if it did. What policy denies never takes a review: that people would approve it may be
    /// said, and changes nothing.
    fn ended(&self, outcome: &Outcome, words: &[CountedReview], asked: Timestamp, by: Timestamp) -> Option<String> {
        let expires = later(asked, outcome.pending_timeout_seconds);
        let released = match self.released {
            Release::Never => None,
            Release::Now => self.approved_at,
            Release::At(at) => Some(at),
        };
        match (outcome.decision, released) {
            (Some(Decision::Deny), _) => None,
            _ if self.tally.denied => words.last().map(|word| format!("it was denied at {}", word.review.time.0)),
            (_, Some(at)) if at <= by => Some(format!("it was released at {at}")),
            _ if self.approved_at.is_none() && by > expires => Some(format!("it expired at {expires}")),
            _ => None,
        }
    }
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

/// Why nothing is approved, each with the reason of the condition `Evaluated`. A denial by policy is not held up by what
/// only a release would meet.
fn held(outcome: &Outcome, staged: &Staged, barred: &dyn Fn(&Subject) -> bool) -> Vec<String> {
    let doubt = |d: &Doubt| ("PolicyNotReady", format!("policy {} {}: {}", d.policy, d.what, d.error));
    let mut held: Vec<_> = outcome.doubts.iter().map(doubt).collect();
    if matches!(outcome.decision, Some(Decision::Allow | Decision::RequireApproval)) {
        let unpinned = staged.case.target.as_ref().map_or(&[][..], |target| &target.unpinned);
        held.extend(staged.foreign.clone().map(|text| ("TargetForeign", text)));
        held.extend(unsatisfiable(outcome, barred));
        let target = staged.case.target.as_ref();
        let unknown = target.and_then(|target| creator_unknown(outcome, &target.marks, staged.case.gate()));
        held.extend(unknown.map(|text| ("CreatorUnknown", text)));
        held.extend(obstacles(outcome, &[], unpinned, staged.gated));
        held.extend(never_opens(outcome, later(staged.case.asked, outcome.not_before_seconds.unwrap_or(0))));
    }
    held.into_iter().map(|(reason, text)| format!("{reason}: {text}")).collect()
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

/// When it is released: the first time that no window holds it any more, once it is approved and its delay is over, unless
/// the clock of an approval runs out first.
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
    let timeout = (outcome.decision != Some(Decision::Allow)).then_some(outcome.release_timeout_seconds);
    match released_at(&windows, from, timeout) {
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
