//! Verdicts on requests.

use crate::admission::tests::{ask, key, review};
use crate::binding::verify_seal;
use serde_json::{Value, json};

pub(super) const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

pub(super) fn stored() -> Value {
    json!({
        "metadata": {"name": "run", "namespace": "payments", "uid": "r1", "finalizers": ["countersign.dev/record"]},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "w", "reason": "why", "requester": {"username": "triage"}},
        "status": {
            "state": "Pending", "digest": DIGEST, "selfApproval": "Forbid", "pendingUntil": "2999-01-01T00:00:00Z",
            "approvals": [{"requirement": "sre", "required": 1, "approvers": [{"kind": "Group", "name": "sre"}]}],
            "conditions": [{"type": "Evaluated", "status": "True", "reason": "Bound", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        }
    })
}

pub(super) fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[name] = value;
    object
}

pub(super) fn word(decision: &str, digest: &str) -> Value {
    json!({"decision": decision, "digest": digest, "comment": "seen"})
}

async fn refused(user: &str, old: Value, new: Value) -> (u64, String) {
    let (response, _) = ask(review("approvalrequests", "UPDATE", user, old, new)).await;
    assert_eq!(response["allowed"], false, "{response}");
    (response["status"]["code"].as_u64().unwrap(), response["status"]["message"].as_str().unwrap().to_string())
}

#[tokio::test]
async fn a_created_request_is_stamped_whatever_it_says() {
    let mut new = stored();
    new["metadata"].as_object_mut().unwrap().remove("finalizers");
    new["spec"]["requester"] = json!({"username": "admin", "groups": ["system:masters"]});
    let (response, object) = ask(review("approvalrequests", "CREATE", "mallory", Value::Null, new)).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(object["spec"]["requester"], json!({"username": "mallory", "groups": ["sre", "staff"]}));
    assert_eq!(object["metadata"]["finalizers"], json!(["countersign.dev/record"]));
}

#[tokio::test]
async fn a_requester_in_too_many_groups_is_refused_rather_than_cut() {
    let mut asked = review("approvalrequests", "CREATE", "mallory", Value::Null, stored());
    asked["request"]["userInfo"]["groups"] = (0..257).map(|i| json!(format!("g{i}"))).collect();
    let (response, _) = ask(asked).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("you are in 257 groups; a requester may be in 256 at most"), "{message}");
    let (response, _) =
        ask(review("approvalrequests", "CREATE", "mallory", Value::Null, json!({"metadata": {}}))).await;
    assert!(response["status"]["message"].as_str().unwrap().contains("spec is missing: say what is asked"));
}

