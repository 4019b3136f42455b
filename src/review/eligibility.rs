//! Who may decide on a request.

use crate::api::{Requester, RequirementProgress, Subject, SubjectKind};
use std::collections::BTreeSet;

/// Whether the caller is an approver of at least one requirement.
pub fn eligible(requirements: &[RequirementProgress], username: &str, groups: &[String]) -> bool {
    requirements.iter().any(|r| covered(&r.approvers, username, groups))
}

pub(super) fn covered(approvers: &[Subject], username: &str, groups: &[String]) -> bool {
    approvers.iter().any(|approver| approver.covers(username, groups))
}

/// Those of the caller's groups that a requirement names, sorted: what is kept with a review.
pub fn named_groups(requirements: &[RequirementProgress], groups: &[String]) -> Vec<String> {
    let named: BTreeSet<&str> = requirements
        .iter()
        .flat_map(|r| &r.approvers)
        .filter(|a| a.kind == SubjectKind::Group)
        .map(|a| a.name.as_str())
        .collect();
    let kept: BTreeSet<&String> = groups.iter().filter(|g| named.contains(g.as_str())).collect();
    kept.into_iter().take(32).cloned().collect()
}

/// Whether the caller is who asked: by username, or by uid where the authenticator gives one.
pub fn is_requester(requester: &Requester, username: &str, uid: Option<&str>) -> bool {
    let same_uid = match (requester.uid.as_deref(), uid) {
        (Some(a), Some(b)) => !a.is_empty() && a == b,
        _ => false,
    };
    requester.username == username || same_uid
}
