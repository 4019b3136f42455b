//! `AdmissionReview` (admission.k8s.io/v1) as it goes over the wire. Objects stay as they were sent: a typed copy would
//! drop what this version does not know.

use crate::admission::standing::Context as Hold;
use crate::admission::{Answer, Caller, GateView, Refusal, Verdict, cronjob, job, pod, policy, request, text};
use crate::api::names;
use crate::binding::Keyring;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Why a body cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error("not an AdmissionReview: {0}")]
pub struct NotAReview(#[from] serde_json::Error);

/// What an answer rests on beside the review itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Seals reviews.
    pub key: &'a Keyring,
    /// What the operator knows.
    pub view: &'a dyn GateView,
    /// The time.
    pub now: Timestamp,
}

#[derive(Deserialize)]
struct Envelope {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    resource: Resource,
    #[serde(default, deserialize_with = "nullable")]
    sub_resource: String,
    operation: String,
    #[serde(default, deserialize_with = "nullable")]
    namespace: String,
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default, deserialize_with = "nullable")]
    dry_run: bool,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default, deserialize_with = "nullable")]
    group: String,
    #[serde(default, deserialize_with = "nullable")]
    version: String,
    resource: String,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default, deserialize_with = "nullable")]
    username: String,
    #[serde(default, deserialize_with = "nullable")]
    uid: String,
    #[serde(default, deserialize_with = "nullable")]
    groups: Vec<String>,
}

/// JSON written in Go says null where it means nothing.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Answers one AdmissionReview. An error means that it was none.
pub fn respond(body: &[u8], context: &Context<'_>) -> Result<Value, NotAReview> {
    let Envelope { request } = serde_json::from_slice(body)?;
    let answer = judge(&request, context);
    Ok(review(&request.uid, answer))
}

/// Answers one AdmissionReview from a namespace whose gate only warns: whatever it is, it passes unchanged.
pub fn advise(body: &[u8], context: &Context<'_>) -> Result<Value, NotAReview> {
    let Envelope { request } = serde_json::from_slice(body)?;
    let caller = caller(&request);
    let warnings = match (kind(&request), request.operation.as_str()) {
        (("batch", "v1", "jobs", ""), "CREATE") => {
            with_view(&request, &caller, context, |hold| job::advise(&request.object, hold))
        }
        _ => vec![],
    };
    Ok(review(&request.uid, Answer { verdict: Verdict::Allow(vec![]), warnings }))
}

fn review(uid: &str, answer: Answer) -> Value {
    let mut response = match answer.verdict {
        Verdict::Allow(operations) if operations.is_empty() => json!({"uid": uid, "allowed": true}),
        Verdict::Allow(operations) => {
            let patch = STANDARD.encode(Value::Array(operations).to_string());
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Verdict::Refuse(refusal) => json!({"uid": uid, "allowed": false, "status": status(&refusal)}),
    };
    if !answer.warnings.is_empty() {
        response["warnings"] = answer.warnings.iter().map(|w| text::warning(w)).collect();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

fn status(refusal: &Refusal) -> Value {
    let message = text::message(&refusal.message);
    let mut status = json!({"code": refusal.code, "reason": refusal.reason(), "message": message});
    if let Some(seconds) = refusal.retry_after() {
        // The API server makes a Retry-After header of it.
        status["details"] = json!({"retryAfterSeconds": seconds});
    }
    status
}

fn kind(request: &Request) -> (&str, &str, &str, &str) {
    let Resource { group, version, resource } = &request.resource;
    (group, version, resource, &request.sub_resource)
}

fn caller(request: &Request) -> Caller {
    let info = &request.user_info;
    Caller {
        username: info.username.clone(),
        uid: Some(info.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: info.groups.clone(),
    }
}

/// Judges with what the view knows of the request's namespace.
fn with_view<T>(request: &Request, caller: &Caller, context: &Context<'_>, judge: impl FnOnce(&Hold<'_>) -> T) -> T {
    let (policies, labels) = (context.view.policies(), context.view.namespace(&request.namespace));
    judge(&Hold { caller, namespace: &request.namespace, labels: labels.as_deref(), policies: policies.as_deref() })
}

fn judge(request: &Request, context: &Context<'_>) -> Answer {
    let caller = caller(request);
    let (old, object) = (&request.old_object, &request.object);
    let Context { key, view, now } = *context;
    let asking = request::Context { caller: &caller, dry_run: request.dry_run, key, now };
    match (kind(request), request.operation.as_str()) {
        ((names::GROUP, _, "approvalrequests", ""), "CREATE") => request::create(object, &asking).into(),
        ((names::GROUP, _, "approvalrequests", ""), "UPDATE") => request::update(old, object, &asking).into(),
        ((names::GROUP, _, "approvalpolicies", ""), "CREATE" | "UPDATE") => policy::verdict(old, object).into(),
        (("batch", "v1", "jobs", ""), "CREATE") => {
            with_view(request, &caller, context, |hold| job::create(object, hold))
        }
        (("batch", "v1", "jobs", ""), "UPDATE") => {
            let speaks_for = view.speaks_for(&request.namespace, &request.name);
            job::update(old, object, &request.namespace, speaks_for.as_ref()).into()
        }
        (("batch", "v1", "cronjobs", ""), "CREATE") => cronjob::create(object, &caller).into(),
        (("batch", "v1", "cronjobs", ""), "UPDATE") => cronjob::update(old, object, &caller).into(),
        (("", "v1", "pods", ""), "CREATE") => with_view(request, &caller, context, |hold| pod::create(object, hold)),
        ((_, _, resource, _), operation) => {
            let text = format!("this webhook does not judge {operation} of {resource}");
            Verdict::Refuse(Refusal::invalid(text)).into()
        }
    }
}
