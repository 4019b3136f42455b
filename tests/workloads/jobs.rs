//! What a gate must not break: Jobs, garbage collection and the end of a namespace. Run under both identities that a Job
//! controller may have.

use crate::arena::{gates, ours, pod};
use crate::{gated_arena, support};
use anyhow::{Context, Result};
use countersign_testbed::ControlPlane;
use serde_json::{Value, json};

pub async fn a_jobs_pods_run_untouched(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "jobs-run").await?;
    let mut job = support::job("work");
    job["spec"]["parallelism"] = json!(3);
    job["spec"]["completions"] = json!(3);
    arena.release(job).await?;
    let done = arena.until("job/work", |j| j["status"]["succeeded"] == 3 && j["status"]["completionTime"].is_string());
    let done = done.await?;
    assert!(done.pointer("/status/uncountedTerminatedPods/succeeded").is_none(), "{done:#}");
    let pods = arena.run(&arena.admin, &["get", "pods", "--selector=job-name=work"]).json().await?;
    let pods = pods["items"].as_array().context("items")?;
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert!(gates(pod).is_empty() && ours(pod) == ["countersign.dev/receipt"], "{pod:#}");
        assert!(pod["metadata"]["finalizers"].is_null(), "the controller takes its finalizer off: {pod:#}");
    }
    Ok(())
}

pub async fn cascades_of_every_kind_complete(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "jobs-cascade").await?;
    for cascade in ["background", "foreground", "orphan"] {
        arena.job(cascade, true).await?;
        let selector = format!("job-name={cascade}");
        arena.pod_of(&selector, |p| p["status"]["phase"] == "Running").await?;
        let how = format!("--cascade={cascade}");
        arena.run(&arena.mallory, &["delete", "job", cascade, &how, "--timeout=30s"]).ok().await?;
        if cascade == "orphan" {
            arena.pod_of(&selector, |p| p["metadata"]["ownerReferences"].is_null()).await?;
            continue;
        }
        let gone = || async {
            let pods = arena.run(&arena.admin, &["get", "pods", "--selector", &selector]).json().await?;
            Ok(pods["items"] == json!([]))
        };
        crate::arena::until("the Pods are gone", gone).await?;
    }
    Ok(())
}

pub async fn a_namespace_with_everything_in_it_goes(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "jobs-gone").await?;
    arena.job("runs", true).await?;
    arena.create(&arena.mallory, &pod("held")).ok().await?;
    let locked: Value = json!({"apiVersion": "v1", "kind": "Secret", "immutable": true,
        "metadata": {"name": "locked", "labels": {"countersign.dev/input": "locked"}}});
    arena.create(&arena.mallory, &locked).ok().await?;
    arena.pod_of("job-name=runs", |p| p["status"]["phase"] == "Running").await?;
    arena.admin.kubectl(["delete", "namespace", "jobs-gone", "--timeout=90s"]).ok().await?;
    Ok(())
}
