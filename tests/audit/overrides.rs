//! Starts by an override: each has its entry, once, whether a request tells of it or none does, and whether the operator saw
//! it or was away.

use crate::effects::all_recorded;
use crate::support::{Space, by_sre, job};
use crate::{Export, Lab, lab, transitions};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use serde_json::{Value, json};

const REASON: &str = "the site burns";

/// A gated namespace where everything needs an approval, and where bob may override.
async fn space(lab: &Lab, name: &str) -> Result<(Space, Identity)> {
    let space = Space::gated(lab.cluster, name).await?;
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    space.policy(rules).await?;
    let group = "rbac.authorization.k8s.io";
    let rbac = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "break-glass", "namespace": name}, "rules": [
            {"apiGroups": ["countersign.dev"], "resources": ["approvalrequests"], "verbs": ["override"]},
            {"apiGroups": ["batch", ""], "resources": ["jobs", "pods"], "verbs": ["get", "patch"]}]},
        {"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "break-glass", "namespace": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "break-glass"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "bob"}]}]});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(rbac.to_string()).ok().await?;
    Ok((space, lab.user("bob", "ops")?))
}

async fn override_(space: &Space, bob: &Identity, what: &str) -> Result<()> {
    let start = if what.starts_with("pod/") { json!({"schedulingGates": null}) } else { json!({"suspend": false}) };
    let patch = json!({"metadata": {"annotations": {"countersign.dev/override-reason": REASON}}, "spec": start});
    bob.kubectl(["patch", what, "-n", &space.namespace, "-p", &patch.to_string()]).ok().await?;
    Ok(())
}

/// A Job or Pod whose request alice denied. Returns that request.
async fn denied(lab: &Lab, space: &Space, object: &Value) -> Result<Value> {
    space.create(object).await?;
    let asked = space.request_for(object["metadata"]["name"].as_str().context("name")?).await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let digest = space.digest(name).await?;
    space.review(&lab.user("alice", "sre")?, name, "Deny", &digest).ok().await?;
    space.state(name, "Denied").await
}

/// A Job that names a request which nobody made.
fn naming(name: &str, request: &str) -> Value {
    let mut job = job(name);
    job["metadata"]["annotations"] = json!({"countersign.dev/request": request});
    job
}

fn pod(name: &str) -> Value {
    let spec = job("pod")["spec"]["template"]["spec"].clone();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// The entries about overrides of a Job or Pod.
fn told<'a>(entries: &'a [Value], space: &Space, target: &str) -> Vec<&'a Value> {
    let of_it = |e: &&Value| {
        let about = &e["target"];
        e["transition"] == "Overridden" && about["namespace"] == *space.namespace && about["name"] == target
    };
    entries.iter().filter(of_it).collect()
}

/// The export, once it tells of each of these.
async fn export(lab: &Lab, space: &Space, targets: &[&str]) -> Result<Export> {
    let all = |entries: &[Value]| targets.iter().all(|target| !told(entries, space, target).is_empty());
    let export = lab.export_until(&space.namespace, all).await?;
    let (whole, said) = export.verify(&export.trail).await?;
    ensure!(whole, "{said}");
    let entries = export.entries()?;
    for target in targets {
        let told = told(&entries, space, target);
        ensure!(told.len() == 1, "{target} is told {} times: {told:#?}", told.len());
    }
    Ok(export)
}

