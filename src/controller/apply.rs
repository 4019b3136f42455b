//! Carries out a plan: one API request a step, none of them a read.

use crate::api::{ApprovalPolicyStatus, ApprovalRequestStatus, InputKind, TargetKind, names};
use crate::binding::Snapshot;
use crate::controller::error::{Error, call};
use crate::controller::object;
use crate::lifecycle::{Deletion, PolicyFacts, RequestFacts, Step, TargetFacts, TargetPatch};
use crate::risk::RbacKind;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Client, Resource};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Snapshots that are remembered as kept; beyond that the memory starts anew, at the price of a refused create.
const REMEMBERED: usize = 10_000;

/// What a step returned.
pub(super) enum Written {
    /// The request as stored now.
    Request(Box<DynamicObject>),
    /// A request of our own making, as stored now.
    NewRequest(Box<DynamicObject>),
    /// The Job or Pod as stored now.
    Target(TargetKind, Box<DynamicObject>),
    /// Nothing that the index holds.
    Other,
}

/// Makes the writes.
pub(super) struct Writer {
    client: Client,
    namespace: String,
    kept: Mutex<HashSet<String>>,
}

impl Writer {
    /// Writes as the operator that lives in `namespace`.
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, kept: Mutex::default() }
    }

    /// Carries out one step for `request`.
    pub(super) async fn step(&self, request: &RequestFacts, step: &Step) -> Result<Written, Error> {
        match step {
            Step::WriteStatus(status) => self.status(request, status).await,
            Step::RemoveFinalizer => {
                let at = (request.namespace.as_str(), request.name.as_str());
                let finalizer = request.finalizer.unwrap_or_default();
                self.remove_finalizer(at, &request.resource_version, finalizer).await.map(|()| Written::Other)
            }
            other => self.target_step(other).await,
        }
    }

    /// Carries out one step that concerns no request's own object.
    pub(super) async fn target_step(&self, step: &Step) -> Result<Written, Error> {
        match step {
            Step::KeepSnapshot(snapshot) => self.keep(snapshot).await,
            Step::Release(patch) => self.target("release the target", patch).await,
            Step::Ask(request) => self.ask(request).await,
            Step::Delete(deletion) => self.delete(deletion).await,
            Step::Close(patch) => self.target("close the target", patch).await,
            // These are a request's own, and `step` makes them.
            Step::WriteStatus(_) | Step::RemoveFinalizer => Ok(Written::Other),
        }
    }

    /// Creates a request of our own. One that is there already is ours: nobody else can tell its name.
    async fn ask(&self, request: &Value) -> Result<Written, Error> {
        let namespace = request.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &requests());
        let object = serde_json::from_value(request.clone()).map_err(kube::Error::SerdeError);
        let object = object.map_err(|source| Error::Api { operation: "make a request", source })?;
        match call("make a request", api.create(&PostParams::default(), &object)).await {
            Ok(object) => Ok(Written::NewRequest(Box::new(object))),
            Err(Error::Api { source: kube::Error::Api(status), .. }) if status.reason == "AlreadyExists" => {
                Ok(Written::Other)
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes a Job, if it is still as it was seen. What it owns is left without an owner: the request stays, and tells.
    async fn delete(&self, job: &Deletion) -> Result<Written, Error> {
        // As an object of any kind: reading a typed Job would bring code for every kind of volume there is.
        let api = object::api(&self.client, Some(&job.namespace), &targets(TargetKind::Job));
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(Preconditions {
                uid: Some(job.uid.clone()),
                resource_version: Some(job.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        match call("delete a Job", api.delete(&job.name, &params)).await {
            Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 404 => Ok(Written::Other),
            other => other.map(|_| Written::Other),
        }
    }

    /// Writes a policy's status.
    pub(super) async fn policy_status(
        &self,
        policy: &PolicyFacts,
        status: &ApprovalPolicyStatus,
    ) -> Result<DynamicObject, Error> {
        let api = object::api(&self.client, None, &policies());
        let patch = patch(vec![
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": policy.resource_version}),
            json!({"op": "add", "path": "/status", "value": status}),
        ]);
        let params = PatchParams::default();
        Ok(call("write a policy's status", api.patch_status(&policy.name, &params, &patch)).await?.0)
    }

    async fn status(&self, request: &RequestFacts, status: &ApprovalRequestStatus) -> Result<Written, Error> {
        let api = object::api(&self.client, Some(&request.namespace), &requests());
        let patch = patch(vec![
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": request.resource_version}),
            json!({"op": "add", "path": "/status", "value": status}),
        ]);
        let params = PatchParams::default();
        let written = call("write the status", api.patch_status(&request.name, &params, &patch)).await?;
        Ok(Written::Request(Box::new(written.0)))
    }

    /// Lets a request go, by namespace and name: takes off our finalizer, which stands at that place in the list.
    pub(super) async fn remove_finalizer(
        &self,
        (namespace, name): (&str, &str),
        resource_version: &str,
        finalizer: usize,
    ) -> Result<(), Error> {
        let api = object::api(&self.client, Some(namespace), &requests());
        let path = format!("/metadata/finalizers/{finalizer}");
        let patch = patch(vec![
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version}),
            json!({"op": "test", "path": path, "value": names::FINALIZER}),
            json!({"op": "remove", "path": path}),
        ]);
        call("remove the finalizer", api.patch(name, &PatchParams::default(), &patch)).await.map(drop)
    }

    async fn target(&self, operation: &'static str, target: &TargetPatch) -> Result<Written, Error> {
        let api = object::api(&self.client, Some(&target.namespace), &targets(target.kind));
        let operations = target.operations.as_array().cloned().unwrap_or_default();
        let written = call(operation, api.patch(&target.name, &PatchParams::default(), &patch(operations))).await?;
        Ok(Written::Target(target.kind, Box::new(written.0)))
    }

    /// Keeps a snapshot as a ControllerRevision, whose data the API server never lets change. One that is there already is
    /// the same: its name is its hash, and whoever reads it checks that.
    async fn keep(&self, snapshot: &Snapshot) -> Result<Written, Error> {
        let name = snapshot.object_name();
        if self.kept().contains(&name) {
            return Ok(Written::Other);
        }
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".into(), "countersign".into())])),
                annotations: Some(BTreeMap::from([("countersign.dev/snapshot".into(), snapshot.hash.clone())])),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(snapshot.content.clone())),
            revision: 1,
        };
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &self.namespace);
        match call("keep a policy snapshot", api.create(&PostParams::default(), &revision)).await {
            Err(Error::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => {}
            other => drop(other?),
        }
        let mut kept = self.kept();
        if kept.len() >= REMEMBERED {
            kept.clear();
        }
        kept.insert(name);
        Ok(Written::Other)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resource of requests.
pub(super) fn requests() -> ApiResource {
    ApiResource::erase::<crate::api::ApprovalRequest>(&())
}

/// The resource of policies.
pub(super) fn policies() -> ApiResource {
    ApiResource::erase::<crate::api::ApprovalPolicy>(&())
}

/// The resource of Jobs or Pods.
pub(super) fn targets(kind: TargetKind) -> ApiResource {
    match kind {
        TargetKind::Job => ApiResource::erase::<Job>(&()),
        TargetKind::Pod => ApiResource::erase::<Pod>(&()),
    }
}

/// The resource of ConfigMaps or Secrets.
pub(super) fn inputs(kind: InputKind) -> ApiResource {
    match kind {
        InputKind::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
        InputKind::Secret => ApiResource::erase::<Secret>(&()),
    }
}

/// The resource of roles or bindings.
pub(super) fn rbac(kind: RbacKind) -> ApiResource {
    match kind {
        RbacKind::ClusterRole => ApiResource::erase::<ClusterRole>(&()),
        RbacKind::ClusterRoleBinding => ApiResource::erase::<ClusterRoleBinding>(&()),
        RbacKind::Role => ApiResource::erase::<Role>(&()),
        RbacKind::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
    }
}

/// The resource of NetworkPolicies.
pub(super) fn network_policies() -> ApiResource {
    ApiResource::erase::<NetworkPolicy>(&())
}

/// The resource of namespaces.
pub(super) fn namespaces() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&())
}

/// A JSON Patch from operations that are well formed by construction.
fn patch(operations: Vec<Value>) -> Patch<()> {
    let operations = serde_json::from_value(Value::Array(operations));
    Patch::Json(operations.unwrap_or_else(|_| {
        debug_assert!(false, "malformed JSON Patch");
        json_patch::Patch(vec![])
    }))
}

/// Where an Event about a request points.
pub(super) fn reference(request: &RequestFacts) -> ObjectReference {
    ObjectReference {
        api_version: Some(names::API_VERSION.into()),
        kind: Some(crate::api::ApprovalRequest::kind(&()).into()),
        namespace: Some(request.namespace.clone()),
        name: Some(request.name.clone()),
        uid: Some(request.uid.clone()),
        resource_version: None,
        field_path: None,
    }
}

/// Where an Event about a Job or Pod points.
pub(super) fn target_reference(target: &TargetFacts) -> ObjectReference {
    ObjectReference {
        api_version: Some(target.kind.api_version().into()),
        kind: Some(target.kind.as_str().into()),
        namespace: Some(target.namespace.clone()),
        name: Some(target.name.clone()),
        uid: Some(target.uid.clone()),
        resource_version: None,
        field_path: None,
    }
}
