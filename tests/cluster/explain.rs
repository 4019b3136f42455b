//! What `countersign explain` and `countersign policy replay` tell of a real cluster.

use crate::support::{Space, by_sre, cluster, countersign, job, policy, request};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Options};
use serde_json::{Value, json};

/// Lets a group look on: requests and policies, and nothing of what they are about.
fn onlookers(name: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": format!("{name}-onlookers")},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "countersign-viewer"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "onlookers"}]})
}

async fn explain(who: &Identity, space: &Space, name: &str) -> Result<String> {
    let kubeconfig = who.kubeconfig.to_str().context("path")?;
    let args = ["explain", name, "-n", &space.namespace, "--kubeconfig", kubeconfig];
    let output = countersign().run(&args, "").await?;
    ensure!(output.status.success(), "{}", output.stderr);
    Ok(output.stdout)
}

#[tokio::test]
async fn a_reviewer_is_told_why_a_request_waits() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "explain").await?;
    let mut rules = by_sre();
    rules
        .as_array_mut()
        .context("rules")?
        .push(json!({"name": "gone", "when": {"riskTags": ["prod", "delete"]}, "decision": "Deny"}));
    space.policy(rules).await?;
    space.bound("remediate").await?;
    let alice = cluster.user("alice", &["sre"])?;

    space.admin.kubectl(["apply", "--filename", "-"]).stdin(onlookers("explain").to_string()).ok().await?;
    let carol = cluster.user("carol", &["onlookers"])?;
    let text = explain(&carol, &space, "remediate").await?;
    for expected in
        ["explain/remediate: Pending", "sre 0/1: nobody yet; open to sre", "you may not get namespaces explain"]
    {
        ensure!(text.contains(expected), "expected {expected:?} in\n{text}");
    }
    let text = explain(&alice, &space, "remediate").await?;
    for expected in [
        "✓ prod-write RequireApproval",
        "✗ gone Deny: riskTags: delete is not among [prod, write]",
        "Outcome: RequireApproval",
        "missing       waiting for 1 approval from sre",
        "system:serviceaccount:explain:triage, who asked",
        "expires unless approved by",
    ] {
        ensure!(text.contains(expected), "expected {expected:?} in\n{text}");
    }
    ensure!(!text.contains("\nNotes"), "what is found here is what the operator bound:\n{text}");
    let missing = countersign()
        .run(&["explain", "nothing", "-n", "explain", "--kubeconfig", alice.kubeconfig.to_str().context("path")?], "")
        .await?;
    ensure!(
        !missing.status.success()
            && missing.stderr.contains("there is no ApprovalRequest nothing in namespace explain")
    );
    Ok(())
}

