//! From `helm install` on: operators in Pods behind a Service, a workflow in a Pod, and the container that was approved.

use crate::idle;
use crate::lab::{HOME, Lab};
use crate::restricted;
use crate::stream::Stream;
use crate::support::shell::{remains, runbook, typed};
use crate::support::{Space, by_sre};
use anyhow::{Context, Result, ensure};
use countersign::admission::certificate::SETTLE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an operator that was killed costs users, at most: nobody can tell the API server faster than the node notices.
const WINDOW: Duration = Duration::from_secs(10);
/// What lets alice review.
const REVIEWERS: &str = "countersign-e2e-reviewers";

/// A policy that decides what its tag says.
fn policy() -> Value {
    let mut rules = by_sre();
    let approvals = rules[0]["approvals"].clone();
    let rule = |name: &str| json!({"name": name, "when": {"riskTags": [name]}, "decision": "RequireApproval", "approvals": approvals});
    let (mut brief, mut soon) = (rule("brief"), rule("soon"));
    brief["constraints"] = json!({"maxRuntimeSeconds": 5});
    soon["pendingTimeoutSeconds"] = json!(5);
    rules.as_array_mut().into_iter().for_each(|all| all.extend([brief.clone(), soon.clone()]));
    rules
}

/// A workflow's Pod: asks for a Job that it creates suspended, and waits.
async fn workflow(lab: &Lab, space: &Space, name: &str, tags: &[&str], job: Value) -> Result<()> {
    let ask = json!({"run_id": name, "step_id": "remediate", "reason": "prod write detected", "risk_tags": tags,
        "requested_by": "workflow.incident-triage"});
    let data = json!({"request.json": ask.to_string(), "job.json": job.to_string()});
    let files = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let spec = asking(lab, name, &["--job=/etc/step/job.json", "--name", name]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    for object in [files, pod] {
        space
            .admin
            .kubectl(["create", "--namespace", &space.namespace, "--filename", "-"])
            .stdin(object.to_string())
            .ok()
            .await?;
    }
    Ok(())
}

/// The spec of a Pod that asks what that ConfigMap says, and waits.
fn asking(lab: &Lab, files: &str, more: &[&str]) -> Value {
    let args = [&["request", "--file=/etc/step/request.json", "--wait", "--timeout=2m"], more].concat();
    let mut spec = lab.pod_spec(&args);
    spec["serviceAccountName"] = json!("triage");
    spec["volumes"] = json!([{"name": "step", "configMap": {"name": files}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "step", "mountPath": "/etc/step"}]);
    spec
}

/// How the workflow's Pod ended.
async fn ended(space: &Space, name: &str) -> Result<i64> {
    let code = "/status/containerStatuses/0/state/terminated/exitCode";
    let pod = space.wait("pods", name, |pod| pod.pointer(code).is_some()).await?;
    Ok(pod.pointer(code).and_then(Value::as_i64).unwrap_or(-1))
}

fn job(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"suspend": true, "backoffLimit": 0, "template": {"spec": spec}}})
}

/// A Job whose container goes on only with a receipt that holds for it.
fn verifying(lab: &Lab, name: &str) -> Value {
    let args =
        ["receipt", "verify", "--receipt=/etc/countersign/receipt", "--keys=/etc/keys/keys", "--job-uid=$(JOB_UID)"];
    let mut spec = lab.pod_spec(&args);
    let field = |path: &str| json!({"fieldPath": path});
    spec["volumes"] = json!([
        {"name": "receipt", "downwardAPI": {"items": [{"path": "receipt", "fieldRef": field("metadata.annotations['countersign.dev/receipt']")}]}},
        {"name": "keys", "configMap": {"name": "keys"}}]);
    let container = &mut spec["containers"][0];
    container["env"] = json!([{"name": "JOB_UID", "valueFrom": {"fieldRef": field("metadata.labels['batch.kubernetes.io/controller-uid']")}}]);
    container["volumeMounts"] =
        json!([{"name": "receipt", "mountPath": "/etc/countersign"}, {"name": "keys", "mountPath": "/etc/keys"}]);
    job(name, spec)
}

