//! Installed, upgraded, removed and installed again.

use crate::support::shell::{remains, runbook, typed};
use crate::support::{Space, by_sre, countersign, shared_roles};
use crate::{CHART, HOME, helm};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Options};
use serde_json::json;
use std::fs;
use std::path::Path;

pub async fn emulating(minor: u32) -> Result<ControlPlane> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let flag = format!("--emulated-version=1.{minor}");
    let extra_apiserver_args = if minor == 36 { vec![] } else { vec![flag] };
    ControlPlane::start(Options { extra_apiserver_args, ..Options::default() }).await
}

pub async fn install(cluster: &ControlPlane, verb: &str, chart: &str, more: &[&str]) -> Result<String> {
    let args = [verb, "countersign", chart, "--namespace", HOME];
    helm(Some(&cluster.admin()), &[&args, more].concat()).await?.succeeded()
}

/// Each API server reads every field strictly, and holds by what it has.
#[tokio::test(flavor = "multi_thread")]
async fn every_supported_release_takes_it() -> Result<()> {
    for minor in [33, 34, 35, 36] {
        let cluster = emulating(minor).await?;
        let admin = cluster.admin();
        let notes = install(&cluster, "install", CHART, &["--create-namespace"]).await?;
        let hold = if minor < 36 { "webhook" } else { "policy" };
        ensure!(notes.contains(&format!("{hold} holds Jobs and Pods")), "1.{minor}: {notes}");
        let manifest =
            helm(Some(&admin), &["get", "manifest", "countersign", "--namespace", HOME]).await?.succeeded()?;
        let strictly = ["apply", "--dry-run=server", "--validate=strict", "--filename", "-"];
        let said = admin.kubectl(strictly).stdin(manifest).run().await?;
        ensure!(said.status.success() && !said.stderr.contains("unknown field"), "1.{minor}: {}", said.stderr);
        admin.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).ok().await?;
        // The operator knows what holds the gate by heart, and finds it so.
        let operator =
            countersign().start_with_admission(&cluster, &["--leader-elect", &format!("--hold={hold}")]).await?;
        let intact = "jsonpath={.metadata.annotations.countersign\\.dev/gate-intact}=True";
        let wait = ["wait", &format!("--for={intact}"), "lease/countersign-gate", "--namespace", HOME, "--timeout=30s"];
        admin.kubectl(["wait", "--for=create", "lease/countersign-gate", "--namespace", HOME]).ok().await?;
        admin.kubectl(wait).ok().await.with_context(|| format!("1.{minor}: {}", operator.log()))?;
    }
    Ok(())
}

/// What is asked and held is there after the release is gone, stays held, and goes on when it is back. In the end all of it is
/// removed, as the runbook says for where no operator is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_the_release() -> Result<()> {
    let cluster = emulating(36).await?;
    cluster.observer()?;
    let admin = cluster.admin();
    let previous = previous_chart()?;
    install(&cluster, "install", &previous.path().to_string_lossy(), &["--create-namespace"]).await?;
    admin.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).ok().await?;
    shared_roles(&cluster).await?;
    let operator = countersign().start(&cluster).await?;
    let space = Space::gated(&cluster, "kept").await?;
    space.policy(by_sre()).await?;
    let open = Space::new(&cluster, "kept-open").await?;
    open.policy(by_sre()).await?;
    let digest = open.bound("waits").await?;
    let held = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "held"}, "spec": crate::support::job("held")["spec"]});
    space.triage.kubectl(["create", "--namespace", "kept", "--filename", "-"]).stdin(held.to_string()).ok().await?;

    // An upgrade changes neither what waits nor what was shown.
    install(&cluster, "upgrade", CHART, &["--set=podAnnotations.upgraded=again"]).await?;
    assert_eq!(open.digest("waits").await?, digest);

    operator.kill();
    helm(Some(&admin), &["uninstall", "countersign", "--namespace", HOME]).await?.succeeded()?;
    let gone = admin.kubectl([
        "get",
        "deployment,clusterrole",
        "--namespace",
        HOME,
        "-o",
        "name",
        "-l",
        "app.kubernetes.io/name=countersign",
    ]);
    assert_eq!(gone.ok().await?.trim(), "", "something is left that does nothing");
    assert_eq!(open.digest("waits").await?, digest);
    ensure!(open.get("jobs", "waits").await?["spec"]["suspend"] == true);
    // Nobody starts what is held, and nothing unheld comes in.
    let patch =
        ["patch", "job", "held", "--namespace", "kept", "--type=merge", "--patch={\"spec\":{\"suspend\":false}}"];
    let refused = space.triage.kubectl(patch).refused().await?;
    ensure!(refused.contains("approv"), "{refused}");
    let mut bare = crate::support::job("bare");
    bare["spec"]["suspend"] = json!(false);
    let created = space
        .triage
        .kubectl(["create", "--namespace", "kept", "--filename", "-"])
        .stdin(bare.to_string())
        .run()
        .await?;
    ensure!(!created.status.success() || space.get("jobs", "bare").await?["spec"]["suspend"] == true, "it was let go");

    // The same release again takes all of it over.
    install(&cluster, "install", CHART, &[]).await?;
    let operator = countersign().start(&cluster).await?;
    let alice = cluster.user("alice", &["sre"])?;
    open.review(&alice, "waits", "Approve", &digest).ok().await?;
    open.state("waits", "Released").await?;

    // Gone for good, it is removed by an administrator alone.
    operator.kill();
    helm(Some(&admin), &["uninstall", "countersign", "--namespace", HOME]).await?.succeeded()?;
    let steps = runbook("Remove Countersign")?;
    typed(&admin, steps.get(1).context("the steps without an operator")?).await?;
    admin.kubectl(["delete", "namespace", "kept", "kept-open", "--timeout=60s"]).ok().await?;
    let left = remains(&admin).await?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// The chart as an earlier version would have been: another version, and no label of today's on its Pods.
fn previous_chart() -> Result<tempfile::TempDir> {
    let to = tempfile::tempdir()?;
    copy(Path::new(CHART), to.path())?;
    let path = to.path().join("Chart.yaml");
    let chart = fs::read_to_string(&path)?;
    let earlier = chart.replace("ersion: 0.1.0", "ersion: 0.0.9");
    ensure!(earlier != chart, "the chart has another version by now");
    fs::write(path, earlier)?;
    Ok(to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
