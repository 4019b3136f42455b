use super::*;
use crate::cli::explain::gather::{add_policy, read_request};
use crate::cli::explain::render;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn request() -> Value {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalRequest",
        "metadata": {"name": "run", "namespace": "payments", "uid": "u", "creationTimestamp": "2026-11-20T17:00:00Z"},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "workflow.triage", "reason": "why", "riskTags": ["prod", "write"],
            "requester": {"username": "system:serviceaccount:payments:triage", "groups": ["system:serviceaccounts"]},
            "reviews": [{"reviewer": {"username": "alice", "groups": ["sre"]}, "decision": "Approve", "digest": DIGEST,
                "time": "2026-11-20T17:01:00.000000Z", "seal": "x"}]},
        "status": {"state": "Pending", "message": "waiting", "digest": DIGEST, "denials": 1, "selfApproval": "Forbid",
            "scope": [{"tag": "secrets", "source": "Derived", "detail": "container main: env from Secret db"}],
            "pendingUntil": "2026-11-20T18:00:00Z",
            "approvals": [{"requirement": "sre", "required": 2, "approvers": [{"kind": "Group", "name": "sre"}], "approvedBy": ["alice"]}]}})
}

fn gathered(request: Value, specs: &[(&str, Value)]) -> Gathered {
    let mut policies = PolicySet::default();
    for (name, spec) in specs {
        let policy = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "ApprovalPolicy", "metadata": {"name": name}, "spec": spec});
        add_policy(&mut policies, &object(policy));
    }
    Gathered {
        request: read_request(&object(request)).unwrap(),
        labels: Some(BTreeMap::from([("env".into(), "prod".into())])),
        target: None,
        policies: Some(policies),
        gaps: vec![],
    }
}

fn by_sre(when: Value) -> Value {
    json!({"rules": [{"name": "prod-write", "when": when, "decision": "RequireApproval", "approvals":
        {"requirements": [{"name": "sre", "count": 2, "approvers": [{"kind": "Group", "name": "sre"}]}]}}]})
}

#[test]
fn it_tells_what_matched_who_is_missing_and_until_when() {
    let elsewhere = json!({"match": {"namespaceSelector": {"matchLabels": {"env": "dev"}}}, "rules": [{"name": "r", "decision": "Deny"}]});
    let specs = [
        ("production", by_sre(json!({"riskTags": ["prod", "write"]}))),
        ("data", by_sre(json!({"riskTags": ["secrets", "delete"]}))),
        ("dev", elsewhere),
    ];
    let account = account(&gathered(request(), &specs));
    let text = render(&account);
    for expected in [
        "payments/run: Pending",
        "asked by      system:serviceaccount:payments:triage (authenticated)",
        "secrets derived: container main: env from Secret db",
        "✓ prod-write RequireApproval\n",
        "✗ prod-write RequireApproval: riskTags: delete is not among [prod, secrets, write]",
        "dev: its match does not select this namespace",
        "Outcome: RequireApproval",
        "requires      sre: 2 from sre",
        "sre 1/2: alice; open to sre",
        "missing       waiting for 1 more approval from sre",
        "system:serviceaccount:payments:triage, who asked",
        "alice Approve 2026-11-20T17:01:00Z: counts",
        "expires unless approved by 2026-11-20T18:00:00Z",
    ] {
        assert!(text.contains(expected), "expected {expected:?} in\n{text}");
    }
    assert!(account.notes.is_empty(), "{:?}", account.notes);
    let json = serde_json::to_value(&account).unwrap();
    assert_eq!(
        json["policies"][2]["rules"][0],
        json!({"rule": "prod-write", "decision": "RequireApproval", "matched": true})
    );
}

