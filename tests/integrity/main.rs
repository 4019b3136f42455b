//! Whoever may write admission objects can open the gate; the gate tells. Against the API server, from the attacker's side.

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod kinds;
mod started;

use anyhow::{Context, Result, bail};
use countersign_testbed::{ControlPlane, Identity, Options};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
const HOME: &str = "countersign-system";
const INTACT: &str = "countersign.dev/gate-intact";
const FINDINGS: &str = "countersign.dev/gate-findings";

/// One control plane, one test at a time: each breaks what the others look at. Nobody observes it: here the gate is opened
/// on purpose.
async fn cluster() -> Result<(&'static ControlPlane, MutexGuard<'static, ()>)> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    Ok((CLUSTER.get_or_try_init(|| support::bare(Options::default())).await?, turn))
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

fn leases(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource("coordination.k8s.io", "Lease", "leases"))
}

/// Who wrote the Lease last, if it is there.
async fn holder(client: &Client) -> Result<Option<Value>> {
    let lease = leases(client, HOME).get_opt("countersign-gate").await?;
    Ok(lease.map(|lease| lease.data["spec"]["holderIdentity"].clone()))
}

/// Waits until the Lease says so, with that in its findings.
async fn lease(client: &Client, namespace: &str, intact: &str, finding: &str) -> Result<Value> {
    let api = leases(client, namespace);
    let began = Instant::now();
    let mut last = Value::Null;
    while began.elapsed() < Duration::from_secs(20) {
        if let Some(lease) = api.get_opt("countersign-gate").await? {
            last = serde_json::to_value(lease)?;
            let annotations = &last["metadata"]["annotations"];
            let findings = annotations[FINDINGS].as_str().context("findings")?;
            if annotations[INTACT] == intact && findings.contains(finding) && (intact != "True" || findings.is_empty())
            {
                return Ok(last);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the Lease did not say {intact} with {finding:?}; last seen: {last:#}")
}

/// Waits for an Event about the Lease with that in its note.
async fn event(client: &Client, lease: &Value, reason: &str, note: &str) -> Result<Value> {
    let events = resource("events.k8s.io", "Event", "events");
    let namespace = lease["metadata"]["namespace"].as_str().context("namespace")?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &events);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        for event in api.list(&Default::default()).await? {
            let event = serde_json::to_value(event)?;
            let about = &event["regarding"];
            let told = event["note"].as_str().is_some_and(|text| text.contains(note));
            if event["reason"] == reason && told && about["uid"] == lease["metadata"]["uid"] {
                assert_eq!((&about["kind"], &about["name"]), (&"Lease".into(), &"countersign-gate".into()));
                return Ok(event);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no Event {reason} with {note:?}")
}

/// The object without what the API server sets, to be created again.
async fn saved(admin: &Identity, kind: &str, name: &str) -> Result<Value> {
    let mut object = admin.kubectl(["get", kind, name]).json().await?;
    let metadata = object["metadata"].as_object_mut().context("metadata")?;
    metadata.retain(|key, _| ["name", "labels"].contains(&key.as_str()));
    object.as_object_mut().context("an object")?.remove("status");
    Ok(object)
}
