//! From reviews to how far the approval has come.

use crate::api::{Requester, RequirementProgress, Review, ReviewDecision, Reviewer, SelfApproval, Subject};
use crate::policy::{JoinedRequirement, Places, assign};
use crate::review::{covers, is_requester, persons};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// A stored review and whether its seal holds.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedReview {
    /// The entry.
    pub review: Review,
    /// Whether admission sealed it for this request.
    pub sealed: bool,
}

/// What reviews are counted against.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What must be met.
    pub requirements: &'a [JoinedRequirement],
    /// Who may pass a freeze window. They may review, and fill no requirement by it.
    pub passers: &'a [Subject],
    /// This many denials end it.
    pub denials: i32,
    /// Whether the requester counts.
    pub self_approval: SelfApproval,
    /// Who asked.
    pub requester: &'a Requester,
    /// Who else has a part in what runs; their approvals count as the requester's do.
    pub parties: &'a [String],
    /// Whose approvals do not count, whatever else is allowed.
    pub excluded: &'a [String],
    /// Whether an approval counts only with a comment that is not blank.
    pub require_comment: bool,
    /// Only reviews of this digest count.
    pub digest: &'a str,
}

/// What all reviews amount to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Each requirement and who has met it.
    pub progress: Vec<RequirementProgress>,
    /// When the last missing approval came; none while one is missing.
    pub approved_at: Option<Timestamp>,
    /// Who approved and may fill a requirement, in the order of their words.
    pub approvers: Vec<String>,
    /// Everyone whose last word that counts is an approval, in the order of their words: also who may only pass a window.
    pub approving: Vec<Reviewer>,
    /// Who denied and counts.
    pub deniers: Vec<String>,
    /// Whether enough have denied.
    pub denied: bool,
    /// Sealed reviews of an earlier digest: shown, not counted.
    pub stale: usize,
    /// Reviews that admission did not seal under a key that is accepted: not counted.
    pub unsealed: usize,
}

/// Folds reviews, in stored order. A person's last word counts, but nobody approves after their own denial. Who said the
/// same again said it the first time: an approval given in time does not grow late. Whoever approved may take it back, also
/// when they are no approver any more.
pub fn fold(reviews: &[CountedReview], terms: &Terms<'_>) -> Tally {
    let words = last_words(reviews, terms);
    let of = |wanted| words.iter().copied().filter(move |w| w.decision == wanted);
    let mut approving: Vec<&Review> = of(ReviewDecision::Approve).collect();
    approving.sort_by_key(|r| r.time.0);
    let names = |review: &Review| review.reviewer.username.clone();
    let deniers: Vec<String> = of(ReviewDecision::Deny).map(names).collect();
    let fills = |r: &&Review| terms.requirements.iter().any(|needed| covers(&needed.approvers, &r.reviewer));
    let filling: Vec<&Review> = approving.iter().copied().filter(fills).collect();
    Tally {
        progress: progress(&filling, terms.requirements),
        approved_at: approved_at(&filling, terms.requirements),
        approvers: filling.iter().copied().map(names).collect(),
        approving: approving.iter().map(|r| r.reviewer.clone()).collect(),
        denied: deniers.len() as i64 >= i64::from(terms.denials.max(1)),
        deniers,
        stale: reviews.iter().filter(|r| r.sealed && r.review.digest != terms.digest).count(),
        unsealed: reviews.iter().filter(|r| !r.sealed).count(),
    }
}

/// Each person's last word that counts.
fn last_words<'a>(reviews: &'a [CountedReview], terms: &Terms<'_>) -> Vec<&'a Review> {
    let sealed: Vec<&'a Review> = reviews.iter().filter(|r| r.sealed).map(|r| &r.review).collect();
    let persons = persons(&sealed.iter().map(|r| &r.reviewer).collect::<Vec<_>>());
    let (mut words, mut approvers): (Vec<(usize, &'a Review)>, BTreeSet<usize>) = Default::default();
    for (review, person) in sealed.into_iter().zip(persons).filter(|(review, _)| review.digest == terms.digest) {
        let asked = is_asked(&review.reviewer, terms);
        if asked && review.decision == ReviewDecision::Approve {
            approvers.insert(person);
        }
        if !counts(review, asked || approvers.contains(&person), terms) {
            continue;
        }
        match words.iter_mut().find(|(who, _)| *who == person) {
            Some((_, word)) if word.decision == ReviewDecision::Deny || word.decision == review.decision => {}
            Some((_, word)) => *word = review,
            None => words.push((person, review)),
        }
    }
    words.into_iter().map(|(_, word)| word).collect()
}

/// Whether a word counts. A denial does from everybody who is asked, or was when they approved. An approval does not from
/// who asked, has a part in it or is excluded: some of those names come from whoever made the Job, so they take no veto away.
fn counts(review: &Review, heard: bool, terms: &Terms<'_>) -> bool {
    let reviewer = &review.reviewer;
    let own = || {
        is_requester(terms.requester, &reviewer.username, reviewer.uid.as_deref())
            || terms.parties.contains(&reviewer.username)
    };
    let barred = || {
        (terms.self_approval == SelfApproval::Forbid && own())
            || terms.excluded.contains(&reviewer.username)
            || (terms.require_comment && !says_something(review))
    };
    heard && (review.decision == ReviewDecision::Deny || !barred())
}

fn is_asked(reviewer: &Reviewer, terms: &Terms<'_>) -> bool {
    covers(terms.passers, reviewer) || terms.requirements.iter().any(|r| covers(&r.approvers, reviewer))
}

fn says_something(review: &Review) -> bool {
    review.comment.as_deref().is_some_and(|comment| !comment.trim().is_empty())
}

fn places(approving: &[&Review], requirements: &[JoinedRequirement]) -> Vec<Places> {
    requirements
        .iter()
        .map(|r| Places {
            count: usize::try_from(r.count).unwrap_or(usize::MAX),
            candidates: (0..approving.len()).filter(|i| covers(&r.approvers, &approving[*i].reviewer)).collect(),
        })
        .collect()
}

fn progress(approving: &[&Review], requirements: &[JoinedRequirement]) -> Vec<RequirementProgress> {
    let held = assign(&places(approving, requirements), approving.len());
    requirements
        .iter()
        .zip(held)
        .map(|(r, held)| RequirementProgress {
            requirement: r.name.clone(),
            required: r.count,
            approvers: r.approvers.clone(),
            approved_by: held.into_iter().map(|i| approving[i].reviewer.username.clone()).collect(),
        })
        .collect()
}

/// When the quorum was complete: the time of the word that filled the last place.
fn approved_at(approving: &[&Review], requirements: &[JoinedRequirement]) -> Option<Timestamp> {
    let open: i64 = requirements.iter().map(|r| i64::from(r.count)).sum();
    (1..=approving.len()).find_map(|n| {
        let held = assign(&places(&approving[..n], requirements), n);
        let filled = held.iter().map(Vec::len).sum::<usize>() as i64;
        (open > 0 && filled == open).then(|| approving[n - 1].time.0)
    })
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
