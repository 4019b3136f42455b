//! Every refusal in one line that says what to do.

use crate::support::{Space, by_sre, cluster};
use crate::{command, reviews, run, told};
use anyhow::{Context, Result, ensure};
use countersign_testbed::Output;
use serde_json::json;

/// One line on stderr, with that code.
fn refused(output: &Output, code: i32, expected: &str) -> Result<()> {
    let (found, text) = told(output);
    let line = output.stderr.trim_end();
    ensure!(
        found == Some(code) && line.contains(expected) && line.lines().count() == 1,
        "{expected:?}: {found:?}\n{text}"
    );
    Ok(())
}

#[tokio::test]
async fn every_refusal_is_one_line_that_says_what_to_do() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refusals").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["approvers"] = json!([{"kind": "Group", "name": "sre"}, {"kind": "ServiceAccount", "name": "triage", "namespace": "refusals"}]);
    rules[0]["approvals"]["requireComment"] = json!(true);
    space.policy(rules).await?;
    space.bound("run").await?;
    space.request("missing", Some("nowhere")).await?;
    space.evaluated("missing", "TargetMissing").await?;
    let alice = cluster.user("alice", &["sre"])?;
    let (bob, mallory) = (cluster.user("bob", &[])?, cluster.user("mallory", &["developers"])?);
    let yes = ["run", "--yes", "--comment", "seen"];
    let of = |output: Output, code: i32, expected: &'static str| refused(&output, code, expected);
    of(
        run("approve", &bob, &space, &yes).await?,
        3,
        "ask the platform team for a binding of the ClusterRole countersign-reviewer",
    )?;
    of(
        run("approve", &bob, &space, &[]).await?,
        3,
        "ask the platform team for a binding of the ClusterRole countersign-reviewer",
    )?;
    of(
        run("approve", &mallory, &space, &yes).await?,
        3,
        "refusals/run: not approved: mallory is not an approver of this request; it takes sre",
    )?;
    of(
        run("approve", &space.triage, &space, &yes).await?,
        3,
        "you asked for this yourself, and its policy forbids self-approval",
    )?;
    of(run("approve", &alice, &space, &["run", "--yes"]).await?, 3, "say with --comment what you checked")?;
    of(
        run("approve", &alice, &space, &["run", "--yes", "--comment", "  "]).await?,
        3,
        "say with --comment what you checked",
    )?;
    of(
        run("approve", &alice, &space, &["nothing", "--yes"]).await?,
        3,
        "there is no request nothing in namespace refusals; to see what waits for you: kubectl approve -A",
    )?;
    of(
        run("approve", &alice, &space, &["missing", "--yes", "--comment", "x"]).await?,
        3,
        "it cannot be reviewed now: ",
    )?;
    assert_eq!(reviews(&space, "run").await?, 0);

    let given = run("approve", &alice, &space, &[&yes[..], &["--wait", "20s"]].concat()).await?;
    ensure!(given.status.success(), "{}", given.stderr);
    of(run("deny", &alice, &space, &["run", "--yes"]).await?, 3, "it is Released already")?;
    let away = ["run", "--yes", "-n", "refusals", "--server", "https://127.0.0.1:1"];
    let kubeconfig = ["--kubeconfig", alice.kubeconfig.to_str().context("path")?];
    let away = command("approve").run(&[&away[..], &kubeconfig].concat(), "").await?;
    refused(&away, 1, "the API server at https://127.0.0.1:1/ cannot be reached")?;
    let nowhere =
        command("approve").run(&[&["run", "--yes", "--context", "nowhere"][..], &kubeconfig].concat(), "").await?;
    refused(&nowhere, 1, "kubectl approve: this kubeconfig cannot be used")?;
    // One that takes the connection and then says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let server = format!("https://{}", silent.local_addr()?);
    let args = ["run", "--yes", "-n", "refusals", "--request-timeout", "1s", "--server", &server];
    let silence = command("approve").run(&[&args[..], &kubeconfig].concat(), "").await?;
    refused(&silence, 1, "cannot be reached")?;
    Ok(())
}

#[tokio::test]
async fn whoever_policy_excludes_is_told_so() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::gated(cluster, "refusals-excluded").await?;
    let mut rules = by_sre();
    rules[0].as_object_mut().map(|rule| rule.remove("when"));
    let approvals = &mut rules[0]["approvals"];
    approvals["selfApproval"] = json!("Allow");
    approvals["exclude"] = json!(["JobCreator"]);
    approvals["requirements"][0]["approvers"] = json!([{"kind": "Group", "name": "sre"},
        {"kind": "ServiceAccount", "namespace": "refusals-excluded", "name": "triage"}]);
    space.policy(rules).await?;
    space.job("run").await?;
    let request = space.request_for("run").await?;
    let name = request["metadata"]["name"].as_str().context("name")?;
    let excluded = run("approve", &space.triage, &space, &[name, "--yes"]).await?;
    refused(&excluded, 3, "and policy excludes whoever did; someone else must approve")?;
    let listed = run("approve", &space.triage, &space, &["--all-pending"]).await?;
    ensure!(listed.stdout.contains("policy excludes you"), "{}", told(&listed).1);
    Ok(())
}

#[tokio::test]
async fn a_word_that_was_given_is_not_taken_twice() -> Result<()> {
    let cluster = cluster().await?;
    let space = Space::new(cluster, "refusals-twice").await?;
    let mut rules = by_sre();
    rules[0]["approvals"]["requirements"][0]["count"] = json!(3);
    rules[0]["approvals"]["denials"] = json!(2);
    space.policy(rules).await?;
    space.bound("run").await?;
    let (alice, bob) = (cluster.user("alice", &["sre"])?, cluster.user("bob", &["sre"])?);
    let yes = ["run", "--yes", "--wait", "20s"];
    ensure!(run("approve", &alice, &space, &yes).await?.status.success());
    refused(&run("approve", &alice, &space, &yes).await?, 3, "you have said Approve to this already; it counts once")?;
    let taken_back = run("deny", &alice, &space, &yes).await?;
    ensure!(taken_back.stdout.contains("1 of 2 denials; still takes 1 more to end it"), "{}", taken_back.stdout);
    refused(&run("approve", &alice, &space, &yes).await?, 3, "you denied this request, and a denial stands")?;
    let last = run("deny", &bob, &space, &yes).await?;
    ensure!(last.stdout.ends_with(": denied\n"), "{}", last.stdout);
    Ok(())
}
