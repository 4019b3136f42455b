//! A cluster leaves nothing behind.

use anyhow::{Context, Result};
use countersign_testbed::ControlPlane;
use std::fs;
use std::path::Path;

use super::{IMAGE, add_images, pod_spec, real, restricted};

/// A second one beside the shared one: they do not get into each other's way either.
#[tokio::test]
async fn nothing_is_left_of_a_dropped_cluster() -> Result<()> {
    let cluster = ControlPlane::start(real()).await?;
    let dir = cluster.dir().to_owned();
    add_images(&cluster).await?;
    let admin = cluster.admin();
    restricted(&admin, "left").await?;
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server"},
        "spec": pod_spec(IMAGE, &["serve", "8080"])});
    admin.kubectl(["create", "--namespace=left", "--filename", "-"]).stdin(pod.to_string()).ok().await?;
    let wait = ["wait", "--namespace=left", "--for=condition=Ready", "pod/server", "--timeout=60s"];
    admin.kubectl(wait).ok().await?;
    // The Pod goes on while there is no API server, and the new one reaches its log.
    cluster.restart_apiserver(async { Ok(()) }).await?;
    admin.kubectl(["logs", "--namespace=left", "server"]).ok().await?;
    let cgroup = cgroup_of(&dir)?;
    assert!(!leftovers(&dir, &cgroup)?.is_empty(), "this test does not see what is there");

    drop(cluster);
    assert_eq!(leftovers(&dir, &cgroup)?, Vec::<String>::new());
    assert!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

/// The name of the control group that the kubelet was given.
fn cgroup_of(dir: &Path) -> Result<String> {
    let config: serde_json::Value = serde_json::from_str(&fs::read_to_string(dir.join("node/kubelet.json"))?)?;
    Ok(config["cgroupRoot"].as_str().context("a control group")?.to_owned())
}

/// Processes of that cluster, mounts on this side, and control groups.
fn leftovers(dir: &Path, cgroup: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let path = dir.to_string_lossy();
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        // Our janitor has the directory on its command line as well, and waits for us to end it.
        if String::from_utf8_lossy(&command).contains(&*path) || groups.contains(cgroup) {
            left.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    left.extend(mounts.lines().filter(|line| line.contains(&*path)).map(String::from));
    for tree in fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]) {
        let group = tree.join(cgroup.trim_start_matches('/'));
        left.extend(group.exists().then(|| group.display().to_string()));
    }
    Ok(left)
}
