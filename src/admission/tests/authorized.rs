//! Reviews by those whom the cluster's authorizer lets approve, and what is asked for them.

use crate::admission::deciders::Deciders;
use crate::admission::tests::requests::{DIGEST, stored, with, word};
use crate::admission::tests::{Granting, View, ask_server, key, review, server_asking};
use crate::binding::verify_seal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A request that takes the group `security`, or whoever may approve these policies.
fn asking(policies: &[&str]) -> Value {
    let mut approvers = vec![json!({"kind": "Group", "name": "security"})];
    approvers.extend(policies.iter().map(|name| json!({"kind": "Authorized", "name": name})));
    with(stored(), "/status/approvals/0/approvers", json!(approvers))
}

fn granting(policies: &[&'static str]) -> Granting {
    Granting { granted: policies.to_vec().into(), ..Granting::default() }
}

/// Somebody's word on a request.
fn says(user: &str, old: &Value, decision: &str) -> Value {
    let new = with(old.clone(), "/spec/review", word(decision, DIGEST));
    review("approvalrequests", "UPDATE", user, old.clone(), new)
}

/// A server, and its authorizer to count with.
struct Asked {
    authorizer: Arc<Granting>,
    deciders: Arc<Deciders>,
}

impl Asked {
    fn of(authorizer: Granting) -> Self {
        let authorizer = Arc::new(authorizer);
        Self { deciders: Arc::new(Deciders::new(authorizer.clone())), authorizer }
    }

    async fn answer(&self, review: Value) -> (Value, Value) {
        ask_server("/admit", server_asking(View::default(), self.deciders.clone()), review).await
    }

    async fn refusal(&self, review: Value) -> (u64, String) {
        let (response, _) = self.answer(review).await;
        assert_eq!(response["allowed"], false, "{response}");
        (response["status"]["code"].as_u64().unwrap(), response["status"]["message"].as_str().unwrap().into())
    }

    fn asked(&self) -> usize {
        self.authorizer.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn whom_the_authorizer_grants_it_approves_and_the_grant_is_sealed() {
    let asked = Asked::of(granting(&["b", "a", "elsewhere"]));
    let request = asking(&["b", "c", "a", "b"]);
    let mut by_alice = says("alice", &request, "Approve");
    by_alice["request"]["userInfo"]["uid"] = json!("u-1");
    by_alice["request"]["userInfo"]["extra"] = json!({"example.com/team": ["payments", "core"]});
    let (response, object) = asked.answer(by_alice.clone()).await;
    assert_eq!(response["allowed"], true, "{response}");
    let entry = &object["spec"]["reviews"][0];
    assert_eq!(entry["reviewer"], json!({"username": "alice", "uid": "u-1", "authorized": ["a", "b"]}));
    assert!(verify_seal(&key(), "r1", entry));
    let forged = with(entry.clone(), "/reviewer/authorized", json!(["a", "b", "c"]));
    assert!(!verify_seal(&key(), "r1", &forged), "the grant is under the seal");
    let caller = asked.authorizer.last.lock().unwrap().clone();
    assert_eq!((caller.username.as_str(), caller.uid.as_deref()), ("alice", Some("u-1")));
    assert_eq!(caller.groups, ["sre", "staff"]);
    assert_eq!(caller.extra["example.com/team"], ["payments", "core"]);
    assert_eq!(asked.asked(), 3, "each policy is asked about once");

    by_alice["request"]["dryRun"] = json!(true);
    let (response, object) = asked.answer(by_alice).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(object["spec"]["reviews"][0]["reviewer"]["authorized"], json!(["a", "b"]));
    assert!(!verify_seal(&key(), "r1", &object["spec"]["reviews"][0]));
}

#[tokio::test]
async fn whom_the_authorizer_does_not_grant_it_is_no_approver() {
    let asked = Asked::of(granting(&["elsewhere"]));
    let request = asking(&["production"]);
    let expected =
        "mallory is not an approver of this request; it takes security or whoever may approve policy production";
    for decision in ["Approve", "Deny"] {
        assert_eq!(asked.refusal(says("mallory", &request, decision)).await, (403, expected.into()));
    }
}

/// JSON written in Go says null where it means nothing.
#[tokio::test]
async fn an_extra_of_null_is_an_empty_one() {
    let asked = Asked::of(granting(&["production"]));
    let mut review = says("alice", &asking(&["production"]), "Approve");
    review["request"]["userInfo"]["extra"] = json!({"example.com/a": null, "example.com/b": ["x"]});
    assert_eq!(asked.answer(review).await.0["allowed"], true);
    let extra = asked.authorizer.last.lock().unwrap().extra.clone();
    assert_eq!((extra["example.com/a"].len(), extra["example.com/b"].len()), (0, 1));
}

#[tokio::test]
async fn whoever_may_pass_a_window_may_be_authorized_for_it() {
    let window = json!({"name": "w", "start": "0 0 * * *", "durationSeconds": 60, "mayPass": [{"kind": "Authorized", "name": "leads"}]});
    let frozen = with(stored(), "/status/freezes", json!([{"policy": "leads", "rule": "r", "window": window}]));
    let frozen = with(frozen, "/status/approvals/0/approvers/0/name", json!("security"));
    let asked = Asked::of(granting(&["leads"]));
    let (response, object) = asked.answer(says("carol", &frozen, "Approve")).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(object["spec"]["reviews"][0]["reviewer"], json!({"username": "carol", "authorized": ["leads"]}));
}

/// No I/O where the authorizer's word cannot matter.
#[tokio::test]
async fn nobody_is_asked_in_vain() {
    let asked = Asked::of(granting(&["production"]));
    let groups_only = stored();
    let request = asking(&["production"]);
    let final_ = with(request.clone(), "/status/state", json!("Denied"));
    let late = with(request.clone(), "/status/pendingUntil", json!("2020-01-01T00:00:00Z"));
    let own = with(request.clone(), "/spec/requester", json!({"username": "alice"}));
    let excluded = with(request.clone(), "/status/excluded", json!(["alice"]));
    let also_sre = with(request.clone(), "/status/approvals/0/approvers/0/name", json!("sre"));
    let mut stale = says("alice", &request, "Approve");
    stale["request"]["object"]["spec"]["review"]["digest"] = json!(format!("sha256:{}", "3".repeat(64)));
    let mut status = says("alice", &request, "Approve");
    status["request"]["subResource"] = json!("status");
    let unreadable = with(request.clone(), "/status/approvals", json!("x"));
    for (what, review, allowed) in [
        ("users and groups alone", says("alice", &groups_only, "Approve"), true),
        (
            "users and groups alone, and no approver",
            says("alice", &with(groups_only.clone(), "/status/approvals/0/approvers/0/name", json!("x")), "Deny"),
            false,
        ),
        ("no review", review("approvalrequests", "UPDATE", "alice", request.clone(), request.clone()), true),
        ("a request that is created", review("approvalrequests", "CREATE", "alice", Value::Null, stored()), true),
        ("it has ended", says("alice", &final_, "Approve"), false),
        ("it expired", says("alice", &late, "Approve"), false),
        ("one's own", says("alice", &own, "Approve"), false),
        ("excluded", says("alice", &excluded, "Approve"), false),
        ("another digest", stale, false),
        ("a denial that counts without", says("alice", &also_sre, "Deny"), true),
        ("another resource", status, false),
        ("a status of another shape", says("alice", &unreadable, "Approve"), false),
    ] {
        let (response, _) = asked.answer(review).await;
        assert_eq!((&response["allowed"], asked.asked()), (&json!(allowed), 0), "{what}: {response}");
    }
    // And it is asked where it can: the count above is no accident.
    assert_eq!(asked.answer(says("alice", &also_sre, "Approve")).await.0["allowed"], true);
    assert_eq!(asked.asked(), 1);
}

#[tokio::test]
async fn without_an_answer_nobody_approves_and_it_may_be_asked_again_at_once() {
    let asked = Asked::of(Granting { unknown: vec!["production"], ..granting(&["other"]) });
    let request = asking(&["production"]);
    let expected = (503, "whether you may approve policy production cannot be asked now; try again".to_string());
    assert_eq!(asked.refusal(says("alice", &request, "Approve")).await, expected);
    let (response, _) = asked.answer(says("alice", &request, "Approve")).await;
    assert_eq!(response["status"]["details"]["retryAfterSeconds"], 1);
    assert_eq!(asked.asked(), 2, "a failure is not remembered");
    // An approval needs every answer, since each may fill another place; a denial needs one grant.
    let both = asking(&["production", "other"]);
    assert_eq!(asked.refusal(says("alice", &both, "Approve")).await, expected);
    let (response, object) = asked.answer(says("alice", &both, "Deny")).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(object["spec"]["reviews"][0]["reviewer"]["authorized"], json!(["other"]));
}

#[tokio::test]
async fn whoever_approved_takes_it_back_and_the_authorizer_is_not_asked() {
    let asked = Asked::of(granting(&["production"]));
    let (response, approved) = asked.answer(says("alice", &asking(&["production"]), "Approve")).await;
    assert_eq!((&response["allowed"], asked.asked()), (&json!(true), 1));
    let down = Asked::of(Granting { unknown: vec!["production"], ..Granting::default() });
    let (response, object) = down.answer(says("alice", &approved, "Deny")).await;
    assert_eq!((&response["allowed"], down.asked()), (&json!(true), 0), "{response}");
    assert_eq!(object["spec"]["reviews"][1]["reviewer"], json!({"username": "alice"}));
    assert_eq!(down.refusal(says("bob", &approved, "Deny")).await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_waited_for_two_seconds() {
    let asked = Asked::of(Granting { never: vec!["a", "b"], ..Granting::default() });
    let began = tokio::time::Instant::now();
    let found = asked.refusal(says("alice", &asking(&["a", "b"]), "Approve")).await;
    assert_eq!(found, (503, "whether you may approve policy a cannot be asked now; try again".into()));
    assert_eq!(began.elapsed().as_millis() / 100, 20, "all at once, and within what the API server waits");
}
