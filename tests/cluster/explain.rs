//! What `countersign explain` and `countersign policy replay` tell of a real cluster.

use crate::support::{Space, by_sre, cluster, countersign, policy};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
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
    for expected in ["explain/remediate: Pending", "sre 0/1: nobody yet; open to sre", "you may not get namespaces"] {
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
