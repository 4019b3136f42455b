//! What was approved really runs, and nothing before.

use anyhow::Result;
use serde_json::json;

use super::support::{Space, by_sre};
use super::{IMAGE, cluster, pod_spec};

#[tokio::test]
async fn a_container_runs_when_its_job_is_approved_and_not_before() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "approved").await?;
    space.policy(by_sre()).await?;
    let spec = json!({"suspend": true, "template": {"spec": pod_spec(IMAGE, &["say", "remediated"])}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "remediate"}, "spec": spec});
    let within = |args: &[&str]| space.triage.kubectl(["--namespace=approved"].iter().chain(args).copied());
    within(&["create", "--filename", "-"]).stdin(job.to_string()).ok().await?;
    space.request("remediate", Some("remediate")).await?;
    let digest = space.digest("remediate").await?;
    let pods = space.admin.kubectl(["get", "pods", "--namespace=approved"]).json().await?;
    assert_eq!(pods["items"], json!([]));

    let alice = cluster.user("alice", &["sre"])?;
    space.review(&alice, "remediate", "Approve", &digest).ok().await?;
    within(&["wait", "--for=condition=Complete", "job/remediate", "--timeout=60s"]).ok().await?;
    let log = space.admin.kubectl(["logs", "job/remediate", "--namespace=approved"]).ok().await?;
    assert_eq!(log, "remediated, as user 65532\n");
    Ok(())
}
