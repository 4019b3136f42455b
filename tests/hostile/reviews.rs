//! Bodies that are posted to admission, through the router that answers them.

use crate::cost::within;
use crate::limits::{REVIEW, config};
use crate::spoil::{spoilt, text};
use crate::world;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign::admission::Caller;
use countersign::admission::deciders::{Authorizer, Deciders, Unanswered};
use countersign::admission::server::{Server, router};
use countersign::audit::Refusals;
use countersign::telemetry::{Metrics, Readiness};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Everybody may approve every policy.
struct Everybody;

impl Authorizer for Everybody {
    fn may_approve<'a>(&'a self, _: &'a Caller, _: &'a str) -> BoxFuture<'a, Result<bool, Unanswered>> {
        Box::pin(async { Ok(true) })
    }
}

/// A server, and the thread that it runs on: this one, whose time and memory count.
struct Admission {
    runtime: Runtime,
    server: Server,
}

impl Admission {
    fn new() -> Self {
        let server = Server {
            key: world::key(),
            view: Arc::new(world::index()),
            deciders: Arc::new(Deciders::new(Arc::new(Everybody))),
            readiness: Readiness::default(),
            refusals: Arc::new(Mutex::new(Refusals::new("hostile", SignedDuration::from_secs(30)))),
            metrics: Metrics::new().work,
        };
        Self { runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"), server }
    }

    fn post(&self, path: &str, body: &[u8]) -> (StatusCode, Vec<u8>) {
        let request = Request::post(path).body(Body::from(body.to_vec())).expect("a request");
        within(&REVIEW, body.len(), || {
            self.runtime.block_on(async {
                let response = router(self.server.clone()).oneshot(request).await.expect("an answer");
                (response.status(), to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec())
            })
        })
    }

    /// Posts it everywhere. Whether it was taken for a review.
    fn ask(&self, body: &[u8]) -> bool {
        let answers = ["/admit", "/admit/warn", "/admit/stamp"].map(|path| {
            let (status, answer) = self.post(path, body);
            match status {
                StatusCode::OK => sound(path, body, &answer),
                StatusCode::BAD_REQUEST | StatusCode::INSUFFICIENT_STORAGE => assert!(answer.len() < 300),
                other => panic!("{path} answers {other}"),
            }
            status
        });
        answers[0] == StatusCode::OK
    }
}

/// An answer is about what was asked, short, and what it changes can be changed.
fn sound(path: &str, body: &[u8], answer: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).expect("JSON");
    let response = &answer["response"];
    let allowed = response["allowed"].as_bool().expect("it says");
    assert!(allowed || path != "/admit/warn", "what only warns refuses nothing");
    // What nobody reads of a review may be what no value holds.
    let Ok(asked) = serde_json::from_slice::<Value>(body) else { return };
    assert_eq!(response["uid"], asked["request"]["uid"]);
    if let Some(patch) = response["patch"].as_str() {
        let patch: json_patch::Patch =
            serde_json::from_slice(&STANDARD.decode(patch).expect("base64")).expect("a patch");
        json_patch::patch(&mut asked["request"]["object"].clone(), &patch).expect("it fits");
    }
    let message = response["status"]["message"].as_str().unwrap_or_default();
    assert!(message.len() <= 2_000 && !message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
    let beside = response["auditAnnotations"].to_string().len() + response["warnings"].to_string().len();
    assert!(beside <= 8_000, "{beside} bytes of warnings and annotations");
}

fn review((group, version, resource): (&str, &str, &str), operation: &str, old: Value, new: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "dryRun": false,
        "kind": {"group": group, "version": version, "kind": new["kind"]}, "name": new["metadata"]["name"],
        "resource": {"group": group, "version": version, "resource": resource}, "subResource": "", "operation": operation,
        "namespace": "payments", "object": new, "oldObject": old, "options": {},
        "userInfo": {"username": "alice", "uid": "u-2", "groups": ["sre", "system:authenticated"], "extra": {"a": ["b"]}}}})
}

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    let (above, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(above).expect("it is there")[key.replace("~1", "/")] = value;
    object
}

