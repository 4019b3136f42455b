//! Which reviews count, and why the others do not: asked of [`fold`] itself, by asking it again with one rule lifted.

use crate::api::{ReviewDecision, SelfApproval};
use crate::review::{CountedReview, Tally, Terms, fold, same_person};
use std::ops::Range;

/// Whether a review counts; else every reason why it does not.
pub fn standing(reviews: &[CountedReview], at: usize, terms: &Terms<'_>) -> Vec<String> {
    let Some(review) = reviews.get(at) else { return vec![] };
    let why = alone(review, terms);
    if !why.is_empty() && !takes_back(reviews, at, terms) {
        return why;
    }
    let said = |mut others: Range<usize>, decision: ReviewDecision| {
        others.any(|i| {
            of_one_person(&reviews[i], review)
                && reviews[i].review.decision == decision
                && (alone(&reviews[i], terms).is_empty() || takes_back(reviews, i, terms))
        })
    };
    let (earlier, later, own) = (0..at, at + 1..reviews.len(), review.review.decision);
    if said(earlier.clone(), own) {
        return vec!["repeats their earlier word".into()];
    }
    if own == ReviewDecision::Approve && said(earlier, ReviewDecision::Deny) {
        return vec!["comes after their own denial, which stands".into()];
    }
    if own == ReviewDecision::Approve && said(later, ReviewDecision::Deny) {
        return vec!["is replaced by their later denial".into()];
    }
    vec![]
}

/// Whether it takes back an approval, as somebody may who is no approver any more.
fn takes_back(reviews: &[CountedReview], at: usize, terms: &Terms<'_>) -> bool {
    let review = &reviews[at];
    let own: Vec<_> = reviews[..=at].iter().filter(|other| of_one_person(other, review)).cloned().collect();
    let counted = review.sealed && review.review.digest == terms.digest;
    counted && review.review.decision == ReviewDecision::Deny && !fold(&own, terms).deniers.is_empty()
}

fn of_one_person(a: &CountedReview, b: &CountedReview) -> bool {
    let (a, b) = (&a.review.reviewer, &b.review.reviewer);
    same_person((&a.username, a.uid.as_deref()), (&b.username, b.uid.as_deref()))
}

/// Why a review would not count if it were the only one.
fn alone(review: &CountedReview, terms: &Terms<'_>) -> Vec<String> {
    let counts = |terms: &Terms<'_>| counted(&fold(std::slice::from_ref(review), terms));
    if counts(terms) {
        return vec![];
    }
    // With every rule lifted that can be lifted for one reviewer alone.
    let lifted = Terms {
        digest: &review.review.digest,
        self_approval: SelfApproval::Allow,
        excluded: &[],
        require_comment: false,
        ..*terms
    };
    if !counts(&lifted) {
        return vec!["the reviewer is none of the approvers".into()];
    }
    let own = if review.review.reviewer.username == terms.requester.username {
        "the reviewer asked for it, and selfApproval is Forbid"
    } else {
        "the reviewer has a part in what runs, and selfApproval is Forbid"
    };
    let rules = [
        (
            Terms { digest: terms.digest, ..lifted },
            "names another digest than the one that stands now: what was shown has changed",
        ),
        (Terms { self_approval: terms.self_approval, ..lifted }, own),
        (Terms { excluded: terms.excluded, ..lifted }, "the reviewer is excluded by policy"),
        (
            Terms { require_comment: terms.require_comment, ..lifted },
            "an approval takes a comment here, and it has none",
        ),
    ];
    let found: Vec<String> =
        rules.into_iter().filter(|(terms, _)| !counts(terms)).map(|(_, why)| why.to_string()).collect();
    if found.is_empty() { vec!["several rules together exclude it".into()] } else { found }
}

fn counted(tally: &Tally) -> bool {
    !tally.approving.is_empty() || !tally.deniers.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Requester, Subject, SubjectKind};
    use crate::policy::JoinedRequirement;
    use serde_json::json;

    const NOW: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const THEN: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn review(who: &str, group: &str, decision: &str, digest: &str) -> CountedReview {
        let review = json!({"reviewer": {"username": who, "groups": [group]}, "decision": decision, "digest": digest,
            "time": "2026-11-20T17:00:00.000000Z", "seal": "x"});
        CountedReview { review: serde_json::from_value(review).unwrap(), sealed: true }
    }

    #[test]
    fn every_review_that_does_not_count_says_why() {
        let sre = Subject { kind: SubjectKind::Group, name: "sre".into(), namespace: None };
        let requirements = [JoinedRequirement { name: "sre".into(), count: 2, approvers: vec![sre] }];
        let requester = Requester { username: "mallory".into(), uid: None, groups: vec![] };
        let parties = ["bob".to_string()];
        let terms = Terms {
            requirements: &requirements,
            passers: &[],
            denials: 2,
            self_approval: SelfApproval::Forbid,
            requester: &requester,
            parties: &parties,
            excluded: &[],
            require_comment: false,
            digest: NOW,
        };
        let reviews = [
            review("alice", "sre", "Approve", NOW),
            review("carol", "sre", "Approve", THEN),
            review("bob", "sre", "Approve", NOW),
            review("mallory", "sre", "Approve", THEN),
            review("system:serviceaccount:ci:bot", "developers", "Approve", NOW),
            review("carol", "sre", "Deny", NOW),
            review("carol", "sre", "Approve", NOW),
            review("alice", "sre", "Approve", NOW),
            review("alice", "sre", "Deny", NOW),
            review("system:serviceaccount:ci:a", "sre", "Approve", NOW),
            review("system:serviceaccount:ci:a", "developers", "Deny", NOW),
            review("system:serviceaccount:ci:b", "developers", "Deny", NOW),
        ];
        let why = |i: usize| standing(&reviews, i, &terms).join("; ");
        assert_eq!(why(0), "is replaced by their later denial");
        assert!(why(1).starts_with("names another digest"), "{}", why(1));
        assert_eq!(why(2), "the reviewer has a part in what runs, and selfApproval is Forbid");
        assert!(why(3).contains("another digest") && why(3).contains("asked for it"), "{}", why(3));
        assert_eq!(why(4), "the reviewer is none of the approvers");
        assert_eq!(why(5), "");
        assert_eq!(why(6), "comes after their own denial, which stands");
        assert_eq!(why(7), "repeats their earlier word");
        assert_eq!(why(8), "");
        assert_eq!((why(9).as_str(), why(10).as_str()), ("is replaced by their later denial", ""));
        assert_eq!(why(11), "the reviewer is none of the approvers");
        let tally = fold(&reviews, &terms);
        assert_eq!(
            (tally.approvers, tally.deniers),
            (vec![], ["alice", "carol", "system:serviceaccount:ci:a"].map(String::from).to_vec())
        );
    }
}
