//! Steps into a running Pod.

use crate::arena::{Arena, refused};
use crate::{gated_arena, support};
use anyhow::{Context, Result};
use countersign_testbed::{ControlPlane, Identity, Kubectl};
use serde_json::json;

pub async fn nobody_steps_into_a_pod(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "exec-closed").await?;
    let pod = running(&arena).await?;
    for who in [&arena.mallory, &arena.hostile, &arena.admin] {
        for (subresource, command) in steps(&arena, who, &pod) {
            refused(command, &format!("`{subresource}` of Pods is closed in namespace exec-closed")).await?;
        }
    }
    // Nor the operator.
    let debugger =
        json!({"spec": {"ephemeralContainers": [{"name": "mine", "image": "localhost/mine:1"}]}}).to_string();
    let patch = ["patch", &format!("pod/{pod}"), "--subresource=ephemeralcontainers", "--patch", &debugger];
    refused(arena.operator(&patch), "`ephemeralcontainers` of Pods is closed").await?;
    // Reading on is open.
    let logs = arena.run(&arena.mallory, &["logs", &pod]).run().await?;
    assert!(!logs.stderr.contains("countersign"), "{}", logs.stderr);
    Ok(())
}

pub async fn the_label_opens_it(cluster: &ControlPlane) -> Result<()> {
    let arena = gated_arena(cluster, "exec-open").await?;
    let pod = running(&arena).await?;
    let exec = async || {
        let output = arena.run(&arena.mallory, &["exec", &pod, "--", "true"]).run().await?;
        Ok(!output.stderr.contains("is closed in namespace"))
    };
    assert!(!exec().await?);
    arena.relabel(&["countersign.dev/exec=allow"], exec).await?;
    for (subresource, command) in steps(&arena, &arena.mallory, &pod) {
        // The simulated node runs nothing to step into.
        let output = command.run().await?;
        assert!(!output.stderr.contains("countersign"), "{subresource}: {}", output.stderr);
    }
    let pod = arena.get(&format!("pod/{pod}")).await?;
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["name"], "mine");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    Ok(())
}

async fn running(arena: &Arena) -> Result<String> {
    let mut job = support::job("runs");
    job["spec"]["template"]["metadata"]["annotations"] = json!({"testbed.countersign.dev/runs-forever": "yes"});
    let resources = json!({"requests": {"cpu": "1"}});
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = resources.clone();
    arena.release(job).await?;
    let pod = arena.pod_of("job-name=runs", |p| p["status"]["phase"] == "Running").await?;
    let name = pod["metadata"]["name"].as_str().context("name")?;
    // What a node that can resize says, and the simulated one does not.
    let status =
        json!([{"op": "add", "path": "/status/containerStatuses/0/resources", "value": resources}]).to_string();
    let what = format!("pod/{name}");
    let patch = ["patch", &what, "--subresource=status", "--type=json", "--patch", &status];
    arena.run(&arena.admin, &patch).ok().await?;
    Ok(name.into())
}

fn steps(arena: &Arena, who: &Identity, pod: &str) -> [(&'static str, Kubectl); 5] {
    let what = format!("pod/{pod}");
    let raw = format!("/api/v1/namespaces/{}/pods/{pod}/exec?command=true&stdout=true", arena.namespace);
    let debugger =
        json!({"spec": {"ephemeralContainers": [{"name": "mine", "image": "localhost/mine:1"}]}}).to_string();
    let larger =
        json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}}).to_string();
    let patch = |subresource: &str, patch: &str| {
        arena.run(who, &["patch", &what, &format!("--subresource={subresource}"), "--patch", patch])
    };
    [
        ("exec", arena.run(who, &["exec", pod, "--", "true"])),
        ("exec", who.kubectl(["get", "--raw", &raw])),
        ("attach", arena.run(who, &["attach", pod])),
        ("ephemeralcontainers", patch("ephemeralcontainers", &debugger)),
        ("resize", patch("resize", &larger)),
    ]
}