#[tokio::test]
async fn a_review_moves_stamped_and_sealed() {
    let new = with(stored(), "/spec/review", word("Approve", DIGEST));
    let (response, object) = ask(review("approvalrequests", "UPDATE", "alice", stored(), new.clone())).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(object["spec"].get("review"), None);
    let entry = &object["spec"]["reviews"][0];
    assert_eq!(entry["reviewer"], json!({"username": "alice", "groups": ["sre"]}), "only groups that policy names");
    assert!(verify_seal(&key(), "r1", entry));
    let mut dry = review("approvalrequests", "UPDATE", "alice", stored(), new);
    dry["request"]["dryRun"] = json!(true);
    let (response, object) = ask(dry).await;
    assert_eq!(response["allowed"], true);
    assert!(!verify_seal(&key(), "r1", &object["spec"]["reviews"][0]), "a dry run yields no usable seal");
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let approve = |old: &Value| with(old.clone(), "/spec/review", word("Approve", DIGEST));
    let s = stored();
    let denied = {
        let new = with(s.clone(), "/spec/review", word("Deny", DIGEST));
        ask(review("approvalrequests", "UPDATE", "alice", s.clone(), new)).await.1
    };
    let state = |state: &str| with(s.clone(), "/status/state", json!(state));
    let late = with(s.clone(), "/status/pendingUntil", json!("2020-01-01T00:00:00Z"));
    let unready = with(s.clone(), "/status/conditions/0/status", json!("False"));
    let leftover = with(s.clone(), "/spec/review", word("Approve", DIGEST));
    let deleting = with(s.clone(), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let full = with(s.clone(), "/spec/reviews", json!(vec![json!({"reviewer": {"username": "bob"}}); 64]));
    let unnamed = with(s.clone(), "/status/approvals/0/approvers/0/name", json!("security"));
    for (user, old, new, code, expected) in [
        ("triage", s.clone(), approve(&s), 403, "forbids self-approval"),
        (
            "alice",
            unnamed.clone(),
            approve(&unnamed),
            403,
            "alice is not an approver of this request; it takes security",
        ),
        (
            "alice",
            s.clone(),
            with(s.clone(), "/spec/review", json!({"decision": "Approve"})),
            422,
            "digest is missing: name the digest",
        ),
        ("alice", s.clone(), with(s.clone(), "/spec/review", word("Approve", OTHER)), 409, "read it again"),
        ("alice", s.clone(), with(s.clone(), "/spec/review", word("Maybe", DIGEST)), 422, "unknown variant `Maybe`"),
        ("alice", state("Released"), approve(&state("Released")), 409, "is Released already"),
        ("alice", state("Denied"), approve(&state("Denied")), 409, "is Denied already"),
        ("alice", deleting.clone(), approve(&deleting), 409, "is being deleted; it takes no more reviews"),
        ("alice", full.clone(), approve(&full), 409, "holds 64 reviews and takes no more; ask anew"),
        ("alice", late.clone(), approve(&late), 409, "expired at"),
        ("alice", unready.clone(), approve(&unready), 409, "cannot be reviewed now"),
        ("alice", denied.clone(), approve(&denied), 409, "a denial stands"),
        (
            "alice",
            denied.clone(),
            with(denied.clone(), "/spec/review", word("Deny", DIGEST)),
            409,
            "already; it counts once",
        ),
        ("alice", leftover.clone(), leftover.clone(), 409, "stored unseen"),
        ("alice", s.clone(), with(s.clone(), "/spec/reason", json!("harmless")), 403, "spec.reason cannot be changed"),
        ("alice", s.clone(), with(s.clone(), "/spec/requester", json!({"username": "x"})), 403, "stamped at creation"),
        ("alice", s.clone(), with(s.clone(), "/spec/reviews", json!([{}])), 403, "written by admission alone"),
        ("alice", s.clone(), with(s.clone(), "/metadata/labels", json!({"a": "b"})), 403, "metadata.labels"),
        ("alice", s.clone(), with(s.clone(), "/metadata/finalizers", json!([])), 403, "metadata.finalizers"),
        ("alice", s.clone(), with(s.clone(), "/spec/cancel", json!(true)), 403, "only the requester (triage)"),
        (
            "triage",
            s.clone(),
            with(with(s.clone(), "/spec/cancel", json!(true)), "/spec/review", word("Deny", DIGEST)),
            422,
            "at once",
        ),
        ("triage", state("Expired"), with(state("Expired"), "/spec/cancel", json!(true)), 409, "is Expired already"),
    ] {
        let found = refused(user, old, new).await;
        assert!(found.0 == code && found.1.contains(expected), "expected {code} {expected:?}, found {found:?}");
    }
}

#[tokio::test]
async fn the_garbage_collector_does_its_work_but_never_takes_our_finalizer() {
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    let both = with(stored(), "/metadata/finalizers", json!(["foregroundDeletion", "countersign.dev/record"]));
    let (response, _) = ask(review("approvalrequests", "UPDATE", collector, both.clone(), stored())).await;
    assert_eq!(response["allowed"], true);
    refused(collector, both.clone(), with(both, "/metadata/finalizers", json!([]))).await;
}

#[tokio::test]
async fn the_requester_withdraws_and_deny_may_follow_approve() {
    let new = with(stored(), "/spec/cancel", json!(true));
    assert_eq!(ask(review("approvalrequests", "UPDATE", "triage", stored(), new)).await.0["allowed"], true);
    let new = with(stored(), "/spec/review", word("Approve", DIGEST));
    let approved = ask(review("approvalrequests", "UPDATE", "alice", stored(), new)).await.1;
    let new = with(approved.clone(), "/spec/review", word("Deny", DIGEST));
    let (response, object) = ask(review("approvalrequests", "UPDATE", "alice", approved, new)).await;
    assert_eq!((&response["allowed"], object["spec"]["reviews"].as_array().map(Vec::len)), (&json!(true), Some(2)));
}

#[tokio::test]
async fn whoever_the_policy_excludes_does_not_approve_and_is_told_why() {
    let excluding = with(stored(), "/status/excluded", json!(["alice", "bob"]));
    let excluding = with(excluding, "/status/selfApproval", json!("Allow"));
    let excluding = with(excluding, "/status/target", json!({"uid": "j", "parties": ["bob"]}));
    for (user, expected) in [
        (
            "alice",
            "alice last changed a policy that applies here, and policy excludes whoever did; someone else must approve",
        ),
        (
            "bob",
            "bob created what would run, or wrote the CronJob that it came from, or last changed a policy, and policy",
        ),
    ] {
        let new = with(excluding.clone(), "/spec/review", word("Approve", DIGEST));
        let found = refused(user, excluding.clone(), new).await;
        assert!(found.0 == 403 && found.1.contains(expected), "{found:?}");
        let new = with(excluding.clone(), "/spec/review", word("Deny", DIGEST));
        let (response, _) = ask(review("approvalrequests", "UPDATE", user, excluding.clone(), new)).await;
        assert_eq!(response["allowed"], true, "a veto stays: {response}");
    }
    let new = with(excluding.clone(), "/spec/review", word("Approve", DIGEST));
    let (response, _) = ask(review("approvalrequests", "UPDATE", "carol", excluding, new)).await;
    assert_eq!(response["allowed"], true, "{response}");
}

#[tokio::test]
async fn who_has_a_part_in_it_may_still_deny() {
    let part = with(stored(), "/status/target", json!({"uid": "j", "parties": ["alice"]}));
    let said = |decision: &str| with(part.clone(), "/spec/review", word(decision, DIGEST));
    let found = refused("alice", part.clone(), said("Approve")).await;
    assert!(found.0 == 403 && found.1.contains("alice has a part in what would run"), "{found:?}");
    let (response, _) = ask(review("approvalrequests", "UPDATE", "alice", part.clone(), said("Deny"))).await;
    assert_eq!(response["allowed"], true, "{response}");
    // In this test everybody is in the group sre, the requester too.
    let found = refused("triage", part.clone(), said("Approve")).await;
    assert!(found.0 == 403 && found.1.contains("to withdraw it, set spec.cancel"), "{found:?}");
    let (response, _) = ask(review("approvalrequests", "UPDATE", "triage", part.clone(), said("Deny"))).await;
    assert_eq!(response["allowed"], true, "{response}");
}

/// A name of somebody else, or none of the groups any more.
fn by(user: &str, uid: &str, groups: &[&str], old: &Value, decision: &str) -> Value {
    let new = with(old.clone(), "/spec/review", word(decision, DIGEST));
    let mut asked = review("approvalrequests", "UPDATE", user, old.clone(), new);
    asked["request"]["userInfo"] = json!({"username": user, "uid": uid, "groups": groups});
    asked
}

#[tokio::test]
async fn one_uid_is_one_person_whatever_the_names() {
    let denied = ask(by("alice", "u-1", &["sre"], &stored(), "Deny")).await.1;
    let (response, _) = ask(by("alicia", "u-1", &["sre"], &denied, "Approve")).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("a denial stands"), "{response}");
    let (response, _) = ask(by("alicia", "u-1", &["sre"], &denied, "Deny")).await;
    assert!(response["status"]["message"].as_str().unwrap().contains("said Deny to this already"), "{response}");
    assert_eq!(ask(by("bob", "u-2", &["sre"], &denied, "Approve")).await.0["allowed"], true);
    let nameless = ask(by("alice", "", &["sre"], &stored(), "Deny")).await.1;
    assert_eq!(ask(by("bob", "", &["sre"], &nameless, "Approve")).await.0["allowed"], true, "no uid is nobody's");
}