#[test]
fn what_differs_from_the_status_is_said() {
    let mut changed = request();
    changed["status"]["policySnapshot"] = json!("sha256:0");
    changed["status"]["approvals"][0]["approvedBy"] = json!([]);
    let notes = account(&gathered(changed, &[("p", by_sre(json!({})))])).notes.join("\n");
    assert!(notes.contains("not the one that the operator bound"), "{notes}");
    assert!(notes.contains("status.approvals differs"), "{notes}");
}

#[test]
fn what_may_not_be_read_is_left_out_and_said() {
    let mut blind = gathered(request(), &[]);
    blind.policies = None;
    blind.labels = None;
    blind.gaps = vec!["you may not list approvalpolicies.countersign.dev cluster-wide".into()];
    let text = render(&account(&blind));
    assert!(text.contains("not judged here: see the notes"), "{text}");
    assert!(text.contains("you may not list approvalpolicies.countersign.dev cluster-wide"), "{text}");
    assert!(text.contains("sre 1/2: alice"), "what the status says is told all the same: {text}");
}

#[test]
fn a_problem_is_told_until_the_end() {
    let mut stuck = request();
    stuck["status"]["conditions"] = json!([{"type": "Evaluated", "status": "False", "reason": "PolicyNotReady",
        "message": "policy p does not compile", "lastTransitionTime": "2026-11-20T17:00:00Z"}]);
    let of = |request: &Value| account(&gathered(request.clone(), &[]));
    assert_eq!(of(&stuck).blocked.unwrap().reason, "PolicyNotReady");
    stuck["status"]["state"] = json!("Expired");
    assert!(of(&stuck).blocked.is_none() && of(&stuck).clocks.pending_until.is_none());
}

#[test]
fn nothing_that_a_tenant_wrote_reaches_the_terminal() {
    let evil = "\u{1b}[2J\u{202e}\nPolicies\r";
    let mut hostile = request();
    for field in ["/spec/reason", "/spec/requestedBy", "/status/message", "/spec/reviews/0/comment"] {
        let (parent, key) = field.rsplit_once('/').unwrap();
        hostile.pointer_mut(parent).unwrap()[key] = json!(evil);
    }
    hostile["spec"]["riskTags"] = json!([evil]);
    hostile["spec"]["requester"]["username"] = json!(evil);
    hostile["spec"]["reviews"][0]["reviewer"]["username"] = json!(evil);
    hostile["status"]["scope"][0]["detail"] = json!(evil);
    hostile["status"]["approvals"][0]["approvedBy"] = json!([evil]);
    hostile["spec"]["target"] = json!({"apiVersion": "batch/v1", "kind": "Job", "name": evil});
    let mut policy = by_sre(json!({"riskTags": ["x"], "requestedBy": ["a*"]}));
    policy["rules"][0]["reason"] = json!(evil);
    let text = render(&account(&gathered(hostile, &[("p", policy)])));
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
    assert_eq!(text.lines().filter(|line| *line == "Policies").count(), 1, "{text}");
}

#[test]
fn what_the_operator_has_not_looked_at_is_not_judged() {
    let mut new = request();
    new.as_object_mut().unwrap().remove("status");
    new["spec"]["reviews"] = json!([]);
    let denies = json!({"rules": [{"name": "secrets", "when": {"riskTags": ["secrets"]}, "decision": "Deny"}]});
    let account = account(&gathered(new.clone(), &[("p", by_sre(json!({}))), ("q", denies)]));
    assert!(account.outcome.is_none() && account.policies.is_none(), "what it derives is not known yet");
    let text = render(&account);
    assert!(text.contains("not judged here: see the notes") && text.contains("has not evaluated this yet"), "{text}");
    // A problem that it reports is a look.
    new["status"] = json!({"conditions": [{"type": "Evaluated", "status": "False", "reason": "TargetMissing",
        "message": "there is no Job", "lastTransitionTime": "2026-11-20T17:00:00Z"}]});
    assert!(super::account(&gathered(new, &[("p", by_sre(json!({})))])).outcome.is_some());
}

