//! The verdict on a CronJob of a gated namespace: who wrote it is kept, so that nobody approves their own schedule. Pure.

use crate::admission::{Caller, Refusal, Verdict, creator, hold, patch};
use crate::api::names;
use crate::lifecycle::claims::Claims;
use serde_json::{Map, Value, json};

/// Where the annotations of the Jobs to come stand.
const ANNOTATIONS: &str = "/spec/jobTemplate/metadata/annotations";

/// Annotations of ours that a job template may bring along. It cannot name a request: one request speaks for one Job.
const IN_A_TEMPLATE: [&str; 4] = [names::REASON, names::RISK_TAGS, names::REQUESTED_BY, names::AUTHORED_BY];

/// A CronJob is created.
pub fn create(object: &Value, caller: &Caller) -> Verdict {
    let stamp = || {
        creator::encodable_name(&caller.username)?;
        template(object)?;
        Ok(author(object, Some(&caller.username)))
    };
    stamp().into()
}

/// A CronJob is changed.
pub fn update(old: &Value, new: &Value, caller: &Caller) -> Verdict {
    let stamp = || {
        let retemplated = job_template(old) != job_template(new);
        if retemplated || schedule(old) != schedule(new) {
            creator::encodable_name(&caller.username)?;
        }
        if retemplated {
            template(new)?;
        }
        Ok(author(new, authors(old, new, &caller.username).as_deref()))
    };
    stamp().into()
}

/// Line 1: whoever last changed the job template. Line 2: whoever else last changed another part since; so a colleague's
/// edit of the schedule neither takes the template's author out nor makes the colleague the author. The admission policies
/// on CronJobs say the same, and demand it.
fn authors(old: &Value, new: &Value, caller: &str) -> Option<String> {
    let known = annotation(old);
    if job_template(old) != job_template(new) {
        return Some(caller.into());
    }
    if schedule(old) == schedule(new) {
        return known.map(Into::into);
    }
    let Some(known) = known.filter(|known| !known.is_empty()) else { return Some(caller.into()) };
    match known.split('\n').next().unwrap_or_default() {
        author if author == caller => Some(known.into()),
        author => Some(format!("{author}\n{caller}")),
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.pointer(ANNOTATIONS)?.get(names::AUTHORED_BY)?.as_str()
}

/// The operations after which the annotation says `authors`, or is not there.
fn author(object: &Value, authors: Option<&str>) -> Vec<Value> {
    let there = object.pointer(ANNOTATIONS).and_then(|map| map.get(names::AUTHORED_BY));
    match (authors, there) {
        (Some(authors), _) => patch::entries(object, ANNOTATIONS, &[(names::AUTHORED_BY, authors)]),
        (None, None) => vec![],
        (None, Some(_)) => vec![json!({"op": "remove", "path": patch::pointer(ANNOTATIONS, names::AUTHORED_BY)})],
    }
}

/// What the Jobs would bring along, as far as a Job may not.
fn template(object: &Value) -> Result<(), Refusal> {
    if !object.pointer("/spec/jobTemplate").is_some_and(Value::is_object) {
        return Err(Refusal::invalid("spec.jobTemplate is missing").because("Malformed"));
    }
    let annotations = object.pointer(ANNOTATIONS).unwrap_or(&Value::Null);
    if annotations.get(names::REQUEST).is_some() {
        let text = format!(
            "spec.jobTemplate.metadata.annotations: {} names the request of one Job, and every Job of a CronJob needs its own; leave it out, and the gate makes them",
            names::REQUEST
        );
        return Err(Refusal::forbidden(text).because("NamesARequest"));
    }
    hold::only(object, ANNOTATIONS, &IN_A_TEMPLATE)?;
    hold::only(object, "/spec/jobTemplate/metadata/labels", &[])?;
    hold::only(object, "/spec/jobTemplate/spec/template/metadata/annotations", &[])?;
    hold::only(object, "/spec/jobTemplate/spec/template/metadata/labels", &[])?;
    let claims = Claims::read(annotations);
    claims
        .map(|_| ())
        .map_err(|bad| Refusal::invalid(format!("spec.jobTemplate.metadata: {bad}")).because("ClaimsMalformed"))
}

/// What reaches a Job: the template's spec, labels and annotations but for ours. An empty map is as good as none.
fn job_template(object: &Value) -> (Option<&Value>, Map<String, Value>, Map<String, Value>) {
    let map = |pointer: &str| object.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut annotations = map(ANNOTATIONS);
    annotations.remove(names::AUTHORED_BY);
    (object.pointer("/spec/jobTemplate/spec"), map("/spec/jobTemplate/metadata/labels"), annotations)
}

/// Every other part of the spec.
fn schedule(object: &Value) -> Map<String, Value> {
    let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    spec.remove("jobTemplate");
    spec
}