#[tokio::test]
async fn whoever_approved_takes_it_back_also_when_no_longer_an_approver() {
    let approved = ask(by("alice", "", &["sre"], &stored(), "Approve")).await.1;
    let (response, object) = ask(by("alice", "", &["staff"], &approved, "Deny")).await;
    assert_eq!(response["allowed"], true, "{response}");
    let entry = &object["spec"]["reviews"][1];
    assert_eq!(entry["reviewer"], json!({"username": "alice"}), "in no other group than the caller is in now");
    assert!(verify_seal(&key(), "r1", entry));
    let (response, _) = ask(by("alice", "", &["staff"], &approved, "Approve")).await;
    assert_eq!(response["status"]["code"], 403, "{response}");
    let (response, _) = ask(by("bob", "", &["staff"], &approved, "Deny")).await;
    assert_eq!(response["status"]["code"], 403, "{response}");
    let forged = with(approved, "/spec/reviews/0/reviewer/username", json!("bob"));
    let (response, _) = ask(by("bob", "", &["staff"], &forged, "Deny")).await;
    assert_eq!(response["status"]["code"], 403, "an unsealed approval is none: {response}");
}

#[tokio::test]
async fn a_list_full_of_approvals_still_takes_denials() {
    let entry = |i: usize| json!({"reviewer": {"username": format!("u{i}")}, "decision": "Approve", "digest": OTHER});
    let full = |n: usize| with(stored(), "/spec/reviews", (0..n).map(entry).collect());
    let (response, _) = ask(by("alice", "", &["sre"], &full(47), "Approve")).await;
    assert_eq!(response["allowed"], true, "{response}");
    let (response, _) = ask(by("alice", "", &["sre"], &full(48), "Approve")).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("holds 48 approvals and takes no more, only denials; ask anew"), "{message}");
    let (response, _) = ask(by("alice", "", &["sre"], &full(48), "Deny")).await;
    assert_eq!(response["allowed"], true, "{response}");
}

