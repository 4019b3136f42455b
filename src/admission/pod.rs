//! The verdict on a Pod of a gated namespace: Pods of Jobs pass by their creator, any other is held. Pure.

use crate::admission::hold::Kind;
use crate::admission::standing::Context;
use crate::admission::{Answer, Caller, Refusal, Verdict, hold, patch};
use crate::api::names;
use crate::lifecycle::claims::ON_A_POD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The identity that all controllers share where they have no service accounts of their own.
pub(super) const SHARED: &str = "system:kube-controller-manager";
/// The Job controller: what it creates Pods for was held as a Job.
pub(super) const JOB_CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";
/// The controllers that the namespace label `countersign.dev/workloads: allow` trusts.
pub(super) const WORKLOAD_CONTROLLERS: [&str; 4] = [
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
    "system:serviceaccount:kube-system:replication-controller",
];
/// Group of every kubelet.
pub(super) const NODES: &str = "system:nodes";
/// Annotation by which a kubelet shows a Pod that it runs from a file of its own.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

const KIND: Kind = Kind { name: "Pod", annotations: &ON_A_POD, labels: &[names::HELD] };

/// Whether a Pod may start because of who creates it. What the Pod says of its owner never counts on its own: anybody may
/// write that.
pub fn trusted_creator(caller: &Caller, object: &Value, labels: &BTreeMap<String, String>) -> bool {
    let username = caller.username.as_str();
    let workloads = labels.get(names::WORKLOADS).is_some_and(|value| value == names::ALLOW);
    username == JOB_CONTROLLER
        || (username == SHARED && (workloads || made_for_a_job(object)))
        || (workloads && WORKLOAD_CONTROLLERS.contains(&username))
        || (caller.groups.iter().any(|group| group == NODES) && is_mirror(object))
}

/// The Pod's controller is a Job, as whoever created the Pod says.
fn made_for_a_job(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| {
        owner.get("controller") == Some(&Value::Bool(true))
            && owner.get("apiVersion").and_then(Value::as_str) == Some("batch/v1")
            && owner.get("kind").and_then(Value::as_str) == Some("Job")
    })
}

fn is_mirror(object: &Value) -> bool {
    object.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(MIRROR).is_some())
}

/// A Pod is created: untouched by a trusted creator, else held and stamped, or refused.
pub fn create(object: &Value, context: &Context<'_>) -> Answer {
    let unknown = BTreeMap::new();
    if trusted_creator(context.caller, object, context.labels.unwrap_or(&unknown)) {
        return Verdict::Allow(vec![]).into();
    }
    let node = object.pointer("/spec/nodeName");
    if node.is_some_and(|node| !node.is_null() && node.as_str() != Some("")) {
        return Verdict::Refuse(Refusal::forbidden(
            "spec.nodeName: a Pod in a gated namespace waits for approval before it is scheduled, and one with a node would not wait; leave spec.nodeName out (use spec.nodeSelector or affinity), or create a Job",
        ).because("NodeChosen"))
        .into();
    }
    let mut operations = gate(object);
    operations.extend(patch::entries(object, "/metadata/labels", &[(names::HELD, "true")]));
    hold::create(&KIND, object, operations, context)
}

/// Adds our scheduling gate behind whatever gates are there.
fn gate(object: &Value) -> Vec<Value> {
    let ours = json!({"name": names::SCHEDULING_GATE});
    match object.pointer("/spec/schedulingGates").and_then(Value::as_array) {
        Some(gates) if gates.iter().any(|gate| gate["name"] == names::SCHEDULING_GATE) => vec![],
        Some(_) => vec![patch::add("/spec/schedulingGates/-", ours)],
        None => vec![patch::add("/spec/schedulingGates", json!([ours]))],
    }
}
