//! The cluster, two operators behind proxies that lose things, and who acts.

use crate::balancer::{Backend, Balancer};
use crate::known::Known;
use crate::story::Story;
use crate::support::process::Process;
use crate::support::{self, Space, bare, client, countersign, requests};
use crate::tally::{self, Sample, Tally};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, FaultProxy, Observer, Operator, Options, Violation};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use std::io::BufRead;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Others wait so long for a leader that is silent.
pub const LEASE: Duration = Duration::from_secs(3);

/// A namespace.
pub struct Kind {
    pub name: &'static str,
    pub gated: bool,
}

pub const SPACES: [Kind; 3] = [
    Kind { name: "soak-payments", gated: true },
    Kind { name: "soak-web", gated: true },
    Kind { name: "soak-batch", gated: false },
];

/// One of the two operators.
pub struct Replica {
    pub proxy: FaultProxy,
    backend: Backend,
    operator: Mutex<Option<Operator>>,
}

pub struct Stage {
    observer: Observer,
    pub cluster: ControlPlane,
    pub spaces: Vec<Space>,
    /// The workflow's account in each.
    pub workflows: Vec<Client>,
    /// Of the group sre.
    pub reviewers: [Client; 2],
    pub requests: Known,
    pub jobs: Known,
    /// The first is killed now and then; the second lives as long as the soak.
    pub replicas: [Replica; 2],
    balancer: Balancer,
}

impl Stage {
    pub async fn new() -> Result<Arc<Self>> {
        let cluster = bare(Options::default()).await?;
        let observer = Observer::start_quiet(&cluster)?;
        let balancer = Balancer::start().await?;
        let replicas = [Replica::new(&cluster).await?, Replica::new(&cluster).await?];
        for replica in &replicas {
            balancer.add(replica.backend);
            replica.start(&cluster, &balancer).await?;
        }
        let (mut spaces, mut workflows) = (vec![], vec![]);
        let registered = Space::given(&cluster.admin(), None, "soak-before").await?;
        until("admission is registered", async || {
            let probe = support::request("probe", None).to_string();
            let create = ["create", "--dry-run=server", "-o", "json", "--filename", "-"];
            Ok(registered.admin.kubectl(create).stdin(probe).run().await?.stdout.contains("\"requester\""))
        })
        .await?;
        for kind in &SPACES {
            let mut space = Space::unobserved(&cluster, kind.name).await?;
            if kind.gated {
                space = space.gate().await?;
            }
            space.policy(rules(900)).await?;
            workflows.push(client(&space.triage).await?);
            spaces.push(space);
        }
        let admin = client(&cluster.admin()).await?;
        let reviewers =
            [client(&cluster.user("alice", &["sre"])?).await?, client(&cluster.user("bob", &["sre"])?).await?];
        let (requests, jobs) = (Known::follow(admin.clone(), &requests()), Known::follow(admin, &jobs()));
        Ok(Arc::new(Self { observer, cluster, spaces, workflows, reviewers, requests, jobs, replicas, balancer }))
    }

    /// An API of a story's namespace, for whoever that client is.
    pub fn api(&self, client: &Client, space: usize, resource: &str) -> Api<DynamicObject> {
        let resource = if resource == "jobs" { jobs() } else { requests() };
        Api::namespaced_with(client.clone(), SPACES[space].name, &resource)
    }

    /// Starts an operator anew, and again where a fault ends it at once, as its Deployment would.
    pub async fn restart(&self, number: usize) -> Result<()> {
        let mut started = Ok(());
        for _ in 0..10 {
            started = self.replicas[number].start(&self.cluster, &self.balancer).await;
            if started.is_ok() {
                break;
            }
        }
        started
    }

    /// What the operator takes that nobody kills.
    pub async fn sample(&self, tally: &Tally) -> Result<Sample> {
        let (memory, files) = self.replicas[1].takes().await?;
        let made = tally.made.load(Ordering::Relaxed);
        Ok(Sample { memory, files, kept: self.requests.count(), made })
    }