/// The whole way, each part in its own container.
async fn the_story(lab: &Lab) -> Result<()> {
    let space = lab.space("story").await?;
    space.policy(policy()).await?;
    lab.publish_keys(&space).await?;
    let within = |args: &[&str]| lab.admin.kubectl(["--namespace", &space.namespace].iter().chain(args).copied());

    workflow(lab, &space, "approved", &["prod", "write"], verifying(lab, "approved")).await?;
    let digest = space.digest("approved").await?;
    let bound = within(&["get", "pods", "--selector=job-name=approved", "--output=name"]).ok().await?;
    assert_eq!(bound.trim(), "", "it runs before it is approved");
    let began = Instant::now();
    space.review(&lab.alice, "approved", "Approve", &digest).ok().await?;
    within(&["wait", "--for=condition=Complete", "job/approved", "--timeout=60s"]).ok().await?;
    eprintln!("from the approval to the end of its container {:?}", began.elapsed());
    assert_eq!(ended(&space, "approved").await?, 0);
    let verified: Value = serde_json::from_str(&within(&["logs", "job/approved"]).ok().await?)?;
    assert_eq!(verified["maxRuntimeSeconds"], json!(900), "{verified}");

    workflow(lab, &space, "denied", &["prod", "write"], verifying(lab, "denied")).await?;
    let digest = space.digest("denied").await?;
    space.review(&lab.alice, "denied", "Deny", &digest).ok().await?;
    assert_eq!(ended(&space, "denied").await?, 3);
    workflow(lab, &space, "late", &["soon"], verifying(lab, "late")).await?;
    assert_eq!(ended(&space, "late").await?, 4);
    for name in ["denied", "late"] {
        ensure!(!space.started(name).await?, "{name} was started");
    }

    // It obeys the deadline that its policy set: what it asks for itself, nobody answers.
    let endless = job("endless", asking(lab, "endless", &["--name=unanswered"]));
    workflow(lab, &space, "endless", &["brief"], endless).await?;
    lab.approve(&space, "endless").await?;
    assert_eq!(ended(&space, "endless").await?, 0, "the workflow goes on once its Job was started");
    within(&["wait", "--for=condition=Failed", "job/endless", "--timeout=60s"]).ok().await?;
    let failed = space.get("jobs", "endless").await?.to_string();
    ensure!(failed.contains("DeadlineExceeded"), "{failed}");
    Ok(())
}

/// Nobody asked for it: the gate holds it, and asks.
async fn the_gate(lab: &Lab, space: &Space) -> Result<()> {
    let mut bare = job("bare", lab.pod_spec(&["--version"]));
    bare["spec"]["suspend"] = json!(false);
    let annotations =
        json!({"countersign.dev/risk-tags": "prod,write", "countersign.dev/reason": "prod write detected"});
    bare["metadata"]["annotations"] = annotations;
    let within = |args: &[&str]| space.triage.kubectl(["--namespace", &space.namespace].iter().chain(args).copied());
    let created = within(&["create", "--filename", "-"]).stdin(bare.to_string()).json().await?;
    assert_eq!(created["spec"]["suspend"], true);
    space.approve(&lab.alice, "bare").await?;
    lab.admin
        .kubectl(["wait", "--namespace", &space.namespace, "--for=condition=Complete", "job/bare", "--timeout=60s"])
        .ok()
        .await?;
    Ok(())
}

/// What admission is served under, or nothing while the Secret is not there.
async fn certificate(lab: &Lab) -> Result<String> {
    let path = r"--output=jsonpath={.data.tls\.crt}";
    lab.home(&["get", "secret", "countersign-admission-certificate", "--ignore-not-found", path]).await
}

