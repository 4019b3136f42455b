//! The card: what a reviewer sees of a request, in one glance and as plain text.
//!
//! Nearly every word on it comes from somebody else, so all of them are escaped, and what the requester merely claims
//! stands apart from what the API server authenticated and the operator found.

use crate::cli::escape::{visible, visible_identifier};
use crate::lifecycle::COMMENT;
use serde_json::Value;

/// Columns of a card; digests and the command may go beyond.
const WIDTH: usize = 80;
/// Columns of the labels.
const LABEL: usize = 12;
/// Longest evidence or command that is shown in full.
const LONGEST: usize = 480;

/// The card of a stored ApprovalRequest, with its Job where it is at hand.
pub fn card(request: &Value, job: Option<&Value>) -> String {
    let mut page = Page::default();
    heading(&mut page, request);
    asking(&mut page, request);
    policy(&mut page, request);
    evidence(&mut page, request);
    if let Some(job) = job {
        describe_job(&mut page, request, job);
    } else if let Some(name) = text(request, "/spec/target/name") {
        page.row("Job", &format!("{} (not at hand)", visible_identifier(name)));
    }
    page.rows("Inputs", list(request, "/status/inputs").map(input));
    reviews(&mut page, request);
    binding(&mut page, request);
    page.text
}

/// Rows of a label and a text that is wrapped beside it.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// One row; `text` is safe to show already.
    fn row(&mut self, label: &str, text: &str) {
        for (i, line) in wrap(text, WIDTH - LABEL).iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            self.line(&format!("{label:LABEL$}{line}"));
        }
    }

    /// Rows under one label.
    fn rows(&mut self, label: &str, texts: impl IntoIterator<Item = String>) {
        for (i, text) in texts.into_iter().enumerate() {
            self.row(if i == 0 { label } else { "" }, &text);
        }
    }

    /// A line as it is, however long.
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

/// Breaks at spaces, and inside a word only where it is longer than a line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.extend([word.into_iter().collect(), String::new()]);
            word = rest;
        }
        let Some(line) = lines.last_mut() else { break };
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    lines.retain(|line| !line.is_empty());
    lines
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
        page.row("", &shortened(&format!("in {}", groups.join(", "))));
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
        page.row("", &format!("not enforced here (the worker is told): {}", trusted.join(", ")));
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

fn describe_job(page: &mut Page, request: &Value, job: &Value) {
    let account = text(job, "/spec/template/spec/serviceAccountName").unwrap_or("default");
    page.row("Job", &format!("{}, as serviceaccount {}", id(job, "/metadata/name"), visible_identifier(account)));
    let (bound, actual) = (text(request, "/status/target/uid"), text(job, "/metadata/uid"));
    if bound.is_some() && bound != actual {
        page.row("", "NOT the Job this request is bound to: it was deleted and created anew");
    }
    for (pointer, kind) in [("/spec/template/spec/initContainers", "init "), ("/spec/template/spec/containers", "")] {
        let containers = list(job, pointer);
        page.rows("", containers.map(|container| describe_container(kind, container)));
    }
    page.row("", &bounds(request, job));
}

fn describe_container(kind: &str, container: &Value) -> String {
    let words: Vec<_> = list(container, "/command").chain(list(container, "/args")).map(word).collect();
    let command = if words.is_empty() { "the image's own command".into() } else { shortened(&words.join(" ")) };
    format!("{kind}{}: {} runs {command}", id(container, "/name"), id(container, "/image"))
}

/// One word of a command, quoted where its borders would not show.
fn word(word: &Value) -> String {
    let Some(text) = word.as_str() else { return visible(&word.to_string()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { visible(&Value::from(text).to_string()) }
}

/// A ConfigMap or Secret that the Job reads, and whether what it reads later can be another.
fn input(input: &Value) -> String {
    let holds = |field: &str| input[field] == true;
    let now = match (text(input, "/hash"), text(input, "/uid")) {
        _ if holds("absent") => return format!("{} {}: not there", id(input, "/kind"), id(input, "/name")),
        (Some(hash), _) => visible_identifier(hash),
        (None, Some(_)) => format!("content not read, at version {}", id(input, "/resourceVersion")),
        (None, None) => "not readable for the operator".into(),
    };
    let later = match (holds("immutable"), holds("locked")) {
        (true, true) => "cannot change",
        (true, false) => "immutable, but can be replaced",
        (false, _) => "can change after the review",
    };
    format!("{} {}: {later}, {now}", id(input, "/kind"), id(input, "/name"))
}

/// The Job's own bounds as they will be once released, or as they are where nothing is bound yet.
fn bounds(request: &Value, job: &Value) -> String {
    let source = request.pointer("/status/target/bounds").or_else(|| job.pointer("/spec")).unwrap_or(&Value::Null);
    let deadline = source["activeDeadlineSeconds"].as_i64().map_or("no deadline".into(), duration);
    let retries = source["backoffLimit"].as_i64().unwrap_or(6);
    let parallelism = source["parallelism"].as_i64().unwrap_or(1);
    let completions = job.pointer("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
    // What comes off the deadline for it has to be seen to be understood.
    let grace = job.pointer("/spec/template/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let grace = grace.filter(|s| *s > 30).map(|s| format!(" and up to {} to stop", duration(s))).unwrap_or_default();
    format!("deadline {deadline}{grace}, retries {retries}, pods at a time {parallelism}, completions {completions}")
        .replace("deadline no deadline", "no deadline")
}

fn reviews(page: &mut Page, request: &Value) {
    let progress = list(request, "/status/approvals").map(|p| {
        let by: Vec<_> = list(p, "/approvedBy").filter_map(Value::as_str).map(visible_identifier).collect();
        let approvers: Vec<_> =
            list(p, "/approvers").map(|a| format!("{} {}", id(a, "/kind"), id(a, "/name"))).collect();
        let by = if by.is_empty() { String::new() } else { format!(", by {}", by.join(", ")) };
        let (have, need) = (list(p, "/approvedBy").count(), p["required"].as_i64().unwrap_or(1));
        format!("{have} of {need} from {} ({}){by}", id(p, "/requirement"), approvers.join(", "))
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

fn binding(page: &mut Page, request: &Value) {
    if let Some(planned) = text(request, "/spec/policySnapshot") {
        page.line(&format!("{:LABEL$}{} (claimed)", "Planned", visible_identifier(planned)));
    }
    page.line(&format!("{:LABEL$}{} (policy)", "In force", id(request, "/status/policySnapshot")));
    match text(request, "/status/state") {
        Some("Approved" | "Pending") if text(request, "/status/releaseBy").is_some() => {
            page.row("Release by", &id(request, "/status/releaseBy"));
        }
        Some("Pending") => page.row("Expires", &id(request, "/status/pendingUntil")),
        _ => page.row("Outcome", &prose(request, "/status/message")),
    }
    page.line(&format!("{:LABEL$}{}", "Digest", id(request, "/status/digest")));
    let open = list(request, "/status/freezes").any(|freeze| text(freeze, "/passedBy").is_none());
    let what = match text(request, "/status/state") {
        Some("Pending") => "To approve (or to deny, with \"Deny\"):",
        Some("Approved") if open => "To pass a freeze window, by whoever may (or to deny, with \"Deny\"):",
        _ => return,
    };
    if let Some(command) = approve_command(request) {
        page.line("");
        page.line(what);
        page.line(&command);
    }
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
#[path = "card_tests.rs"]
mod tests;
