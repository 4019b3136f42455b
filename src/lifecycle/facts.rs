//! What is known of each object, taken from its stored form once, when it arrives.

use crate::api::status::JobBounds;
use crate::api::{ApprovalRequestSpec, ApprovalRequestStatus, Requester, names};
use crate::binding::{Keyring, Receipt, ask, verify_seal, work_hash};
use crate::review::CountedReview;
use jiff::Timestamp;
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;
use std::collections::BTreeMap;

/// A resource version as a number: comparable within one cluster (a Kubernetes 1.35 guarantee, true of etcd before).
pub fn version(metadata: &ObjectMeta) -> i64 {
    metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A stored request that this version cannot read. It is reported, and never approved.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokenRequest {
    /// Why.
    pub error: String,
    /// Resource version, as the API server wrote it.
    pub resource_version: String,
    /// The same as a number.
    pub version: i64,
    /// Where our finalizer stands, once deletion is asked for: even what cannot be read must be able to go.
    pub letting_go: Option<usize>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct RequestFacts {
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
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// When it was created.
    pub created: Timestamp,
    /// Whether deletion is asked for.
    pub deleting: bool,
    /// Where our finalizer stands in the list of finalizers.
    pub finalizer: Option<usize>,
    /// The spec as this version reads it; without reviews.
    pub spec: ApprovalRequestSpec,
    /// What is asked, as stored.
    pub ask: Value,
    /// The reviews, each with whether its seal holds.
    pub reviews: Vec<CountedReview>,
    /// The status as stored.
    pub status: ApprovalRequestStatus,
}

impl RequestFacts {
    /// Reads a stored request. Seals are checked here, once.
    pub fn read(object: &DynamicObject, key: &Keyring) -> Result<Self, BrokenRequest> {
        let metadata = &object.metadata;
        let finalizer = metadata.finalizers.iter().flatten().position(|f| f == names::FINALIZER);
        let broken = |error: String| BrokenRequest {
            error,
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            version: version(metadata),
            letting_go: finalizer.filter(|_| metadata.deletion_timestamp.is_some()),
        };
        let uid = metadata.uid.clone().unwrap_or_default();
        let stored = object.data.get("spec").unwrap_or(&Value::Null);
        let mut spec: ApprovalRequestSpec = serde_path_to_error::deserialize(stored)
            .map_err(|e| broken(format!("spec.{}: {}", e.path(), e.inner())))?;
        let entries = stored.get("reviews").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let reviews = std::mem::take(&mut spec.reviews)
            .into_iter()
            .zip(entries)
            .map(|(review, entry)| CountedReview { review, sealed: verify_seal(key, &uid, entry) })
            .collect();
        let status = match object.data.get("status") {
            Some(status) => serde_json::from_value(status.clone()).map_err(|e| broken(format!("status: {e}")))?,
            None => ApprovalRequestStatus::default(),
        };
        Ok(Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid,
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            version: version(metadata),
            generation: metadata.generation,
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizer,
            ask: ask(stored),
            spec,
            reviews,
            status,
        })
    }

    /// Who created the request; the empty name, which no policy names, where nobody was stamped.
    pub fn requester(&self) -> Requester {
        self.spec.requester.clone().unwrap_or_default()
    }

    /// Forgets what a finished request no longer needs, so that memory stays flat in finished requests.
    pub fn forget_details(&mut self) {
        self.ask = Value::Null;
        self.reviews = vec![];
        self.spec.evidence = vec![];
        self.spec.requester = None;
        self.spec.reason = String::new();
        let kept = ApprovalRequestStatus {
            state: self.status.state,
            target: self.status.target.take(),
            digest: self.status.digest.take(),
            observed_generation: self.status.observed_generation,
            ..ApprovalRequestStatus::default()
        };
        self.status = kept;
    }
}

/// A Job.
#[derive(Clone, Debug)]
pub struct JobFacts {
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
    /// `workHash`, or why there is none.
    pub work_hash: Result<String, String>,
    /// The Job's own bounds, as stored.
    pub bounds: JobBounds,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Whether it has run before (`status.startTime`): its pod template can't be changed any more.
    pub started: bool,
    /// Complete or Failed.
    pub finished: bool,
    /// Whether deletion is asked for.
    pub deleting: bool,
    /// Whether the Job has annotations.
    pub annotated: bool,
    /// Whether the pod template has metadata, and annotations in it.
    pub template_metadata: (bool, bool),
    /// A receipt of ours, its signature checked.
    pub receipt: Option<Receipt>,
    /// The annotation `countersign.dev/closed`.
    pub closed: Option<String>,
}

impl JobFacts {
    /// Reads a stored Job. `before`, an earlier reading of the same Job, saves hashing an unchanged spec again.
    pub fn read(object: &DynamicObject, key: &Keyring, before: Option<&Self>) -> Self {
        let metadata = &object.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let null = Value::Null;
        let spec = object.data.get("spec").unwrap_or(&null);
        let template = spec.get("template").and_then(|t| t.get("metadata")).and_then(Value::as_object);
        let template_annotations = template.and_then(|m| m.get("annotations")).and_then(Value::as_object);
        let same_spec =
            before.filter(|b| b.uid == uid && b.generation.is_some() && b.generation == metadata.generation);
        let envelope = template_annotations.and_then(|a| a.get(names::RECEIPT)).and_then(Value::as_str);
        let annotations: &BTreeMap<_, _> = metadata.annotations.as_ref().unwrap_or(const { &BTreeMap::new() });
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            version: version(metadata),
            generation: metadata.generation,
            work_hash: match same_spec {
                Some(before) => before.work_hash.clone(),
                None => work_hash(spec).map_err(|e| e.to_string()),
            },
            receipt: match same_spec {
                Some(before) => before.receipt.clone(),
                // A receipt that was copied from another Job speaks of another uid.
                None => envelope.and_then(|text| Receipt::open(key, text)).filter(|r| r.job.uid == uid),
            },
            bounds: JobBounds {
                active_deadline_seconds: spec.get("activeDeadlineSeconds").and_then(Value::as_i64),
                backoff_limit: small(spec, "backoffLimit"),
                parallelism: small(spec, "parallelism"),
            },
            suspended: spec.get("suspend").and_then(Value::as_bool).unwrap_or(false),
            started: object.data.pointer("/status/startTime").is_some_and(|t| !t.is_null()),
            finished: finished(object),
            deleting: metadata.deletion_timestamp.is_some(),
            annotated: metadata.annotations.is_some(),
            template_metadata: (template.is_some(), template_annotations.is_some()),
            closed: annotations.get(names::CLOSED).cloned(),
            uid,
        }
    }
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

/// A namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its resource version as a number.
    pub version: i64,
}
