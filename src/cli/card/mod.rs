//! The card: what a reviewer sees of a request, in one glance and as plain text.
//!
//! Nearly every word on it comes from somebody else, so all of them are escaped, and what the requester merely claims
//! stands apart from what the API server authenticated and the operator found.

mod page;
mod work;

pub use page::{Line, Look, Row, lay_out, lines, short_digest, wrap};

use crate::cli::escape::{visible, visible_identifier};
use crate::lifecycle::COMMENT;
use jiff::Timestamp;
use page::Page;
use serde_json::Value;

/// Longest evidence or command that is shown in full.
const LONGEST: usize = 480;

/// The card of a stored ApprovalRequest, with its Job where it is at hand, and below it the command that approves it.
pub fn card(request: &Value, job: Option<&Value>) -> String {
    lay_out(&rows(request, job, None), Look::default()) + &command(request)
}

/// The rows of a card. With the time, they are for an eye: time that is left is told, and digests are short.
pub fn rows(request: &Value, target: Option<&Value>, now: Option<Timestamp>) -> Vec<Row> {
    let mut page = Page::default();
    heading(&mut page, request);
    asking(&mut page, request);
    policy(&mut page, request);
    evidence(&mut page, request);
    if let Some(target) = target {
        work::describe(&mut page, request, target);
    } else if let Some(name) = text(request, "/spec/target/name") {
        let kind = if text(request, "/spec/target/kind") == Some("Pod") { "Pod" } else { "Job" };
        page.row(kind, &format!("{} (not at hand)", visible_identifier(name)));
    }
    page.rows("Inputs", list(request, "/status/inputs").map(work::input));
    reviews(&mut page, request);
    binding(&mut page, request, now);
    page.rows
}

/// The rows that mean the same on the card of another request of the same workflow and step.
pub fn lasting(request: &Value) -> Vec<Row> {
    let kept = ["Reason", "Rules", "Scope", "Bounds", "Inputs", "Excluded", "Comment"];
    let mut rows: Vec<Row> = rows(request, None, None).into_iter().filter(|row| kept.contains(&row.label)).collect();
    let mut page = Page::default();
    let needs = |p: &Value| format!("{} from {}", p["required"].as_i64().unwrap_or(1), approvers(p));
    page.rows("Needs", list(request, "/status/approvals").map(needs));
    if let Some(own) = request.pointer("/status/target/bounds") {
        page.row("Limits", &visible(&own.to_string()));
    }
    rows.extend(page.rows);
    rows
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A name at `pointer`, escaped.
fn id(value: &Value, pointer: &str) -> String {
    visible_identifier(text(value, pointer).unwrap_or("-"))
}

/// A text at `pointer`, escaped.
fn prose(value: &Value, pointer: &str) -> String {
    visible(text(value, pointer).unwrap_or("-"))
}

/// What fits, and how much does not: an end that is left out must not look like the end.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text.into();
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start}… ({} more characters)", length - LONGEST)
}

fn heading(page: &mut Page, request: &Value) {
    let name = format!("{}/{}", id(request, "/metadata/namespace"), id(request, "/metadata/name"));
    let state = text(request, "/status/state").map_or_else(|| "not evaluated yet".into(), visible_identifier);
    page.row("Request", &format!("{name}  {state}"));
}

fn asking(page: &mut Page, request: &Value) {
    page.row("Asked by", &format!("{} (authenticated)", id(request, "/spec/requester/username")));
    // Groups that Kubernetes gives to everyone tell nothing.
    let groups = list(request, "/spec/requester/groups").filter_map(Value::as_str);
    let groups: Vec<_> = groups.filter(|group| !group.starts_with("system:")).map(visible_identifier).collect();
    if !groups.is_empty() {
        page.row("Asked by", &shortened(&format!("in {}", groups.join(", "))));
    }
    page.row("Claims", &format!("to be {} (not verified)", id(request, "/spec/requestedBy")));
    page.row("Run", &format!("{}, step {}", id(request, "/spec/runID"), id(request, "/spec/stepID")));
    page.row("Reason", &prose(request, "/spec/reason"));
}

