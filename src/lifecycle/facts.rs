//! What is known of each object, taken from its stored form once, when it arrives.

use crate::api::{ApprovalRequestSpec, ApprovalRequestStatus, Requester, names};
use crate::binding::{Keyring, ask, verify_seal};
use crate::review::CountedReview;
use crate::risk::Rights;
use jiff::Timestamp;
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

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
}

/// Forgets what a finished request no longer needs, so that memory stays flat in finished requests: what is left tells which one
/// it was, what it asked for, and how it ended.
pub fn forget_details(request: &mut DynamicObject) {
    let metadata = std::mem::take(&mut request.metadata);
    request.metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        creation_timestamp: metadata.creation_timestamp,
        ..ObjectMeta::default()
    };
    let keep = |part: Option<&mut Value>, fields: &[&str]| {
        if let Some(part) = part.and_then(Value::as_object_mut) {
            part.retain(|field, _| fields.contains(&field.as_str()));
        }
    };
    keep(Some(&mut request.data), &["spec", "status"]);
    keep(request.data.get_mut("spec"), &["runID", "stepID", "requestedBy", "target"]);
    keep(request.data.get_mut("status"), &["state", "target", "digest", "observedGeneration"]);
    if let Some(spec) = request.data.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("reason".into(), "".into());
    }
}

/// What the gate does in a namespace.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Gate {
    /// Nothing.
    #[default]
    Off,
    /// Evaluates and reports, holds nothing.
    Warn,
    /// Nothing runs unapproved.
    Enforce,
}

impl Gate {
    /// What the labels of the namespace `name` say, for an operator that lives in `home`. System namespaces and the
    /// operator's own are never gated.
    pub fn of(name: &str, labels: &BTreeMap<String, String>, home: &str) -> Self {
        if name == home || names::SYSTEM_NAMESPACES.contains(&name) {
            return Self::Off;
        }
        match labels.get(names::GATE).map(String::as_str) {
            Some(names::ENFORCE) => Self::Enforce,
            Some(names::WARN) => Self::Warn,
            _ => Self::Off,
        }
    }
}

/// What stands around a Job or Pod, and how far that view goes.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What RBAC lets its service account do.
    pub rights: Arc<Rights>,
    /// Whether no NetworkPolicy restricts its egress.
    pub open_egress: bool,
    /// The newest resource version seen of any role, role binding or NetworkPolicy.
    pub version: i64,
}

/// What the cluster can do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cluster {
    /// Whether the resources of a suspended Job's containers can be changed (Kubernetes 1.36 and newer, KEP-5440).
    pub mutable_resources: bool,
}

/// A namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// What the gate does in it.
    pub gate: Gate,
    /// Whether it is being deleted: nothing can be created in it any more.
    pub deleting: bool,
    /// Its resource version as a number.
    pub version: i64,
}
