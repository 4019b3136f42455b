//! The inbox as lines. Every word comes from somebody else, and is escaped and cut here. Pure.

use crate::cli::card::{short_digest, time_left};
use crate::cli::escape::{visible, visible_identifier};
use crate::cli::review::inbox::Waiting;
use jiff::Timestamp;
use serde_json::Value;

/// Longest cell in characters; a line stays a line.
const LONGEST: usize = 48;
/// Longest last cell, which may be prose.
const LONGEST_LAST: usize = 120;

/// Which columns to show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// The namespace.
    pub namespace: bool,
    /// Workflow, target, digest and reason.
    pub wide: bool,
    /// Why it is not mine.
    pub why: bool,
}

/// How wide each column is.
pub type Widths = Vec<usize>;

/// A line of headings, and one for each request, in their order; and how wide the columns came out, for lines that follow.
pub fn table(waiting: &[Waiting], columns: Columns, now: Timestamp) -> (String, Widths) {
    let rows: Vec<Vec<String>> = waiting.iter().map(|one| cells(one, columns, now)).collect();
    let headings: Vec<String> = headings(columns).into_iter().map(String::from).collect();
    let width = |i: usize| rows.iter().chain([&headings]).map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Widths = (0..headings.len()).map(width).collect();
    let text = [headings].iter().chain(&rows).map(|row| aligned(row, &widths)).collect();
    (text, widths)
}

/// One line without headings, below a table.
pub fn line(waiting: &Waiting, columns: Columns, widths: &Widths, now: Timestamp) -> String {
    aligned(&cells(waiting, columns, now), widths)
}

fn aligned(cells: &[String], widths: &Widths) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    let line = padded.collect::<Vec<_>>().join("   ");
    format!("{}\n", line.trim_end())
}

fn headings(columns: Columns) -> Vec<&'static str> {
    let mut headings = vec!["NAME", "TIME", "APPROVALS", "RISK", "RULE", "ASKED-BY"];
    if columns.namespace {
        headings.insert(0, "NAMESPACE");
    }
    if columns.wide {
        headings.extend(["WORKFLOW", "TARGET", "DIGEST", "REASON"]);
    }
    if columns.why {
        headings.push("NOT-MINE-BECAUSE");
    }
    headings
}

fn cells(waiting: &Waiting, columns: Columns, now: Timestamp) -> Vec<String> {
    let request = &waiting.request;
    let summary = request.status.summary.clone().unwrap_or_default();
    let mut cells = vec![
        name(&request.name),
        waiting.deadline().map_or("-".into(), |end| time_left(end, now)),
        name(&summary.approvals),
        name(&summary.risk),
        name(&summary.rule),
        name(&request.requester().username),
    ];
    if columns.namespace {
        cells.insert(0, name(&request.namespace));
    }
    if columns.wide {
        let target = request.spec.target.as_ref().map(|t| format!("{}/{}", t.kind.as_str(), t.name));
        cells.extend([
            name(&request.spec.requested_by),
            name(&target.unwrap_or_default()),
            request.status.digest.as_deref().map_or("-".into(), short_digest),
            // In quotes: where a long line goes on at the left edge, it is seen to be a text.
            format!("\"{}\"", cut(visible(&request.spec.reason), LONGEST)),
        ]);
    }
    if columns.why {
        cells.push(waiting.why_not.as_deref().map_or("-".into(), |why| cut(visible(why), LONGEST_LAST)));
    }
    cells
}

/// A name, or a dash where there is none. Never empty: an empty cell would move what follows.
fn name(text: &str) -> String {
    if text.is_empty() { "-".into() } else { cut(visible_identifier(text), LONGEST) }
}

fn cut(text: String, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The requests as a `List`, as `kubectl get -o json` has it. A program gets every word as it was written.
pub fn object_list(waiting: &[Waiting]) -> Value {
    let items: Vec<&Value> = waiting.iter().map(|one| &one.stored).collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}
