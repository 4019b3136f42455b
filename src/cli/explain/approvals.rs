//! How far the approval of a request has come, and whom it is still open to.

use crate::api::{SelfApproval, Subject, SubjectKind};
use crate::lifecycle::{barred, missing};
use crate::review::{Tally, Terms};
use serde::Serialize;
use std::collections::BTreeSet;

/// How far the approval has come.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// Each requirement.
    pub requirements: Vec<Progress>,
    /// What is missing; empty once nothing can be added any more.
    pub missing: String,
    /// Who cannot approve, and why.
    pub excluded: Vec<NotCounted>,
}

/// One requirement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Its name.
    pub requirement: String,
    /// How many people.
    pub required: i32,
    /// Who has approved.
    pub approved_by: Vec<String>,
    /// Who may still approve; empty where it is met, and after the end.
    pub open_to: Vec<String>,
}

/// Somebody whose word does not count.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NotCounted {
    /// Who.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

impl Approvals {
    /// What the reviews come to under these terms; `over` says that the request has ended.
    pub fn of(tally: &Tally, terms: &Terms<'_>, over: bool) -> Self {
        let progress = tally.progress.iter().map(|p| {
            let met = p.approved_by.len() as i64 >= i64::from(p.required);
            let open = p.approvers.iter().filter(|person| !met && !over && !spent(person, tally, terms));
            Progress {
                requirement: p.requirement.clone(),
                required: p.required,
                approved_by: p.approved_by.clone(),
                open_to: open.map(Subject::describe).collect(),
            }
        });
        Self {
            requirements: progress.collect(),
            missing: if over || terms.requirements.is_empty() { String::new() } else { missing(tally) },
            excluded: if over { vec![] } else { not_counted(terms) },
        }
    }
}

/// Whether a person or service account that is named cannot add another approval. Of a group, somebody may always be left.
fn spent(person: &Subject, tally: &Tally, terms: &Terms<'_>) -> bool {
    if !matches!(person.kind, SubjectKind::User | SubjectKind::ServiceAccount) {
        return false;
    }
    let spoken = tally.approvers.iter().chain(&tally.deniers).any(|name| person.covers(name, &[]));
    spoken || barred(person, terms.self_approval, terms.excluded, &terms.requester.username, terms.parties)
}

fn not_counted(terms: &Terms<'_>) -> Vec<NotCounted> {
    let entry = |name: &String, why| NotCounted { name: name.clone(), why };
    let mut found = vec![];
    if terms.self_approval == SelfApproval::Forbid {
        let requester = &terms.requester.username;
        let parties: BTreeSet<&String> = terms.parties.iter().filter(|party| *party != requester).collect();
        found.push(entry(requester, "who asked"));
        found.extend(parties.into_iter().map(|party| entry(party, "who has a part in what runs")));
    }
    found.extend(terms.excluded.iter().map(|name| entry(name, "excluded by policy")));
    found
}
