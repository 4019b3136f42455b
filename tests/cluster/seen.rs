//! Classifiers at work: what a Job would run is told in words, and what surrounds it is looked at again when it changes.

use crate::derived::{apply, derived};
use crate::support::{Space, cluster, job, policy};
use anyhow::{Context, Result};
use serde_json::{Value, json};

const SPACE: &str = "seen-work";

/// One approval for everything, and a tag for each thing that can be seen.
fn classifying() -> Value {
    let mut policy = policy(
        SPACE,
        SPACE,
        json!([{"name": "all", "decision": "RequireApproval",
            "approvals": {"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]}}]),
    );
    policy["spec"]["classifiers"] = json!([
        {"tag": "loose", "when": {"privileged": true}},
        {"tag": "node", "when": {"hostAccess": true}},
        {"tag": "root", "when": {"runsAsRoot": true}},
        {"tag": "foreign", "when": {"imagesOtherThan": ["localhost/*"]}},
        {"tag": "network", "when": {"unrestrictedEgress": true}},
    ]);
    policy
}

fn risky() -> Value {
    let mut job = job("risky");
    let template = &mut job["spec"]["template"];
    template["metadata"] =
        json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/side": "unconfined"}});
    template["spec"]["hostPID"] = json!(true);
    template["spec"]["containers"][0]["securityContext"] =
        json!({"seccompProfile": {"type": "Unconfined"}, "runAsUser": 0});
    let probe = json!({"httpGet": {"host": "169.254.169.254", "path": "/", "port": 80}});
    let side = json!({"name": "side", "image": "mallory.example/miner:1", "livenessProbe": probe});
    template["spec"]["containers"].as_array_mut().into_iter().for_each(|all| all.push(side.clone()));
    job
}

fn network_policy() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": SPACE}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}})
}

#[tokio::test]
async fn what_a_job_would_run_is_told_and_a_network_policy_takes_its_tag_away() -> Result<()> {
    let space = Space::gated(cluster().await?, SPACE).await?;
    apply(&space, vec![classifying()]).await?;
    space.wait("approvalpolicies", SPACE, |p| p.pointer("/status/conditions/0/status") == Some(&json!("True"))).await?;
    space.create(&risky()).await?;
    let asked = space.request_for("risky").await?;
    let name = asked["metadata"]["name"].as_str().context("name")?;
    let asked = space.wait("approvalrequests", name, |r| r.pointer("/status/digest").is_some()).await?;
    for (tag, detail) in [
        ("loose", "container main: seccomp Unconfined, container side: AppArmor unconfined by annotation"),
        ("node", "hostPID, container side: livenessProbe calls host 169.254.169.254"),
        ("root", "container main: runAsUser 0, container side: no runAsUser and no runAsNonRoot"),
        ("foreign", "image mallory.example/miner:1"),
        ("network", "no NetworkPolicy restricts its egress"),
    ] {
        assert_eq!(derived(&asked, tag), Some(detail), "{asked:#}");
    }
    let first = space.digest(name).await?;

    apply(&space, vec![network_policy()]).await?;
    let closed = space.wait("approvalrequests", name, |r| derived(r, "network").is_none()).await?;
    assert_eq!(derived(&closed, "foreign"), Some("image mallory.example/miner:1"), "{closed:#}");
    assert_eq!(closed["status"]["revision"], 2, "{closed:#}");
    assert_ne!(closed["status"]["digest"], json!(first));
    let message = closed["status"]["message"].as_str().context("message")?;
    assert!(message.contains("what it can touch changed"), "{message}");
    let alice = cluster().await?.user("alice", &["sre"])?;
    let stale = space.review(&alice, name, "Approve", &first).refused().await?;
    assert!(stale.contains("is not what stands here now"), "{stale}");

    space.admin.kubectl(["delete", "networkpolicy", "closed", "-n", SPACE]).ok().await?;
    let open = space.wait("approvalrequests", name, |r| derived(r, "network").is_some()).await?;
    assert_ne!(open["status"]["digest"], json!(first), "a review that went stale never revives");
    assert!(!space.started("risky").await?);
    space.approve(&alice, "risky").await?;
    Ok(())
}
