//! A gated namespace while the operator is away: nothing is blocked, nothing runs, and there is a way out.

use crate::lab;
use crate::support::{Space, by_sre, conditions, countersign, job};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

fn rules() -> Value {
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    rules
}

fn unsuspended(name: &str) -> Value {
    let mut job = job(name);
    job["spec"]["suspend"] = json!(false);
    job
}

#[tokio::test]
async fn a_job_that_comes_while_the_operator_is_away_arrives_held_and_is_asked_for_on_its_return() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::gated(lab.cluster, "away-arrives").await?;
    space.policy(rules()).await?;
    let bob = lab.user("bob", "sre")?;
    lab.kill();
    let made = space.create(&unsuspended("work")).await?;
    assert_eq!(made["spec"]["suspend"], true);
    let creator = &made["metadata"]["annotations"]["countersign.dev/created-by"];
    assert_eq!(creator, "system:serviceaccount:away-arrives:triage");
    let start = ["patch", "job", "work", "-n", "away-arrives", "-p", r#"{"spec":{"suspend":false}}"#];
    let message = space.triage.kubectl(start).refused().await?;
    assert!(message.contains("ValidatingAdmissionPolicy 'countersign-jobs'"), "{message}");
    lab.start().await?;
    space.approve(&bob, "work").await?;
    space.wait("jobs", "work", |j| j["status"]["succeeded"] == 1).await?;
    Ok(())
}

#[tokio::test]
async fn the_way_out_works_with_the_operator_dead_and_is_recorded_on_its_return() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::gated(lab.cluster, "away-override").await?;
    space.policy(rules()).await?;
    space.create(&unsuspended("asked")).await?;
    let asked = space.request_for("asked").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?.to_string();
    let rbac = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "break-glass", "namespace": "away-override"},
         "rules": [{"apiGroups": ["countersign.dev"], "resources": ["approvalrequests"], "verbs": ["override"]},
                   {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "patch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "break-glass", "namespace": "away-override"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "break-glass"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]}]});
    space.admin.kubectl(["apply", "-f", "-"]).stdin(rbac.to_string()).ok().await?;
    let (alice, bob) = (lab.user("alice", "sre")?, lab.user("bob", "sre")?);
    let bind = ["create", "rolebinding", "alice", "--role=gated", "--user=alice", "-n", "away-override"];
    space.admin.kubectl(bind).ok().await?;
    lab.kill();
    space.create(&unsuspended("unseen")).await?;
    let patch = json!({"metadata": {"annotations": {"countersign.dev/override-reason": "the site burns"}}, "spec": {"suspend": false}});
    let patch = patch.to_string();
    let write = |job: &'static str| {
        ["patch", "job", job, "-n", "away-override", "--type=merge", "-p", &patch].map(String::from)
    };
    let message = alice.kubectl(write("asked")).refused().await?;
    assert!(message.contains("override"), "everybody else stays out: {message}");
    for job in ["asked", "unseen"] {
        bob.kubectl(write(job)).ok().await?;
        space.wait("jobs", job, |j| j["status"]["succeeded"] == 1).await?;
    }
    lab.start().await?;
    let marked = space.state(&name, "Released").await?;
    assert!(conditions(&marked).any(|c| c["type"] == "Overridden"), "{marked:#}");
    assert!(marked["status"]["message"].as_str().is_some_and(|m| m.contains("bob, who may override")), "{marked:#}");
    let unseen = space.request_for_overridden("unseen").await?;
    assert_eq!(unseen["spec"]["requester"]["username"], "system:serviceaccount:away-override:triage");
    Ok(())
}

#[tokio::test]
async fn a_gated_namespace_is_deleted_and_its_requests_wait_for_the_operator_alone() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::gated(lab.cluster, "away-deleted").await?;
    space.policy(rules()).await?;
    space.create(&unsuspended("work")).await?;
    space.request_for("work").await?;
    lab.kill();
    space.admin.kubectl(["delete", "namespace", "away-deleted", "--wait=false"]).ok().await?;
    let began = std::time::Instant::now();
    while space.api("jobs").get_opt("work").await?.is_some() {
        ensure!(began.elapsed().as_secs() < 60, "the Job stays");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(space.api("approvalrequests").list(&Default::default()).await?.items.len(), 1, "its finalizer holds it");
    lab.start().await?;
    space.admin.kubectl(["wait", "--for=delete", "namespace/away-deleted", "--timeout=90s"]).ok().await?;
    Ok(())
}