#[tokio::test]
async fn an_override_has_one_entry_with_a_request_and_without() -> Result<()> {
    let lab = lab().await?;
    let (space, bob) = space(&lab, "audit-override").await?;
    space.create(&job("pending")).await?;
    let pending = space.request_for("pending").await?;
    let ended = denied(&lab, &space, &job("denied")).await?;
    denied(&lab, &space, &pod("bare")).await?;
    space.create(&naming("unasked", "never-made")).await?;
    for what in ["job/pending", "job/denied", "pod/bare", "job/unasked"] {
        override_(&space, &bob, what).await?;
    }
    let targets = ["pending", "denied", "bare", "unasked"];
    let first = export(&lab, &space, &targets).await?.entries()?;
    let only = |target: &str| told(&first, &space, target)[0];
    let uid = space.get("jobs", "unasked").await?["metadata"]["uid"].clone();
    assert_eq!(only("unasked")["key"], format!("{}/0/Overridden", uid.as_str().context("uid")?));
    assert_eq!(only("pending")["request"]["name"], pending["metadata"]["name"], "its own request tells");
    assert_eq!(only("denied")["request"]["name"], ended["metadata"]["name"], "the request that had ended is named");
    assert_eq!(only("denied")["seen"]["digest"], ended["status"]["digest"]);
    assert_eq!(only("unasked")["request"], Value::Null);
    for target in ["denied", "bare", "unasked"] {
        assert_eq!(only(target)["by"], json!([{"username": "bob"}]), "{target}");
        assert!(only(target)["message"].as_str().is_some_and(|m| m.contains(REASON)), "{}", only(target));
        assert!(only(target)["seen"]["jobHash"].is_string(), "{}", only(target));
    }
    // The request that it named comes late: it says what happened, and the trail does not say it again.
    space.request("never-made", Some("unasked")).await?;
    space.state("never-made", "Released").await?;
    space.admin.kubectl(["delete", "apr", "never-made", "-n", "audit-override", "--timeout=20s"]).ok().await?;
    let export = export(&lab, &space, &targets).await?;
    assert_eq!(transitions(&export.entries()?, "audit-override", "never-made"), ["Requested"]);
    for (about, parts) in [
        ("job/unasked", ["audit-override/unasked (Job, no request; uid ", "by bob, who may override: the site burns"]),
        ("job/denied", ["denied: denied by alice", "by bob, who may override: the site burns"]),
        ("pod/bare", ["denied: denied by alice", "by bob, who may override: the site burns"]),
    ] {
        let shown = lab.audit(&["show", about, "--namespace", "audit-override"]).await?;
        assert!(parts.iter().all(|part| shown.stdout.contains(part)), "{about}: {}{}", shown.stdout, shown.stderr);
    }
    all_recorded(&lab).await
}

#[tokio::test]
async fn an_override_while_the_operator_is_away_is_made_up_once() -> Result<()> {
    let mut lab = lab().await?;
    let (space, bob) = space(&lab, "audit-away").await?;
    denied(&lab, &space, &job("denied")).await?;
    space.create(&job("pending")).await?;
    space.request_for("pending").await?;
    denied(&lab, &space, &pod("bare")).await?;
    space.create(&job("stopped")).await?;
    space.request_for("stopped").await?;
    lab.kill();
    space.create(&job("unseen")).await?;
    for what in ["job/denied", "job/pending", "pod/bare", "job/stopped", "job/unseen"] {
        override_(&space, &bob, what).await?;
    }
    let stop = ["patch", "job", "stopped", "-n", "audit-away", "-p", r#"{"spec":{"suspend":true}}"#];
    bob.kubectl(stop).ok().await?;
    let began = space.wait("jobs", "denied", |job| job["status"]["startTime"].is_string()).await?;
    let targets = ["denied", "pending", "bare", "stopped", "unseen"];
    lab.start(&[]).await?;
    let entries = export(&lab, &space, &targets).await?.entries()?;
    let time = told(&entries, &space, "denied")[0]["time"].as_str().context("time")?;
    let start = began["status"]["startTime"].as_str().context("start")?;
    assert_eq!(time.get(..19), start.get(..19), "when it began, and not when the operator came back");
    // The gate asks in the creator's name, and the start is part of that story, whichever was recorded first.
    let asked = space.request_for_overridden("unseen").await?;
    let shown = lab.audit(&["show", asked["metadata"]["name"].as_str().context("name")?, "-n", "audit-away"]).await?;
    assert!(shown.stdout.contains("by bob, who may override"), "{}{}", shown.stdout, shown.stderr);
    // Neither does another return tell it again.
    lab.kill();
    lab.start(&[]).await?;
    space.create(&job("after")).await?;
    override_(&space, &bob, "job/after").await?;
    export(&lab, &space, &[&targets[..], &["after"]].concat()).await?;
    all_recorded(&lab).await
}
