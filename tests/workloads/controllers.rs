//! Deployments and the like.

use crate::arena::{Arena, gates, ours, pod, refused};
use crate::gated_arena;
use anyhow::Result;
use countersign_testbed::ControlPlane;
use serde_json::{Value, json};

const CLOSED: &str = "it is gated, and their Pods would run without approval. Run the work as a Job";
const ALLOW: &str = "countersign.dev/workloads=allow";

fn workload(kind: &str, name: &str) -> Value {
    let version = if kind == "ReplicationController" { "v1" } else { "apps/v1" };
    let labels = json!({"app": name});
    let mut spec = json!({"template": {"metadata": {"labels": labels}, "spec": pod(name)["spec"]}});
    spec["selector"] = if version == "v1" { labels } else { json!({"matchLabels": labels}) };
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

const KINDS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"];

pub async fn workload_controllers_are_refused(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "controllers-refused").await?;
    for kind in KINDS {
        let name = kind.to_lowercase();
        for who in [&arena.mallory, &arena.hostile, &arena.admin] {
            refused(arena.create(who, &workload(kind, &name)), CLOSED).await?;
        }
        let apply = ["apply", "--server-side", "--filename", "-"];
        let apply = arena.run(&arena.mallory, &apply).stdin(workload(kind, &name).to_string());
        refused(apply, &format!("{name}s cannot be created, changed or scaled in namespace controllers-refused"))
            .await?;
        let mut generated = workload(kind, &name);
        generated["metadata"] = json!({"generateName": "mine-"});
        refused(arena.create(&arena.mallory, &generated), CLOSED).await?;
    }
    Ok(())
}

async fn gate(arena: &Arena, name: &str) -> Result<()> {
    let what = format!("deployment/{name}");
    arena
        .relabel(&["countersign.dev/gate=enforce"], async || {
            let scale = arena.run(&arena.admin, &["scale", &what, "--replicas=9", "--dry-run=server"]);
            Ok(scale.run().await?.stderr.contains(CLOSED) && crate::arena::held(arena).await?)
        })
        .await
}

pub async fn what_stood_before_the_gate_cannot_change(cluster: &ControlPlane) -> Result<()> {
    let arena = Arena::new(cluster, "controllers-before", &[]).await?;
    arena.create(&arena.mallory, &workload("Deployment", "web")).ok().await?;
    arena.create(&arena.mallory, &workload("ReplicationController", "old")).ok().await?;
    let ready = |d: &Value| d["status"]["availableReplicas"] == 1;
    arena.until("deployment/web", ready).await?;
    arena.until("rc/old", ready).await?;
    gate(&arena, "web").await?;
    let replicas = json!({"spec": {"replicas": 2}});
    for what in ["deployment/web", "rc/old"] {
        refused(arena.patch(&arena.mallory, what, &replicas, &[]), CLOSED).await?;
        refused(arena.patch(&arena.mallory, what, &replicas, &["--subresource=scale"]), CLOSED).await?;
    }
    let image = ["set", "image", "deployment/web", "main=localhost/other:1"];
    refused(arena.run(&arena.mallory, &image), CLOSED).await?;
    refused(arena.run(&arena.mallory, &["rollout", "restart", "deployment/web"]), CLOSED).await?;
    arena.patch(&arena.mallory, "deployment/web", &json!({"metadata": {"labels": {"mine": "yes"}}}), &[]).ok().await?;
    // Another of its Pods is nobody's approved Job, and its controllers still say how things stand.
    arena.run(&arena.mallory, &["delete", "pod", "--selector=app in (web,old)", "--timeout=30s"]).ok().await?;
    for app in ["app=web", "app=old"] {
        arena.pod_of(app, |p| gates(p) == ["countersign.dev/approval"] && p["spec"]["nodeName"].is_null()).await?;
    }
    arena.until("deployment/web", |d| d["status"]["unavailableReplicas"] == 1).await?;
    arena.run(&arena.mallory, &["delete", "deployment/web", "rc/old", "--timeout=30s"]).ok().await?;
    Ok(())
}

pub async fn the_label_lets_them_in_and_nobody_else(cluster: &ControlPlane) -> Result<()> {
    let arena = Arena::new(cluster, "controllers-allowed", &["countersign.dev/gate=enforce", ALLOW]).await?;
    for kind in KINDS {
        let name = kind.to_lowercase();
        arena.create(&arena.mallory, &workload(kind, &name)).ok().await?;
        let running = arena.pod_of(&format!("app={name}"), |p| p["status"]["phase"] == "Running").await?;
        assert!(gates(&running).is_empty() && ours(&running).is_empty(), "{running:#}");
    }
    // The owner may be one of them; the hand is not its controller's.
    let owner = arena.get("replicaset/replicaset").await?["metadata"]["uid"].clone();
    let mut child = pod("child");
    child["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "replicaset", "uid": owner, "controller": true}]);
    assert_eq!(gates(&arena.create(&arena.mallory, &child).json().await?), ["countersign.dev/approval"]);
    // A template of theirs carries no receipt.
    let mut forged = workload("Deployment", "forged");
    forged["spec"]["template"]["metadata"]["annotations"] = json!({"countersign.dev/receipt": "{}"});
    arena.create(&arena.mallory, &forged).ok().await?;
    let failed = arena.until("deployment/forged", |d| d.to_string().contains("ReplicaFailure")).await?;
    assert!(failed.to_string().contains("are written by Countersign alone"), "{failed:#}");
    Ok(())
}