/// Whatever happens to the operators, users go on asking.
async fn the_load(lab: &Lab, space: &Arc<Space>) -> Result<()> {
    let waiting = lab.space("waiting").await?;
    waiting.policy(policy()).await?;
    let digest = waiting.bound("waits").await?;

    let stream = Stream::start(space.clone(), "restart");
    lab.home(&["rollout", "restart", "deployment/countersign"]).await?;
    lab.home(&["rollout", "status", "deployment/countersign", "--timeout=120s"]).await?;
    stream.more(40).await?;
    stream.end_without_refusal().await.context("a rolling restart")?;

    let stream = Stream::start(space.clone(), "upgrade");
    lab.release("upgrade", &["--set=podAnnotations.upgraded=again"]).await?;
    let key = lab.home(&["get", "secret", "countersign-signing-key", "--output=json"]).await?;
    lab.home(&["delete", "secret", "countersign-signing-key"]).await?;
    stream.more(40).await?;
    lab.restore(&key).await?;
    stream.end_without_refusal().await.context("an upgrade, and a signing key that is deleted")?;
    assert_eq!(waiting.digest("waits").await?, digest, "what was shown changed");

    let stream = Stream::paced(space.clone(), "certificate", Duration::from_millis(200));
    let before = certificate(lab).await?;
    lab.home(&["delete", "secret", "countersign-admission-certificate"]).await?;
    // It is made anew, and for as long as that settles the API server trusts both.
    let (began, most) = (Instant::now(), Duration::try_from(SETTLE)? + Duration::from_secs(30));
    while [String::new(), before.clone()].contains(&certificate(lab).await?) {
        ensure!(began.elapsed() < most, "nobody made another certificate");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("another certificate {:?} after the Secret was deleted", began.elapsed());
    stream.more(40).await?;
    stream.end_without_refusal().await.context("another certificate")?;

    let stream = Stream::start(space.clone(), "kill");
    stream.more(10).await?;
    let leader = lab.leader().await?;
    let killed = Instant::now();
    lab.kill(&leader).await?;
    // It may meet the window. Then it is given again, below.
    if let Err(error) = lab.approve(&waiting, "waits").await {
        ensure!(format!("{error:#}").contains("calling webhook"), "{error:#}");
    }
    tokio::time::sleep(WINDOW).await;
    let refused: Vec<_> = stream.end().await?.into_iter().filter(|deed| deed.refused.is_some()).collect();
    let last = refused.iter().map(|deed| (deed.at + deed.took).duration_since(killed)).max().unwrap_or_default();
    eprintln!("a killed container: {} were refused, the last {last:?} after the kill", refused.len());
    ensure!(last < WINDOW, "{refused:#?}");
    if waiting.get("approvalrequests", "waits").await?.pointer("/status/state") != Some(&json!("Released")) {
        lab.approve(&waiting, "waits").await?;
    }
    waiting.state("waits", "Released").await?;
    Ok(())
}

/// Removed, nothing that waits is let go; installed again, it goes on.
async fn the_end(lab: &Lab, space: &Space) -> Result<()> {
    let waiting = lab.space("outlives").await?;
    waiting.policy(policy()).await?;
    let digest = waiting.bound("waits").await?;
    lab.helm(&["uninstall", "countersign", "--wait"]).await?;
    lab.home(&["wait", "--for=delete", "pod", "--selector=app.kubernetes.io/component=operator", "--timeout=60s"])
        .await?;
    assert_eq!(waiting.digest("waits").await?, digest);
    let mut bare = job("afterwards", lab.pod_spec(&["--version"]));
    bare["spec"]["suspend"] = json!(false);
    let create = space.triage.kubectl(["create", "--namespace", &space.namespace, "--filename", "-"]);
    let created = create.stdin(bare.to_string()).run().await?;
    ensure!(!created.status.success() || !space.started("afterwards").await?, "it was let go");

    lab.release("install", &[]).await?;
    lab.helm(&["test", "countersign"]).await?;
    lab.approve(&waiting, "waits").await?;
    waiting.state("waits", "Released").await?;
    Ok(())
}

/// Everything is removed, as the runbook says, and namespaces go when they are told to.
async fn the_removal(lab: &Lab) -> Result<()> {
    let held = ["get", "mutatingadmissionpolicy", "countersign-jobs"];
    let hold = if lab.admin.kubectl(held).run().await?.status.success() { "policy" } else { "webhook" };
    let steps = runbook("Remove Countersign")?.first().context("a block")?.clone();
    let began = Instant::now();
    typed(&lab.admin, &steps.replace("countersign manifests", &format!("countersign manifests --hold={hold}"))).await?;
    lab.admin.kubectl(["delete", "clusterrolebinding", REVIEWERS]).ok().await?;
    let spaces = ["story", "gated", "waiting", "outlives"].map(Lab::namespace);
    let delete = ["delete", "namespace", "--timeout=180s"].into_iter().chain(spaces.iter().map(String::as_str));
    lab.admin.kubectl(delete).ok().await?;
    let left = remains(&lab.admin).await?;
    ensure!(left.is_empty(), "{left:?} is left");
    eprintln!("removed within {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_by_helm_only_what_is_approved_runs() -> Result<()> {
    let lab = Lab::new().await?;
    restricted(&lab.admin, HOME).await?;
    let began = Instant::now();
    lab.release("install", &[]).await?;
    eprintln!("from helm install to two ready Pods {:?}", began.elapsed());
    let reviewers = ["create", "clusterrolebinding", REVIEWERS, "--clusterrole=countersign-reviewer", "--user=alice"];
    lab.admin.kubectl(reviewers).ok().await?;
    let said = lab.helm(&["test", "countersign", "--logs"]).await?;
    // Helm shows the log once for each object of the test, as long as its Pod is there.
    let is_well = |part: &str| said.lines().any(|line| line.starts_with(part) && line.contains(" ok "));
    ensure!(["admission", "gate", "leader"].into_iter().all(is_well), "{said}");
    if let Some(cluster) = lab.own() {
        idle::is_little(cluster).await?;
    }

    the_story(&lab).await.context("the story")?;
    let space = lab.space("gated").await?.gate().await?;
    space.policy(policy()).await?;
    the_gate(&lab, &space).await.context("the gate")?;
    let space = Arc::new(space);
    the_load(&lab, &space).await.context("the load")?;
    the_end(&lab, &space).await.context("the end")?;
    drop(space);
    the_removal(&lab).await.context("the removal")
}
