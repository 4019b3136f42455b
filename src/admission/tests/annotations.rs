//! What answers leave in the API server's audit log.

use crate::admission::tests::requests::{DIGEST, stored, with, word};
use crate::admission::tests::{View, post_to, review, review_of, rule, view};
use serde_json::{Value, json};

async fn annotations(path: &str, view: View, review: Value) -> Value {
    let (_, answer) = post_to(path, view, review.to_string()).await;
    answer["response"]["auditAnnotations"].clone()
}

async fn of_review(user: &str, review_: Value) -> Value {
    let new = with(stored(), "/spec/review", review_);
    annotations("/admit", View::default(), review("approvalrequests", "UPDATE", user, stored(), new)).await
}

#[tokio::test]
async fn a_review_leaves_its_digest_decision_and_verdict() {
    for decision in ["Approve", "Deny"] {
        assert_eq!(
            of_review("alice", word(decision, DIGEST)).await,
            json!({"verdict": "accepted", "reason": "Accepted", "decision": decision, "digest": DIGEST})
        );
    }
    let other = DIGEST.replace('1', "2");
    assert_eq!(
        of_review("alice", word("Approve", &other)).await,
        json!({"verdict": "refused", "reason": "OtherDigest", "decision": "Approve", "digest": other})
    );
    assert_eq!(of_review("triage", word("Approve", DIGEST)).await["reason"], "SelfApproval");
}

#[tokio::test]
async fn nothing_that_a_reviewer_words_is_left() {
    let secret = "hunter2\n\u{1b}[2J";
    let shapes = [
        json!({"decision": secret, "digest": secret, "comment": secret}),
        json!({"decision": "Approve", "digest": format!("sha256:{}", "A".repeat(64)), "comment": secret}),
        json!({"decision": "Approve", "digest": format!("{DIGEST}0"), "comment": secret}),
        json!({"decision": ["Approve"], "digest": {"x": secret}}),
        json!([secret]),
        json!(secret),
    ];
    for shape in shapes {
        let left = of_review("alice", shape).await;
        assert!(left["verdict"] == "refused" && left.get("digest").is_none(), "{left}");
        assert!(!left.to_string().contains("hunter2"), "{left}");
    }
    let accepted = of_review("alice", json!({"decision": "Approve", "digest": DIGEST, "comment": secret})).await;
    assert!(accepted["verdict"] == "accepted" && !accepted.to_string().contains("hunter2"), "{accepted}");
}

#[tokio::test]
async fn every_kind_leaves_verdict_and_reason_and_a_denial_its_rule() {
    let job = json!({"metadata": {"name": "remediate"}, "spec": {"template": {"spec": {}}}});
    let of = |resource| review_of(resource, "CREATE", "mallory", Value::Null, job.clone());
    let (jobs, pods) = (("batch", "v1", "jobs"), ("", "v1", "pods"));
    let rules = |decision: &str| view(json!([rule("all", decision, json!({}))]));
    for (path, view, asked, verdict, reason) in [
        ("/admit", rules("Deny"), of(jobs), "refused", "production/all"),
        ("/admit", rules("RequireApproval"), of(jobs), "accepted", "Held"),
        ("/admit", rules("RequireApproval"), of(pods), "accepted", "Held"),
        ("/admit", rules("Allow"), of(jobs), "accepted", "Allowed"),
        ("/admit", View::default(), of(jobs), "refused", "NotReady"),
        ("/admit/warn", rules("Deny"), of(jobs), "accepted", "Warned"),
        ("/admit", View::default(), of(("batch", "v1", "cronjobs")), "refused", "Malformed"),
        (
            "/admit",
            View::default(),
            review("approvalpolicies", "CREATE", "mallory", Value::Null, job.clone()),
            "refused",
            "EditorOverwritten",
        ),
        (
            "/admit/stamp",
            View::default(),
            review("approvalpolicies", "CREATE", "mallory", Value::Null, job.clone()),
            "accepted",
            "Accepted",
        ),
        (
            "/admit",
            View::default(),
            review("approvalrequests", "CREATE", "mallory", Value::Null, stored()),
            "accepted",
            "Accepted",
        ),
    ] {
        let left = annotations(path, view, asked).await;
        assert_eq!(left, json!({"verdict": verdict, "reason": reason}), "{path}");
    }
}

#[tokio::test]
async fn a_reason_is_bounded() {
    let job = json!({"metadata": {"name": "remediate"}, "spec": {"template": {"spec": {}}}});
    let asked = review_of(("batch", "v1", "jobs"), "CREATE", "mallory", Value::Null, job);
    let long = "r".repeat(63);
    let left = annotations("/admit", view(json!([rule(&long, "Deny", json!({}))])), asked).await;
    assert_eq!(left["reason"], format!("production/{long}"));
    assert_eq!(crate::admission::text::annotation(&"p".repeat(400)).len(), 128);
}