/// Whatever an API server asks.
fn reviews() -> Vec<Value> {
    let ours = |resource| ("countersign.dev", "v1alpha1", resource);
    let (request, policy, job) = (world::request(), world::policy(), world::job());
    let digest = &request["status"]["digest"];
    let reviewed = |decision: &str| {
        changed(request.clone(), "/spec/review", json!({"decision": decision, "digest": digest, "comment": "seen"}))
    };
    let unsuspended = changed(job.clone(), "/spec/suspend", json!(false));
    let overriding = changed(unsuspended, "/metadata/annotations/countersign.dev~1override-reason", json!("fire"));
    let cron_job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron", "namespace": "payments"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"metadata": {"annotations": {"a": "b"}}, "spec": job["spec"]}}});
    let fresh = |object: &Value| {
        changed(object.clone(), "/metadata", json!({"name": "new", "namespace": "payments", "annotations": {"a": "b"}}))
    };
    let written = changed(policy.clone(), "/metadata/annotations/countersign.dev~1edited-by", json!("alice"));
    let cancelled = review(
        ours("approvalrequests"),
        "UPDATE",
        request.clone(),
        changed(request.clone(), "/spec/cancel", json!(true)),
    );
    let cancelled = changed(
        cancelled,
        "/request/userInfo",
        json!({"username": "workflow", "uid": "u-1", "groups": ["developers"]}),
    );
    vec![
        review(ours("approvalrequests"), "CREATE", Value::Null, fresh(&request)),
        review(ours("approvalrequests"), "UPDATE", request.clone(), reviewed("Approve")),
        review(ours("approvalrequests"), "UPDATE", request.clone(), reviewed("Deny")),
        cancelled,
        review(ours("approvalpolicies"), "CREATE", Value::Null, written.clone()),
        review(ours("approvalpolicies"), "UPDATE", policy, changed(written, "/spec/rules/0/reason", json!("other"))),
        review(("batch", "v1", "jobs"), "CREATE", Value::Null, fresh(&job)),
        review(("batch", "v1", "jobs"), "UPDATE", job, overriding),
        review(("batch", "v1", "cronjobs"), "CREATE", Value::Null, cron_job.clone()),
        review(("batch", "v1", "cronjobs"), "UPDATE", cron_job.clone(), cron_job),
        review(("", "v1", "pods"), "CREATE", Value::Null, fresh(&world::pod())),
    ]
}

#[test]
fn whole_reviews_are_answered() {
    let admission = Admission::new();
    let reviews = reviews();
    let answers = reviews.iter().map(|review| {
        let (status, answer) = admission.post("/admit", &text(review));
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice::<Value>(&answer).expect("JSON")["response"].clone()
    });
    let refused: Vec<_> =
        answers.filter(|answer| answer["allowed"] == false).map(|answer| answer["status"]["message"].clone()).collect();
    assert!(refused.len() <= 2, "most of what is spoilt below would have been taken: {refused:#?}");
}

#[test]
fn a_spoilt_review_is_answered_soundly_or_refused() {
    let admission = Admission::new();
    let read = Cell::new((0, 0));
    TestRunner::new(config(1_500))
        .run(&spoilt(reviews()), |body| {
            let known = admission.ask(&body);
            read.set((read.get().0 + u32::from(known), read.get().1 + 1));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (known, all) = read.get();
    assert!(known > all / 3, "only {known} of {all} were more than noise");
}

#[test]
fn noise_is_no_review() {
    let admission = Admission::new();
    let noise = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        "[\\[\\]{}\",:0-9a-e\\\\. ]{0,200}".prop_map(String::into_bytes)
    ];
    TestRunner::new(config(300))
        .run(&noise, |body| {
            prop_assert!(!admission.ask(&body));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// As large as is read, and made of as little as there is.
#[test]
fn the_largest_bodies_cost_no_more_than_their_limit() {
    let admission = Admission::new();
    for piece in ["0,", "[],", "{},", "\"\",", "{\"\":0},", "{\"a\":{}},", "[[0]],", "null,", "1.5,", "\"\\u0000\","] {
        for (pointer, size) in
            [("/request/object/spec", 8 << 20), ("/request/oldObject", 2 << 20), ("/request/userInfo/groups", 8 << 20)]
        {
            let whole = changed(reviews()[1].clone(), pointer, json!("HERE")).to_string();
            let list = piece.repeat((size - whole.len()) / piece.len());
            let body = whole.replacen("\"HERE\"", &format!("[{}]", list.trim_end_matches(',')), 1);
            admission.ask(body.as_bytes());
        }
    }
    let long = "x".repeat((8 << 20) - 4_000);
    for pointer in [
        "/request/object/spec/review/comment",
        "/request/object/metadata/name",
        "/request/userInfo/username",
        "/request/uid",
    ] {
        let body = changed(reviews()[1].clone(), pointer, json!(long));
        admission.ask(body.to_string().as_bytes());
    }
    let (status, _) = admission.post("/admit", &vec![b' '; (8 << 20) + 1]);
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}
