//! The story of a request, or of what needed none, in plain words, one line an entry.

use crate::api::{RecordEntry, Transition};
use crate::cli::escape::{visible, visible_identifier};
use std::fmt::Write;

/// Longest part of a digest that is shown.
const SHORT: usize = 19;

/// Every request among these entries with what happened to it, and every Job or Pod that had none.
pub fn tell(entries: &[(i64, RecordEntry)]) -> String {
    let mut text = String::new();
    let mut current = None;
    for (number, entry) in entries {
        let Some(heading) = heading(entry) else { continue };
        // Writing to a String cannot fail.
        if current.as_ref() != Some(&heading) {
            let _ = writeln!(text, "{heading}");
            current = Some(heading);
        }
        let time = entry.time.0.strftime("%Y-%m-%d %H:%M:%SZ");
        let _ = writeln!(text, "  {number:>6}  {time}  {}", line(entry));
    }
    text
}

/// What an entry is about, by its names.
fn heading(entry: &RecordEntry) -> Option<String> {
    let plain = visible_identifier;
    if let Some(r) = &entry.request {
        let (namespace, name) = (plain(&r.namespace), plain(&r.name));
        return Some(format!(
            "{namespace}/{name} (run {}, step {}; uid {})",
            plain(&r.run_id),
            plain(&r.step_id),
            plain(&r.uid)
        ));
    }
    let target = entry.target.as_ref()?;
    let uid = target.uid.as_deref().map(|uid| format!("; uid {}", plain(uid))).unwrap_or_default();
    Some(format!("{}/{} ({}, no request{uid})", plain(&target.namespace), plain(&target.name), target.kind.as_str()))
}

fn line(entry: &RecordEntry) -> String {
    let by = names(entry);
    let message = visible(&entry.message);
    match entry.transition {
        Transition::Requested => {
            let workflow = entry.request.as_ref().map(|r| visible_identifier(&r.requested_by)).unwrap_or_default();
            format!("{by} asked, for {workflow}{}: {message}", about(entry))
        }
        Transition::Evaluated => format!("{message}: {}", bound(entry)),
        Transition::Reviewed => reviewed(entry, &by),
        Transition::Approved => message,
        Transition::Released if entry.target.is_some() => format!("started{}: {message}", about(entry)),
        Transition::Released => format!("released: {message}"),
        Transition::Overridden => message,
        Transition::Denied | Transition::Expired | Transition::Cancelled => {
            format!("{}: {message}", entry.transition.as_str().to_lowercase())
        }
        Transition::Refused => format!("refused {}: {by}: {message}", times(entry.count.unwrap_or(1))),
        Transition::Anchored | Transition::KeyAdded | Transition::KeyRetired | Transition::Pruned => message,
    }
}

