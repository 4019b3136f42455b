//! The one write that starts or closes a Job, as an RFC 6902 JSON Patch guarded by the resource version.

use crate::api::constraints::least;
use crate::api::status::JobBounds;
use crate::api::{Constraints, State, names};
use crate::lifecycle::{JobFacts, JobPatch};
use serde_json::{Value, json};

/// The Job's bounds once the constraints are applied: each the tighter of both.
pub fn bounded(bounds: &JobBounds, constraints: &Constraints) -> JobBounds {
    JobBounds {
        active_deadline_seconds: least(bounds.active_deadline_seconds, constraints.max_runtime_seconds),
        backoff_limit: least(bounds.backoff_limit, constraints.max_retries),
        parallelism: least(bounds.parallelism, constraints.max_parallelism),
    }
}

/// Starts the Job: unsuspends, tightens, and puts digest, receipt and constraints on it.
pub fn release(job: &JobFacts, constraints: &Constraints, digest: &str, receipt: &str) -> JobPatch {
    let mut operations = guard(job);
    let bounds = bounded(&job.bounds, constraints);
    let tightened = [
        ("activeDeadlineSeconds", job.bounds.active_deadline_seconds, bounds.active_deadline_seconds),
        ("backoffLimit", job.bounds.backoff_limit.map(i64::from), bounds.backoff_limit.map(i64::from)),
        ("parallelism", job.bounds.parallelism.map(i64::from), bounds.parallelism.map(i64::from)),
    ];
    for (field, before, after) in tightened {
        if before != after {
            operations.push(json!({"op": "add", "path": format!("/spec/{field}"), "value": after}));
        }
    }
    if !job.annotated {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(annotation("/metadata/annotations", names::RELEASED, digest));
    if job.closed.is_some() {
        operations.push(json!({"op": "remove", "path": pointer("/metadata/annotations", names::CLOSED)}));
    }
    let (metadata, annotations) = job.template_metadata;
    if !metadata {
        operations.push(json!({"op": "add", "path": "/spec/template/metadata", "value": {}}));
    }
    if !annotations {
        operations.push(json!({"op": "add", "path": "/spec/template/metadata/annotations", "value": {}}));
    }
    let template = "/spec/template/metadata/annotations";
    operations.push(annotation(template, names::RECEIPT, receipt));
    operations.push(annotation(template, names::CONSTRAINTS, &json!(constraints).to_string()));
    operations.push(json!({"op": "replace", "path": "/spec/suspend", "value": false}));
    JobPatch::new(job, operations)
}

/// What `countersign.dev/closed` says for this end.
pub fn closed_value(state: State, digest: Option<&str>) -> String {
    format!("{} {}", state.as_str(), digest.unwrap_or("unbound"))
}

/// Writes on the Job that its request ended without approval. The Job stays as it is.
pub fn close(job: &JobFacts, value: &str) -> JobPatch {
    let mut operations = guard(job);
    if !job.annotated {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(annotation("/metadata/annotations", names::CLOSED, value));
    JobPatch::new(job, operations)
}

/// Writing the resource version we know makes the API server refuse any other with 409. No two objects ever share one, so
/// this also refuses a Job that was deleted and created anew.
fn guard(job: &JobFacts) -> Vec<Value> {
    vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": job.resource_version})]
}

fn annotation(map: &str, key: &str, value: &str) -> Value {
    json!({"op": "add", "path": pointer(map, key), "value": value})
}

/// A JSON pointer to a key that contains slashes (RFC 6901, section 3).
fn pointer(map: &str, key: &str) -> String {
    format!("{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}
