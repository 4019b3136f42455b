//! A Job that somebody starts through a hole in the gate.

use crate::changes::operator;
use crate::{HOME, cluster, event, lease, saved};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_job_that_is_started_through_a_hole_is_told_everywhere() -> Result<()> {
    let (cluster, _turn) = cluster().await?;
    let told = operator(cluster).await?;
    let admin = cluster.admin();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "hole", "labels": {"countersign.dev/gate": "enforce"}}});
    admin.kubectl(["create", "-f", "-"]).stdin(namespace.to_string()).ok().await?;
    let mut job = crate::support::job("work");
    job["spec"]["template"]["metadata"] = json!({"annotations": {"testbed.countersign.dev/runs-forever": "true"}});
    admin.kubectl(["create", "-n", "hole", "-f", "-"]).stdin(job.to_string()).ok().await?;
    // Whoever may write admission objects makes the hole.
    let guards =
        [("validatingadmissionpolicybinding", "countersign-jobs"), ("mutatingwebhookconfiguration", "countersign")];
    let mut before = vec![];
    for (kind, name) in guards {
        before.push(saved(&admin, kind, name).await?);
        admin.kubectl(["delete", kind, name]).ok().await?;
    }
    let began = Instant::now();
    let start = ["patch", "job", "work", "-n", "hole", "-p", r#"{"spec":{"suspend":false}}"#];
    while !admin.kubectl(start).run().await?.status.success() {
        ensure!(began.elapsed() < Duration::from_secs(30), "the guards are still in force");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for object in &before {
        told.restore(object).await?;
    }
    let started = "Job/hole/work: started by somebody other";
    let broken = lease(&told.client, HOME, "False", started).await?;
    event(&told.client, &broken, "GateBroken", started).await?;
    let (_, metrics) = told.get("/metrics").await?;
    ensure!(metrics.contains("countersign_foreign_unsuspends_total 1\n"), "{metrics}");
    ensure!(told.get("/readyz").await?.1.contains(started));
    let events = admin.kubectl(["get", "events", "-n", "hole", "--field-selector=reason=StartedPastTheGate"]);
    let events: Value = events.json().await?;
    ensure!(events["items"][0]["involvedObject"]["name"] == "work", "{events:#}");
    // It is told, not stopped: whoever can open the gate can open it again.
    let job = admin.kubectl(["get", "job", "work", "-n", "hole"]).json().await?;
    ensure!(job["spec"]["suspend"] == false);
    // An operator of the next test would find the Job, and tell of it, for as long as it is there.
    admin.kubectl(["delete", "namespace", "hole", "--timeout=120s"]).ok().await?;
    Ok(())
}
