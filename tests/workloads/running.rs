//! What others may do to the Pods of a released Job: stop them, and little else.

use crate::arena::{gates, ours, refused};
use crate::{gated_arena, support};
use anyhow::{Context, Result};
use countersign_testbed::ControlPlane;
use serde_json::{Value, json};

const KEYS: &str = "are written by the Countersign operator alone. Leave them as they are";

fn name(pod: &Value) -> Result<String> {
    Ok(format!("pod/{}", pod["metadata"]["name"].as_str().context("name")?))
}

pub async fn a_running_pod_keeps_its_images_and_our_annotations(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "running-kept").await?;
    let mut job = support::job("runs");
    let template = &mut job["spec"]["template"];
    template["metadata"]["annotations"] = json!({"testbed.countersign.dev/runs-forever": "yes"});
    template["spec"]["initContainers"] = json!([{"name": "first", "image": "localhost/first:1"}]);
    template["spec"]["activeDeadlineSeconds"] = json!(600);
    arena.release(job).await?;
    let what = name(&arena.pod_of("job-name=runs", |p| p["status"]["phase"] == "Running").await?)?;
    let image =
        |list: &str, name: &str| json!([{"op": "replace", "path": format!("/spec/{list}/0/image"), "value": name}]);
    for who in [&arena.mallory, &arena.admin] {
        for list in ["containers", "initContainers"] {
            let change = image(list, "localhost/mine:1").to_string();
            let command = arena.run(who, &["patch", &what, "--type=json", "--patch", &change]);
            refused(command, "the images of a Pod cannot be changed in a gated namespace").await?;
        }
        for flags in [&[][..], &["--subresource=status"]] {
            let patch = |patch: Value| arena.patch(who, &what, &patch, flags);
            refused(patch(json!({"metadata": {"annotations": {"countersign.dev/receipt": "forged"}}})), KEYS).await?;
            refused(patch(json!({"metadata": {"annotations": {"countersign.dev/receipt": null}}})), KEYS).await?;
            refused(patch(json!({"metadata": {"annotations": {"countersign.dev/constraints": "{}"}}})), KEYS).await?;
            refused(patch(json!({"metadata": {"labels": {"countersign.dev/held": "true"}}})), KEYS).await?;
        }
        // The API server itself sees to what of the rest may change.
        let patch = |patch: Value| arena.patch(who, &what, &patch, &[]);
        refused(patch(json!({"spec": {"activeDeadlineSeconds": null}})), "must not update from a positive integer")
            .await?;
        refused(patch(json!({"spec": {"activeDeadlineSeconds": 601}})), "must be less than or equal to previous")
            .await?;
        refused(patch(json!({"spec": {"schedulingGates": [{"name": "a.b/c"}]}})), "only deletion is allowed").await?;
    }
    let open = json!({"metadata": {"annotations": {"example.com/mine": "x"}, "labels": {"mine": "x"}}, "spec": {"activeDeadlineSeconds": 60}});
    arena.patch(&arena.mallory, &what, &open, &[]).ok().await?;
    let pod = arena.get(&what).await?;
    assert_eq!(ours(&pod), ["countersign.dev/receipt"]);
    assert_eq!(pod["metadata"]["annotations"]["countersign.dev/receipt"], "{}");
    Ok(())
}

pub async fn a_binding_smuggles_nothing_onto_a_pod(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "running-bound").await?;
    let mut job = support::job("waits");
    job["spec"]["template"]["spec"]["schedulerName"] = json!("nobody");
    job["spec"]["template"]["metadata"]["annotations"] = json!({"testbed.countersign.dev/runs-forever": "yes"});
    arena.release(job).await?;
    let pod = arena.pod_of("job-name=waits", |p| p["status"]["phase"] == "Pending").await?;
    let bind = |path: &str, metadata: Value| {
        let mut binding =
            json!({"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "simulated"}});
        binding["metadata"] = metadata;
        binding["metadata"]["name"] = pod["metadata"]["name"].clone();
        let raw = format!("/api/v1/namespaces/running-bound/{path}");
        arena.mallory.kubectl(["create", "--raw", &raw, "--filename", "-"]).stdin(binding.to_string())
    };
    let subresource = format!("pods/{}/binding", pod["metadata"]["name"].as_str().context("name")?);
    for path in [&subresource, "bindings"] {
        for map in ["annotations", "labels"] {
            let metadata = json!({map: {"countersign.dev/receipt": "forged"}});
            refused(bind(path, metadata), "the labels and annotations of a Binding are copied onto its Pod").await?;
        }
    }
    bind(&subresource, json!({"annotations": {"example.com/mine": "x"}})).ok().await?;
    let bound = arena.until(&name(&pod)?, |p| p["status"]["phase"] == "Running").await?;
    assert_eq!(bound["metadata"]["annotations"]["example.com/mine"], "x", "they are copied");
    assert_eq!(bound["metadata"]["annotations"]["countersign.dev/receipt"], "{}");
    Ok(())
}

pub async fn what_stops_a_pod_is_open_to_all(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "running-stopped").await?;
    arena.job("runs", true).await?;
    let running = async || {
        arena
            .pod_of("job-name=runs", |p| {
                p["status"]["phase"] == "Running" && p["metadata"]["deletionTimestamp"].is_null()
            })
            .await
    };
    let pod = running().await?;
    let short = pod["metadata"]["name"].as_str().context("name")?.to_owned();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": short}});
    let raw = format!("/api/v1/namespaces/running-stopped/pods/{short}/eviction");
    arena.mallory.kubectl(["create", "--raw", &raw, "--filename", "-"]).stdin(eviction.to_string()).ok().await?;
    let next =
        arena.pod_of("job-name=runs", |p| p["metadata"]["name"] != short.as_str() && p["status"]["phase"] == "Running");
    let next = next.await?;
    assert!(gates(&next).is_empty(), "the controller's next one runs like the first");
    arena.run(&arena.hostile, &["delete", &name(&next)?, "--timeout=30s"]).ok().await?;
    Ok(())
}
