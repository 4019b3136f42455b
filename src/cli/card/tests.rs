use super::page::{LABEL, WIDTH, wrap};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const EARLIER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn request() -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run-8f9a-remediate", "namespace": "payments", "uid": "r1"},
        "spec": {
            "runID": "run_8f9a", "stepID": "remediate", "requestedBy": "workflow.incident-triage",
            "reason": "prod write detected", "riskTags": ["prod", "write"], "policySnapshot": "7f3d...9c2b",
            "constraints": {"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}},
            "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "remediate-8f9a"},
            "evidence": [{"title": "error rate", "text": "5xx 12%", "url": "https://example.com/d/1"}],
            "requester": {
                "username": "system:serviceaccount:payments:triage",
                "groups": ["system:serviceaccounts", "system:authenticated", "triage-bots"]
            },
            "reviews": [
                {"reviewer": {"username": "bob", "groups": ["sre"]}, "decision": "Approve", "digest": EARLIER,
                 "time": "2026-01-01T09:00:00.000000Z", "seal": "k.s"},
                {"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve", "digest": DIGEST,
                 "comment": "seen the diff", "time": "2026-01-01T09:30:00.000000Z", "seal": "k.s"}
            ]
        },
        "status": {
            "state": "Pending",
            "message": format!("waiting for 1 more approval from sre. kubectl patch apr run-8f9a-remediate -n payments --type=merge -p '{{\"spec\":{{\"review\":{{\"decision\":\"Approve\",\"digest\":\"{DIGEST}\"}}}}}}'"),
            "matches": [{"policy": "production", "rule": "prod-write", "decision": "RequireApproval", "reason": "prod write detected"}],
            "scope": [
                {"tag": "prod", "source": "Declared"},
                {"tag": "secrets", "source": "Derived", "detail": "env from Secret db"}
            ],
            "constraints": {"maxRuntimeSeconds": 900, "limits": {"maxLinesChanged": 500}},
            "inputs": [
                {"kind": "ConfigMap", "name": "fix-script", "uid": "c1", "hash": EARLIER, "immutable": true, "locked": true},
                {"kind": "ConfigMap", "name": "tuning", "immutable": false, "locked": false, "absent": true},
                {"kind": "Secret", "name": "db", "uid": "s1", "resourceVersion": "77", "immutable": false, "locked": false}
            ],
            "policySnapshot": EARLIER, "jobHash": EARLIER, "digest": DIGEST, "pendingUntil": "2026-01-01T10:00:00Z",
            "target": {"uid": "j1", "bounds": {"activeDeadlineSeconds": 900, "backoffLimit": 0, "parallelism": 1}},
            "approvals": [{"requirement": "sre", "required": 2, "approvers": [{"kind": "Group", "name": "sre"}], "approvedBy": ["alice"]}]
        }
    })
}

fn job() -> Value {
    json!({
        "metadata": {"name": "remediate-8f9a", "namespace": "payments", "uid": "j1"},
        "spec": {"suspend": true, "backoffLimit": 6, "template": {"spec": {
            "serviceAccountName": "remediator",
            "initContainers": [{"name": "fetch", "image": "example.com/git:2"}],
            "containers": [{"name": "main", "image": "example.com/fix:1.4", "command": ["sh", "-c"], "args": ["fix --all && report"]}]
        }}}
    })
}

