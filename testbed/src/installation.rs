//! Countersign on a control plane: its manifests applied, its operator running beside the API server.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::processes::Process;
use crate::{ControlPlane, Identity, Output};

/// The operator's namespace.
const NAMESPACE: &str = "countersign-system";
/// Its service account.
const OPERATOR: &str = "countersign";
/// Serves admission on a free port, and registers it there.
const ADMISSION: [&str; 2] = ["--admission-bind=127.0.0.1:0", "--admission-url=https://127.0.0.1:0"];
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long an operator may take until it is ready: with 100,000 requests it reads for more than a minute.
const START: Duration = Duration::from_secs(300);
/// Lines of its log that an error shows of an operator that did not come to be ready.
const LAST: usize = 20;
const POLL: Duration = Duration::from_millis(50);

/// How to run the `countersign` command.
#[derive(Clone, Debug)]
pub struct Countersign {
    program: PathBuf,
    first: Vec<OsString>,
}

/// A running operator. It is killed when this is dropped, and also when this process ends without dropping it.
pub struct Operator(Option<Process>);

impl Countersign {
    /// The command is `program`, with the arguments `first` before all others.
    pub fn new(program: impl Into<PathBuf>, first: &[&str]) -> Self {
        Self { program: program.into(), first: first.iter().map(OsString::from).collect() }
    }

    /// Runs a subcommand to its end.
    pub async fn run(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .args(&self.first)
            .args(args)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            // A command may end without reading all of its input; its status tells the story.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Applies the manifests and waits until the CRDs are served and the admission policies in force.
    pub async fn install(&self, cluster: &ControlPlane) -> Result<()> {
        self.install_with(cluster, &[]).await
    }

    /// The same with further arguments for `manifests`, such as `["--hold", "webhook"]`.
    pub async fn install_with(&self, cluster: &ControlPlane, args: &[&str]) -> Result<()> {
        let manifests = self.run(&[&["manifests"], args].concat(), "").await?;
        ensure!(ExitStatus::success(&manifests.status), "countersign manifests failed: {}", manifests.stderr);
        let admin = cluster.admin();
        admin.kubectl(["apply", "--server-side", "--filename", "-"]).stdin(manifests.stdout).ok().await?;
        admin.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).ok().await?;
        // A policy takes effect some time after it is created. This object is one that only a policy refuses.
        let forged = request(json!({"username": "nobody"}));
        let create = || admin.kubectl(["create", "--dry-run=server", "--filename", "-"]).stdin(forged.to_string());
        until("the admission policies are in force", async || {
            Ok(create().run().await?.stderr.contains("ValidatingAdmissionPolicy"))
        })
        .await
    }

    /// Starts an operator that serves and registers admission, and waits until it answers.
    pub async fn start(&self, cluster: &ControlPlane) -> Result<Operator> {
        self.start_with_admission(cluster, &[]).await
    }

    /// The same with further flags.
    pub async fn start_with_admission(&self, cluster: &ControlPlane, flags: &[&str]) -> Result<Operator> {
        let identity = self.identity(cluster).await?;
        self.start_as(cluster, &identity, flags).await
    }

    /// The identity that operators have.
    pub async fn identity(&self, cluster: &ControlPlane) -> Result<Identity> {
        cluster.service_account(NAMESPACE, OPERATOR).await
    }

    /// Starts an operator that serves and registers admission, with the kubeconfig of that identity, and waits until it
    /// answers.
    pub async fn start_as(&self, cluster: &ControlPlane, identity: &Identity, flags: &[&str]) -> Result<Operator> {
        let operator = self.launch(cluster, identity, &[&ADMISSION, flags].concat()).await?;
        let admin = cluster.admin();
        let plain = request(Value::Null);
        until("admission answers", async || {
            let create = admin.kubectl(["create", "--dry-run=server", "--filename", "-", "--output=json"]);
            let output = create.stdin(plain.to_string()).run().await?;
            Ok(output.stdout.contains("\"requester\""))
        })
        .await?;
        Ok(operator)
    }

    /// Starts an operator that serves no admission, with the kubeconfig of that identity, and waits until it has listed
    /// everything.
    pub async fn start_beside(&self, cluster: &ControlPlane, identity: &Identity, flags: &[&str]) -> Result<Operator> {
        self.launch(cluster, identity, flags).await
    }

    /// Starts an operator with these flags, and waits until it has listed everything.
    pub async fn start_with(&self, cluster: &ControlPlane, flags: &[&str]) -> Result<Operator> {
        let identity = self.identity(cluster).await?;
        self.launch(cluster, &identity, flags).await
    }

    /// Starts an operator that serves and registers admission, and waits for nothing: see [`Operator::ready`].
    pub fn begin(&self, cluster: &ControlPlane, identity: &Identity, flags: &[&str]) -> Result<Operator> {
        self.spawn(cluster, identity, &[&ADMISSION, flags].concat())
    }

    async fn launch(&self, cluster: &ControlPlane, identity: &Identity, flags: &[&str]) -> Result<Operator> {
        let mut operator = self.spawn(cluster, identity, flags)?;
        operator.ready().await?;
        Ok(operator)
    }

    fn spawn(&self, cluster: &ControlPlane, identity: &Identity, flags: &[&str]) -> Result<Operator> {
        static STARTED: AtomicUsize = AtomicUsize::new(1);
        let mut args: Vec<OsString> = self.first.clone();
        args.extend(["operator".into(), "--kubeconfig".into(), identity.kubeconfig.clone().into()]);
        args.extend(flags.iter().map(OsString::from));
        let name = format!("operator-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        Ok(Operator(Some(cluster.start_process(&name, &self.program, args)?)))
    }
}

impl Operator {
    /// Waits until it has listed everything. An error where it ends before that.
    pub async fn ready(&mut self) -> Result<()> {
        let ready = within(START, "the operator is ready", async || {
            self.0.as_mut().map_or(Ok(()), Process::check)?;
            Ok(self.log().contains("ready: every watch"))
        });
        // The log ends with its directory, and tells what it waits for.
        ready.await.with_context(|| self.end_of_log())
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end, as whoever deletes its Pod does, and waits until it has.
    pub async fn terminate(&mut self) -> Result<()> {
        let Some(process) = self.0.as_mut() else { return Ok(()) };
        process.signal("TERM")?;
        until("the operator ends", async || Ok(process.check().is_err())).await
    }

    /// Stops it where it is, as a machine that is starved or suspended does.
    pub fn pause(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |process| process.signal("STOP"))
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |process| process.signal("CONT"))
    }

    /// The process id of the program itself, for what the kernel counts of it.
    pub fn id(&self) -> Result<u32> {
        self.0.as_ref().context("the operator has ended")?.child()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().is_some_and(|process| process.check().is_err())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        let path = self.0.as_ref().map_or(Path::new(""), Process::log);
        fs::read_to_string(path).unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST)..].join("\n")
    }

    fn end(&mut self) {
        if let Some(process) = self.0.take() {
            // What is paused does not see that it is to end.
            let _ = process.signal("CONT");
            process.kill();
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}

fn request(requester: Value) -> Value {
    let mut request = json!({
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "ApprovalRequest",
        "metadata": {"name": "is-admission-there", "namespace": "default"},
        "spec": {"runID": "r", "stepID": "s", "requestedBy": "testbed", "reason": "to see whether admission is there"},
    });
    if !requester.is_null() {
        request["spec"]["requester"] = requester;
    }
    request
}

async fn until(what: &str, reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    within(TIMEOUT, what, reached).await
}

async fn within(patience: Duration, what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < patience {
        if reached().await? {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("waited {patience:?} until {what}")
}