#[tokio::test]
async fn a_request_that_may_not_be_read_and_one_that_has_ended_are_told_as_such() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "explain-ended").await?;
    space.policy(by_sre()).await?;
    let digest = space.bound("remediate").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &[])?);
    let refused = explain(&bob, &space, "remediate").await.unwrap_err().to_string();
    let expected = "you may not get approvalrequests.countersign.dev remediate in namespace explain-ended";
    ensure!(refused.contains(expected) && refused.contains("countersign-reviewer grants it"), "{refused}");

    space.review(&alice, "remediate", "Deny", &digest).ok().await?;
    space.state("remediate", "Denied").await?;
    let text = explain(&alice, &space, "remediate").await?;
    for expected in ["explain-ended/remediate: Denied", "sre 0/1: nobody\n", "alice Deny"] {
        ensure!(text.contains(expected), "expected {expected:?} in\n{text}");
    }
    for misleading in ["open to", "waiting for", "not counted", "\nTime"] {
        ensure!(!text.contains(misleading), "{misleading:?} after the end:\n{text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_no_operator_has_looked_at_is_not_judged() -> Result<()> {
    // The kinds alone: nobody stamps, and nobody evaluates.
    let cluster = ControlPlane::start(Options::default()).await?;
    let admin = cluster.admin();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    admin.kubectl(["apply", "--filename", crds]).ok().await?;
    admin.kubectl(["wait", "--for=condition=Established", "--timeout=20s", "--filename", crds]).ok().await?;
    admin.kubectl(["create", "namespace", "alone"]).ok().await?;
    let policy = policy("alone", "alone", json!([{"name": "all", "decision": "Allow"}]));
    admin.kubectl(["apply", "--filename", "-"]).stdin(policy.to_string()).ok().await?;
    let waiting = request("run", None).to_string();
    admin.kubectl(["create", "--namespace", "alone", "--filename", "-"]).stdin(waiting).ok().await?;

    let kubeconfig = admin.kubeconfig.to_str().context("path")?;
    let output = countersign().run(&["explain", "run", "-n", "alone", "--kubeconfig", kubeconfig], "").await?;
    ensure!(output.status.success(), "{}", output.stderr);
    ensure!(output.stdout.contains("the operator has not evaluated this yet"), "{}", output.stdout);
    ensure!(!output.stdout.contains("Outcome"), "{}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn a_replay_knows_what_a_job_was_that_is_gone() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "replay-gone").await?;
    let mut rules = by_sre();
    let secrets = json!({"name": "secrets", "when": {"riskTags": ["secrets"]}, "decision": "Deny"});
    rules.as_array_mut().context("rules")?.push(secrets);
    space.policy(rules).await?;
    let mut job = job("rotate");
    job["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "db"}}]);
    let create = space.triage.kubectl(["create", "--filename", "-", "--namespace", "replay-gone"]);
    create.stdin(job.to_string()).ok().await?;
    space.request("rotate", Some("rotate")).await?;
    space.state("rotate", "Denied").await?;
    space.admin.kubectl(["delete", "job", "rotate", "-n", "replay-gone", "--timeout=20s"]).ok().await?;

    let folder = std::env::temp_dir().join(format!("countersign-replay-gone-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("new.yaml");
    std::fs::write(&file, policy("replay-gone", "replay-gone", by_sre()).to_string())?;
    let (file, admin) = (file.to_str().context("path")?, cluster.admin());
    let kubeconfig = admin.kubeconfig.to_str().context("path")?;
    let args = ["policy", "replay", "--policies", file, "--all", "-o", "json", "--kubeconfig", kubeconfig];
    let output = countersign().run(&args, "").await?;
    std::fs::remove_dir_all(&folder)?;
    let json: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
    let mine = json["changed"].as_array().context("changed")?.iter().find(|c| c["namespace"] == "replay-gone");
    let mine = mine.context("a request that would not be denied any more")?;
    assert_eq!((&mine["before"], &mine["weaker"]), (&json!("Deny"), &json!(true)), "{mine}");
    assert_eq!(mine["without"], "judged by the tags in its status: its Job is gone");
    Ok(())
}

#[tokio::test]
async fn a_replay_tells_stricter_from_weaker() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "replay").await?;
    space.policy(by_sre()).await?;
    space.bound("remediate").await?;
    let admin = cluster.admin();
    let folder = std::env::temp_dir().join(format!("countersign-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let replay = async |rules: Value| -> Result<(bool, Value)> {
        let file = folder.join("new.yaml");
        std::fs::write(&file, policy("replay", "replay", rules).to_string())?;
        let (file, kubeconfig) = (file.to_str().context("path")?, admin.kubeconfig.to_str().context("path")?);
        let args =
            ["policy", "replay", "--policies", file, "--fail-on-weaker", "-o", "json", "--kubeconfig", kubeconfig];
        let output = countersign().run(&args, "").await?;
        let json: Value = serde_json::from_str(&output.stdout).with_context(|| output.stderr.clone())?;
        let mine = json["changed"].as_array().context("changed")?.iter().find(|c| c["namespace"] == "replay");
        Ok((output.status.success(), mine.cloned().unwrap_or_default()))
    };
    assert_eq!(replay(by_sre()).await?, (true, Value::Null), "the same policy changes nothing");

    let mut two = by_sre();
    two[0]["approvals"]["requirements"][0]["count"] = json!(2);
    let (fine, change) = replay(two).await?;
    assert_eq!((fine, &change["weaker"], &change["name"]), (true, &json!(false), &json!("remediate")));
    assert_eq!(
        change["differences"][0],
        json!({"what": "requirements", "before": "1 from sre", "after": "2 from sre", "weaker": false})
    );

    let mut loose = by_sre();
    loose[0]["constraints"] = json!({"maxRuntimeSeconds": 9000});
    let (fine, change) = replay(loose).await?;
    assert_eq!((fine, &change["weaker"]), (false, &json!(true)));
    let broken = replay(json!([{"name": "r", "decision": "RequireApproval"}])).await.unwrap_err();
    assert!(format!("{broken:#}").contains("policy replay: spec.rules[r].approvals: is required"), "{broken:#}");
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
