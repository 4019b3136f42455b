//! `countersign request --wait` as a workflow's Pod runs it: with the token of the service account in examples/workflow, on one
//! control plane, one test at a time where something is taken away.

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod examples;
mod job;
mod outage;
mod outcomes;
mod restart;

use crate::support::{Space, countersign, installed};
use anyhow::{Context, Result, bail, ensure};
use countersign_testbed::{ControlPlane, Identity, Operator};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// What is asked where it matters little what.
const ASKED: [&str; 10] = [
    "--run-id",
    "run_8f9a",
    "--requested-by",
    "workflow.incident-triage",
    "--reason",
    "prod write detected",
    "--risk-tag",
    "prod",
    "--risk-tag",
    "write",
];

/// The control plane, and its operator. Holding it keeps other tests waiting, since some take both away.
struct Lab {
    cluster: &'static ControlPlane,
    operator: MutexGuard<'static, Option<Operator>>,
}

async fn lab() -> Result<Lab> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    static OPERATOR: Mutex<Option<Operator>> = Mutex::const_new(None);
    let operator = OPERATOR.lock().await;
    let mut lab = Lab { cluster: CLUSTER.get_or_try_init(installed).await?, operator };
    if lab.operator.is_none() {
        lab.start().await?;
    }
    Ok(lab)
}

impl Lab {
    async fn start(&mut self) -> Result<()> {
        *self.operator = Some(countersign().start(self.cluster).await?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    /// The namespace of a test, with a policy of one approval, and the example's service account there.
    async fn desk(&self, name: &str) -> Result<Desk> {
        let space = Space::new(self.cluster, name).await?;
        space.policy(support::by_sre()).await?;
        let rbac = example("rbac.yaml")?.replace("namespace: payments", &format!("namespace: {name}"));
        space.admin.kubectl(["apply", "-f", "-"]).stdin(rbac).ok().await?;
        let workflow = self.cluster.service_account(name, "workflow").await?;
        let alice = self.cluster.user("alice", &["sre"])?;
        Ok(Desk { space, workflow, alice })
    }
}

/// A file of the example.
fn example(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/workflow").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A namespace, its workflow, and its reviewer.
struct Desk {
    space: Space,
    workflow: Identity,
    alice: Identity,
}

impl Desk {
    /// Starts the command as that identity.
    fn start_as(&self, who: &Identity, args: &[&str]) -> Result<Run> {
        self.start_in(who, args, &[])
    }

    /// The same, with more of an environment.
    fn start_in(&self, who: &Identity, args: &[&str], environment: &[(&str, &PathBuf)]) -> Result<Run> {
        let kubeconfig = who.kubeconfig.to_str().context("path")?;
        let place = ["request", "--kubeconfig", kubeconfig, "-n", &self.space.namespace];
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args([&place, args].concat()).env_remove("KUBECONFIG").kill_on_drop(true);
        command.envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().context("stderr")?);
        Ok(Run { child, lines, said: String::new() })
    }

    /// Starts it as the workflow, for the step `step`, and waits until the request is there: it is called `run-8f9a-STEP`.
    fn start(&self, step: &str, more: &[&str]) -> Result<Run> {
        self.start_as(&self.workflow, &[&["--step-id", step, "--wait"], &ASKED[..], more].concat())
    }

    /// Has alice decide what stands now.
    async fn decide(&self, name: &str, decision: &str) -> Result<()> {
        let digest = self.space.digest(name).await?;
        self.space.review(&self.alice, name, decision, &digest).ok().await?;
        Ok(())
    }

    async fn uid(&self, resource: &str, name: &str) -> Result<String> {
        let object = self.space.get(resource, name).await?;
        Ok(object["metadata"]["uid"].as_str().context("uid")?.into())
    }

    /// How many requests there are.
    async fn requests(&self) -> Result<usize> {
        Ok(self.space.api("approvalrequests").list(&Default::default()).await?.items.len())
    }

    /// A file for the command to read.
    fn file(&self, cluster: &ControlPlane, name: &str, text: &str) -> Result<PathBuf> {
        let path = cluster.dir().join(format!("{}-{name}", self.space.namespace));
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// A running command.
struct Run {
    child: Child,
    lines: BufReader<tokio::process::ChildStderr>,
    said: String,
}

impl Run {
    /// Waits until it says that on stderr.
    async fn says(&mut self, text: &str) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            let mut line = String::new();
            let left = Duration::from_secs(60).saturating_sub(began.elapsed());
            if tokio::time::timeout(left, self.lines.read_line(&mut line)).await?? == 0 {
                bail!("it ended without {text:?}:\n{}", self.said);
            }
            self.said.push_str(&line);
            if line.contains(text) {
                return Ok(());
            }
        }
        bail!("it did not say {text:?}:\n{}", self.said)
    }

    /// Kills it, as the node does.
    async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits until it ends with that code, and with that on stderr. Returns what it printed, and all that it said.
    async fn ends(mut self, code: i32, text: &str) -> Result<(String, String)> {
        let rest = async {
            let mut line = String::new();
            while self.lines.read_line(&mut line).await? > 0 {
                self.said.push_str(&std::mem::take(&mut line));
            }
            anyhow::Ok(self.child.wait_with_output().await?)
        };
        let output = tokio::time::timeout(Duration::from_secs(60), rest).await.context("it does not end")??;
        let said = self.said;
        ensure!(
            output.status.code() == Some(code) && said.contains(text),
            "expected {code} and {text:?}: {:?}\n{said}",
            output.status
        );
        Ok((String::from_utf8(output.stdout)?, said))
    }
}

/// How often a text was said.
fn times(said: &str, text: &str) -> usize {
    said.lines().filter(|line| line.contains(text)).count()
}

/// The state of a printed request.
fn state(json: &str) -> Result<Value> {
    Ok(serde_json::from_str::<Value>(json)?["status"]["state"].clone())
}
