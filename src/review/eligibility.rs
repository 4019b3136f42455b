//! Who may decide on a request.

use crate::api::{ApprovalRequestStatus, Requester, Reviewer, Subject, SubjectKind};
use std::collections::BTreeSet;

/// Most groups that are kept with a review.
const MOST_KEPT: usize = 32;
/// Most policies that one request can ask the authorizer about. The admission policy on requests asks again about each, and
/// has a budget.
pub const MOST_POLICIES: usize = 16;

/// Whether the reviewer is one of the subjects, or belongs to one. Of kind `Authorized` is whoever the authorizer granted it,
/// as admission sealed that with the review.
pub fn covers(subjects: &[Subject], reviewer: &Reviewer) -> bool {
    subjects.iter().any(|subject| match subject.kind {
        SubjectKind::Authorized => reviewer.authorized.contains(&subject.name),
        _ => subject.covers(&reviewer.username, &reviewer.groups),
    })
}

/// Everybody whom the request asks: who may approve it, and who may pass its freeze windows.
pub fn asked(status: &ApprovalRequestStatus) -> impl Iterator<Item = &[Subject]> {
    let approvers = status.approvals.iter().map(|r| r.approvers.as_slice());
    approvers.chain(status.freezes.iter().map(|f| f.window.may_pass.as_slice()))
}

/// Whether the reviewer is an approver of at least one requirement, or may pass a freeze window.
pub fn eligible(status: &ApprovalRequestStatus, reviewer: &Reviewer) -> bool {
    asked(status).any(|subjects| covers(subjects, reviewer))
}

/// Those of the caller's groups that the request asks for, sorted: what is kept with a review.
pub fn named_groups(status: &ApprovalRequestStatus, groups: &[String]) -> Vec<String> {
    let named = named(status, SubjectKind::Group);
    let kept: BTreeSet<&String> = groups.iter().filter(|g| named.contains(g.as_str())).collect();
    kept.into_iter().take(MOST_KEPT).cloned().collect()
}

/// The policies on which the request asks for the authorizer's word, sorted. A request that asks about too many is never up
/// for review.
pub fn named_policies(status: &ApprovalRequestStatus) -> Vec<String> {
    named(status, SubjectKind::Authorized).into_iter().take(MOST_POLICIES).map(Into::into).collect()
}

fn named(status: &ApprovalRequestStatus, kind: SubjectKind) -> BTreeSet<&str> {
    asked(status).flatten().filter(|s| s.kind == kind).map(|s| s.name.as_str()).collect()
}

/// Whether the caller is who asked: by username, or by uid where the authenticator gives one.
pub fn is_requester(requester: &Requester, username: &str, uid: Option<&str>) -> bool {
    same_person((&requester.username, requester.uid.as_deref()), (username, uid))
}

/// Whether two identities are one person: the same username, or the same uid where the authenticator gives one. A username
/// may be taken from an address that changes.
pub fn same_person(a: (&str, Option<&str>), b: (&str, Option<&str>)) -> bool {
    let same_uid = a.1.zip(b.1).is_some_and(|(a, b)| !a.is_empty() && a == b);
    a.0 == b.0 || same_uid
}

/// For each reviewer, the place of the first who is the same person, also by way of others.
pub fn persons(reviewers: &[&Reviewer]) -> Vec<usize> {
    let identity = |i: usize| (reviewers[i].username.as_str(), reviewers[i].uid.as_deref());
    let mut first: Vec<usize> = (0..reviewers.len()).collect();
    for later in 0..reviewers.len() {
        for earlier in 0..later {
            let (a, b) = (first[earlier].min(first[later]), first[earlier].max(first[later]));
            if a != b && same_person(identity(earlier), identity(later)) {
                first.iter_mut().filter(|f| **f == b).for_each(|f| *f = a);
            }
        }
    }
    first
}
