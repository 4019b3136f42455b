//! Verdicts on policies, and who is written down as having changed them.

use crate::admission::tests::requests::with;
use crate::admission::tests::{View, ask, ask_at, review};
use serde_json::{Value, json};

fn policy() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"rules": [{"name": "r", "decision": "Allow"}]}})
}

fn edited(mut policy: Value, by: &str) -> Value {
    policy["metadata"]["annotations"]["countersign.dev/edited-by"] = json!(by);
    policy
}

/// The object as it is stored: stamped, and then judged, as the API server does it.
async fn stored(user: &str, old: Value, new: Value) -> Value {
    let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
    let (response, stamped) =
        ask_at("/admit/stamp", View::default(), review("approvalpolicies", operation, user, old.clone(), new)).await;
    assert_eq!(response["allowed"], true, "{response}");
    let again = review("approvalpolicies", operation, user, old.clone(), stamped.clone());
    assert_eq!(ask_at("/admit/stamp", View::default(), again.clone()).await.0.get("patch"), None, "nothing is left");
    assert_eq!(ask(again).await.0, json!({"uid": "u", "allowed": true}), "a validating webhook changes nothing");
    stamped
}

#[tokio::test]
async fn a_policy_that_does_not_compile_is_refused_with_its_field() {
    let broken = with(policy(), "/spec/rules/0/decision", json!("RequireApproval"));
    let refused = |old: Value, new: Value| async move {
        let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
        let new = edited(new, "alice");
        let (response, _) = ask(review("approvalpolicies", operation, "alice", old, new)).await;
        assert_eq!(response["allowed"], false);
        response["status"]["message"].as_str().unwrap().to_string()
    };
    let message = refused(Value::Null, broken.clone()).await;
    assert_eq!(message, "spec.rules[r].approvals: is required with decision RequireApproval");
    let held = with(broken.clone(), "/metadata/finalizers", json!(["example.com/mine"]));
    let (response, _) = ask(review("approvalpolicies", "UPDATE", "alice", held.clone(), broken)).await;
    assert_eq!(response["allowed"], true, "one that was stored broken can still go");
    refused(held.clone(), with(held, "/spec/rules", json!([]))).await;
}

#[tokio::test]
async fn whoever_changes_the_spec_is_written_down_whatever_they_write() {
    let created = stored("alice", Value::Null, policy()).await;
    assert_eq!(created, edited(policy(), "alice"));
    for forged in ["bob", "", "system:masters"] {
        assert_eq!(stored("mallory", Value::Null, edited(policy(), forged)).await, edited(policy(), "mallory"));
    }
    let changed = with(created.clone(), "/spec/rules/0/name", json!("other"));
    assert_eq!(stored("bob", created.clone(), changed.clone()).await, edited(changed.clone(), "bob"));
    assert_eq!(
        stored("mallory", created.clone(), edited(changed.clone(), "alice")).await,
        edited(changed.clone(), "mallory")
    );
    let mut removed = changed.clone();
    removed["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(
        stored("bob", created, removed).await["metadata"]["annotations"],
        json!({"countersign.dev/edited-by": "bob"})
    );
}

#[tokio::test]
async fn whoever_changes_metadata_alone_changes_no_stamp() {
    let created = edited(policy(), "alice");
    let labelled = with(created.clone(), "/metadata/labels", json!({"a": "b"}));
    assert_eq!(stored("bob", created.clone(), labelled.clone()).await, labelled);
    assert_eq!(stored("bob", created.clone(), edited(labelled.clone(), "bob")).await, labelled, "put back");
    let mut removed = labelled.clone();
    removed["metadata"]["annotations"] = json!({});
    assert_eq!(stored("bob", created, removed).await, labelled, "put back");
    // Nobody was stamped while admission was away, and nobody becomes the editor by touching a label.
    let touched = with(policy(), "/metadata/labels", json!({"a": "b"}));
    assert_eq!(stored("bob", policy(), touched.clone()).await, touched);
    let forged = stored("bob", policy(), edited(touched.clone(), "alice")).await;
    assert_eq!(forged["metadata"]["annotations"], json!({}));
}

#[tokio::test]
async fn what_another_webhook_writes_after_the_stamp_is_refused() {
    for (old, new) in [
        (Value::Null, edited(policy(), "alice")),
        (Value::Null, policy()),
        (edited(policy(), "alice"), policy()),
        (edited(policy(), "alice"), edited(policy(), "mallory")),
    ] {
        let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
        let (response, _) = ask(review("approvalpolicies", operation, "mallory", old, new)).await;
        assert_eq!(response["status"]["code"], 403, "{response}");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("another webhook wrote it after Countersign's"), "{message}");
    }
}

#[tokio::test]
async fn an_identity_that_cannot_be_written_down_changes_no_policy() {
    for user in [String::new(), "x".repeat(513), "a\nb".into()] {
        let asked = review("approvalpolicies", "CREATE", &user, Value::Null, policy());
        for path in ["/admit/stamp", "/admit"] {
            let (response, _) = ask_at(path, View::default(), asked.clone()).await;
            assert_eq!(response["status"]["code"], 403, "{response}");
            let message = response["status"]["message"].as_str().unwrap();
            assert!(message.contains("who changes a policy is written into it. Use another identity"), "{message}");
        }
        let created = edited(policy(), "alice");
        let labelled = with(created.clone(), "/metadata/labels", json!({"a": "b"}));
        assert_eq!(stored(&user, created, labelled.clone()).await, labelled);
    }
}

#[tokio::test]
async fn anything_else_is_not_stamped_and_nothing_panics() {
    for (resource, operation) in [("approvalrequests", "CREATE"), ("approvalpolicies", "DELETE"), ("pods", "CREATE")] {
        let asked = review(resource, operation, "alice", Value::Null, policy());
        assert_eq!(ask_at("/admit/stamp", View::default(), asked).await.0["status"]["code"], 422);
    }
    for shape in [Value::Null, json!([]), json!("x"), json!({"metadata": []}), json!({"metadata": {"annotations": 7}})]
    {
        for old in [Value::Null, policy(), shape.clone()] {
            // Applies the patch, which must fit.
            let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
            let asked = review("approvalpolicies", operation, "mallory", old.clone(), shape.clone());
            ask_at("/admit/stamp", View::default(), asked.clone()).await;
            ask(asked).await;
        }
    }
}
