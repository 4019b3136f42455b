//! What is known of a Job, or of a Pod that the gate holds, taken from its stored form once, when it arrives.

use crate::api::status::JobBounds;
use crate::api::{TargetKind, names};
use crate::binding::{Keyring, Receipt, pod_work_hash, work_hash};
use crate::lifecycle::{Marks, Reads, version};
use crate::risk::Traits;
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Job or a held Pod.
#[derive(Clone, Debug)]
pub struct TargetFacts {
    /// Which of the two.
    pub kind: TargetKind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Resource version, as the API server wrote it.
    pub resource_version: String,
    /// The same as a number.
    pub version: i64,
    /// Generation of the spec: while it stays, so does everything taken from the spec.
    pub generation: Option<i64>,
    /// When it was created.
    pub created: Timestamp,
    /// Hash of what it will do, or why there is none.
    pub work_hash: Result<String, String>,
    /// Its own bounds, as stored.
    pub bounds: JobBounds,
    /// Whether it is held: a Job's `spec.suspend`, a Pod's scheduling gate.
    pub held: bool,
    /// Whether it has run before: its pod template can't be changed any more.
    pub started: bool,
    /// When it began to run, as its status says.
    pub began: Option<Timestamp>,
    /// Complete, Failed or Succeeded.
    pub finished: bool,
    /// Whether its own controller has taken note of it: a new Job gets its first status within milliseconds.
    pub noticed: bool,
    /// Whether deletion is asked for.
    pub deleting: bool,
    /// Whether it has annotations.
    pub annotated: bool,
    /// Whether a Job's pod template has metadata, and annotations in it.
    pub template_metadata: (bool, bool),
    /// Where our scheduling gate stands in a Pod's list.
    pub gate: Option<usize>,
    /// A receipt of ours, its signature checked.
    pub receipt: Option<Receipt>,
    /// The annotation `countersign.dev/closed`.
    pub closed: Option<String>,
    /// Who made it, and what they say of it.
    pub marks: Marks,
    /// What it reads; kept while it is held.
    pub reads: Arc<Reads>,
    /// What it will run, for policy; kept while there is something to decide about it.
    pub work: Arc<HeldWork>,
}

/// What a Job or Pod will run, as policy sees it.
#[derive(Clone, Debug, Default)]
pub struct HeldWork {
    /// Signs of risk in its pod spec.
    pub traits: Traits,
    /// Labels of its Pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Itself, as expressions see it: `apiVersion`, `kind`, `metadata` (name, namespace, labels, annotations) and `spec`.
    pub object: Value,
}

impl HeldWork {
    /// Of a stored Job or Pod, held or not.
    pub fn stored(kind: TargetKind, object: &DynamicObject) -> Arc<Self> {
        let spec = object.data.get("spec").unwrap_or(&Value::Null);
        let metadata = &object.metadata;
        let metadata = json!({
            "name": metadata.name,
            "namespace": metadata.namespace,
            "labels": metadata.labels,
            "annotations": metadata.annotations,
        });
        let (traits, pod_labels) = traits(kind, &metadata, spec);
        let mut whole = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "spec": spec});
        whole["metadata"] = metadata;
        Arc::new(Self { traits, pod_labels, object: whole })
    }
}

impl TargetFacts {
    /// Reads a stored Job or Pod. `before`, an earlier reading of the same object, saves hashing an unchanged spec again.
    pub fn read(kind: TargetKind, object: &DynamicObject, key: &Keyring, before: Option<&Self>) -> Self {
        match kind {
            TargetKind::Job => Self::job(object, key, before),
            TargetKind::Pod => Self::pod(object, key),
        }
    }

