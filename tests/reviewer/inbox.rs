//! What waits for whom, in which order.

use crate::support::{Space, by_sre, cluster, policy, request};
use crate::terminal::start;
use crate::{command, ended, run};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use serde_json::{Value, json};

async fn names(who: &Identity, space: &Space, args: &[&str]) -> Result<Vec<String>> {
    let output = run("approve", who, space, &[&["-o", "name"], args].concat()).await?;
    ensure!(output.status.success(), "{}", output.stderr);
    let name = |line: &str| line.trim_start_matches("approvalrequest.countersign.dev/").to_string();
    Ok(output.stdout.lines().map(name).collect())
}

/// Lets somebody ask in the namespace.
async fn may_ask(space: &Space, who: &str) -> Result<()> {
    let grant = ["create", "rolebinding", &format!("ask-{who}"), "--clusterrole=countersign-requester"];
    let (user, namespace) = (format!("--user={who}"), space.namespace.clone());
    space.admin.kubectl([&grant[..], &[&user, "-n", &namespace]].concat()).ok().await?;
    Ok(())
}

#[tokio::test]
async fn the_inbox_has_what_i_can_decide_and_the_most_urgent_first() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "inbox").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(2);
    let mut urgent = rules[0].clone();
    urgent["name"] = json!("urgent");
    urgent["when"] = json!({"riskTags": ["urgent"]});
    urgent["pendingTimeoutSeconds"] = json!(900);
    let mut theirs = rules[0].clone();
    theirs["name"] = json!("theirs");
    theirs["when"] = json!({"riskTags": ["theirs"]});
    theirs["approvals"]["requirements"] =
        json!([{"name": "security", "approvers": [{"kind": "Group", "name": "security"}]}]);
    rules.as_array_mut().context("rules")?.extend([urgent, theirs]);
    space.policy(rules).await?;
    let tagged = async |name: &str, tags: Value| -> Result<()> {
        let mut body = request(name, None);
        body["spec"]["riskTags"] = tags;
        space.create(&body).await?;
        space.digest(name).await.map(|_| ())
    };
    tagged("slow", json!(["prod", "write"])).await?;
    tagged("fast", json!(["urgent"])).await?;
    tagged("theirs", json!(["theirs"])).await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    may_ask(&space, "alice").await?;
    let own = request("z-own", None).to_string();
    alice.kubectl(["create", "-n", "inbox", "--filename", "-"]).stdin(own).ok().await?;
    space.digest("z-own").await?;

    assert_eq!(names(&alice, &space, &[]).await?, ["fast", "slow"]);
    assert_eq!(names(&bob, &space, &[]).await?, ["fast", "slow", "z-own"]);
    ended(&run("approve", &alice, &space, &["fast", "--yes", "--wait", "20s"]).await?, 0, "1 of 2 approvals")?;
    assert_eq!(names(&alice, &space, &[]).await?, ["slow"]);
    assert_eq!(names(&bob, &space, &[]).await?, ["fast", "slow", "z-own"]);
    let all = run("approve", &alice, &space, &["--all-pending"]).await?;
    for (name, why) in [
        ("z-own", "you asked for it yourself"),
        ("fast", "you approved it"),
        ("theirs", "it takes security"),
        ("slow", "-"),
    ] {
        let line = all.stdout.lines().find(|line| line.starts_with(&format!("{name} "))).context("a line")?;
        ensure!(line.ends_with(why), "{}", all.stdout);
    }
    let wide = run("approve", &bob, &space, &["-o", "wide"]).await?;
    ensure!(
        wide.stdout.starts_with("NAME") && wide.stdout.contains(" min left") && wide.stdout.contains("sha256:"),
        "{}",
        wide.stdout
    );
    let everywhere = ["-A", "--kubeconfig", bob.kubeconfig.to_str().context("path")?];
    let everywhere = command("approve").run(&everywhere, "").await?;
    ensure!(
        everywhere.stdout.starts_with("NAMESPACE") && everywhere.stdout.contains("inbox "),
        "{}",
        everywhere.stdout
    );
    Ok(())
}

