//! Verdicts on CronJobs.

use crate::admission::tests::{View, ask, put, refusal, review_of, settled};
use serde_json::{Value, json};

const AUTHORS: &str = "/spec/jobTemplate/metadata/annotations/countersign.dev~1authored-by";
const IMAGE: &str = "/spec/jobTemplate/spec/template/spec/image";

fn cron() -> Value {
    json!({"metadata": {"name": "nightly", "namespace": "payments"}, "spec": {"schedule": "0 1 * * *",
        "jobTemplate": {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {"image": "a"}}}}}})
}

fn authored(authors: &str) -> Value {
    put(cron(), AUTHORS, json!(authors))
}

fn asked(operation: &str, user: &str, old: Value, new: Value) -> Value {
    review_of(("batch", "v1", "cronjobs"), operation, user, old, new)
}

async fn created(user: &str, new: Value) -> Value {
    settled(View::default(), asked("CREATE", user, Value::Null, new)).await.1
}

async fn updated(user: &str, old: &Value, new: Value) -> Value {
    settled(View::default(), asked("UPDATE", user, old.clone(), new)).await.1
}

fn authors(cron: &Value) -> Option<&str> {
    cron.pointer(AUTHORS)?.as_str()
}

#[tokio::test]
async fn the_author_is_stamped_whatever_the_cronjob_says() {
    let mut bare = cron();
    bare["spec"]["jobTemplate"].as_object_mut().unwrap().remove("metadata");
    for new in [cron(), bare, authored("alice"), put(cron(), "/spec/jobTemplate/metadata/annotations", Value::Null)] {
        assert_eq!(authors(&created("mallory", new).await), Some("mallory"));
    }
}

#[tokio::test]
async fn the_templates_author_stays_in_line_one_and_who_else_changed_the_rest_in_line_two() {
    let old = created("mallory", cron()).await;
    let at = |cron: &Value, schedule: &str| put(cron.clone(), "/spec/schedule", json!(schedule));
    // A colleague's edit of the schedule does not launder the template.
    let by_bob = updated("bob", &old, at(&old, "@hourly")).await;
    assert_eq!(authors(&by_bob), Some("mallory\nbob"));
    let by_carol = updated("carol", &by_bob, at(&by_bob, "@daily")).await;
    assert_eq!(authors(&by_carol), Some("mallory\ncarol"));
    // The author changes the schedule too: carol still did since.
    let again = updated("mallory", &by_carol, at(&by_carol, "@weekly")).await;
    assert_eq!(authors(&again), Some("mallory\ncarol"));
    // A new template is its author's alone.
    let new = updated("alice", &again, put(again.clone(), IMAGE, json!("b"))).await;
    assert_eq!(authors(&new), Some("alice"));
    let both = put(at(&new, "@yearly"), IMAGE, json!("c"));
    assert_eq!(authors(&updated("bob", &new, both).await), Some("bob"));
    assert_eq!(authors(&updated("alice", &new, at(&new, "@yearly")).await), Some("alice"));
}

#[tokio::test]
async fn the_annotation_is_nobodys_to_write() {
    let old = authored("mallory\nbob");
    // Forged, taken away (as kubectl replace does), or with other metadata: as it was.
    let renamed = put(cron(), "/spec/jobTemplate/metadata/name", json!("x"));
    for new in [authored("alice"), authored(""), cron(), renamed, put(old.clone(), "/metadata/labels/a", json!("b"))] {
        assert_eq!(authors(&updated("mallory", &old, new).await), Some("mallory\nbob"));
    }
    let forged = put(authored("alice"), "/spec/schedule", json!("@hourly"));
    assert_eq!(authors(&updated("bob", &old, forged).await), Some("mallory\nbob"));
    let forged = put(authored("alice"), IMAGE, json!("b"));
    assert_eq!(authors(&updated("bob", &old, forged).await), Some("bob"));
    // From before the namespace was gated: nobody is known, and nobody can be put there.
    assert_eq!(authors(&updated("mallory", &cron(), authored("alice")).await), None);
    let later = put(authored("alice"), "/spec/schedule", json!("@hourly"));
    assert_eq!(authors(&updated("bob", &cron(), later).await), Some("bob"));
}

#[tokio::test]
async fn templates_of_jobs_that_would_be_refused_are_refused_themselves() {
    let annotations = "/spec/jobTemplate/metadata/annotations";
    let of = |map: &str, key: &str, value: &str| put(cron(), &format!("{map}/countersign.dev~1{key}"), json!(value));
    for (new, code, expected) in [
        (of(annotations, "request", "run"), 403, "countersign.dev/request names the request of one Job"),
        (of(annotations, "released", "x"), 403, "spec.jobTemplate.metadata.annotations: \"countersign.dev/released\""),
        (
            of(annotations, "created-by", "x"),
            403,
            "spec.jobTemplate.metadata.annotations: \"countersign.dev/created-by\"",
        ),
        (of("/spec/jobTemplate/metadata/labels", "held", "x"), 403, "spec.jobTemplate.metadata.labels"),
        (of("/spec/jobTemplate/spec/template/metadata/annotations", "receipt", "x"), 403, "is written by Countersign"),
        (of("/spec/jobTemplate/spec/template/metadata/labels", "held", "x"), 403, "is written by Countersign"),
        (of(annotations, "risk-tags", "a b"), 422, "spec.jobTemplate.metadata: annotation countersign.dev/risk-tags"),
        (json!({"metadata": {}, "spec": {}}), 422, "spec.jobTemplate is missing"),
        (json!({"metadata": {}}), 422, "spec.jobTemplate is missing"),
    ] {
        let old = put(cron(), IMAGE, json!("old"));
        for asked in [asked("CREATE", "mallory", Value::Null, new.clone()), asked("UPDATE", "mallory", old, new)] {
            let found = refusal(View::default(), asked).await;
            assert!(found.0 == code && found.1.contains(expected), "{found:?}");
        }
    }
    let bad = of(annotations, "risk-tags", "a b");
    // Stored before the gate came: its other parts can still change, so that it can be suspended.
    let stopped = put(bad.clone(), "/spec/suspend", json!(true));
    assert_eq!(authors(&updated("bob", &bad, stopped).await), Some("bob"));
    for user in ["", "mallory\nalice"] {
        let (response, _) = ask(asked("CREATE", user, Value::Null, cron())).await;
        assert_eq!(response["status"]["code"], 403);
        let changed = put(cron(), "/spec/schedule", json!("@hourly"));
        assert_eq!(ask(asked("UPDATE", user, cron(), changed)).await.0["status"]["code"], 403);
    }
}
