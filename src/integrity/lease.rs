//! Where the state of the gate is told: the operator's Lease, and Events about it.

use crate::api::{Condition, ConditionStatus};
use crate::controller::{Error, call};
use crate::integrity::state::shortened;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::json;
use tracing::debug;

/// Name of the Lease in the operator's namespace.
pub const LEASE: &str = "countersign-gate";
/// Annotation of the Lease: `True`, `False`, or `Unknown` while the operator cannot see.
pub const INTACT: &str = "countersign.dev/gate-intact";
/// Annotation of the Lease: what is wrong, empty where nothing is.
pub const FINDINGS: &str = "countersign.dev/gate-findings";
/// Who writes here, in the words of server-side apply and of Events.
const MANAGER: &str = "countersign";
const CONTROLLER: &str = "countersign.dev/operator";
/// The API takes notes of at most 1 kB.
const LONGEST_NOTE: usize = 1000;

/// Writes the Lease and Events about it.
pub(super) struct Herald {
    leases: Api<Lease>,
    events: Api<Event>,
    namespace: String,
    instance: String,
    /// What the Lease says, and its uid.
    written: Option<(ConditionStatus, String)>,
    uid: Option<String>,
}

impl Herald {
    pub(super) fn new(client: Client, namespace: String, instance: String) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), &namespace),
            events: Api::namespaced(client, &namespace),
            namespace,
            instance,
            written: None,
            uid: None,
        }
    }

    /// Writes the condition on the Lease, unless it says so already.
    pub(super) async fn write(&mut self, condition: &Condition) -> Result<(), Error> {
        let findings = if condition.status == ConditionStatus::True { "" } else { condition.message.as_str() };
        if self.written.as_ref().is_some_and(|(status, text)| *status == condition.status && text == findings) {
            return Ok(());
        }
        let status = format!("{:?}", condition.status);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEASE,
                "labels": {"app.kubernetes.io/name": MANAGER},
                "annotations": {INTACT: status, FINDINGS: findings},
            },
            // Written on a change only: a time that is long ago says that nothing changed, not that nobody looks.
            "spec": {"holderIdentity": self.instance, "renewTime": MicroTime(Timestamp::now())},
        });
        let params = PatchParams::apply(MANAGER).force();
        let stored = call("write the Lease", self.leases.patch(LEASE, &params, &Patch::Apply(lease))).await?;
        self.uid = stored.metadata.uid;
        self.written = Some((condition.status, findings.to_owned()));
        Ok(())
    }

    /// What the Lease says is not known any more.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// Tells an Event about the Lease, best effort. Each is an object of its own: a recorder would fold a second one with
    /// the same reason into the first and lose what it says.
    pub(super) async fn tell(&self, warning: bool, reason: &str, note: String) {
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{LEASE}.{:x}", now.as_nanosecond())),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if warning { "Warning" } else { "Normal" }.into()),
            reason: Some(reason.into()),
            action: Some("Watch".into()),
            note: Some(shortened(note, LONGEST_NOTE)),
            regarding: Some(ObjectReference {
                api_version: Some("coordination.k8s.io/v1".into()),
                kind: Some("Lease".into()),
                name: Some(LEASE.into()),
                namespace: Some(self.namespace.clone()),
                uid: self.uid.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        if let Err(error) = call("write an Event", self.events.create(&PostParams::default(), &event)).await {
            debug!(%error, "an Event was not written");
        }
    }
}