#[tokio::test]
async fn whom_the_authorizer_lets_approve_finds_it_in_the_inbox() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "inbox-authorized").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["approvers"] = json!([{"kind": "Authorized", "name": "inbox-authorized"}]);
    space.policy(rules).await?;
    space.bound("run").await?;
    let group = "rbac.authorization.k8s.io";
    let grants = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "inbox-approver"}, "rules": [
            {"apiGroups": ["countersign.dev"], "resources": ["approvalpolicies"], "resourceNames": ["inbox-authorized"], "verbs": ["approve"]}]},
        {"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "inbox-approver"},
         "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "inbox-approver"},
         "subjects": [{"apiGroup": group, "kind": "User", "name": "bob"}]}]});
    space.admin.kubectl(["apply", "--filename", "-"]).stdin(grants.to_string()).ok().await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    assert_eq!(names(&bob, &space, &[]).await?, ["run"]);
    assert_eq!(names(&alice, &space, &[]).await?, [""; 0]);
    // As somebody else: their inbox, and their word.
    let kubeconfig = space.admin.kubeconfig.to_str().context("path")?;
    let admin = ["run", "-n", "inbox-authorized", "--kubeconfig", kubeconfig, "--yes", "--wait", "20s"];
    let as_alice = command("approve").run(&[&admin[..], &["--as", "alice", "--as-group", "sre"]].concat(), "").await?;
    ended(
        &as_alice,
        3,
        "alice is not an approver of this request; it takes whoever may approve policy inbox-authorized",
    )?;
    let as_bob =
        command("approve").run(&[&admin[..], &["--as", "bob", "--as-group", "developers"]].concat(), "").await?;
    ended(&as_bob, 0, "released")?;
    assert_eq!(space.get("approvalrequests", "run").await?["spec"]["reviews"][0]["reviewer"]["username"], "bob");
    Ok(())
}

#[tokio::test]
async fn watching_tells_what_comes_and_what_goes() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "inbox-watch").await?;
    space.policy(by_sre()).await?;
    let alice = cluster.user("alice", &["sre"])?;
    let terminal = start("approve", &alice, &space, &["--watch"]).run()?;
    terminal.shows("Nothing waits for you in namespace inbox-watch.").await?;
    let digest = space.bound("run").await?;
    let screen = terminal.shows("min left").await?;
    ensure!(screen.contains("NAME   TIME "), "with headings above the first: {screen}");
    let bob = cluster.user("bob", &["sre"])?;
    space.review(&bob, "run", "Approve", &digest).ok().await?;
    terminal.shows("(no longer: ").await?;
    terminal.types("\u{3}")?;
    let end = terminal.ends_with(130, "interrupted").await?;
    ensure!(end.screen.matches("59 min left").count() <= 2, "each change once: {}", end.screen);
    Ok(())
}

#[tokio::test]
async fn a_token_and_a_server_are_taken_as_kubectl_takes_them() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "inbox-token").await?;
    let rules = json!([{"name": "all", "decision": "RequireApproval", "approvals": {"requirements": [{"name": "bot",
        "approvers": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": "inbox-token"}]}]}}]);
    let policy = policy("inbox-token", "inbox-token", rules);
    space.admin.kubectl(["apply", "--filename", "-"]).stdin(policy.to_string()).ok().await?;
    space.bound("run").await?;
    space.admin.kubectl(["create", "serviceaccount", "reviewer", "-n", "inbox-token"]).ok().await?;
    let bind = ["create", "rolebinding", "reviewer", "-n", "inbox-token", "--clusterrole=countersign-reviewer"];
    space.admin.kubectl([&bind[..], &["--serviceaccount=inbox-token:reviewer"]].concat()).ok().await?;
    let token = space.admin.kubectl(["create", "token", "reviewer", "-n", "inbox-token"]).ok().await?;
    // alice's kubeconfig, with her certificate: the token alone counts.
    let alice = cluster.user("alice", &["sre"])?;
    let args = ["run", "--yes", "--wait", "20s", "--token", token.trim(), "--server", cluster.server_url()];
    ended(&run("approve", &alice, &space, &args).await?, 0, "released")?;
    let reviewer = &space.get("approvalrequests", "run").await?["spec"]["reviews"][0]["reviewer"]["username"];
    assert_eq!(reviewer, "system:serviceaccount:inbox-token:reviewer");
    Ok(())
}
