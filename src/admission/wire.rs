//! `AdmissionReview` (admission.k8s.io/v1) as it goes over the wire. Objects stay as they were sent: a typed copy would
//! drop what this version does not know.

use crate::admission::{Caller, Refusal, Verdict, policy, request};
use crate::api::names;
use crate::binding::Keyring;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Envelope {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    resource: Resource,
    operation: String,
    #[serde(default)]
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
struct Resource {
    group: String,
    resource: String,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
}

/// Answers one AdmissionReview. An error means that it was none.
pub fn respond(body: &[u8], key: &Keyring, now: Timestamp) -> Result<Value, serde_json::Error> {
    let Envelope { request } = serde_json::from_slice(body)?;
    let verdict = judge(&request, key, now);
    let response = match verdict {
        Verdict::Allow(operations) if operations.is_empty() => json!({"uid": request.uid, "allowed": true}),
        Verdict::Allow(operations) => {
            let patch = STANDARD.encode(Value::Array(operations).to_string());
            json!({"uid": request.uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Verdict::Refuse(refusal) => {
            let status = json!({"code": refusal.code, "reason": refusal.reason(), "message": refusal.message});
            json!({"uid": request.uid, "allowed": false, "status": status})
        }
    };
    Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

fn judge(request: &Request, key: &Keyring, now: Timestamp) -> Verdict {
    let info = &request.user_info;
    let caller = Caller {
        username: info.username.clone(),
        uid: Some(info.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: info.groups.clone(),
    };
    let context = request::Context { caller: &caller, dry_run: request.dry_run, key, now };
    let ours = request.resource.group == names::GROUP;
    match (request.resource.resource.as_str(), request.operation.as_str()) {
        ("approvalrequests", "CREATE") if ours => request::create(&request.object, &context),
        ("approvalrequests", "UPDATE") if ours => request::update(&request.old_object, &request.object, &context),
        ("approvalpolicies", "CREATE" | "UPDATE") if ours => policy::verdict(&request.old_object, &request.object),
        (resource, operation) => {
            Verdict::Refuse(Refusal::invalid(format!("this webhook does not judge {operation} of {resource}")))
        }
    }
}
