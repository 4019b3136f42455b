//! What comes of objects that are created and changed, and what the caller reads.

use crate::lab::{create, job, lab, pod_spec};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn risky(name: &str, tags: &str) -> Value {
    let mut job = job(name);
    job["metadata"]["annotations"] = json!({"countersign.dev/risk-tags": tags, "countersign.dev/created-by": "admin"});
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_arrive_held_and_stamped_or_are_denied_with_the_rule() -> Result<()> {
    let lab = lab().await?;
    let namespace = lab.namespace("jobs", json!({"countersign.dev/gate": "enforce"})).await?;
    let mallory = lab.user("mallory")?;
    let output = create(&mallory, &namespace, &risky("remediate", "prod")).run().await?;
    let expected =
        "Warning: held until approved: rule production/prod-write requires approval; see kubectl get apr -n jobs";
    ensure!(output.status.success() && output.stderr.contains(expected), "{output:?}");
    let held = lab.find(&namespace, "jobs", |job| job["metadata"]["name"] == "remediate").await?;
    assert_eq!(held["spec"]["suspend"], true);
    let annotations = &held["metadata"]["annotations"];
    assert_eq!(annotations["countersign.dev/created-by"], "mallory");
    assert_eq!(annotations["countersign.dev/created-by-uid"], "");
    let groups: Vec<_> =
        annotations["countersign.dev/created-by-groups"].as_str().context("groups")?.split('\n').collect();
    ensure!(groups.contains(&"system:masters") && groups.contains(&"system:authenticated"), "{groups:?}");
    for verb in [&["create"][..], &["create", "--dry-run=server"], &["apply"], &["apply", "--server-side"]] {
        let args = verb.iter().copied().chain(["--namespace", &namespace, "--filename", "-"]);
        let message = mallory.kubectl(args).stdin(risky("never", "never").to_string()).refused().await?;
        ensure!(message.contains("denied by rule production/never: not here; nothing was created"), "{message}");
    }
    let mut forged = job("forged");
    forged["spec"]["template"]["metadata"] = json!({"annotations": {"countersign.dev/receipt": "mine"}});
    let message = create(&mallory, &namespace, &forged).refused().await?;
    ensure!(
        message.contains("spec.template.metadata.annotations: \"countersign.dev/receipt\" is written"),
        "{message}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_by_hand_is_explained_and_an_override_is_not_asked_about() -> Result<()> {
    let lab = lab().await?;
    let namespace = lab.namespace("starts", json!({"countersign.dev/gate": "enforce"})).await?;
    let mallory = lab.user("mallory")?;
    lab.create(&namespace, &job("remediate")).ok().await?;
    let patch = |patch: Value| {
        mallory.kubectl([
            "patch",
            "job",
            "remediate",
            "--namespace",
            &namespace,
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])
    };
    let message = patch(json!({"spec": {"suspend": false}})).refused().await?;
    let expected = "request remediate-request speaks for it and is Pending, so it waits for approval";
    ensure!(message.contains(expected) && message.contains("override-reason"), "{message}");
    patch(json!({"metadata": {"labels": {"a": "b"}}})).ok().await?;
    // The admission policies judge it; here are none. It must not need this webhook.
    let reason = json!({"countersign.dev/override-reason": "prod burns"});
    patch(json!({"metadata": {"annotations": reason}, "spec": {"suspend": false}})).ok().await?;
    let asked = lab.view.asked.load(Ordering::Relaxed);
    let pod = lab.find(&namespace, "pods", |_| true).await?;
    assert_eq!(pod["spec"].get("schedulingGates"), None);
    assert_eq!(lab.view.asked.load(Ordering::Relaxed), asked, "a Job's Pod costs no call");
    patch(json!({"spec": {"suspend": true}})).ok().await?;
    // The old reason is none for starting it again.
    ensure!(patch(json!({"spec": {"suspend": false}})).refused().await?.contains("Job remediate is held"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_held_unless_a_trusted_controller_makes_them() -> Result<()> {
    let lab = lab().await?;
    let closed = lab.namespace("closed", json!({"countersign.dev/gate": "enforce"})).await?;
    let open =
        lab.namespace("open", json!({"countersign.dev/gate": "enforce", "countersign.dev/workloads": "allow"})).await?;
    let mallory = lab.user("mallory")?;
    let mut shell = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shell"}, "spec": pod_spec()});
    let mut set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()}}});
    set["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    for namespace in [&closed, &open] {
        create(&mallory, namespace, &shell).ok().await?;
        lab.create(namespace, &set).ok().await?;
        let pod = lab.find(namespace, "pods", |pod| pod["metadata"]["name"] == "shell").await?;
        assert_eq!(pod["spec"]["schedulingGates"], json!([{"name": "countersign.dev/approval"}]));
        assert_eq!(pod["metadata"]["labels"]["countersign.dev/held"], "true");
        assert_eq!(pod["metadata"]["annotations"]["countersign.dev/created-by"], "mallory");
        let pod = lab.find(namespace, "pods", |pod| pod["metadata"]["labels"]["app"] == "web").await?;
        assert_eq!(pod["spec"].get("schedulingGates").is_some(), namespace == &closed);
    }
    shell["metadata"]["name"] = json!("bound");
    shell["spec"]["nodeName"] = json!("node-1");
    let message = create(&mallory, &closed, &shell).refused().await?;
    ensure!(message.contains("spec.nodeName: a Pod in a gated namespace waits for approval"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cronjobs_keep_their_authors() -> Result<()> {
    let lab = lab().await?;
    let namespace = lab.namespace("crons", json!({"countersign.dev/gate": "enforce"})).await?;
    let (mallory, bob) = (lab.user("mallory")?, lab.user("bob")?);
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}, "spec": {
        "schedule": "0 1 * * *", "jobTemplate": {"spec": {"template": {"spec": pod_spec()}}}}});
    let authors =
        |cron: &Value| cron.pointer("/spec/jobTemplate/metadata/annotations/countersign.dev~1authored-by").cloned();
    let created = create(&mallory, &namespace, &cron).json().await?;
    assert_eq!(authors(&created), Some(json!("mallory")));
    let patch = |patch: &Value| {
        bob.kubectl([
            "patch",
            "cronjob",
            "nightly",
            "--namespace",
            &namespace,
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])
    };
    let touched = patch(&json!({"spec": {"schedule": "0 2 * * *"}})).json().await?;
    assert_eq!(authors(&touched), Some(json!("mallory\nbob")));
    let forged = json!({"countersign.dev/authored-by": "alice"});
    let forged = json!({"spec": {"jobTemplate": {"metadata": {"annotations": forged}}}});
    assert_eq!(authors(&patch(&forged).json().await?), Some(json!("mallory\nbob")));
    let args = ["create", "job", "by-hand", "--from=cronjob/nightly", "--namespace", &namespace];
    let job = bob.kubectl(args).json().await?;
    assert_eq!(job["spec"]["suspend"], true);
    assert_eq!(job["metadata"]["annotations"]["countersign.dev/authored-by"], "mallory\nbob");
    assert_eq!(job["metadata"]["annotations"]["countersign.dev/created-by"], "bob");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_warns_only_warns_and_other_namespaces_are_left_alone() -> Result<()> {
    let lab = lab().await?;
    let warned = lab.namespace("warned", json!({"countersign.dev/gate": "warn"})).await?;
    let free = lab.namespace("free", json!({})).await?;
    let mallory = lab.user("mallory")?;
    let output = create(&mallory, &warned, &risky("never", "never")).run().await?;
    let expected = "Warning: with the gate enforced, this Job would be denied by rule production/never: not here";
    ensure!(output.status.success() && output.stderr.contains(expected), "{output:?}");
    let output = create(&mallory, &free, &risky("never", "never")).run().await?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for namespace in [warned, free] {
        let job = lab.find(&namespace, "jobs", |job| job["metadata"]["name"] == "never").await?;
        assert_eq!(job["spec"]["suspend"], false);
        assert_eq!(job["metadata"]["annotations"]["countersign.dev/created-by"], "admin");
    }
    Ok(())
}