    fn job(object: &DynamicObject, key: &Keyring, before: Option<&Self>) -> Self {
        let metadata = &object.metadata;
        let spec = object.data.get("spec").unwrap_or(&Value::Null);
        let template = spec.pointer("/template/metadata").and_then(Value::as_object);
        let annotations = template.and_then(|m| m.get("annotations")).and_then(Value::as_object);
        let held = spec.get("suspend").and_then(Value::as_bool).unwrap_or(false);
        let started = object.data.pointer("/status/startTime").is_some_and(|t| !t.is_null());
        // A Job that runs is not decided on any more. One that was denied is: what becomes of it depends on what it would run,
        // and outside a gated namespace anybody may write that note.
        let undecided = held || !started;
        let same_spec = before.filter(|b| {
            Some(&b.uid) == metadata.uid.as_ref() && b.generation.is_some() && b.generation == metadata.generation
        });
        Self {
            work_hash: match same_spec {
                Some(before) => before.work_hash.clone(),
                None => work_hash(spec).map_err(|e| e.to_string()),
            },
            receipt: match same_spec {
                Some(before) => before.receipt.clone(),
                None => receipt(annotations, object, key),
            },
            bounds: JobBounds {
                active_deadline_seconds: spec.get("activeDeadlineSeconds").and_then(Value::as_i64),
                backoff_limit: small(spec, "backoffLimit"),
                parallelism: small(spec, "parallelism"),
            },
            held,
            reads: match same_spec {
                _ if !held => Arc::default(),
                Some(before) => before.reads.clone(),
                None => Arc::new(Reads::of(spec.pointer("/template/spec").unwrap_or(&Value::Null))),
            },
            work: match same_spec {
                _ if !undecided => Arc::default(),
                Some(before) if same_metadata(before, object) => before.work.clone(),
                _ => HeldWork::stored(TargetKind::Job, object),
            },
            started,
            finished: finished(object),
            noticed: object.data.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|c| !c.is_empty()),
            template_metadata: (template.is_some(), annotations.is_some()),
            ..Self::common(TargetKind::Job, object, Marks::read(object, spec.pointer("/template/spec")))
        }
    }

    fn pod(object: &DynamicObject, key: &Keyring) -> Self {
        let whole = serde_json::json!({
            "metadata": {"labels": object.metadata.labels, "annotations": object.metadata.annotations},
            "spec": object.data.get("spec"),
        });
        let spec = object.data.get("spec").unwrap_or(&Value::Null);
        let gates = spec.get("schedulingGates").and_then(Value::as_array);
        let gate = gates.and_then(|gates| gates.iter().position(|gate| gate["name"] == names::SCHEDULING_GATE));
        let phase = object.data.pointer("/status/phase").and_then(Value::as_str);
        let annotations = whole.pointer("/metadata/annotations").and_then(Value::as_object);
        Self {
            work_hash: pod_work_hash(&whole).map_err(|e| e.to_string()),
            receipt: receipt(annotations, object, key),
            bounds: JobBounds {
                active_deadline_seconds: spec.get("activeDeadlineSeconds").and_then(Value::as_i64),
                ..JobBounds::default()
            },
            held: gate.is_some(),
            reads: if gate.is_some() { Arc::new(Reads::of(spec)) } else { Arc::default() },
            work: if gate.is_some() { HeldWork::stored(TargetKind::Pod, object) } else { Arc::default() },
            gate,
            started: spec.get("nodeName").is_some_and(|node| !node.is_null()),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            ..Self::common(TargetKind::Pod, object, Marks::read(object, Some(spec)))
        }
    }

    fn common(kind: TargetKind, object: &DynamicObject, marks: Marks) -> Self {
        let metadata = &object.metadata;
        let closed = metadata.annotations.as_ref().and_then(|a| a.get(names::CLOSED)).cloned();
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            version: version(metadata),
            generation: metadata.generation,
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            work_hash: Err("not hashed".into()),
            bounds: JobBounds::default(),
            held: false,
            started: false,
            began: began(object),
            finished: false,
            noticed: true,
            deleting: metadata.deletion_timestamp.is_some(),
            annotated: metadata.annotations.is_some(),
            template_metadata: (false, false),
            gate: None,
            receipt: None,
            closed,
            marks,
            reads: Arc::default(),
            work: Arc::default(),
        }
    }

    /// How a person calls it: `Job remediate`.
    pub fn noun(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.name)
    }

    /// Whether somebody started it past the gate, with the reason they had to give. Only in a gated namespace do these
    /// annotations prove anything: there admission checks who sets them.
    pub fn overridden(&self) -> Option<&crate::lifecycle::Override> {
        self.marks.overridden.as_ref().filter(|_| !self.held && self.receipt.is_none())
    }
}

/// Signs of risk in what a Job or Pod will run, and the labels of its Pods.
pub fn traits(kind: TargetKind, metadata: &Value, spec: &Value) -> (Traits, BTreeMap<String, String>) {
    let (pod_spec, metadata) = match kind {
        TargetKind::Job => (spec.pointer("/template/spec"), spec.pointer("/template/metadata")),
        TargetKind::Pod => (Some(spec), Some(metadata)),
    };
    let part = |field: &str| metadata.and_then(|metadata| metadata.get(field)).unwrap_or(&Value::Null);
    let labels = part("labels").as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string())));
    (Traits::of(pod_spec.unwrap_or(&Value::Null), part("annotations")), labels.collect())
}

/// Whether labels and annotations are what they were: an expression may look at them.
fn same_metadata(before: &TargetFacts, object: &DynamicObject) -> bool {
    let metadata = &before.work.object["metadata"];
    json!(object.metadata.labels) == metadata["labels"] && json!(object.metadata.annotations) == metadata["annotations"]
}

/// A receipt that was copied from another object speaks of another uid.
fn receipt(annotations: Option<&Map<String, Value>>, object: &DynamicObject, key: &Keyring) -> Option<Receipt> {
    let envelope = annotations?.get(names::RECEIPT)?.as_str()?;
    Receipt::open(key, envelope).filter(|r| Some(&r.job.uid) == object.metadata.uid.as_ref())
}

fn began(object: &DynamicObject) -> Option<Timestamp> {
    object.data.pointer("/status/startTime")?.as_str()?.parse().ok()
}

fn small(spec: &Value, field: &str) -> Option<i32> {
    spec.get(field).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok())
}

fn finished(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| matches!(c["type"].as_str(), Some("Complete" | "Failed")) && c["status"].as_str() == Some("True"))
}
