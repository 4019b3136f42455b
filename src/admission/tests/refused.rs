//! What is counted of refusals.

use crate::admission::server::Server;
use crate::admission::tests::requests::{DIGEST, stored, with, word};
use crate::admission::tests::{View, post_to_server, review, review_of, rule, server, view};
use crate::api::RecordEntry;
use serde_json::{Value, json};

async fn counted(server: Server, reviews: &[(&str, Value)]) -> Vec<RecordEntry> {
    for (path, review) in reviews {
        post_to_server(path, server.clone(), review.to_string()).await;
    }
    server.refusals.lock().unwrap().take(jiff::Timestamp::now())
}

fn approval(user: &str, digest: &str) -> Value {
    let new = with(stored(), "/spec/review", word("Approve", digest));
    review("approvalrequests", "UPDATE", user, stored(), new)
}

#[tokio::test]
async fn a_refused_review_is_counted_with_its_caller_and_request_and_none_of_its_words() {
    let refused = ("/admit", approval("triage", DIGEST));
    let entries = counted(server(View::default()), &[refused.clone(), refused]).await;
    assert_eq!(entries.len(), 1);
    let entry = serde_json::to_value(&entries[0]).unwrap();
    assert_eq!(
        (&entry["transition"], &entry["count"], &entry["reason"]),
        (&json!("Refused"), &json!(2), &json!("SelfApproval"))
    );
    assert_eq!(entry["by"], json!([{"username": "triage", "groups": ["sre", "staff"]}]));
    assert_eq!((&entry["request"]["uid"], &entry["request"]["name"]), (&json!("r1"), &json!("run")));
    assert_eq!(entry["request"]["runID"], "r");
    assert!(!entry.to_string().contains("seen"), "{entry}");
}

#[tokio::test]
async fn what_passes_what_is_tried_out_and_what_was_not_judged_is_not_counted() {
    let mut tried = approval("triage", DIGEST);
    tried["request"]["dryRun"] = json!(true);
    let early =
        review_of(("batch", "v1", "jobs"), "CREATE", "triage", Value::Null, json!({"metadata": {}, "spec": {}}));
    let reviews =
        [("/admit", approval("alice", DIGEST)), ("/admit", tried), ("/admit", early.clone()), ("/admit/warn", early)];
    assert_eq!(counted(server(View::default()), &reviews).await, []);
}

#[tokio::test]
async fn whatever_is_refused_is_counted_on_every_path() {
    let job = json!({"metadata": {"name": "x\u{1b}[2J"}, "spec": {}});
    let of = |resource| review_of(resource, "CREATE", "mallory", Value::Null, job.clone());
    let deny = view(json!([rule("all", "Deny", json!({}))]));
    let policy = review("approvalpolicies", "CREATE", "mallory", Value::Null, json!({}));
    let reviews = [("/admit", of(("batch", "v1", "jobs"))), ("/admit/stamp", policy), ("/admit", of(("", "", "")))];
    let entries = counted(server(deny), &reviews).await;
    let reasons: Vec<_> = entries.iter().map(|entry| &*entry.reason).collect();
    assert_eq!(reasons, ["production/all", "Malformed", "NotJudged"]);
    assert!(entries.iter().all(|entry| entry.request.is_none() && entry.by[0].username == "mallory"));
    assert_eq!(entries[0].message, "CREATE of jobs \"x\\u{1b}[2J\" was refused: production/all");
}
