//! The judge can find fault: each forged state is one that it must not pass, and says why.

use crate::judge::{End, Evidence};
use anyhow::{Context, Result};
use countersign::binding::{Keyring, seal};
use serde_json::{Value, json};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";

fn keys() -> Keyring {
    Keyring::from_seed(&[7; 32]).expect("32 bytes")
}

fn review(keys: &Keyring, who: &str, decision: &str, digest: &str) -> Value {
    let mut review = json!({"reviewer": {"username": who, "groups": ["sre"]}, "decision": decision, "digest": digest,
        "time": "2026-01-01T00:00:00.000000Z"});
    review["seal"] = json!(seal(keys, "request-uid", &review).expect("a review"));
    review
}

fn write(user: &str, verb: &str, resource: &str, version: &str, object: &Value) -> Value {
    let mut stored = object.clone();
    stored["metadata"]["resourceVersion"] = json!(version);
    json!({"stage": "ResponseComplete", "verb": verb, "user": {"username": user}, "requestURI": "/apis",
        "objectRef": {"resource": resource, "name": "run"}, "responseStatus": {"code": 200}, "responseObject": stored})
}

fn job(suspend: bool) -> Value {
    let annotations = if suspend { json!({}) } else { json!({"countersign.dev/released": "sha256:d"}) };
    json!({"kind": "Job", "metadata": {"name": "run", "uid": "job-uid", "annotations": annotations}, "spec": {"suspend": suspend}})
}

/// A Job that was rightly started.
fn right() -> Evidence {
    let request = json!({"metadata": {"name": "run", "uid": "request-uid"},
        "spec": {"reviews": [review(&keys(), "alice", "Approve", "sha256:d")]},
        "status": {"state": "Released", "digest": "sha256:d", "target": {"uid": "job-uid"}}});
    let events = vec![
        write("admin", "create", "jobs", "1", &job(true)),
        write("alice", "patch", "approvalrequests", "5", &request),
        write(OPERATOR, "patch", "jobs", "6", &job(false)),
    ];
    Evidence { jobs: vec![job(false)], requests: vec![request], events }
}

fn why(evidence: &Evidence, end: End) -> String {
    match evidence.verdict(&keys(), &[("run", end)]) {
        Ok(()) => "nothing".into(),
        Err(error) => format!("{error:#}"),
    }
}

/// Has every place that shows the request's reviews show these.
fn reviewed(evidence: &mut Evidence, reviews: Value) {
    evidence.requests[0]["spec"]["reviews"] = reviews.clone();
    evidence.events[1]["responseObject"]["spec"]["reviews"] = reviews;
}

#[test]
fn what_is_right_passes() {
    assert_eq!(why(&right(), End::Started), "nothing");
    let mut held = right();
    (held.jobs[0], held.requests[0]["status"]["state"]) = (job(true), json!("Pending"));
    held.events.pop();
    assert_eq!(why(&held, End::Held), "nothing");
    held.jobs.clear();
    assert_eq!(why(&held, End::Gone), "nothing");
}

#[test]
fn whatever_is_forged_is_found() {
    type Forgery = fn(&mut Evidence);
    let forgeries: [(&str, Forgery); 19] = [
        ("it was started by mallory", |e| e.events[2]["user"]["username"] = json!("mallory")),
        ("it was started by 0 writes", |e| drop(e.events.remove(2))),
        ("it was started by 2 writes", |e| {
            e.events.push(write("mallory", "patch", "jobs", "7", &job(true)));
            e.events.push(write(OPERATOR, "patch", "jobs", "8", &job(false)));
        }),
        ("the operator wrote it 2 times", |e| e.events.push(write(OPERATOR, "patch", "jobs", "8", &job(false)))),
        ("it was started by admin", |e| e.events[0]["responseObject"]["spec"]["suspend"] = json!(false)),
        ("no request is for it", |e| e.requests.clear()),
        ("no request is for it", |e| e.requests[0]["status"]["target"]["uid"] = json!("other-uid")),
        ("two requests are for it", |e| e.requests.push(e.requests[0].clone())),
        ("its request is Pending", |e| e.requests[0]["status"]["state"] = json!("Pending")),
        ("sha256:other was released, and sha256:d approved", |e| {
            e.jobs[0]["metadata"]["annotations"]["countersign.dev/released"] = json!("sha256:other");
        }),
        ("nobody reviewed it", |e| reviewed(e, Value::Null)),
        ("alice did not approve that under a seal", |e| reviewed(e, json!([]))),
        ("alice did not approve that under a seal", |e| {
            reviewed(e, json!([review(&keys(), "mallory", "Approve", "sha256:d")]));
        }),
        ("alice did not approve that under a seal", |e| {
            reviewed(e, json!([review(&keys(), "alice", "Deny", "sha256:d")]));
        }),
        ("alice did not approve that under a seal", |e| {
            reviewed(e, json!([review(&keys(), "alice", "Approve", "sha256:stale")]));
        }),
        ("alice did not approve that under a seal", |e| {
            let other = Keyring::from_seed(&[8; 32]).expect("32 bytes");
            reviewed(e, json!([review(&other, "alice", "Approve", "sha256:d")]));
        }),
        ("alice approved after the start", |e| {
            e.events[1]["responseObject"]["metadata"]["resourceVersion"] = json!("7");
        }),
        ("the log does not show that alice stored it", |e| e.events[1]["user"]["username"] = json!("mallory")),
        ("Job run is Held, not Some(Started)", |e| e.jobs[0] = job(true)),
    ];
    for (expected, forge) in forgeries {
        let mut forged = right();
        forge(&mut forged);
        let found = why(&forged, End::Started);
        assert!(found.contains(expected), "expected {expected:?}: {found}");
    }
}

#[test]
fn a_job_that_ran_and_is_held_again_or_gone_is_found() -> Result<()> {
    let mut held = right();
    held.jobs[0] = job(true);
    assert!(why(&held, End::Held).contains("was started, and held again"));
    let mut gone = right();
    gone.jobs.clear();
    assert!(why(&gone, End::Started).contains("is there: false"));
    assert!(why(&gone, End::Gone).contains("a request is Released, and its Job does not run"));
    gone.requests.clear();
    assert_eq!(why(&gone, End::Gone), "nothing", "it was started as is right");
    gone.events[2]["user"]["username"] = json!("mallory");
    assert!(why(&gone, End::Gone).contains("Job run is gone: it was started by mallory"));
    gone.events[2]["user"]["username"] = json!(OPERATOR);
    gone.events.remove(1);
    assert!(why(&gone, End::Gone).contains("Job run is gone: it was started before alice approved"));
    // A Job that nobody named is judged as well.
    let mut other = right();
    let job = other.jobs.first().context("a job")?.clone();
    other.jobs.push(job);
    other.jobs[1]["metadata"] = json!({"name": "other", "uid": "other-uid"});
    assert!(why(&other, End::Started).contains("Job other runs: it was started by 0 writes"));
    Ok(())
}
