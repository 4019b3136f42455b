//! Containers run, are seen, and are started again.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};

use super::support;
use super::{IMAGE, cluster, job, pod_spec, restricted};

#[tokio::test]
async fn the_node_is_ready_and_of_the_same_release() -> Result<()> {
    let admin = cluster().await?.admin();
    let node = admin.kubectl(["get", "node", "real"]).json().await?;
    let ready = support::conditions(&node).find(|condition| condition["type"] == "Ready").context("a condition")?;
    assert_eq!(ready["status"], "True", "{ready}");
    let info = &node["status"]["nodeInfo"];
    let version = admin.kubectl(["version"]).json().await?;
    assert_eq!(info["kubeletVersion"], version["serverVersion"]["gitVersion"]);
    let runtime = info["containerRuntimeVersion"].as_str().context("a runtime")?;
    assert!(runtime.starts_with("containerd://"), "{runtime}");
    Ok(())
}

#[tokio::test]
async fn a_restricted_job_runs_to_its_end_and_its_log_is_read() -> Result<()> {
    let admin = cluster().await?.admin();
    restricted(&admin, "restricted").await?;
    let within = |args: &[&str]| admin.kubectl(["--namespace=restricted"].iter().chain(args).copied());
    let said = job("said", pod_spec(IMAGE, &["say", "remediated"]));
    within(&["create", "--filename", "-"]).stdin(said).ok().await?;
    within(&["wait", "--for=condition=Complete", "job/said", "--timeout=60s"]).ok().await?;
    assert_eq!(within(&["logs", "job/said"]).ok().await?, "remediated, as user 65532\n");

    // The image says otherwise, but the Pod counts.
    let mut spec = pod_spec(IMAGE, &["say", "never"]);
    spec["securityContext"]["runAsUser"] = json!(0);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": spec});
    let refusal = within(&["create", "--filename", "-"]).stdin(pod.to_string()).refused().await?;
    assert!(refusal.contains("PodSecurity"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn a_failed_container_fails_its_job() -> Result<()> {
    let admin = cluster().await?.admin();
    restricted(&admin, "failing").await?;
    let within = |args: &[&str]| admin.kubectl(["--namespace=failing"].iter().chain(args).copied());
    within(&["create", "--filename", "-"]).stdin(job("failed", pod_spec(IMAGE, &["unknown"]))).ok().await?;
    within(&["wait", "--for=condition=Failed", "job/failed", "--timeout=60s"]).ok().await?;
    let pods = within(&["get", "pods", "--selector=job-name=failed"]).json().await?;
    let code = pods.pointer("/items/0/status/containerStatuses/0/state/terminated/exitCode");
    assert_eq!(code, Some(&json!(2)), "{pods}");
    Ok(())
}

#[tokio::test]
async fn a_killed_container_is_started_again() -> Result<()> {
    let cluster = cluster().await?;
    let admin = cluster.admin();
    restricted(&admin, "killed").await?;
    let within = |args: &[&str]| admin.kubectl(["--namespace=killed"].iter().chain(args).copied());
    let mut spec = pod_spec(IMAGE, &["serve", "8080"]);
    spec["restartPolicy"] = json!("Always");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"}, "spec": spec});
    within(&["create", "--filename", "-"]).stdin(pod.to_string()).ok().await?;
    within(&["wait", "--for=condition=Ready", "pod/server", "--timeout=60s"]).ok().await?;
    cluster.real_node()?.kill_container("killed", "server", "main").await?;

    let began = Instant::now();
    loop {
        let pod = within(&["get", "pod", "server"]).json().await?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"] == 1 && status["ready"] == true {
            assert_eq!(status.pointer("/lastState/terminated/exitCode"), Some(&json!(137)), "{status}");
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "not started again: {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