#[tokio::test]
async fn an_approval_takes_a_comment_where_the_policy_wants_one_and_a_denial_never() {
    let wanting = with(stored(), "/status/requireComment", json!(true));
    let said = |decision: &str, comment: Value| {
        let word = json!({"decision": decision, "digest": DIGEST, "comment": comment});
        with(wanting.clone(), "/spec/review", word)
    };
    for blank in [Value::Null, json!(""), json!(" \t\n\u{a0}\u{2003}")] {
        let found = refused("alice", wanting.clone(), said("Approve", blank.clone())).await;
        let expected = "this approval takes a comment: say in spec.review.comment what you checked";
        assert_eq!(found, (422, expected.to_string()));
        let denial = review("approvalrequests", "UPDATE", "alice", wanting.clone(), said("Deny", blank));
        assert_eq!(ask(denial).await.0["allowed"], true);
    }
    let approval = review("approvalrequests", "UPDATE", "alice", wanting.clone(), said("Approve", json!("read it")));
    assert_eq!(ask(approval).await.0["allowed"], true);
}

#[tokio::test]
async fn whoever_may_pass_a_freeze_window_may_review() {
    let window = json!({"name": "w", "start": "0 0 * * *", "durationSeconds": 60, "mayPass": [{"kind": "Group", "name": "leads"}]});
    let frozen = with(stored(), "/status/freezes", json!([{"policy": "p", "rule": "r", "window": window}]));
    let frozen = with(frozen, "/status/approvals/0/approvers/0/name", json!("security"));
    let new = with(frozen.clone(), "/spec/review", word("Approve", DIGEST));
    let found = refused("alice", frozen.clone(), new.clone()).await;
    assert!(found.1.contains("alice is not an approver of this request; it takes security or leads"), "{found:?}");
    let mut asked = review("approvalrequests", "UPDATE", "carol", frozen, new);
    asked["request"]["userInfo"]["groups"] = json!(["leads", "staff"]);
    let (response, object) = ask(asked).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(object["spec"]["reviews"][0]["reviewer"], json!({"username": "carol", "groups": ["leads"]}));
}

#[tokio::test]
async fn what_is_approved_and_waits_takes_reviews_after_its_time_and_what_is_pending_takes_none() {
    let late = with(stored(), "/status/pendingUntil", json!("2020-01-01T00:00:00Z"));
    let approved = with(late.clone(), "/status/state", json!("Approved"));
    for decision in ["Approve", "Deny"] {
        let new = |old: &Value| with(old.clone(), "/spec/review", word(decision, DIGEST));
        let (response, _) = ask(review("approvalrequests", "UPDATE", "alice", approved.clone(), new(&approved))).await;
        assert_eq!(response["allowed"], true, "{response}");
        let found = refused("alice", late.clone(), new(&late)).await;
        assert!(found.0 == 409 && found.1.contains("expired at 2020-01-01T00:00:00Z"), "{found:?}");
    }
}
