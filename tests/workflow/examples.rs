//! The examples of steps that ask without our command: each runs as it stands in its file, as the service account that its
//! file gives rights to.

use crate::support::{Space, python::python};
use crate::{Desk, Lab, lab};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const NAME: &str = "run-8f9a-remediate";

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// A step that runs. It is killed when this is dropped.
struct Step(Child);

impl Step {
    fn start(command: &mut Command) -> Result<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.kill_on_drop(true).spawn()?))
    }

    /// Waits until it ends with that code, and with that among what it said.
    async fn ends(self, code: i32, text: &str) -> Result<String> {
        let output = tokio::time::timeout(Duration::from_secs(60), self.0.wait_with_output());
        let output = output.await.context("it does not end")??;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.code() == Some(code) && said.contains(text), "{:?}, not {code}:\n{said}", output.status);
        Ok(said)
    }
}

/// The step with kubectl, as the workflow.
fn with_kubectl(lab: &Lab, desk: &Desk) -> Result<Step> {
    let programs = lab.cluster.kubectl_path().parent().context("kubectl has no directory")?;
    let mut paths = vec![programs.to_path_buf()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    // In a Pod, the namespace is that of the service account; outside, a kubeconfig says it.
    let mut kubeconfig: Value = serde_yaml::from_str(&std::fs::read_to_string(&desk.workflow.kubeconfig)?)?;
    kubeconfig["contexts"][0]["context"]["namespace"] = json!(desk.space.namespace);
    let kubeconfig = desk.file(lab.cluster, "kubeconfig", &kubeconfig.to_string())?;
    let mut command = Command::new(example("without-binary/with-kubectl.sh"));
    command.arg(example("without-binary/job.yaml")).arg(example("without-binary/request.yaml"));
    command.env("HOME", lab.cluster.dir()).env("PATH", std::env::join_paths(paths)?).env("KUBECONFIG", kubeconfig);
    Step::start(&mut command)
}

/// The step with curl, as the workflow, with the files that a Pod has.
async fn with_curl(lab: &Lab, desk: &Desk) -> Result<Step> {
    let account = lab.cluster.dir().join(format!("{}-account", desk.space.namespace));
    std::fs::create_dir_all(&account)?;
    let token = desk.space.admin.kubectl(["create", "token", "workflow", "-n", &desk.space.namespace]).ok().await?;
    std::fs::write(account.join("token"), token.trim())?;
    std::fs::write(account.join("namespace"), &desk.space.namespace)?;
    std::fs::copy(lab.cluster.ca_path(), account.join("ca.crt"))?;
    let mut command = Command::new(example("without-binary/with-curl.sh"));
    command.arg(example("without-binary/job.yaml")).arg(example("without-binary/request.yaml")).arg(NAME);
    command.env("SERVICE_ACCOUNT_DIR", account).env("API_SERVER", lab.cluster.server_url()).env("POLL_SECONDS", "1");
    Step::start(&mut command)
}

/// Starts one of both in the namespace.
async fn start(lab: &Lab, desk: &Desk, with: &str) -> Result<Step> {
    match with {
        "kubectl" => with_kubectl(lab, desk),
        _ => with_curl(lab, desk).await,
    }
}

#[tokio::test]
async fn without_our_command_the_same_can_be_asked_and_waited_for() -> Result<()> {
    let lab = lab().await?;
    for with in ["kubectl", "curl"] {
        let desk = lab.desk(&format!("plain-{with}")).await?;
        let step = start(&lab, &desk, with).await?;
        desk.space.digest(NAME).await?;
        ensure!(!desk.space.started("remediate-8f9a").await?, "it runs unapproved");
        // Killed and started anew, as a Pod is.
        drop(step);
        let step = start(&lab, &desk, with).await?;
        desk.decide(NAME, "Approve").await?;
        step.ends(0, "released").await?;
        ensure!(desk.space.started("remediate-8f9a").await?, "it does not run");
        ensure!(desk.requests().await? == 1, "it asked twice");
        // Once more, after the end.
        start(&lab, &desk, with).await?.ends(0, "released").await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_our_command_a_denial_and_a_lost_request_stop_the_step() -> Result<()> {
    let lab = lab().await?;
    for with in ["kubectl", "curl"] {
        let desk = lab.desk(&format!("stopped-{with}")).await?;
        let step = start(&lab, &desk, with).await?;
        desk.decide(NAME, "Deny").await?;
        step.ends(3, "denied").await?;
        ensure!(!desk.space.started("remediate-8f9a").await?, "it runs though it is denied");
        for kind in ["job/remediate-8f9a", "apr/run-8f9a-remediate"] {
            desk.space.admin.kubectl(["delete", kind, "-n", &desk.space.namespace]).ok().await?;
        }
        let step = start(&lab, &desk, with).await?;
        desk.space.digest(NAME).await?;
        desk.space.admin.kubectl(["delete", "apr", NAME, "-n", &desk.space.namespace]).ok().await?;
        step.ends(5, "gone").await?;
    }
    Ok(())
}

/// Starts the agent with the rights and the policy of its example, which name its namespace.
async fn agents(lab: &Lab) -> Result<(Desk, PathBuf)> {
    let space = Space::new(lab.cluster, "agents").await?;
    let setup = std::fs::read_to_string(example("agent/setup.yaml"))?;
    space.admin.kubectl(["apply", "-f", "-"]).stdin(setup).ok().await?;
    space
        .wait("approvalpolicies", "agents", |p| p.pointer("/status/conditions/0/status") == Some(&json!("True")))
        .await?;
    let workflow = lab.cluster.service_account("agents", "housekeeping").await?;
    let alice = lab.cluster.user("alice", &["sre"])?;
    let requirements = example("agent/requirements.txt");
    let python = python("kubernetes", &["-r", requirements.to_str().context("path")?]).await?;
    Ok((Desk { space, workflow, alice }, python))
}

fn agent(desk: &Desk, python: &Path, run: &str) -> Result<Step> {
    let mut command = Command::new(python);
    command.arg(example("agent/agent.py")).args([run, "agents"]).env("KUBECONFIG", &desk.workflow.kubeconfig);
    Step::start(&mut command)
}

#[tokio::test]
async fn an_agent_pauses_in_the_midst_of_its_work_until_somebody_approves() -> Result<()> {
    let lab = lab().await?;
    let (desk, python) = agents(&lab).await?;
    // Killed while it waits: the next one finds the request.
    let step = agent(&desk, &python, "r1")?;
    desk.space.digest("agent-r1-delete-sessions").await?;
    drop(step);
    let step = agent(&desk, &python, "r1")?;
    desk.decide("agent-r1-delete-sessions", "Approve").await?;
    let said = step.ends(0, "deleted 4211 sessions").await?;
    ensure!(said.contains("agent-r1-delete-sessions: found") && said.contains("Released"), "{said}");

    let step = agent(&desk, &python, "r2")?;
    desk.decide("agent-r2-delete-sessions", "Deny").await?;
    let said = step.ends(3, "left everything as it is").await?;
    ensure!(!said.contains("deleted"), "{said}");

    let step = agent(&desk, &python, "r3")?;
    let name = "agent-r3-delete-sessions";
    desk.space.digest(name).await?;
    desk.space.admin.kubectl(["delete", "apr", name, "-n", "agents"]).ok().await?;
    step.ends(5, "left everything as it is: the request was deleted").await?;

    // Somebody else was first under that name, with words that people approve of; the agent goes on with nothing.
    let mut other = crate::support::request("agent-r4-delete-sessions", None);
    other["spec"]["riskTags"] = json!(["data", "delete"]);
    let create = desk.space.triage.kubectl(["create", "-n", "agents", "-f", "-"]);
    create.stdin(other.to_string()).ok().await?;
    desk.decide("agent-r4-delete-sessions", "Approve").await?;
    let said = agent(&desk, &python, "r4")?.ends(6, "is there already, with another").await?;
    ensure!(!said.contains("deleted"), "{said}");
    Ok(())
}

/// The migration as its workflow asks for it, and the policy under which it takes one of sre and one of security.
#[tokio::test]
async fn a_schema_migration_takes_one_of_each_of_two_teams() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "payments").await?;
    for path in ["incident/setup.yaml", "policies/schema-changes.yaml"] {
        let path = example(path);
        space.admin.kubectl(["apply", "-f", path.to_str().context("path")?]).ok().await?;
    }
    let in_force = |policy: &Value| policy.pointer("/status/conditions/0/status") == Some(&json!("True"));
    space.wait("approvalpolicies", "schema-changes", in_force).await?;
    let job = example("schema-change/job.yaml");
    space.triage.kubectl(["create", "-f", job.to_str().context("path")?]).ok().await?;
    let (workflow, alice) = (space.triage.clone(), lab.cluster.user("alice", &["sre"])?);
    let desk = Desk { space, workflow, alice };
    let (bob, request) = (lab.cluster.user("bob", &["security"])?, example("schema-change/request.json"));
    let asked = ["-f", request.to_str().context("path")?, "--target", "job/migrate-91c2", "--wait"];
    let run = desk.start_as(&desk.workflow, &asked)?;
    desk.decide("run-91c2-migrate", "Approve").await?;
    desk.space.wait("approvalrequests", "run-91c2-migrate", |r| r["status"]["summary"]["approvals"] == "1/2").await?;
    ensure!(!desk.space.started("migrate-91c2").await?, "it runs with half of what it takes");
    let digest = desk.space.digest("run-91c2-migrate").await?;
    desk.space.review(&bob, "run-91c2-migrate", "Approve", &digest).ok().await?;
    run.ends(0, "payments/run-91c2-migrate: Released").await?;
    let job = desk.space.get("jobs", "migrate-91c2").await?;
    // A migration that half ran does not start again on its own.
    ensure!(job["spec"]["suspend"] == false && job["spec"]["backoffLimit"] == 0, "{}", job["spec"]);
    desk.space.admin.kubectl(["delete", "approvalpolicy", "schema-changes"]).ok().await?;
    Ok(())
}

/// Each team decides on its own, and both on what they share.
#[tokio::test]
async fn two_teams_decide_each_on_its_own_and_together_on_what_they_share() -> Result<()> {
    let lab = lab().await?;
    let space = Space::new(lab.cluster, "shop").await?;
    for path in ["two-teams/setup.yaml", "two-teams/policies.yaml"] {
        let path = example(path);
        space.admin.kubectl(["apply", "-f", path.to_str().context("path")?]).ok().await?;
    }
    let in_force = |policy: &Value| policy.pointer("/status/conditions/0/status") == Some(&json!("True"));
    for policy in ["team-shop", "team-ledger", "shared-database"] {
        space.wait("approvalpolicies", policy, in_force).await?;
    }
    let (alice, bob) = (lab.cluster.user("alice", &["team-shop"])?, lab.cluster.user("bob", &["team-ledger"])?);
    let workflow = lab.cluster.service_account("shop", "releases").await?;
    let desk = Desk { space, workflow, alice };
    let asks = |step: &str, tag: &str| -> Result<crate::Run> {
        let asked = ["--run-id", "r1", "--step-id", step, "--requested-by", "shop.releases", "--reason", "release 42"];
        desk.start_as(&desk.workflow, &[&asked[..], &["--risk-tag", tag, "--wait"]].concat())
    };
    // What is the shop's takes the shop alone, and nobody else's word.
    let run = asks("own", "deploy")?;
    let digest = desk.space.digest("r1-own").await?;
    let refused = desk.space.review(&bob, "r1-own", "Approve", &digest).refused().await?;
    ensure!(refused.contains("bob is not an approver of this request"), "{refused}");
    desk.decide("r1-own", "Approve").await?;
    run.ends(0, "shop/r1-own: Released").await?;
    // What they share takes both.
    let run = asks("shared", "schema")?;
    desk.decide("r1-shared", "Approve").await?;
    desk.space.wait("approvalrequests", "r1-shared", |r| r["status"]["summary"]["approvals"] == "1/2").await?;
    let digest = desk.space.digest("r1-shared").await?;
    desk.space.review(&bob, "r1-shared", "Approve", &digest).ok().await?;
    run.ends(0, "shop/r1-shared: Released").await?;
    // alice sees nothing of the ledger.
    let hidden = desk.alice.kubectl(["get", "apr", "-n", "ledger"]).refused().await?;
    ensure!(hidden.contains("forbidden"), "{hidden}");
    for policy in ["team-shop", "team-ledger", "shared-database"] {
        desk.space.admin.kubectl(["delete", "approvalpolicy", policy]).ok().await?;
    }
    Ok(())
}
