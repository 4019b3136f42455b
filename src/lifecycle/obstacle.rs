//! What in the outcome alone keeps a request from ever being approved or released: the reason of the condition `Evaluated`,
//! and a text for a person.

use crate::api::{Subject, SubjectKind};
use crate::lifecycle::message;
use crate::policy::{JoinedWindow, MAX_APPROVALS, Outcome, Window, opening, shortfall};
use crate::review::MOST_POLICIES;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// More people than are left of those whom the rules name, or more than can be recorded. `barred` says whose approval does
/// not count.
pub fn unsatisfiable(outcome: &Outcome, barred: &dyn Fn(&Subject) -> bool) -> Option<(&'static str, String)> {
    let short = shortfall(&outcome.requirements, barred).map(|short| {
        format!("nobody can approve this: {short}; ask the platform team, or have another create and ask")
    });
    short.or_else(|| beyond_records(outcome)).map(|text| ("Unsatisfiable", text))
}

/// What no list of reviews could hold, if it takes that.
fn beyond_records(outcome: &Outcome) -> Option<String> {
    let n = outcome.approvals_required();
    if n > MAX_APPROVALS {
        return Some(format!(
            "the matching rules ask for {n} approvals together; at most {MAX_APPROVALS} can be recorded"
        ));
    }
    let passers = outcome.passers();
    let subjects = outcome.requirements.iter().flat_map(|r| &r.approvers).chain(&passers);
    let policies: BTreeSet<&str> =
        subjects.filter(|s| s.kind == SubjectKind::Authorized).map(|s| s.name.as_str()).collect();
    (policies.len() > MOST_POLICIES).then(|| {
        format!(
            "approvers of kind Authorized are named for {} policies; at most {MOST_POLICIES} can be asked about, so name groups in some",
            policies.len()
        )
    })
}

/// Freeze windows that nobody may pass, and that leave no time open within a year of `from`.
pub fn never_opens(outcome: &Outcome, from: Timestamp) -> Option<(&'static str, String)> {
    let lasting: Vec<&JoinedWindow> = outcome.windows.iter().filter(|w| w.window().may_pass.is_empty()).collect();
    let windows: Vec<&Window> = lasting.iter().map(|window| window.compiled()).collect();
    opening(&windows, from).is_none().then(|| {
        let text = format!(
            "no time within a year is free of the freeze windows of the matching rules, so that nothing could be released: {}; shorten one of them, or say who may pass it (mayPass)",
            message::windows(&lasting)
        );
        ("NeverOpens", text)
    })
}
