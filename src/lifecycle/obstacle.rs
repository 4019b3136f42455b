//! What in the outcome alone keeps a request from ever being approved or released: the reason of the condition `Evaluated`,
//! and a text for a person.

use crate::api::Subject;
use crate::lifecycle::message;
use crate::policy::{JoinedWindow, MAX_APPROVALS, Outcome, Window, opening, shortfall};
use jiff::Timestamp;

/// More approvals than can be recorded, or more people than are left of those whom the rules name. `barred` says who does
/// not count.
pub fn unsatisfiable(outcome: &Outcome, barred: &dyn Fn(&Subject) -> bool) -> Option<(&'static str, String)> {
    let n = outcome.approvals_required();
    let many = || format!("the matching rules ask for {n} approvals together; at most {MAX_APPROVALS} can be recorded");
    let short = || {
        let short = shortfall(&outcome.requirements, barred)?;
        Some(format!("nobody can approve this: {short}; ask the platform team, or have another create and ask"))
    };
    let text = if n > MAX_APPROVALS { Some(many()) } else { short() };
    text.map(|text| ("Unsatisfiable", text))
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