#[test]
fn nothing_is_open_to_anybody_after_the_end() {
    let mut over = request();
    for state in ["Expired", "Denied", "Cancelled", "Released"] {
        over["status"]["state"] = json!(state);
        let account = account(&gathered(over.clone(), &[("p", by_sre(json!({})))]));
        let text = render(&account);
        assert!(text.contains("sre 1/2: alice\n") && !text.contains("open to"), "{text}");
        assert!(!text.contains("waiting for") && account.approvals.excluded.is_empty(), "{text}");
    }
}

#[test]
fn nothing_is_open_to_whoever_does_not_count() {
    let mut own = request();
    own["status"]["approvals"][0]["approvers"] = json!([
        {"kind": "Group", "name": "sre"},
        {"kind": "ServiceAccount", "namespace": "payments", "name": "triage"},
        {"kind": "User", "name": "system:serviceaccount:payments:triage"},
        {"kind": "User", "name": "alice"},
        {"kind": "ServiceAccount", "namespace": "payments", "name": "deployer"},
        {"kind": "ServiceAccount", "namespace": "ci", "name": "release-bot"},
        {"kind": "User", "name": "bob"}]);
    own["status"]["target"] = json!({"uid": "j", "parties": ["system:serviceaccount:payments:deployer"]});
    own["status"]["excluded"] = json!(["bob"]);
    let open = |request: &Value| account(&gathered(request.clone(), &[])).approvals.requirements[0].open_to.clone();
    assert_eq!(open(&own), ["sre", "serviceaccount ci/release-bot"], "she has approved, and the others do not count");
    own["status"]["selfApproval"] = json!("Allow");
    assert!(open(&own).contains(&"serviceaccount payments/triage".to_string()));
    assert!(!open(&own).contains(&"user bob".to_string()));
}

#[test]
fn a_name_that_looks_like_another_is_spelled_out() {
    let mut alike = request();
    // Cyrillic letters.
    let (alice, sre, bob) = ("\u{430}lice", "s\u{433}e", "b\u{43e}b");
    alike["spec"]["reviews"][0]["reviewer"] = json!({"username": alice, "groups": [sre]});
    alike["status"]["approvals"][0]["approvedBy"] = json!([alice]);
    alike["status"]["approvals"][0]["approvers"] = json!([{"kind": "Group", "name": sre}]);
    alike["status"]["excluded"] = json!([bob]);
    let text = render(&account(&gathered(alike, &[("p", by_sre(json!({})))])));
    assert!(!text.contains(['\u{430}', '\u{433}', '\u{43e}']), "{text}");
    for expected in
        ["sre 1/2: \\u{430}lice; open to s\\u{433}e", "approval from s\\u{433}e", "b\\u{43e}b, excluded by policy"]
    {
        assert!(text.contains(expected), "expected {expected:?} in\n{text}");
    }
}

#[test]
fn a_freeze_window_says_who_passed_it() {
    let window = json!({"name": "weekend", "start": "0 18 * * 5", "durationSeconds": 3600, "timeZone": "UTC",
        "mayPass": [{"kind": "Group", "name": "commanders"}]});
    let mut policy = by_sre(json!({}));
    policy["rules"][0]["freezeWindows"] = json!([window]);
    let mut frozen = request();
    let of = |request: &Value| render(&account(&gathered(request.clone(), &[("p", policy.clone())])));
    assert!(of(&frozen).contains("weekend: 0 18 * * 5 (UTC), 3600 s; may be passed by commanders"));
    frozen["status"]["freezes"] = json!([{"policy": "p", "rule": "prod-write", "window": window, "passedBy": "carol"}]);
    assert!(of(&frozen).contains("weekend: 0 18 * * 5 (UTC), 3600 s; passed by carol"), "{}", of(&frozen));
    frozen["status"]["freezes"][0]["rule"] = json!("other");
    assert!(of(&frozen).contains("may be passed by commanders"));
}
