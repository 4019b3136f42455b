//! What no API server sends, and what a hostile client may put into what it does send.

use crate::admission::tests::requests::stored;
use crate::admission::tests::{View, ask, ask_at, post, post_to, review, review_of, rule, view};
use axum::http::StatusCode;
use serde_json::{Value, json};

const KINDS: [(&str, &str, &str); 3] = [("batch", "v1", "jobs"), ("batch", "v1", "cronjobs"), ("", "v1", "pods")];

fn gate() -> View {
    view(json!([rule("all", "RequireApproval", json!({}))]))
}

#[tokio::test]
async fn anything_else_is_refused_and_nothing_panics() {
    for (resource, operation) in [("approvalrequests", "DELETE"), ("pods", "CREATE"), ("", "")] {
        assert_eq!(ask(review(resource, operation, "alice", Value::Null, Value::Null)).await.0["allowed"], false);
    }
    for spec in [Value::Null, json!([]), json!("x"), json!({"review": 7}), json!({"reviews": "x"})] {
        let new = json!({"metadata": [], "spec": spec});
        for operation in ["CREATE", "UPDATE"] {
            ask(review("approvalrequests", operation, "alice", stored(), new.clone())).await;
            ask(review("approvalpolicies", operation, "alice", stored(), new.clone())).await;
        }
    }
    for body in ["", "{}", "[1]", "\u{0}", "{\"request\":"] {
        assert_eq!(post(body.into()).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(post("x".repeat(9 << 20)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn another_kind_version_subresource_or_operation_is_refused_by_default() {
    for kind in KINDS {
        let (group, _, resource) = kind;
        for (kind, operation, subresource) in [
            (kind, "DELETE", ""),
            (kind, "CONNECT", ""),
            (kind, "CREATE", "status"),
            (kind, "UPDATE", "ephemeralcontainers"),
            ((group, "v2", resource), "CREATE", ""),
            (("example.com", "v1", resource), "CREATE", ""),
        ] {
            let mut asked = review_of(kind, operation, "alice", json!({}), json!({"metadata": {}, "spec": {}}));
            asked["request"]["subResource"] = json!(subresource);
            let (response, _) = ask_at("/admit", gate(), asked.clone()).await;
            assert_eq!(response["status"]["code"], 422, "{response}");
            let (response, _) = ask_at("/admit/warn", gate(), asked).await;
            assert_eq!(response, json!({"uid": "u", "allowed": true}));
        }
    }
    let updated = review_of(KINDS[2], "UPDATE", "alice", json!({}), json!({}));
    assert_eq!(ask_at("/admit", gate(), updated).await.0["allowed"], false, "Pods are guarded elsewhere");
}

#[tokio::test]
async fn a_creator_that_is_not_named_creates_nothing() {
    for kind in KINDS {
        let object = json!({"metadata": {"name": "x"}, "spec": {"jobTemplate": {}}});
        let asked = review_of(kind, "CREATE", "", Value::Null, object);
        for info in [Value::Null, json!({}), json!({"username": null, "uid": null, "groups": null})] {
            let mut asked = asked.clone();
            asked["request"]["userInfo"] = info;
            let (response, _) = ask_at("/admit", gate(), asked).await;
            assert_eq!(response["status"]["code"], 403, "{response}");
        }
        let mut without = asked;
        without["request"].as_object_mut().unwrap().remove("userInfo");
        assert_eq!(ask_at("/admit", gate(), without).await.0["status"]["code"], 403);
    }
}

#[tokio::test]
async fn objects_of_the_wrong_shape_are_refused_or_repaired_and_nothing_panics() {
    let shapes =
        [Value::Null, json!([]), json!("x"), json!(7), json!({}), json!({"annotations": []}), json!([{}, null])];
    for kind in KINDS {
        for metadata in &shapes {
            for part in &shapes {
                let spec = json!({"suspend": part, "schedulingGates": part, "nodeName": null, "jobTemplate": part,
                    "template": {"metadata": part}});
                let new = json!({"metadata": metadata, "spec": spec});
                for object in [new, json!({"metadata": metadata, "spec": part}), metadata.clone()] {
                    for operation in ["CREATE", "UPDATE"] {
                        let asked = review_of(kind, operation, "mallory", object.clone(), object.clone());
                        // Applies the patch, which must fit.
                        ask_at("/admit", gate(), asked.clone()).await;
                        assert_eq!(ask_at("/admit/warn", gate(), asked).await.0["allowed"], true);
                    }
                }
                let missing = review_of(kind, "CREATE", "mallory", Value::Null, json!({"spec": part}));
                assert_eq!(ask_at("/admit", gate(), missing).await.0["allowed"], false);
            }
        }
    }
}

#[tokio::test]
async fn what_is_too_deep_is_no_review_and_what_is_large_is_answered() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let body = json!({"request": {"uid": "u", "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
        "operation": "CREATE", "object": "DEEP"}});
    let (status, _) = post_to("/admit", gate(), body.to_string().replace("\"DEEP\"", &deep)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let large = json!({"metadata": {"name": "x", "annotations": {"mine": "é".repeat(1 << 20)}},
        "spec": {"template": {"metadata": {"labels": (0..10_000).map(|i| (format!("countersign.dev/{i}"), json!("x"))).collect::<Value>()}}}});
    let (response, _) = ask_at("/admit", gate(), review_of(KINDS[0], "CREATE", "mallory", Value::Null, large)).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.len() < 300 && message.contains("is written by Countersign alone"), "{message}");
    let reason = "\u{0}".repeat(1 << 20);
    let large = json!({"metadata": {"name": "x", "annotations": {"countersign.dev/reason": reason}}, "spec": {}});
    let (response, _) = ask_at("/admit", gate(), review_of(KINDS[0], "CREATE", "mallory", Value::Null, large)).await;
    assert!(response["status"]["message"].as_str().unwrap().len() < 400);
}