#[test]
fn the_whole_card() {
    let expected = r#"Request     payments/run-8f9a-remediate  Pending
Asked by    system:serviceaccount:payments:triage (authenticated)
            in triage-bots
Claims      to be workflow.incident-triage (not verified)
Run         run_8f9a, step remediate
Reason      prod write detected
Rules       production/prod-write: RequireApproval, prod write detected
Scope       prod (Declared)
            secrets (Derived): env from Secret db
Bounds      at most: runs 900 s (15 min), maxLinesChanged 500
Evidence    error rate: 5xx 12% <https://example.com/d/1>
Job         remediate-8f9a, as serviceaccount remediator
            init fetch: example.com/git:2 runs the image's own command
            main: example.com/fix:1.4 runs sh -c "fix --all && report"
            deadline 900 s (15 min), retries 0, pods at a time 1, completions 1
Inputs      ConfigMap fix-script: cannot change,
            sha256:2222222222222222222222222222222222222222222222222222222222222
            222
            ConfigMap tuning: not there
            Secret db: can change after the review, content not read, at version
            77
Approvals   1 of 2 from sre (Group sre), by alice
Reviews     bob (sre): Approve at 2026-01-01T09:00:00.000000Z [about an earlier
            digest: not counted]
            alice (sre): Approve at 2026-01-01T09:30:00.000000Z "seen the diff"
Planned     7f3d...9c2b (claimed)
In force    EARLIER (policy)
Expires     2026-01-01T10:00:00Z
Digest      DIGEST

To approve (or to deny, with "Deny"):
kubectl patch apr run-8f9a-remediate -n payments --type=merge -p '{"spec":{"review":{"decision":"Approve","digest":"DIGEST"}}}'
"#;
    let expected = expected.replace("DIGEST", DIGEST).replace("EARLIER", EARLIER);
    assert_eq!(card(&request(), Some(&job())), expected);
    let mut composed = request();
    composed["status"]["message"] = json!("waiting");
    assert_eq!(card(&composed, Some(&job())), expected);
}

#[test]
fn a_command_about_something_else_is_not_passed_on() {
    let mut other = request();
    for replacement in [(DIGEST, EARLIER), ("run-8f9a-remediate", "another")] {
        let message = request()["status"]["message"].as_str().unwrap().replace(replacement.0, replacement.1);
        other["status"]["message"] = json!(message);
        let command = format!(
            "kubectl patch apr run-8f9a-remediate -n payments --type=merge -p '{{\"spec\":{{\"review\":{{\"decision\":\"Approve\",\"digest\":\"{DIGEST}\"}}}}}}'\n"
        );
        assert!(card(&other, None).ends_with(&command));
    }
}

#[test]
fn only_a_pending_request_shows_a_command() {
    for (state, label) in [("Approved", "Release by  2026"), ("Denied", "Outcome     because")] {
        let mut request = request();
        request["status"]["state"] = json!(state);
        request["status"]["releaseBy"] = json!("2026-01-01T10:15:00Z");
        request["status"]["message"] = json!("because");
        let card = card(&request, None);
        assert!(card.contains(label) && !card.contains("kubectl"), "{card}");
    }
    let bare = card(&json!({}), None);
    assert!(bare.contains("not evaluated yet") && bare.contains("none matched"), "{bare}");
}

