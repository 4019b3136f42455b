//! Defects on purpose: each must break an invariant, or the model would not see the same defect in the code.

use super::*;

/// A defect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mutant {
    /// The API server takes a patch of a Job that changed since.
    JobUnguarded,
    /// The API server takes a status of a request that changed since.
    StatusUnguarded,
    /// Reviews of what was shown before count for what is shown now.
    StaleReviews,
    /// Nobody checks a seal.
    SealsUnchecked,
    /// Denials are not heard.
    DenialsUnheard,
    /// A Job that was created anew passes for the one before.
    UidUnbound,
    /// What the Job runs is not hashed.
    WorkUnbound,
    /// The status is written before the Job.
    StatusFirst,
    /// A final state is read as pending.
    FinalReopened,
    /// An operator's clock stands still.
    ClockStopped,
    /// A receipt on the Job is not seen.
    ReceiptUnseen,
    /// The note on the Job that its request ended is not seen.
    CloseUnseen,
    /// The note on the Job does not tell whose end it is, but what that was bound to.
    CloseUnnamed,
    /// An operator acts on a review that is not stored yet.
    ActedOnUnstored,
    /// Who is of no group that policy names counts as if they were.
    OutsidersCounted,
    /// Who asked counts as if they had not.
    RequesterCounted,
    /// A review counts as given at once, whenever it came.
    LateReviews,
    /// An edit of the policy brings no new version.
    EditsUnnoticed,
    /// An edit of the policy brings a new version, and the old content.
    PolicyUnseen,
}

impl Mutant {
    pub(super) fn misread_request(self, facts: &mut RequestFacts) {
        let digest = facts.status.digest.clone();
        let reviews = &mut facts.reviews;
        match self {
            Self::StaleReviews => {
                for counted in reviews {
                    counted.review.digest = digest.clone().unwrap_or_default();
                }
            }
            Self::SealsUnchecked => reviews.iter_mut().for_each(|r| r.sealed = true),
            Self::DenialsUnheard => reviews.retain(|r| r.review.decision != crate::api::ReviewDecision::Deny),
            Self::OutsidersCounted => reviews.iter_mut().for_each(|r| r.review.reviewer.groups = vec!["sre".into()]),
            Self::RequesterCounted => facts.spec.requester.as_mut().unwrap().username = "somebody".into(),
            Self::LateReviews => {
                for counted in reviews {
                    counted.review.time.0 = cluster::time(0);
                }
            }
            Self::FinalReopened if facts.status.state.is_final() => facts.status.state = State::Pending,
            _ => {}
        }
    }

    pub(super) fn misread_job(self, facts: &mut TargetFacts) {
        match self {
            Self::UidUnbound => facts.uid = "j0".into(),
            Self::WorkUnbound => facts.work_hash = Ok("sha256:00".into()),
            Self::ReceiptUnseen => facts.receipt = None,
            Self::CloseUnseen => facts.closed = None,
            Self::CloseUnnamed => {
                let unnamed = |note: String| note.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
                facts.closed = facts.closed.take().map(unnamed);
            }
            _ => {}
        }
    }
}

/// Whether the search comes to a state that breaks that invariant, and how many states it took.
fn breaks(mutant: Mutant, invariant: Invariant) -> (bool, usize) {
    // What is allowed meanwhile starts by whoever does not know that it ended.
    let policies = if mutant == Mutant::CloseUnnamed { (Rule::Two, Rule::Allow) } else { (Rule::One, Rule::Two) };
    let model = Cluster::new(Bounds { events: 2, faults: 1, versions: 5 }, &[policies], Some(mutant));
    let until = HasDiscoveries::AllOf([invariant.name()].into());
    let checker = model.checker().threads(1).finish_when(until).spawn_bfs().join();
    (checker.discovery(invariant.name()).is_some(), checker.unique_state_count())
}

#[test]
fn every_defect_breaks_an_invariant() {
    let defects = [
        (Mutant::JobUnguarded, Invariant::I1),
        (Mutant::StatusUnguarded, Invariant::I2),
        (Mutant::StaleReviews, Invariant::I1),
        (Mutant::SealsUnchecked, Invariant::I1),
        (Mutant::DenialsUnheard, Invariant::I1),
        (Mutant::UidUnbound, Invariant::I1),
        (Mutant::WorkUnbound, Invariant::I1),
        (Mutant::StatusFirst, Invariant::I3),
        (Mutant::FinalReopened, Invariant::I2),
        (Mutant::ClockStopped, Invariant::I3),
        (Mutant::ReceiptUnseen, Invariant::I3),
        (Mutant::CloseUnseen, Invariant::I5),
        (Mutant::CloseUnnamed, Invariant::I2),
        (Mutant::ActedOnUnstored, Invariant::I4),
        (Mutant::OutsidersCounted, Invariant::I1),
        (Mutant::RequesterCounted, Invariant::I1),
        (Mutant::LateReviews, Invariant::I1),
        (Mutant::EditsUnnoticed, Invariant::I3),
        (Mutant::PolicyUnseen, Invariant::I3),
    ];
    let mut unseen = vec![];
    for (mutant, invariant) in defects {
        let (broken, states) = breaks(mutant, invariant);
        println!("{mutant:?} breaks {invariant:?}: {broken}, after {states} states");
        if !broken {
            unseen.push((mutant, invariant));
        }
    }
    assert!(unseen.is_empty(), "these defects break no invariant that they are to break: {unseen:?}");
}