fn times(count: i64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn names(entry: &RecordEntry) -> String {
    let names: Vec<_> = entry.by.iter().map(|who| visible_identifier(&who.username)).collect();
    if names.is_empty() { "nobody known".into() } else { names.join(", ") }
}

fn about(entry: &RecordEntry) -> String {
    let target = entry.target.as_ref();
    target.map(|t| format!(" {} {}", t.kind.as_str(), visible_identifier(&t.name))).unwrap_or_default()
}

fn bound(entry: &RecordEntry) -> String {
    let Some(seen) = &entry.seen else { return String::new() };
    let rules =
        seen.matches.iter().map(|m| format!("{}/{}", visible_identifier(&m.policy), visible_identifier(&m.rule)));
    let mut tags: Vec<_> = seen.scope.iter().map(|s| visible_identifier(&s.tag)).collect();
    tags.dedup();
    let parts = [
        ("rules", rules.collect::<Vec<_>>().join(", ")),
        ("risk", tags.join(", ")),
        ("digest", seen.digest.as_deref().map(short).unwrap_or_default()),
    ];
    let told = parts.into_iter().filter(|(_, text)| !text.is_empty());
    told.map(|(what, text)| format!("{what} {text}")).collect::<Vec<_>>().join("; ")
}

fn reviewed(entry: &RecordEntry, by: &str) -> String {
    let text = |field: &str| entry.review.as_ref()?.get(field)?.as_str().map(String::from);
    let said = match entry.reason.as_str() {
        "Approve" => "approved",
        "Deny" => "denied",
        _ => "wrote a review that cannot be read",
    };
    let digest = text("digest").map(|digest| format!(" digest {}", short(&digest))).unwrap_or_default();
    let comment = text("comment").map(|comment| format!(": \"{}\"", visible(&comment))).unwrap_or_default();
    format!("{by} {said}{digest}{comment}")
}

fn short(digest: &str) -> String {
    visible_identifier(digest.get(..SHORT).unwrap_or(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(fields: Value) -> RecordEntry {
        let mut entry = json!({"key": "u/0/x", "time": "2026-11-20T17:00:00.000000Z",
            "request": {"namespace": "payments", "name": "run-8f9a", "uid": "u", "runID": "run_8f9a", "stepID": "remediate",
                "requestedBy": "workflow.incident-triage"},
            "target": {"kind": "Job", "namespace": "payments", "name": "remediate-8f9a"}});
        for (name, value) in fields.as_object().unwrap() {
            entry[name] = value.clone();
        }
        serde_json::from_value(entry).unwrap()
    }

    #[test]
    fn a_story_reads_from_top_to_bottom_and_obeys_no_escape() {
        let seen = json!({"revision": 1, "digest": "sha256:0123456789abcdef01", "scope": [{"tag": "prod", "source": "Declared"}],
            "matches": [{"policy": "production", "rule": "prod-write", "decision": "RequireApproval"}]});
        let told = tell(&[
            (
                7,
                entry(
                    json!({"transition": "Requested", "by": [{"username": "system:serviceaccount:payments:triage"}], "message": "prod\u{1b}[2J write"}),
                ),
            ),
            (8, entry(json!({"transition": "Evaluated", "message": "evaluated and bound", "seen": seen}))),
            (
                9,
                entry(json!({"transition": "Reviewed", "reason": "Approve", "by": [{"username": "\u{430}lice"}],
                "review": {"digest": "sha256:0123456789abcdef01", "comment": "seen\nthe diff"}})),
            ),
            (10, entry(json!({"transition": "Approved", "message": "approved by alice"}))),
            (11, entry(json!({"transition": "Released", "message": "approved by alice"}))),
            (12, entry(json!({"transition": "Refused", "by": [{"username": "mallory"}], "message": "not hers"}))),
            (13, entry(json!({"transition": "Refused", "count": 2, "by": [{"username": "bob"}], "message": "late"}))),
        ]);
        assert_eq!(
            told,
            "payments/run-8f9a (run run_8f9a, step remediate; uid u)
       7  2026-11-20 17:00:00Z  system:serviceaccount:payments:triage asked, for workflow.incident-triage Job remediate-8f9a: prod\\u{1b}[2J write
       8  2026-11-20 17:00:00Z  evaluated and bound: rules production/prod-write; risk prod; digest sha256:0123456789ab
       9  2026-11-20 17:00:00Z  \\u{430}lice approved digest sha256:0123456789ab: \"seen⏎the diff\"
      10  2026-11-20 17:00:00Z  approved by alice
      11  2026-11-20 17:00:00Z  started Job remediate-8f9a: approved by alice
      12  2026-11-20 17:00:00Z  refused once: mallory: not hers
      13  2026-11-20 17:00:00Z  refused 2 times: bob: late
"
        );
    }

    #[test]
    fn what_had_no_request_is_told_under_its_own_name() {
        let alone = |fields| {
            let mut alone = entry(fields);
            alone.request = None;
            alone
        };
        let target = json!({"kind": "Job", "namespace": "payments", "name": "work\u{1b}", "uid": "j-1"});
        let told = tell(&[
            (3, entry(json!({"transition": "Denied", "message": "denied by alice"}))),
            (
                4,
                alone(json!({"transition": "Overridden", "by": [{"username": "bob"}], "target": target,
                "message": "started without approval by bob, who may override: it burns"})),
            ),
        ]);
        assert_eq!(
            told,
            "payments/run-8f9a (run run_8f9a, step remediate; uid u)
       3  2026-11-20 17:00:00Z  denied: denied by alice
payments/work\\u{1b} (Job, no request; uid j-1)
       4  2026-11-20 17:00:00Z  started without approval by bob, who may override: it burns
"
        );
    }
}