fn policy(page: &mut Page, request: &Value) {
    let matches = list(request, "/status/matches").map(|rule| {
        let name = format!("{}/{}: {}", id(rule, "/policy"), id(rule, "/rule"), id(rule, "/decision"));
        text(rule, "/reason").map_or(name.clone(), |reason| format!("{name}, {}", visible(reason)))
    });
    let matches: Vec<_> = matches.collect();
    page.rows("Rules", if matches.is_empty() { vec!["none matched".into()] } else { matches });
    page.rows("Scope", list(request, "/status/scope").map(scope));
    let constraints = request.pointer("/status/constraints").map(constraints).unwrap_or_default();
    page.row("Bounds", if constraints.is_empty() { "none" } else { &constraints });
    let trusted: Vec<_> = list(request, "/status/advisory").filter_map(Value::as_str).map(visible_identifier).collect();
    if !trusted.is_empty() {
        page.row("Bounds", &format!("not enforced here (the worker is told): {}", trusted.join(", ")));
    }
    page.rows("Waits", waits(request));
}

/// Until when a release waits, or would: the answer, the delay, and each freeze window.
fn waits(request: &Value) -> Vec<String> {
    let mut rows = vec![];
    rows.extend(text(request, "/status/waitsUntil").map(|t| format!("until {}", visible_identifier(t))));
    rows.extend(text(request, "/status/notBefore").map(|t| format!("not before {}", visible_identifier(t))));
    rows.extend(list(request, "/status/freezes").map(freeze));
    rows
}

fn freeze(freeze: &Value) -> String {
    let rule = format!("{}/{}", id(freeze, "/policy"), id(freeze, "/rule"));
    let long = duration(freeze["window"]["durationSeconds"].as_i64().unwrap_or_default());
    let zone = text(freeze, "/window/timeZone").map_or("UTC".into(), visible_identifier);
    let start = prose(freeze, "/window/start");
    let line = format!("in freeze window {} of {rule}: {start} ({zone}) for {long}", id(freeze, "/window/name"));
    let may: Vec<_> =
        list(freeze, "/window/mayPass").map(|a| format!("{} {}", id(a, "/kind"), id(a, "/name"))).collect();
    match text(freeze, "/passedBy") {
        Some(who) => format!("not {line}, passed by {}", visible_identifier(who)),
        None if may.is_empty() => format!("{line}; nobody may pass it"),
        None => format!("{line}; {} may pass it", may.join(", ")),
    }
}

fn scope(entry: &Value) -> String {
    let advisory = if entry["advisory"] == true { ", advisory" } else { "" };
    let line = format!("{} ({}{advisory})", id(entry, "/tag"), id(entry, "/source"));
    text(entry, "/detail").map_or(line.clone(), |detail| format!("{line}: {}", visible(detail)))
}

fn constraints(constraints: &Value) -> String {
    let number = |key: &str| constraints[key].as_i64();
    let mut parts = vec![];
    parts.extend(number("maxRuntimeSeconds").map(|s| format!("runs {}", duration(s))));
    parts.extend(number("maxRetries").map(|n| format!("retries {n}")));
    parts.extend(number("maxParallelism").map(|n| format!("pods at a time {n}")));
    let amount = |key: &str| text(constraints, key).map(visible_identifier);
    parts.extend(amount("/maxCpu").map(|n| format!("CPU {n} a container")));
    parts.extend(amount("/maxMemory").map(|n| format!("memory {n} a container")));
    let limits = constraints["limits"].as_object().into_iter().flatten();
    parts.extend(limits.map(|(name, limit)| format!("{} {limit}", visible_identifier(name))));
    if parts.is_empty() { String::new() } else { format!("at most: {}", parts.join(", ")) }
}