/// Where the operator may read Secrets, a changed one voids what was shown; where it may not, the request says so.
#[tokio::test]
async fn a_secret_that_is_swapped_is_seen_where_the_operator_may_read_secrets() -> Result<()> {
    let mut lab = lab().await?;
    let space = Space::gated(lab.cluster, "away-secrets").await?;
    space.policy(rules()).await?;
    let secret = |text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "away-secrets"},
        "stringData": {"password": text}})
    };
    space.admin.kubectl(["apply", "-f", "-"]).stdin(secret("one").to_string()).ok().await?;
    let reading = |name: &str| {
        let mut body = unsuspended(name);
        body["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
        body
    };
    space.create(&reading("blind")).await?;
    let blind = space.request_for("blind").await?;
    let unread =
        |r: &Value| r["status"]["scope"].as_array().is_some_and(|s| s.iter().any(|s| s["tag"] == "unread-input"));
    assert!(unread(&blind), "{blind:#}");

    let bind = [
        "create",
        "clusterrolebinding",
        "read-secrets",
        "--clusterrole=countersign-read-secrets",
        "--serviceaccount=countersign-system:countersign",
    ];
    lab.cluster.admin().kubectl(bind).ok().await?;
    for how in ["metadata", "content"] {
        lab.kill();
        *lab.operator = Some(countersign().start_with_admission(lab.cluster, &["--read-secrets", how]).await?);
        space.create(&reading(how)).await?;
        let asked = space.request_for(how).await?;
        let name = asked["metadata"]["name"].as_str().context("name")?;
        let digest = space.digest(name).await?;
        let seen = space.get("approvalrequests", name).await?;
        assert!(!unread(&seen) && seen["status"]["inputs"][0]["name"] == "db", "{seen:#}");
        assert!(!seen.to_string().contains("b25l"), "nothing of the content is shown");
        space.admin.kubectl(["apply", "-f", "-"]).stdin(secret(how).to_string()).ok().await?;
        space.wait("approvalrequests", name, |r| r["status"]["digest"].as_str().is_some_and(|d| d != digest)).await?;
    }
    lab.cluster.admin().kubectl(["delete", "clusterrolebinding", "read-secrets"]).ok().await?;
    lab.kill();
    lab.start().await
}

/// What examples/gate shows is what happens.
#[tokio::test]
async fn the_examples_are_held_asked_for_and_started() -> Result<()> {
    let lab = lab().await?;
    let admin = lab.cluster.admin();
    let file = |name: &str| format!("{}/examples/gate/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    for name in ["namespace", "policy", "job", "cronjob"] {
        admin.kubectl(["create", "-f", &file(name)]).ok().await?;
    }
    let space = Space::new(lab.cluster, "batch").await?;
    let asked = space.request_for("rotate-keys").await?;
    assert_eq!(asked["spec"]["requestedBy"], "workflow.key-rotation");
    assert_eq!(asked["status"]["summary"]["rule"], "everything");
    assert!(!space.started("rotate-keys").await?);
    space.approve(&lab.user("alice", "sre")?, "rotate-keys").await?;
    space.wait("jobs", "rotate-keys", |j| j["status"]["succeeded"] == 1).await?;
    let cron_job = space.get("cronjobs", "prune-carts").await?;
    let author = "/spec/jobTemplate/metadata/annotations/countersign.dev~1authored-by";
    assert_eq!(cron_job.pointer(author), Some(&json!("admin")));
    // Its time has come.
    let soon = [
        "patch",
        "cronjob",
        "prune-carts",
        "-n",
        "batch",
        "--type=merge",
        "-p",
        r#"{"spec":{"schedule":"* * * * *"}}"#,
    ];
    admin.kubectl(soon).ok().await?;
    let nightly = space.scheduled("prune-carts", None).await?;
    let asked = space.request_for(&nightly).await?;
    assert_eq!(asked["spec"]["reason"], "remove carts that nobody touched for a year");
    assert!(!space.started(&nightly).await?);
    space.approve(&lab.user("alice", "sre")?, &nightly).await?;
    space.wait("jobs", &nightly, |j| j["status"]["succeeded"] == 1).await?;
    admin.kubectl(["delete", "approvalpolicy", "gated"]).ok().await?;
    admin.kubectl(["delete", "namespace", "batch", "--wait=false"]).ok().await?;
    Ok(())
}