#[test]
fn what_it_waits_for_and_who_decides_stands_on_it() {
    let mut waiting = request();
    let status = waiting["status"].as_object_mut().unwrap();
    let window = |name: &str, may: Value| json!({"name": name, "start": "0 18 * * FRI", "durationSeconds": 216000, "timeZone": "Europe/Berlin", "mayPass": may});
    let freeze =
        |name: &str, may: Value| json!({"policy": "production", "rule": "prod-write", "window": window(name, may)});
    let mut passed = freeze("lunch", json!([{"kind": "User", "name": "alice"}]));
    passed["passedBy"] = json!("alice");
    for (field, value) in [
        ("state", json!("Approved")),
        ("waitsUntil", json!("2026-01-05T05:00:00Z")),
        ("notBefore", json!("2026-01-01T10:00:00Z")),
        (
            "freezes",
            json!([
                freeze("weekend", json!([{"kind": "Group", "name": "release-managers"}])),
                freeze("year-end", json!([])),
                passed
            ]),
        ),
        (
            "constraints",
            json!({"maxRetries": 2, "maxCpu": "500m", "maxMemory": "1Gi", "limits": {"maxLinesChanged": 500}}),
        ),
        ("advisory", json!(["limits.maxLinesChanged"])),
        ("excluded", json!(["bob", "carol"])),
        ("requireComment", json!(true)),
    ] {
        status.insert(field.into(), value);
    }
    let card = card(&waiting, None);
    for rows in [
        "Bounds      at most: retries 2, CPU 500m a container, memory 1Gi a container,\n            maxLinesChanged 500\n            not enforced here (the worker is told): limits.maxLinesChanged\n",
        "Waits       until 2026-01-05T05:00:00Z\n            not before 2026-01-01T10:00:00Z\n            in freeze window weekend of production/prod-write: 0 18 * * FRI\n            (Europe/Berlin) for 216000 s (60 h); Group release-managers may pass\n            it\n",
        "for 216000 s (60 h); nobody may pass it\n            not in freeze window lunch of",
        "for 216000 s (60 h), passed by alice\n",
        "Excluded    bob, carol\nComment     required with an approval\n",
        "To pass a freeze window, by whoever may (or to deny, with \"Deny\"):\nkubectl patch apr run-8f9a-remediate -n payments",
    ] {
        assert!(card.contains(rows), "{rows}\n{card}");
    }
    let command = format!(r#""digest":"{DIGEST}","comment":"<what you checked>"}}}}}}'"#);
    assert!(card.contains(&command), "{card}");
    assert!(card.contains("Outcome     waiting for 1 more"), "without a release clock it says why it waits: {card}");
}

#[test]
fn a_long_time_to_stop_stands_beside_the_deadline() {
    let mut slow = job();
    for (grace, shown) in [
        (30, "deadline 900 s (15 min), retries 0"),
        (330, "deadline 900 s (15 min) and up to 330 s to stop, retries 0"),
    ] {
        slow["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        assert!(card(&request(), Some(&slow)).contains(shown), "{grace}");
    }
}

#[test]
fn another_job_of_the_same_name_is_called_out() {
    let mut other = job();
    other["metadata"]["uid"] = json!("j2");
    assert!(card(&request(), Some(&other)).contains("NOT the Job this request is bound to"));
    assert!(!card(&request(), Some(&job())).contains("NOT the Job"));
}

#[test]
fn a_hidden_tail_is_announced() {
    let mut long = job();
    long["spec"]["template"]["spec"]["containers"][0]["args"] = json!([format!("{}; rm -rf /data", " ".repeat(2000))]);
    assert!(card(&request(), Some(&long)).contains("more characters)"));
}

#[test]
fn for_an_eye_it_tells_the_time_left_and_cuts_digests() {
    let now = "2026-01-01T09:18:00Z".parse().unwrap();
    let text = lay_out(&rows(&request(), Some(&job()), Some(now)), Look::default());
    assert!(text.contains("Expires     2026-01-01T10:00:00Z (42 min left)\n"), "{text}");
    assert!(text.contains("Digest      sha256:1111111111111111\n") && !text.contains(DIGEST), "{text}");
    assert!(!text.contains("kubectl"), "the question stands below it: {text}");
    for (end, left) in [
        ("2026-01-01T09:18:00Z", "time is up"),
        ("2026-01-01T09:18:59Z", "59 s left"),
        ("2026-01-01T12:18:00Z", "3 h 0 min left"),
        ("2026-01-04T10:18:00Z", "3 d 1 h left"),
    ] {
        assert_eq!(time_left(end.parse().unwrap(), now), left);
    }
}

#[test]
fn colour_is_added_to_the_words_and_never_in_their_place() {
    let mut other = job();
    other["metadata"]["uid"] = json!("j2");
    let rows = rows(&request(), Some(&other), None);
    let colour = lay_out(&rows, Look { colour: true, columns: 80 });
    assert!(colour.contains("\u{1b}[1mReason\u{1b}[0m      prod write detected"), "{colour}");
    assert!(colour.contains("\u{1b}[1;31mNOT the Job"), "{colour}");
    let plain = lay_out(&rows, Look::default());
    let codes = ["\u{1b}[1m", "\u{1b}[1;31m", "\u{1b}[0m"];
    assert_eq!(codes.iter().fold(colour, |text, code| text.replace(code, "")), plain);
}

#[test]
fn a_narrow_terminal_and_wide_letters_leave_the_left_edge_to_labels() {
    let mut spoof = request();
    spoof["spec"]["reason"] = json!(format!("{} Digest      sha256:forged", "界".repeat(60)));
    spoof["spec"]["policySnapshot"] = json!(format!("{}Digest sha256:forged", "x".repeat(68)));
    for columns in [1, 40, 80, 500] {
        let text = lay_out(&rows(&spoof, Some(&job()), None), Look { colour: false, columns });
        let wide = |line: &str| line.chars().map(|c| if c < '\u{1100}' { 1 } else { 2 }).sum::<usize>();
        let unbroken = |line: &&str| !line.starts_with("Digest") && !line.starts_with("In force");
        let most = columns.clamp(32, 80);
        assert!(text.lines().filter(unbroken).all(|line| wide(line) <= most), "{columns}: {text}");
    }
}

#[test]
fn a_pod_is_shown_as_a_pod() {
    let mut request = request();
    request["spec"]["target"] = json!({"apiVersion": "v1", "kind": "Pod", "name": "shell"});
    let pod = json!({"metadata": {"name": "shell", "uid": "j2"}, "spec": {"serviceAccountName": "ops", "activeDeadlineSeconds": 60,
        "containers": [{"name": "main", "image": "a:1", "command": ["sh"]}]}});
    let text = card(&request, Some(&pod));
    for expected in [
        "Pod         shell, as serviceaccount ops\n            NOT the Pod this request is bound to",
        "            main: a:1 runs sh\n            deadline 60 s (1 min)\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(card(&request, None).contains("Pod         shell (not at hand)"));
}

/// Replaces every string with a hostile one.
fn poisoned(value: &Value, poison: &str) -> Value {
    match value {
        Value::String(_) => json!(poison),
        Value::Array(items) => items.iter().map(|v| poisoned(v, poison)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), poisoned(v, poison))).collect(),
        other => other.clone(),
    }
}

#[test]
fn hostile_text_neither_moves_the_cursor_nor_adds_a_line() {
    let lines = |card: &str| card.lines().filter(|l| !l.starts_with(' ') && !l.is_empty()).count();
    let harmless = lines(&card(&poisoned(&request(), "x"), Some(&poisoned(&job(), "x"))));
    for poison in
        ["\u{1b}[2J\u{1b}[H", "a\u{202e}b", "x\nDigest      sha256:forged", "x\rAsked by    alice", "\u{9b}31m"]
    {
        let mut hostile = poisoned(&request(), poison);
        hostile["status"]["constraints"]["limits"] = json!({poison: 1});
        let card = card(&hostile, Some(&poisoned(&job(), poison)));
        assert!(!card.contains(|c: char| c != '\n' && c.is_control()) && !card.contains('\u{202e}'), "{card}");
        assert_eq!(lines(&card), harmless, "{card}");
    }
    let mut hostile = request();
    hostile["status"]["state"] = json!("Pending");
    hostile["spec"]["requester"]["username"] = json!("\u{430}lice");
    assert!(card(&hostile, None).contains("Asked by    \\u{430}lice (authenticated)"));
}

proptest! {
    #[test]
    fn lines_keep_their_width_and_their_words(text in "[a-z ]{0,300}", long in "[a-z]{100,300}") {
        let text = format!("{text} {long}");
        let lines = wrap(&text, WIDTH - LABEL);
        prop_assert!(lines.iter().all(|line| line.chars().count() <= WIDTH - LABEL));
        let letters = |t: &str| t.replace(' ', "");
        prop_assert_eq!(letters(&lines.concat()), letters(&text));
    }
}
