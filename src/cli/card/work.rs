//! The part of a card about what would run.

use super::page::Page;
use super::{duration, id, list, shortened, text};
use crate::cli::escape::{visible, visible_identifier};
use serde_json::Value;

/// What would run, from the Job or Pod itself.
pub(super) fn describe(page: &mut Page, request: &Value, target: &Value) {
    let (kind, pod) = match text(request, "/spec/target/kind") {
        Some("Pod") => ("Pod", target.pointer("/spec")),
        _ => ("Job", target.pointer("/spec/template/spec")),
    };
    let pod = pod.unwrap_or(&Value::Null);
    let account = visible_identifier(text(pod, "/serviceAccountName").unwrap_or("default"));
    page.row(kind, &format!("{}, as serviceaccount {account}", id(target, "/metadata/name")));
    let (bound, actual) = (text(request, "/status/target/uid"), text(target, "/metadata/uid"));
    if bound.is_some() && bound != actual {
        page.alarm(kind, &format!("NOT the {kind} this request is bound to: it was deleted and created anew"));
    }
    for (pointer, role) in [("/initContainers", "init "), ("/containers", "")] {
        page.rows(kind, list(pod, pointer).map(|container| describe_container(role, container)));
    }
    page.row(kind, &if kind == "Pod" { deadline(pod, pod) } else { bounds(request, target, pod) });
}

fn describe_container(role: &str, container: &Value) -> String {
    let words: Vec<_> = list(container, "/command").chain(list(container, "/args")).map(word).collect();
    let command = if words.is_empty() { "the image's own command".into() } else { shortened(&words.join(" ")) };
    format!("{role}{}: {} runs {command}", id(container, "/name"), id(container, "/image"))
}

/// One word of a command, quoted where its borders would not show.
fn word(word: &Value) -> String {
    let Some(text) = word.as_str() else { return visible(&word.to_string()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { visible(&Value::from(text).to_string()) }
}

/// A ConfigMap or Secret that is read, and whether what is read later can be another.
pub(super) fn input(input: &Value) -> String {
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
fn bounds(request: &Value, job: &Value, pod: &Value) -> String {
    let source = request.pointer("/status/target/bounds").or_else(|| job.pointer("/spec")).unwrap_or(&Value::Null);
    let retries = source["backoffLimit"].as_i64().unwrap_or(6);
    let parallelism = source["parallelism"].as_i64().unwrap_or(1);
    let completions = job.pointer("/spec/completions").and_then(Value::as_i64).unwrap_or(1);
    let deadline = deadline(source, pod);
    format!("{deadline}, retries {retries}, pods at a time {parallelism}, completions {completions}")
}

fn deadline(source: &Value, pod: &Value) -> String {
    let deadline = source["activeDeadlineSeconds"].as_i64();
    let deadline = deadline.map_or("no deadline".into(), |seconds| format!("deadline {}", duration(seconds)));
    // What comes off the deadline for it has to be seen to be understood.
    let grace = pod["terminationGracePeriodSeconds"].as_i64().filter(|seconds| *seconds > 30);
    grace.map_or(deadline.clone(), |grace| format!("{deadline} and up to {} to stop", duration(grace)))
}
