//! From reviews to how far the approval has come.

use crate::api::{Requester, RequirementProgress, Review, ReviewDecision, SelfApproval};
use crate::policy::JoinedRequirement;
use crate::review::{eligibility, is_requester, quorum};
use jiff::Timestamp;

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
    /// This many denials end it.
    pub denials: i32,
    /// Whether the requester counts.
    pub self_approval: SelfApproval,
    /// Who asked.
    pub requester: &'a Requester,
    /// Who else has a part in what runs; they count as the requester does.
    pub parties: &'a [String],
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
    /// Who approved and counts, in the order of their words.
    pub approvers: Vec<String>,
    /// Who denied and counts.
    pub deniers: Vec<String>,
    /// Whether enough have denied.
    pub denied: bool,
    /// Sealed reviews of an earlier digest: shown, not counted.
    pub stale: usize,
    /// Reviews that admission did not seal: not counted.
    pub unsealed: usize,
}

/// A reviewer's last word that counts.
struct Word<'a> {
    review: &'a Review,
    decision: ReviewDecision,
}

/// Folds reviews, in stored order. A reviewer's last word counts, but nobody approves after their own denial.
pub fn fold(reviews: &[CountedReview], terms: &Terms<'_>) -> Tally {
    let mut tally = Tally {
        unsealed: reviews.iter().filter(|r| !r.sealed).count(),
        stale: reviews.iter().filter(|r| r.sealed && r.review.digest != terms.digest).count(),
        ..Tally::default()
    };
    let words = last_words(reviews, terms);
    let of = |wanted| words.iter().filter(move |w| w.decision == wanted).map(|w| w.review);
    tally.deniers = of(ReviewDecision::Deny).map(|r| r.reviewer.username.clone()).collect();
    tally.denied = tally.deniers.len() as i64 >= i64::from(terms.denials.max(1));
    let mut approving: Vec<&Review> = of(ReviewDecision::Approve).collect();
    approving.sort_by_key(|r| r.time.0);
    tally.approvers = approving.iter().map(|r| r.reviewer.username.clone()).collect();
    tally.progress = progress(&approving, terms.requirements);
    tally.approved_at = approved_at(&approving, terms.requirements);
    tally
}

fn last_words<'a>(reviews: &'a [CountedReview], terms: &Terms<'_>) -> Vec<Word<'a>> {
    let mut words: Vec<Word<'a>> = vec![];
    for CountedReview { review, .. } in reviews.iter().filter(|r| r.sealed && r.review.digest == terms.digest) {
        let reviewer = &review.reviewer;
        let own = is_requester(terms.requester, &reviewer.username, reviewer.uid.as_deref())
            || terms.parties.contains(&reviewer.username);
        let named =
            terms.requirements.iter().any(|r| eligibility::covered(&r.approvers, &reviewer.username, &reviewer.groups));
        if !named || (own && terms.self_approval == SelfApproval::Forbid) {
            continue;
        }
        match words.iter_mut().find(|w| w.review.reviewer.username == reviewer.username) {
            Some(word) if word.decision == ReviewDecision::Deny => {}
            Some(word) => *word = Word { review, decision: review.decision },
            None => words.push(Word { review, decision: review.decision }),
        }
    }
    words
}

fn places(approving: &[&Review], requirements: &[JoinedRequirement]) -> Vec<quorum::Places> {
    requirements
        .iter()
        .map(|r| quorum::Places {
            count: usize::try_from(r.count).unwrap_or(usize::MAX),
            candidates: (0..approving.len())
                .filter(|i| {
                    let reviewer = &approving[*i].reviewer;
                    eligibility::covered(&r.approvers, &reviewer.username, &reviewer.groups)
                })
                .collect(),
        })
        .collect()
}

fn progress(approving: &[&Review], requirements: &[JoinedRequirement]) -> Vec<RequirementProgress> {
    let held = quorum::assign(&places(approving, requirements), approving.len());
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
        let held = quorum::assign(&places(&approving[..n], requirements), n);
        let filled = held.iter().map(Vec::len).sum::<usize>() as i64;
        (open > 0 && filled == open).then(|| approving[n - 1].time.0)
    })
}
