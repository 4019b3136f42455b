//! The one write that starts or closes a Job or Pod, as an RFC 6902 JSON Patch guarded by the resource version.

use crate::api::constraints::least;
use crate::api::status::JobBounds;
use crate::api::{Constraints, State, TargetKind, names};
use crate::lifecycle::{Cluster, TargetFacts, TargetPatch, bounds, resources};
use serde_json::{Value, json};

const ANNOTATIONS: &str = "/metadata/annotations";
const TEMPLATE_ANNOTATIONS: &str = "/spec/template/metadata/annotations";

/// The target's bounds once the constraints are applied: each the tighter of both. A Pod has a deadline alone.
pub fn bounded(target: &TargetFacts, constraints: &Constraints) -> JobBounds {
    let own = &target.bounds;
    let most = constraints.max_runtime_seconds.map(|most| bounds::deadline(target, most));
    let deadline = least(own.active_deadline_seconds, most);
    match target.kind {
        TargetKind::Pod => JobBounds { active_deadline_seconds: deadline, ..JobBounds::default() },
        TargetKind::Job => JobBounds {
            active_deadline_seconds: deadline,
            backoff_limit: least(own.backoff_limit, constraints.max_retries),
            parallelism: least(own.parallelism, constraints.max_parallelism),
        },
    }
}

/// Starts the target: lets go of it, tightens, and puts digest, receipt and constraints on it.
pub fn release(
    target: &TargetFacts,
    constraints: &Constraints,
    cluster: Cluster,
    digest: &str,
    receipt: &str,
) -> TargetPatch {
    let mut operations = guard(target);
    tighten(&mut operations, target, constraints);
    if target.kind == TargetKind::Job && cluster.mutable_resources {
        resources::tighten(&mut operations, target, constraints);
    }
    annotate(&mut operations, target);
    operations.push(annotation(ANNOTATIONS, names::RELEASED, digest));
    if target.closed.is_some() {
        operations.push(json!({"op": "remove", "path": pointer(ANNOTATIONS, names::CLOSED)}));
    }
    let constraints = json!(constraints).to_string();
    let evidence = match target.kind {
        TargetKind::Job => template_annotations(&mut operations, target),
        TargetKind::Pod => ANNOTATIONS,
    };
    operations.push(annotation(evidence, names::RECEIPT, receipt));
    operations.push(annotation(evidence, names::CONSTRAINTS, &constraints));
    match target.kind {
        TargetKind::Job => operations.push(json!({"op": "replace", "path": "/spec/suspend", "value": false})),
        TargetKind::Pod => operations.extend(ungate(target)),
    }
    TargetPatch::new(target, operations)
}

fn tighten(operations: &mut Vec<Value>, target: &TargetFacts, constraints: &Constraints) {
    let (before, after) = (&target.bounds, bounded(target, constraints));
    let tightened = [
        ("activeDeadlineSeconds", before.active_deadline_seconds, after.active_deadline_seconds),
        ("backoffLimit", before.backoff_limit.map(i64::from), after.backoff_limit.map(i64::from)),
        ("parallelism", before.parallelism.map(i64::from), after.parallelism.map(i64::from)),
    ];
    for (field, before, after) in tightened {
        if before != after {
            operations.push(json!({"op": "add", "path": format!("/spec/{field}"), "value": after}));
        }
    }
}

/// Makes room for annotations in a Job's pod template. Returns where they stand.
fn template_annotations(operations: &mut Vec<Value>, target: &TargetFacts) -> &'static str {
    let (metadata, annotations) = target.template_metadata;
    if !metadata {
        operations.push(json!({"op": "add", "path": "/spec/template/metadata", "value": {}}));
    }
    if !annotations {
        operations.push(json!({"op": "add", "path": TEMPLATE_ANNOTATIONS, "value": {}}));
    }
    TEMPLATE_ANNOTATIONS
}

/// Takes our scheduling gate off a Pod. The label stays, so that the Pod stays in the view of held Pods and is seen to run.
fn ungate(target: &TargetFacts) -> Vec<Value> {
    let at = format!("/spec/schedulingGates/{}", target.gate.unwrap_or_default());
    vec![
        json!({"op": "test", "path": format!("{at}/name"), "value": names::SCHEDULING_GATE}),
        json!({"op": "remove", "path": at}),
        json!({"op": "add", "path": pointer("/metadata/labels", names::HELD), "value": "released"}),
    ]
}

/// What `countersign.dev/closed` says of the end of the request of that uid: `Denied sha256:… 6f1c…`.
pub fn closed_value(state: State, digest: Option<&str>, request: &str) -> String {
    format!("{} {} {request}", state.as_str(), digest.unwrap_or("unbound"))
}

/// What `countersign.dev/closed` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Closed<'a> {
    /// How the request ended.
    pub state: &'a str,
    /// What it was bound to.
    digest: Option<&'a str>,
    /// Its uid.
    request: Option<&'a str>,
}

impl<'a> Closed<'a> {
    /// Reads a note, whoever wrote it.
    pub fn read(note: &'a str) -> Self {
        let mut words = note.split(' ');
        let state = words.next().unwrap_or_default();
        Self { state, digest: words.next(), request: words.next() }
    }

    /// Whether it tells of the request of that uid. A note without a uid tells of the one that is bound to the same.
    pub fn is_of(&self, uid: &str, digest: Option<&str>) -> bool {
        match self.request {
            Some(request) => request == uid,
            None => digest.is_some() && self.digest == digest,
        }
    }
}

/// Writes on the target that its request ended without approval. The target stays as it is.
pub fn close(target: &TargetFacts, value: &str) -> TargetPatch {
    let mut operations = guard(target);
    annotate(&mut operations, target);
    operations.push(annotation(ANNOTATIONS, names::CLOSED, value));
    TargetPatch::new(target, operations)
}

/// Writing the resource version we know makes the API server refuse any other with 409. No two objects ever share one, so
/// this also refuses a Job that was deleted and created anew.
fn guard(target: &TargetFacts) -> Vec<Value> {
    vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": target.resource_version})]
}

fn annotate(operations: &mut Vec<Value>, target: &TargetFacts) {
    if !target.annotated {
        operations.push(json!({"op": "add", "path": ANNOTATIONS, "value": {}}));
    }
}

fn annotation(map: &str, key: &str, value: &str) -> Value {
    json!({"op": "add", "path": pointer(map, key), "value": value})
}

/// A JSON pointer to a key that contains slashes (RFC 6901, section 3).
fn pointer(map: &str, key: &str) -> String {
    format!("{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}
