//! `AdmissionReview` (admission.k8s.io/v1) as it goes over the wire. Objects stay as they were sent: a typed copy would
//! drop what this version does not know.

use crate::admission::sent;
use crate::admission::standing::Context as Hold;
use crate::admission::weight::{self, TooHeavy};
use crate::admission::{
    Answer, Caller, GateView, Refusal, Verdict, annotations, cronjob, job, pod, policy, request, review, text,
};
use crate::api::record::{RecordedCaller, RecordedRequest};
use crate::api::{TargetKind, names};
use crate::audit::Attempt;
use crate::binding::Keyring;
use crate::lifecycle::traits;
use crate::risk::Work;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Why a body cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum NotAReview {
    /// It is none.
    #[error("not an AdmissionReview: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It holds too much.
    #[error(transparent)]
    TooHeavy(#[from] TooHeavy),
}

/// What an answer rests on beside the review itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Seals reviews.
    pub key: &'a Keyring,
    /// What the operator knows.
    pub view: &'a dyn GateView,
    /// The policies on which the authorizer granted the caller the verb `approve`: of [`AdmissionReview::asks`].
    pub authorized: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// An AdmissionReview that was read.
#[derive(Deserialize)]
pub struct AdmissionReview {
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
    #[serde(default, deserialize_with = "sent::object")]
    object: Value,
    #[serde(default, deserialize_with = "sent::object")]
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
    #[serde(default, deserialize_with = "nullable")]
    extra: BTreeMap<String, Option<Vec<String>>>,
}

/// JSON written in Go says null where it means nothing.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Answers one AdmissionReview. An error means that it was none.
pub fn respond(body: &[u8], context: &Context<'_>) -> Result<Value, NotAReview> {
    let review = AdmissionReview::read(body)?;
    Ok(review.answer(review.judge(context)))
}

impl AdmissionReview {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, NotAReview> {
        weight::check(body)?;
        Ok(serde_json::from_slice(body)?)
    }

    /// The verdict.
    pub fn judge(&self, context: &Context<'_>) -> Answer {
        judge(&self.request, context)
    }

    /// The verdict in a namespace whose gate only warns: whatever it is, it passes unchanged.
    pub fn advise(&self, context: &Context<'_>) -> Answer {
        let request = &self.request;
        let warnings = match (kind(request), request.operation.as_str()) {
            (("batch", "v1", "jobs", ""), "CREATE") => {
                with_view(request, &caller(request), context, |hold| job::advise(&request.object, hold))
            }
            _ => vec![],
        };
        let word = if warnings.is_empty() { "Accepted" } else { "Warned" };
        Answer { verdict: Verdict::Allow(vec![]), warnings, word }
    }

    /// Stamps a policy, and leaves it to [`AdmissionReview::judge`] whether it may be stored.
    pub fn stamp(&self) -> Answer {
        let request = &self.request;
        match (kind(request), request.operation.as_str()) {
            ((names::GROUP, _, "approvalpolicies", ""), "CREATE" | "UPDATE") => {
                policy::stamp(&request.old_object, &request.object, &caller(request)).into()
            }
            _ => not_judged(request),
        }
    }

    /// Who makes the request.
    pub fn caller(&self) -> Caller {
        caller(&self.request)
    }

    /// The policies about which the authorizer is to be asked before a verdict; none for all but reviews of requests that
    /// name approvers of kind `Authorized`.
    pub fn asks(&self) -> Vec<String> {
        let request = &self.request;
        match (kind(request), request.operation.as_str()) {
            ((names::GROUP, _, "approvalrequests", ""), "UPDATE") => review::asks(&request.old_object, &request.object),
            _ => vec![],
        }
    }

    /// Whether it brings a denial.
    pub fn denies(&self) -> bool {
        self.request.object.pointer("/spec/review/decision").is_some_and(|decision| decision == "Deny")
    }

    /// What a refusal is counted as; nothing where it was only tried out, or where nothing was judged yet.
    pub fn attempt<'a>(&'a self, refusal: &'a Refusal) -> Option<Attempt<'a>> {
        let request = &self.request;
        let Caller { username, uid, groups, .. } = self.caller();
        (!request.dry_run && refusal.retry_after().is_none()).then(|| Attempt {
            caller: RecordedCaller { username, uid, groups },
            operation: &request.operation,
            resource: &request.resource.resource,
            namespace: &request.namespace,
            name: text::quote(&request.name),
            request: stored_request(request),
            word: &refusal.word,
        })
    }

    /// The uid of the object that it is about, as it is stored; for the log.
    pub fn uid(&self) -> Option<&str> {
        self.request.old_object.pointer("/metadata/uid").and_then(Value::as_str)
    }

    /// The review that it brings to a request, if it brings one.
    fn review(&self) -> Option<&Value> {
        let request = &self.request;
        let changes = matches!(
            (kind(request), request.operation.as_str()),
            ((names::GROUP, _, "approvalrequests", ""), "UPDATE")
        );
        request.object.pointer("/spec/review").filter(|review| changes && !review.is_null())
    }

    /// The answer as it goes over the wire.
    pub fn answer(&self, answer: Answer) -> Value {
        let uid = &self.request.uid;
        let annotations = annotations::annotations(&answer, self.review());
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
        response["auditAnnotations"] = annotations;
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// The names of the stored request that is changed.
fn stored_request(request: &Request) -> Option<RecordedRequest> {
    let text = |pointer: &str| request.old_object.pointer(pointer).and_then(Value::as_str).map(String::from);
    let of_ours = matches!(kind(request), (names::GROUP, _, "approvalrequests", ""));
    of_ours.then_some(RecordedRequest {
        namespace: text("/metadata/namespace")?,
        name: text("/metadata/name")?,
        uid: text("/metadata/uid")?,
        run_id: text("/spec/runID")?,
        step_id: text("/spec/stepID")?,
        requested_by: text("/spec/requestedBy")?,
    })
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
        extra: info.extra.iter().map(|(key, values)| (key.clone(), values.clone().unwrap_or_default())).collect(),
    }
}

/// Judges with what the view knows of the request's namespace.
fn with_view<T>(request: &Request, caller: &Caller, context: &Context<'_>, judge: impl FnOnce(&Hold<'_>) -> T) -> T {
    let Context { view, now, .. } = *context;
    let (policies, labels) = (view.policies(), view.namespace(&request.namespace));
    let kind = if request.resource.resource == "pods" { TargetKind::Pod } else { TargetKind::Job };
    let part = |field: &str| request.object.get(field).unwrap_or(&Value::Null);
    let (traits, pod_labels) = traits(kind, part("metadata"), part("spec"));
    let around = view.surroundings(&request.namespace, &traits.service_account, &pod_labels);
    judge(&Hold {
        caller,
        namespace: &request.namespace,
        labels: labels.as_deref(),
        policies: policies.as_deref(),
        work: Some(Work { traits: &traits, rights: &around.rights, open_egress: around.open_egress }),
        now,
    })
}

fn judge(request: &Request, context: &Context<'_>) -> Answer {
    let caller = caller(request);
    let (old, object) = (&request.old_object, &request.object);
    // What was to be stored and is not there could be changed by no answer.
    if !object["metadata"].is_object() && matches!(request.operation.as_str(), "CREATE" | "UPDATE") {
        return Verdict::Refuse(Refusal::invalid("the review carries no object with metadata").because("NotJudged"))
            .into();
    }
    let Context { key, view, authorized, now } = *context;
    let asking = request::Context { caller: &caller, dry_run: request.dry_run, authorized, key, now };
    match (kind(request), request.operation.as_str()) {
        ((names::GROUP, _, "approvalrequests", ""), "CREATE") => request::create(object, &asking).into(),
        ((names::GROUP, _, "approvalrequests", ""), "UPDATE") => request::update(old, object, &asking).into(),
        ((names::GROUP, _, "approvalpolicies", ""), "CREATE" | "UPDATE") => {
            policy::verdict(old, object, &caller).into()
        }
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
        _ => not_judged(request),
    }
}

fn not_judged(request: &Request) -> Answer {
    let (operation, resource) = (&request.operation, &request.resource.resource);
    Verdict::Refuse(
        Refusal::invalid(format!("this webhook does not judge {operation} of {resource}")).because("NotJudged"),
    )
    .into()
}
