//! Verdicts through the router, as the API server asks for them.

mod annotations;
mod authorized;
mod cronjobs;
mod hostile;
mod jobs;
mod pods;
mod policies;
mod refused;
mod registration;
mod requests;
mod unsuspend;

use crate::admission::deciders::{Authorizer, Deciders, Unanswered};
use crate::admission::server::{Server, router};
use crate::admission::{Caller, GateView};
use crate::audit::Refusals;
use crate::binding::Keyring;
use crate::lifecycle::Surroundings;
use crate::policy::{PolicySet, compile};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tower::ServiceExt;

fn key() -> Arc<Keyring> {
    Arc::new(Keyring::from_seed(&[7; 32]).unwrap())
}

/// What the operator would know.
#[derive(Clone, Default)]
struct View {
    policies: Option<Arc<PolicySet>>,
    labels: Option<Arc<BTreeMap<String, String>>>,
    speaks_for: Option<(String, String)>,
    surroundings: Surroundings,
}

impl GateView for View {
    fn policies(&self) -> Option<Arc<PolicySet>> {
        self.policies.clone()
    }

    fn namespace(&self, name: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.labels.clone().filter(|_| name == "payments")
    }

    fn surroundings(&self, _: &str, _: &str, _: &BTreeMap<String, String>) -> Surroundings {
        self.surroundings.clone()
    }

    fn speaks_for(&self, namespace: &str, job: &str) -> Option<(String, String)> {
        self.speaks_for.clone().filter(|_| (namespace, job) == ("payments", "remediate"))
    }
}

/// A view of these rules, all of the policy `production`, and of the namespace `payments`.
fn view(rules: Value) -> View {
    let (mut ready, mut broken) = (vec![], vec![]);
    if rules != json!([]) {
        match compile("production", &json!({"rules": rules}), None) {
            Ok(policy) => ready.push(Arc::new(policy)),
            Err(policy) => broken.push(Arc::from(policy)),
        }
    }
    let labels = BTreeMap::from([("env".into(), "prod".into()), ("countersign.dev/gate".into(), "enforce".into())]);
    View { policies: Some(Arc::new(PolicySet { ready, broken })), labels: Some(Arc::new(labels)), ..View::default() }
}

/// A rule `name` of that decision, for what `when` says.
fn rule(name: &str, decision: &str, when: Value) -> Value {
    let mut rule = json!({"name": name, "decision": decision, "reason": "prod write detected", "when": when});
    if decision == "RequireApproval" {
        rule["approvals"] = json!({"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]});
    }
    rule
}

/// An authorizer that counts. It lets everybody approve the policies it lists, knows of all but `unknown`, and `never`
/// comes back about some.
#[derive(Default)]
struct Granting {
    granted: Mutex<Vec<&'static str>>,
    unknown: Vec<&'static str>,
    never: Vec<&'static str>,
    asked: AtomicUsize,
    last: Mutex<Caller>,
}

impl Authorizer for Granting {
    fn may_approve<'a>(&'a self, caller: &'a Caller, policy: &'a str) -> BoxFuture<'a, Result<bool, Unanswered>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            *self.last.lock().unwrap() = caller.clone();
            if self.never.contains(&policy) {
                std::future::pending::<()>().await;
            }
            if self.unknown.contains(&policy) {
                Err(Unanswered::Empty)
            } else {
                Ok(self.granted.lock().unwrap().contains(&policy))
            }
        })
    }
}

/// A server that asks nobody.
fn server(view: View) -> Server {
    server_asking(view, Arc::new(Deciders::new(Arc::new(Granting::default()))))
}

fn server_asking(view: View, deciders: Arc<Deciders>) -> Server {
    let refusals = Arc::new(Mutex::new(Refusals::new("test", jiff::SignedDuration::from_secs(30))));
    let metrics = crate::telemetry::Metrics::new().work;
    Server { key: key(), view: Arc::new(view), deciders, readiness: Default::default(), refusals, metrics }
}

async fn post_to(path: &str, view: View, body: String) -> (StatusCode, Value) {
    post_to_server(path, server(view), body).await
}

async fn post_to_server(path: &str, server: Server, body: String) -> (StatusCode, Value) {
    let request = Request::post(path).body(Body::from(body)).unwrap();
    let response = router(server).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn post(body: String) -> (StatusCode, Value) {
    post_to("/admit", View::default(), body).await
}

fn review(resource: &str, operation: &str, user: &str, old: Value, new: Value) -> Value {
    review_of(("countersign.dev", "v1alpha1", resource), operation, user, old, new)
}

fn review_of(resource: (&str, &str, &str), operation: &str, user: &str, old: Value, new: Value) -> Value {
    let (group, version, resource) = resource;
    let name = new.pointer("/metadata/name").cloned().unwrap_or_default();
    json!({"request": {"uid": "u", "resource": {"group": group, "version": version, "resource": resource},
        "operation": operation, "namespace": "payments", "name": name, "object": new, "oldObject": old,
        "userInfo": {"username": user, "uid": "", "groups": ["sre", "staff"]}}})
}

/// The response, and the object after the patch.
async fn ask(review: Value) -> (Value, Value) {
    ask_at("/admit", View::default(), review).await
}

async fn ask_at(path: &str, view: View, review: Value) -> (Value, Value) {
    ask_server(path, server(view), review).await
}

async fn ask_server(path: &str, server: Server, review: Value) -> (Value, Value) {
    let mut object = review["request"]["object"].clone();
    let (status, answer) = post_to_server(path, server, review.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["response"]["uid"], "u");
    if let Some(patch) = answer["response"]["patch"].as_str() {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    let mut response = answer["response"].clone();
    annotated(&response.as_object_mut().unwrap().remove("auditAnnotations").unwrap(), response["allowed"] == true);
    (response, object)
}

/// Every answer says in the audit log how it came out, and no more than it may.
fn annotated(annotations: &Value, allowed: bool) {
    assert_eq!(annotations["verdict"], if allowed { "accepted" } else { "refused" });
    let known = ["verdict", "reason", "decision", "digest"];
    for (key, value) in annotations.as_object().unwrap() {
        let value = value.as_str().unwrap();
        assert!(known.contains(&&**key) && !value.is_empty() && value.len() <= 128, "{annotations}");
    }
    assert!(annotations["reason"].is_string());
}

/// Asks, and asks again about the result: there must be nothing left to do.
async fn settled(view: View, mut review: Value) -> (Value, Value) {
    let (response, object) = ask_at("/admit", view.clone(), review.clone()).await;
    assert_eq!(response["allowed"], true, "{response}");
    review["request"]["object"] = object.clone();
    let (again, _) = ask_at("/admit", view, review).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None), "{again}");
    assert_eq!(again["warnings"], response["warnings"]);
    (response, object)
}

/// The code and the message of a refusal.
async fn refusal(view: View, review: Value) -> (u64, String) {
    let (response, _) = ask_at("/admit", view, review).await;
    assert_eq!(response["allowed"], false, "{response}");
    assert_eq!(response.get("patch"), None);
    (response["status"]["code"].as_u64().unwrap(), response["status"]["message"].as_str().unwrap().to_string())
}

/// Sets the value at a JSON pointer, making the maps above it.
fn put(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut at = &mut object;
    for part in pointer.split('/').skip(1) {
        at = &mut at[part.replace("~1", "/")];
    }
    *at = value;
    object
}
