//! The verdict on a Job of a gated namespace. Pure.

use crate::admission::hold::Kind;
use crate::admission::standing::Context;
use crate::admission::text::quote;
use crate::admission::{Answer, Refusal, Verdict, hold, patch};
use crate::api::{State, names};
use crate::lifecycle::claims::ON_A_JOB;
use serde_json::{Value, json};

const KIND: Kind = Kind { name: "Job", annotations: &ON_A_JOB, labels: &[] };

/// A Job is created: it is held and its creator stamped, or it is refused with the rule that denies it.
pub fn create(object: &Value, context: &Context<'_>) -> Answer {
    if let Err(refusal) = template(object) {
        return Verdict::Refuse(refusal).into();
    }
    let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    let operations = if suspended { vec![] } else { vec![patch::add("/spec/suspend", json!(true))] };
    hold::create(&KIND, object, operations, context)
}

/// What [`create`] would say, as warnings: for a namespace whose gate only warns.
pub fn advise(object: &Value, context: &Context<'_>) -> Vec<String> {
    match template(object) {
        Err(refusal) => vec![format!("with the gate enforced, this Job would be refused: {}", refusal.message)],
        Ok(()) => hold::advise(&KIND, object, context),
    }
}

/// What stands in the pod template is on every Pod: a receipt there would be taken for ours.
fn template(object: &Value) -> Result<(), Refusal> {
    hold::only(object, "/spec/template/metadata/annotations", &[])?;
    hold::only(object, "/spec/template/metadata/labels", &[])
}

/// A Job is changed: starting it is refused to everybody who asks here, with what it waits for. The operator does not come
/// this way, nor does an override; both are judged inside the API server. `speaks_for`: the request and its state.
pub fn update(old: &Value, new: &Value, namespace: &str, speaks_for: Option<&(String, String)>) -> Verdict {
    let starts = suspended(old) && !suspended(new);
    if !starts || overrides(old, new) {
        return Verdict::Allow(vec![]);
    }
    let name = text(old, "/metadata/name").unwrap_or_default();
    let why = if let Some(digest) = annotation(old, names::RELEASED) {
        format!(
            "it was released ({}) and stopped since, and a stopped Job is not started again; create another Job",
            quote(digest)
        )
    } else {
        match speaks_for {
            Some((request, state)) => waits(request, state, namespace),
            None => match annotation(old, names::REQUEST) {
                Some(request) => format!("it waits for request {}, which is not there yet; create it", quote(request)),
                None => format!("no request speaks for it yet; the gate makes one, see kubectl get apr -n {namespace}"),
            },
        }
    };
    Verdict::Refuse(Refusal::forbidden(format!(
        "spec.suspend: Job {name} is held, and the Countersign operator alone starts it: {why}. Suspending stays open to you. In an emergency, whoever holds the verb override on approvalrequests.{} starts it by one patch of spec.suspend and annotation {}",
        names::GROUP,
        names::OVERRIDE_REASON
    )).because("Held"))
}

fn waits(request: &str, state: &str, namespace: &str) -> String {
    let is = |wanted: State| state == wanted.as_str();
    let next = if is(State::Denied) {
        "which is final for this Job; create another Job to ask again".into()
    } else if is(State::Expired) || is(State::Cancelled) {
        "so it waits for another request; create an ApprovalRequest that targets it".into()
    } else if is(State::Approved) || is(State::Released) {
        format!("so wait for the operator; see kubectl get apr {request} -n {namespace}")
    } else {
        format!("so it waits for approval; see kubectl get apr {request} -n {namespace}")
    };
    format!("request {request} speaks for it and is {}, {next}", if state.is_empty() { "new" } else { state })
}

fn suspended(job: &Value) -> bool {
    job.pointer("/spec/suspend") == Some(&Value::Bool(true))
}

/// Whether this write gives a reason to override that did not stand there before.
fn overrides(old: &Value, new: &Value) -> bool {
    let reason = |job| annotation(job, names::OVERRIDE_REASON).unwrap_or_default();
    !reason(new).is_empty() && reason(new) != reason(old)
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str()
}
