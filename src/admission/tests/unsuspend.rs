//! Verdicts on Jobs that are started by hand.

use crate::admission::tests::{View, ask_at, put, refusal, review_of};
use serde_json::{Value, json};

const OVERRIDE: &str = "/metadata/annotations/countersign.dev~1override-reason";

fn job(suspend: bool) -> Value {
    json!({"metadata": {"name": "remediate", "namespace": "payments"}, "spec": {"suspend": suspend}})
}

fn change(old: Value, new: Value) -> Value {
    review_of(("batch", "v1", "jobs"), "UPDATE", "mallory", old, new)
}

fn spoken_for(state: &str) -> View {
    View { speaks_for: Some(("run-8f9a".into(), state.into())), ..View::default() }
}

#[tokio::test]
async fn a_held_job_is_not_started_by_hand_and_the_message_says_what_it_waits_for() {
    let released = put(job(true), "/metadata/annotations/countersign.dev~1released", json!("sha256:11"));
    let named = put(job(true), "/metadata/annotations/countersign.dev~1request", json!("mine"));
    for (view, old, expected) in [
        (
            spoken_for("Pending"),
            job(true),
            "request run-8f9a speaks for it and is Pending, so it waits for approval; see kubectl get apr run-8f9a -n payments",
        ),
        (spoken_for(""), job(true), "is new, so it waits for approval"),
        (spoken_for("Approved"), job(true), "is Approved, so wait for the operator"),
        (spoken_for("Denied"), job(true), "is Denied, which is final for this Job; create another Job"),
        (spoken_for("Expired"), job(true), "is Expired, so it waits for another request"),
        (spoken_for("Cancelled"), job(true), "is Cancelled, so it waits for another request"),
        (
            View::default(),
            job(true),
            "no request speaks for it yet; the gate makes one, see kubectl get apr -n payments",
        ),
        (View::default(), named, "it waits for request \"mine\", which is not there yet; create it"),
        (
            spoken_for("Released"),
            released,
            "it was released (\"sha256:11\") and stopped since, and a stopped Job is not started again",
        ),
    ] {
        let new = put(old.clone(), "/spec/suspend", json!(false));
        let mut gone = new.clone();
        gone["spec"].as_object_mut().unwrap().remove("suspend");
        for new in [new, gone, put(old.clone(), "/spec/suspend", Value::Null)] {
            let (code, message) = refusal(view.clone(), change(old.clone(), new)).await;
            assert!(code == 403 && message.contains(expected), "{message}");
            assert!(message.starts_with("spec.suspend: Job remediate is held"), "{message}");
            assert!(
                message.contains("Suspending stays open to you") && message.contains("override-reason"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn everything_else_is_judged_inside_the_api_server() {
    let overridden = |suspend| put(job(suspend), OVERRIDE, json!("prod burns"));
    for (old, new) in [
        (job(false), job(true)),
        (job(false), job(false)),
        (job(true), job(true)),
        (job(true), overridden(false)),
        (overridden(true), put(job(false), OVERRIDE, json!("prod burns again"))),
    ] {
        let (response, _) = ask_at("/admit", View::default(), change(old, new)).await;
        assert_eq!(response, json!({"uid": "u", "allowed": true}));
    }
    // A reason that stood there before, a blank one, and one that is taken away, give no reason.
    let empty = put(job(false), OVERRIDE, json!(""));
    for (old, new) in [(overridden(true), overridden(false)), (job(true), empty), (overridden(true), job(false))] {
        assert_eq!(refusal(View::default(), change(old, new)).await.0, 403);
    }
}