    /// Whether everything is as its story says, nobody started what they may not, and the trail is whole.
    pub async fn check(&self, stories: &[Story], tally: &Tally) -> Result<()> {
        // What stands against the run is told one by one below.
        let _ = self.observer.check_now().await;
        for violation in self.observer.violations() {
            ensure!(self.is_unlogged(&violation, stories, tally)?, "past the gate: {violation}");
            println!("soak: the API server was killed before it logged what led to this: {violation}");
        }
        let counts = self.observer.counts();
        ensure!(counts.jobs > 0 && counts.releases > 0 && counts.pods > 0, "the observer saw nothing: {counts:?}");
        println!("soak: the observer saw {counts:?}");
        tally::starts(self, tally)?;
        tally::all_hold([tally.check_starts(stories), self.trail(stories).await])
    }

    /// Whether a violation is one of the log alone. An API server that is killed may have stored a write that it never logged:
    /// what follows from it, at that time, looks as if nothing had led to it. What starts must be what people approved all the same.
    fn is_unlogged(&self, violation: &Violation, stories: &[Story], tally: &Tally) -> Result<bool> {
        let about = |story: &&Story| violation.text.contains(&format!("{}/{}", SPACES[story.space].name, story.name));
        if !stories.iter().filter(about).any(Story::starts) {
            return Ok(false);
        }
        let log = std::io::BufReader::new(std::fs::File::open(self.cluster.audit_log().path())?);
        for line in log.lines() {
            let line = line?;
            if violation.events.iter().any(|id| line.contains(id)) {
                let event: Value = serde_json::from_str(&line)?;
                let at: Timestamp = event["requestReceivedTimestamp"].as_str().context("a time")?.parse()?;
                if tally.was_restarting(at) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn trail(&self, stories: &[Story]) -> Result<()> {
        let file = |name: &str| self.cluster.dir().join(name).display().to_string();
        let (trail, checkpoint, keys) = (file("soak.jsonl"), file("soak.checkpoint"), file("soak.keys"));
        let kubeconfig = self.cluster.admin().kubeconfig.display().to_string();
        let export = [
            "audit",
            "export",
            "--output",
            &trail,
            "--checkpoint",
            &checkpoint,
            "--keys",
            &keys,
            "--kubeconfig",
            &kubeconfig,
        ];
        // Records and checkpoints follow what they tell of.
        until("the trail tells how each ended", async || {
            let output = countersign().run(&export, "").await?;
            Ok(output.status.success() && untold(&std::fs::read_to_string(&trail)?, stories)?.is_empty())
        })
        .await
        .with_context(|| told_instead(&trail, stories).unwrap_or_else(|error| format!("{error:#}")))?;
        let verify =
            countersign().run(&["audit", "verify", &trail, "--keys", &keys, "--checkpoint", &checkpoint], "").await?;
        ensure!(verify.status.success(), "{}{}", verify.stdout, verify.stderr);
        println!("soak: {}", verify.stdout.trim());
        Ok(())
    }

    pub async fn tell_logs(&self) {
        for (number, replica) in self.replicas.iter().enumerate() {
            let operator = replica.operator.lock().await;
            let log = operator.as_ref().map(Operator::log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("operator {number}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Requests of which the trail does not tell the end, or not once.
fn untold(trail: &str, stories: &[Story]) -> Result<Vec<Story>> {
    let mut ends = std::collections::HashMap::<(String, String), usize>::new();
    for line in trail.lines() {
        let record: Value = serde_json::from_str(line)?;
        for entry in record["entries"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            *ends.entry((text(&entry["request"]["uid"]), text(&entry["transition"]))).or_default() += 1;
        }
    }
    let told = |story: &&Story| {
        let end = |uid: &String| ends.get(&(uid.clone(), story.end().to_string())) == Some(&1);
        story.request.as_ref().is_none_or(|(_, uid)| end(uid))
    };
    Ok(stories.iter().filter(|story| !told(story)).cloned().collect())
}

/// What the trail tells of each request whose end it does not tell, or not once.
fn told_instead(path: &str, stories: &[Story]) -> Result<String> {
    use std::fmt::Write;
    let trail = std::fs::read_to_string(path)?;
    let mut text = String::new();
    for story in untold(&trail, stories)? {
        writeln!(text, "{story:?}")?;
        let uid = story.request.as_ref().map_or("", |(_, uid)| uid);
        for line in trail.lines().filter(|line| line.contains(uid)) {
            let record: Value = serde_json::from_str(line)?;
            let entries = record["entries"].as_array().into_iter().flatten();
            for entry in entries.filter(|entry| entry["request"]["uid"] == uid) {
                writeln!(
                    text,
                    "  in record {}: {} {} {}",
                    record["sequence"], entry["key"], entry["time"], entry["message"]
                )?;
            }
        }
    }
    Ok(text)
}

impl Replica {
    async fn new(cluster: &ControlPlane) -> Result<Self> {
        let proxy = FaultProxy::start(cluster, &countersign().identity(cluster).await?).await?;
        let backend = Backend { admission: free()?, readiness: free()? };
        Ok(Self { proxy, backend, operator: Mutex::new(None) })
    }

    async fn start(&self, cluster: &ControlPlane, balancer: &Balancer) -> Result<()> {
        let flags = [
            format!("--admission-bind={}", self.backend.admission),
            format!("--metrics-bind={}", self.backend.readiness),
            format!("--admission-url=https://{}", balancer.address),
            "--admission-certificate=secret".into(),
            "--leader-elect".into(),
            format!("--lease-seconds={}", LEASE.as_secs()),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let operator = countersign().start_beside(cluster, self.proxy.identity(), &flags).await?;
        *self.operator.lock().await = Some(operator);
        Ok(())
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&self) {
        if let Some(operator) = self.operator.lock().await.take() {
            operator.kill();
        }
    }

    /// Stops it where it is for a while.
    pub async fn sleep(&self, time: Duration) -> Result<()> {
        let operator = self.operator.lock().await;
        let operator = operator.as_ref().context("it runs")?;
        operator.pause()?;
        tokio::time::sleep(time).await;
        operator.resume()
    }

    pub async fn has_ended(&self) -> bool {
        self.operator.lock().await.as_mut().is_none_or(Operator::has_ended)
    }

    /// Bytes of memory, and open files.
    async fn takes(&self) -> Result<(u64, usize)> {
        let operator = self.operator.lock().await;
        let process = Process::new(operator.as_ref().context("it runs")?.id()?);
        Ok((process.memory("status", "VmRSS:")?, process.files()?))
    }
}

fn jobs() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("batch", "v1", "Job"), "jobs")
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// What policy says: `seconds` is what editors change.
pub fn rules(seconds: u64) -> Value {
    let approvals = json!({"requirements": [{"name": "sre", "approvers": [{"kind": "Group", "name": "sre"}]}]});
    let rule = |name: &str, tag: &str, decision: &str| json!({"name": name, "when": {"riskTags": ["prod", tag]}, "decision": decision, "reason": "soak", "trustClaims": true});
    let mut write = rule("write", "write", "RequireApproval");
    (write["approvals"], write["constraints"]) = (approvals.clone(), json!({"maxRuntimeSeconds": seconds}));
    let mut brief = rule("brief", "brief", "RequireApproval");
    (brief["approvals"], brief["pendingTimeoutSeconds"]) = (approvals, json!(6));
    json!([write, brief, rule("safe", "safe", "Allow"), rule("forbidden", "forbidden", "Deny")])
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !reached().await? {
        ensure!(began.elapsed() < Duration::from_secs(60), "waited for a minute until {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
