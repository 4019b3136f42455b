use super::*;
use crate::admission::Caller;
use crate::cli::review::fixture::{DIGEST, EARLIER, facts, pending, review};
use serde_json::json;

const NOW: &str = "2026-11-20T17:30:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn me(username: &str, groups: &[&str]) -> Me {
    let groups = groups.iter().copied().map(String::from).collect();
    Me { caller: Caller { username: username.into(), groups, ..Caller::default() }, authorized: vec![] }
}

fn why(request: &Value, me: &Me) -> Option<String> {
    match standing(&facts(request), request, me, now()) {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
        None => Some("over".into()),
    }
}

fn changed(change: impl Fn(&mut Value)) -> Value {
    let mut request = pending("run");
    change(&mut request);
    request
}

#[test]
fn an_approver_who_has_not_spoken_can_decide() {
    assert_eq!(why(&pending("run"), &me("alice", &["sre"])), None);
    assert_eq!(why(&pending("run"), &me("bob", &["developers"])).as_deref(), Some("it takes sre"));
}

#[test]
fn whoever_cannot_approve_is_told_why() {
    let sre = me("alice", &["sre"]);
    for (request, expected) in [
        (changed(|r| r["status"]["state"] = json!("Released")), "over"),
        (changed(|r| r["spec"]["requester"]["username"] = json!("alice")), "you asked for it yourself"),
        (changed(|r| r["status"]["target"]["parties"] = json!(["alice"])), "you have a part in what would run"),
        (changed(|r| r["status"]["excluded"] = json!(["alice"])), "policy excludes you"),
        (changed(|r| r["spec"]["reviews"] = json!([review("alice", "Approve", DIGEST)])), "you approved it"),
        (changed(|r| r["spec"]["reviews"] = json!([review("alice", "Deny", EARLIER)])), "you denied it"),
        (changed(|r| r["status"]["pendingUntil"] = json!("2026-11-20T17:00:00Z")), "its time ran out"),
        (
            changed(|r| {
                r["status"]["digest"] = Value::Null;
                r["status"]["message"] = json!("the Job is missing");
            }),
            "not up for review: the Job is missing",
        ),
        (
            changed(|r| {
                r["status"]["approvals"] = json!([
                    {"requirement": "sre", "required": 1, "approvers": [{"kind": "Group", "name": "sre"}], "approvedBy": ["bob"]},
                    {"requirement": "security", "required": 1, "approvers": [{"kind": "Group", "name": "security"}]}]);
                r["spec"]["reviews"] = json!([review("bob", "Approve", DIGEST)]);
            }),
            "nothing you could add: waiting for 1 approval from security",
        ),
    ] {
        assert_eq!(why(&request, &sre).as_deref(), Some(expected));
    }
}

#[test]
fn what_was_approved_before_it_changed_is_asked_about_again() {
    let request = changed(|r| r["spec"]["reviews"] = json!([review("alice", "Approve", EARLIER)]));
    assert_eq!(why(&request, &me("alice", &["sre"])), None);
}

#[test]
fn whom_the_authorizer_lets_approve_and_who_may_pass_a_window_can_decide() {
    let by_authorizer = changed(|r| {
        r["status"]["approvals"][0]["approvers"] = json!([{"kind": "Authorized", "name": "production"}]);
    });
    let mut carol = me("carol", &[]);
    assert_eq!(why(&by_authorizer, &carol).as_deref(), Some("it takes whoever may approve policy production"));
    carol.authorized = vec!["production".into()];
    assert_eq!(why(&by_authorizer, &carol), None);

    let frozen = changed(|r| {
        r["status"]["state"] = json!("Approved");
        r["status"]["message"] = json!("approved; released after 2026-11-23T05:00:00Z");
        r["status"]["approvals"][0]["approvedBy"] = json!(["bob"]);
        r["spec"]["reviews"] = json!([review("bob", "Approve", DIGEST)]);
        r["status"]["freezes"] = json!([{"policy": "p", "rule": "r", "window": {"name": "w", "start": "0 18 * * FRI",
            "durationSeconds": 60, "mayPass": [{"kind": "User", "name": "carol"}]}}]);
    });
    assert_eq!(why(&frozen, &carol), None);
    assert_eq!(why(&frozen, &me("alice", &["sre"])).as_deref(), Some("approved; released after 2026-11-23T05:00:00Z"));
}

#[test]
fn the_most_urgent_comes_first() {
    let until = |name: &str, time: Value| {
        let mut request = pending(name);
        request["status"]["pendingUntil"] = time;
        (facts(&request), request)
    };
    let requests = [
        until("never", Value::Null),
        until("late", json!("2026-11-20T20:00:00Z")),
        until("b", json!("2026-11-20T18:00:00Z")),
        until("a", json!("2026-11-20T18:00:00Z")),
    ];
    let names = |list: Vec<Waiting>| list.into_iter().map(|one| one.request.name).collect::<Vec<_>>();
    assert_eq!(names(inbox(requests.clone(), &me("alice", &["sre"]), false, now())), ["a", "b", "late", "never"]);
    assert_eq!(names(inbox(requests.clone(), &me("bob", &[]), false, now())), [""; 0]);
    assert_eq!(names(inbox(requests, &me("bob", &[]), true, now())).len(), 4);
}

#[test]
fn each_request_is_one_line_whatever_stands_in_it() {
    let mut request = pending("run");
    request["spec"]["reason"] = json!(format!("\u{1b}[2J\nNAME  \u{202e}{}", "x".repeat(2000)));
    request["status"]["summary"] = json!({"risk": "\u{1b}]0;x\u{7}", "rule": "", "approvals": "0/1\n"});
    request["spec"]["requester"]["username"] = json!("\u{430}lice\r");
    let one = Waiting { request: facts(&request), stored: request, why_not: Some("\u{9b}31m".into()) };
    let columns = Columns { namespace: true, wide: true, why: true };
    let (text, widths) = table(std::slice::from_ref(&one), columns, now());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("NAMESPACE") && lines[0].ends_with("NOT-MINE-BECAUSE"), "{text}");
    assert!(lines[1].starts_with("payments") && lines[1].contains("30 min left"), "{text}");
    assert!(lines[1].contains("\\u{430}lice") && lines[1].contains('…'), "{text}");
    assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    assert_eq!(
        line(&one, columns, &widths, now()),
        format!("{}\n", lines[1]),
        "what follows a table stands in its columns"
    );
    assert_eq!(object_list(&[one])["items"][0]["metadata"]["name"], "run");
}
