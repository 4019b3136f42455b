//! What differs between two cards. Pure.

use crate::api::{State, condition};
use crate::cli::card::{Row, lasting, rows};
use crate::lifecycle::RequestFacts;
use jiff::Timestamp;
use serde_json::Value;

/// Longest text of one difference.
const LONGEST: usize = 240;
/// Most differences that are told.
const MOST: usize = 16;
/// Labels that differ whenever the digest does, and tell nothing by it.
const NAMES: [&str; 2] = ["Digest", "In force"];

/// A request, and what it would run where that is at hand.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request as stored.
    pub request: Value,
    /// Its Job or Pod as stored.
    pub target: Option<Value>,
}

/// What is another on the card `after`: lines that begin with `-` for what is gone and `+` for what is new.
pub fn changes(before: &Seen, after: &Seen) -> Vec<String> {
    let card = |seen: &Seen| {
        let mut rows = rows(&seen.request, seen.target.as_ref(), None);
        rows.retain(|row| !NAMES.contains(&row.label));
        rows
    };
    let told = difference(&card(before), &card(after));
    if !told.is_empty() {
        return told;
    }
    let job_hash = |seen: &Seen| seen.request.pointer("/status/jobHash").cloned();
    let what = if job_hash(before) != job_hash(after) {
        "what would run changed in a part that the card does not show; read all of it with kubectl get -o yaml"
    } else {
        "nothing that the card shows; the policy outcome or what it rests on was bound anew"
    };
    vec![what.into()]
}

/// The rows that only one side has.
fn difference(before: &[Row], after: &[Row]) -> Vec<String> {
    let mut labels: Vec<&str> = vec![];
    for row in after.iter().chain(before) {
        if !labels.contains(&row.label) {
            labels.push(row.label);
        }
    }
    let line = |sign: &str, row: &Row| format!("{sign} {}: {}", row.label, shortened(&row.text));
    let mut lines = vec![];
    for label in labels {
        let of = |rows: &[Row]| rows.iter().filter(|row| row.label == label).cloned().collect::<Vec<_>>();
        let (old, new) = (of(before), of(after));
        lines.extend(old.iter().filter(|row| !new.contains(row)).map(|row| line("-", row)));
        lines.extend(new.iter().filter(|row| !old.contains(row)).map(|row| line("+", row)));
    }
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}… ({} more characters)", &text[..at], text[at..].chars().count()),
        None => text.into(),
    }
}

/// Which of the others was released last of the same workflow and step, asked for by the same authenticated requester: the
/// workflow's name is a claim, and nobody else's release may stand for what was approved before.
pub fn last_released<'a>(
    request: &RequestFacts,
    others: impl Iterator<Item = (&'a RequestFacts, &'a Value)>,
) -> Option<(Timestamp, &'a Value)> {
    let same = |other: &RequestFacts| {
        other.uid != request.uid
            && other.namespace == request.namespace
            && other.status.state == State::Released
            && other.spec.requested_by == request.spec.requested_by
            && other.spec.step_id == request.spec.step_id
            && other.requester().username == request.requester().username
    };
    let released =
        |other: &RequestFacts| condition::find(&other.status.conditions, "Released").map(|c| c.last_transition_time.0);
    let candidates = others.filter(|(facts, _)| same(facts));
    candidates.filter_map(|(facts, object)| Some((released(facts)?, object))).max_by_key(|(time, _)| *time)
}

/// What is another than in an earlier request: for the card. Only what means the same in both is compared.
pub fn since(before: &Value, now: &Value) -> Vec<String> {
    difference(&lasting(before), &lasting(now))
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
