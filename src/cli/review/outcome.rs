//! What came of a review, as far as the stored request says. Pure.

use crate::api::condition::{self, ConditionStatus};
use crate::api::{ReviewDecision, State};
use crate::cli::explain::{passers, requirements, standing, terms};
use crate::lifecycle::{RequestFacts, missing};
use crate::review::{Tally, fold};
use std::time::Duration;

/// A review that was stored.
#[derive(Clone, Debug)]
pub struct Given {
    /// Approve or Deny.
    pub decision: ReviewDecision,
    /// The digest that it names.
    pub digest: String,
    /// The request's generation once it held the review.
    pub generation: Option<i64>,
    /// Its place among the reviews.
    pub place: usize,
}

/// How it went, for the exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It counts, or did what it was for.
    Counts,
    /// What it is about changed, so that it counts for nothing.
    Void,
    /// The request came to another end.
    OtherEnd,
    /// Nobody knows yet.
    Unknown,
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    /// How it went.
    pub fate: Fate,
    /// For a person. Not escaped.
    pub text: String,
}

impl Given {
    /// The review that a change appended, as the stored request has it.
    pub fn read(decision: ReviewDecision, digest: &str, stored: &RequestFacts) -> Self {
        let place = stored.reviews.len().saturating_sub(1);
        Self { decision, digest: digest.into(), generation: stored.generation, place }
    }
}

fn heard(fate: Fate, text: impl Into<String>) -> Option<Heard> {
    Some(Heard { fate, text: text.into() })
}

/// What the request says of the review; none while the operator has not looked at it.
pub fn outcome(request: &RequestFacts, given: &Given) -> Option<Heard> {
    let status = &request.status;
    let approves = given.decision == ReviewDecision::Approve;
    match status.state {
        State::Released if approves => return heard(Fate::Counts, "released"),
        State::Released => return heard(Fate::OtherEnd, "too late: it was released before"),
        State::Denied if !approves => return heard(Fate::Counts, "denied"),
        State::Denied => return heard(Fate::OtherEnd, format!("and yet Denied: {}", status.message)),
        State::Expired | State::Cancelled if approves => {
            return heard(Fate::OtherEnd, format!("and yet {}: {}", status.state.as_str(), status.message));
        }
        State::Expired | State::Cancelled => {
            return heard(Fate::Counts, format!("not run: {}: {}", status.state.as_str(), status.message));
        }
        State::Pending | State::Approved => {}
    }
    if status.observed_generation < given.generation {
        return None;
    }
    if status.digest.as_deref() != Some(given.digest.as_str()) {
        let text = "counts no more: what you reviewed has changed since; read it again and decide anew";
        return heard(Fate::Void, text);
    }
    let text = without_command(&status.message);
    if condition::find(&status.conditions, "Evaluated").is_some_and(|c| c.status != ConditionStatus::True) {
        return heard(Fate::Counts, format!("stored, and held up: {text}"));
    }
    if !approves {
        return denials(request, given);
    }
    if status.state == State::Approved {
        return heard(Fate::Counts, waiting(request, text));
    }
    approvals(request, given)
}

/// What there is to say while the operator has not answered.
pub fn unknown(request: &RequestFacts, waited: Duration) -> Heard {
    let (namespace, name) = (&request.namespace, &request.name);
    let text = match waited {
        Duration::ZERO => "stored; what comes of it was not waited for".into(),
        waited => format!(
            "stored; the operator has not answered within {waited:?}, so what comes of it is not known yet: kubectl get apr {name} -n {namespace}"
        ),
    };
    Heard { fate: Fate::Unknown, text }
}

/// Approved, and something holds the release back.
fn waiting(request: &RequestFacts, text: &str) -> String {
    let closed = request.status.freezes.iter().any(|freeze| freeze.passed_by.is_none());
    match request.status.waits_until.as_ref().filter(|_| closed) {
        Some(until) => format!("window closed until {}: {text}", until.0),
        None => text.into(),
    }
}

fn approvals(request: &RequestFacts, given: &Given) -> Option<Heard> {
    let progress = &request.status.approvals;
    let held: usize = progress.iter().map(|p| p.approved_by.len()).sum();
    let required: i64 = progress.iter().map(|p| i64::from(p.required)).sum();
    let tally = Tally { progress: progress.clone(), ..Tally::default() };
    let needs = missing(&tally).replacen("waiting for", "still needs", 1);
    let text = format!("{held} of {required} approvals; {needs}");
    let why = not_counted(request, given);
    if !why.is_empty() {
        return heard(Fate::Void, format!("stored, and does not count: {}; {text}", why.join("; ")));
    }
    heard(Fate::Counts, text)
}

fn denials(request: &RequestFacts, given: &Given) -> Option<Heard> {
    let needed = requirements(request, None);
    let passing = passers(request);
    let terms = terms(request, &needed, &passing);
    let (said, takes) = (fold(&request.reviews, &terms).deniers.len(), terms.denials.max(1));
    let why = not_counted(request, given);
    if !why.is_empty() {
        return heard(Fate::Void, format!("stored, and does not count: {}", why.join("; ")));
    }
    let left = i64::from(takes) - said as i64;
    if left <= 0 {
        // The operator has seen it, and has yet to write the end.
        return None;
    }
    heard(Fate::Counts, format!("{said} of {takes} denials; still takes {left} more to end it"))
}

fn not_counted(request: &RequestFacts, given: &Given) -> Vec<String> {
    let needed = requirements(request, None);
    let passing = passers(request);
    standing(&request.reviews, given.place, &terms(request, &needed, &passing))
}

/// A message of the operator without the command at its end: whoever decides here needs none.
pub fn without_command(message: &str) -> &str {
    let told = message.split_once("kubectl patch apr ").map_or(message, |(told, _)| told);
    told.trim_end_matches([' ', ':']).trim_end_matches("; to pass it")
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