fn duration(seconds: i64) -> String {
    match seconds {
        s if s >= 3600 && s % 3600 == 0 => format!("{s} s ({} h)", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{s} s ({} min)", s / 60),
        s => format!("{s} s"),
    }
}

fn evidence(page: &mut Page, request: &Value) {
    let entries = list(request, "/spec/evidence").map(|entry| {
        let mut line = format!("{}: {}", prose(entry, "/title"), prose(entry, "/text"));
        if let Some(url) = text(entry, "/url") {
            line = format!("{line} <{}>", visible_identifier(url));
        }
        shortened(&line)
    });
    page.rows("Evidence", entries);
}

fn reviews(page: &mut Page, request: &Value) {
    let progress = list(request, "/status/approvals").map(|p| {
        let by: Vec<_> = list(p, "/approvedBy").filter_map(Value::as_str).map(visible_identifier).collect();
        let by = if by.is_empty() { String::new() } else { format!(", by {}", by.join(", ")) };
        let (have, need) = (list(p, "/approvedBy").count(), p["required"].as_i64().unwrap_or(1));
        format!("{have} of {need} from {}{by}", approvers(p))
    });
    page.rows("Approvals", progress);
    let excluded: Vec<_> =
        list(request, "/status/excluded").filter_map(Value::as_str).map(visible_identifier).collect();
    if !excluded.is_empty() {
        page.row("Excluded", &shortened(&excluded.join(", ")));
    }
    if request.pointer("/status/requireComment") == Some(&Value::Bool(true)) {
        page.row("Comment", "required with an approval");
    }
    let digest = text(request, "/status/digest");
    let entries = list(request, "/spec/reviews").map(|review| {
        let who = id(review, "/reviewer/username");
        let groups: Vec<_> =
            list(review, "/reviewer/groups").filter_map(Value::as_str).map(visible_identifier).collect();
        let groups = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
        let comment = text(review, "/comment").map(|c| format!(" \"{}\"", visible(c))).unwrap_or_default();
        let stale = if text(review, "/digest") == digest { "" } else { " [about an earlier digest: not counted]" };
        format!("{who}{groups}: {} at {}{comment}{stale}", id(review, "/decision"), id(review, "/time"))
    });
    page.rows("Reviews", entries);
}

/// A requirement's name, and who may fill it.
fn approvers(requirement: &Value) -> String {
    let who = list(requirement, "/approvers").map(|a| format!("{} {}", id(a, "/kind"), id(a, "/name")));
    format!("{} ({})", id(requirement, "/requirement"), who.collect::<Vec<_>>().join(", "))
}

fn binding(page: &mut Page, request: &Value, now: Option<Timestamp>) {
    if let Some(planned) = text(request, "/spec/policySnapshot") {
        page.row("Planned", &format!("{} (claimed)", visible_identifier(planned)));
    }
    let hash = |pointer: &str| match (text(request, pointer), now) {
        (Some(digest), Some(_)) => short_digest(digest),
        _ => id(request, pointer),
    };
    page.unbroken("In force", &format!("{} (policy)", hash("/status/policySnapshot")));
    let time = |pointer: &str| {
        let left = text(request, pointer).and_then(|time| time.parse().ok()).zip(now);
        let left = left.map(|(end, now)| format!(" ({})", time_left(end, now))).unwrap_or_default();
        format!("{}{left}", id(request, pointer))
    };
    match text(request, "/status/state") {
        Some("Approved" | "Pending") if text(request, "/status/releaseBy").is_some() => {
            page.row("Release by", &time("/status/releaseBy"));
        }
        Some("Pending") => page.row("Expires", &time("/status/pendingUntil")),
        _ => page.row("Outcome", &prose(request, "/status/message")),
    }
    page.unbroken("Digest", &hash("/status/digest"));
}

/// How long until `end`: `42 min left`, `2 h 5 min left`, `3 d 1 h left`.
pub fn time_left(end: Timestamp, now: Timestamp) -> String {
    let seconds = end.duration_since(now).as_secs();
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds) {
        (.., ..=0) => "time is up".into(),
        (0, 0, 0, seconds) => format!("{seconds} s left"),
        (0, 0, minutes, _) => format!("{minutes} min left"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min left"),
        (days, hours, ..) => format!("{days} d {hours} h left"),
    }
}

/// The command that decides, with what it is for; nothing where there is nothing to decide.
fn command(request: &Value) -> String {
    let open = list(request, "/status/freezes").any(|freeze| text(freeze, "/passedBy").is_none());
    let what = match text(request, "/status/state") {
        Some("Pending") => "To approve (or to deny, with \"Deny\"):",
        Some("Approved") if open => "To pass a freeze window, by whoever may (or to deny, with \"Deny\"):",
        _ => return String::new(),
    };
    approve_command(request).map(|command| format!("\n{what}\n{command}\n")).unwrap_or_default()
}

/// The command that approves what this card shows, and nothing else.
fn approve_command(request: &Value) -> Option<String> {
    let digest = text(request, "/status/digest")?;
    let (name, namespace) = (text(request, "/metadata/name")?, text(request, "/metadata/namespace")?);
    let comment = if request.pointer("/status/requireComment") == Some(&Value::Bool(true)) { COMMENT } else { "" };
    let patch = format!(r#"{{"spec":{{"review":{{"decision":"Approve","digest":"{digest}"{comment}}}}}}}"#);
    Some(visible_identifier(&format!("kubectl patch apr {name} -n {namespace} --type=merge -p '{patch}'")))
}

#[cfg(test)]
mod tests;
