//! Several operators serve admission behind one address, under one certificate, and users notice nothing when one of them ends
//! or the certificate is replaced. What nobody can hide, a killed operator, is over in a moment, and lets nothing through.

#[path = "../support/mod.rs"]
mod support;

mod balancer;
mod certificate;
mod provided;
mod seen;
mod stream;

use anyhow::{Context, Result, ensure};
use balancer::{Backend, Balancer};
use countersign_testbed::{ControlPlane, Identity, Operator, Options};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stream::Stream;
use support::told::said;
use support::{Space, by_sre, client, countersign, installed_with};

/// Others wait so long for a leader that is silent.
const LEASE: Duration = Duration::from_secs(3);
const HOME: &str = "countersign-system";
const CERTIFICATE: &str = "countersign-admission-certificate";

/// A cluster of one test. What these tests do to it, no other would bear.
struct Lab {
    cluster: ControlPlane,
    identity: Identity,
    balancer: Balancer,
    /// Where the API server finds admission, and what it is served under.
    flags: Vec<String>,
    /// Events that told of a broken gate before there was one that is whole.
    told: AtomicUsize,
}

struct Replica {
    operator: Operator,
    backend: Backend,
}

impl Lab {
    async fn new() -> Result<Self> {
        let balancer = Balancer::start().await?;
        let url = format!("--admission-url=https://{}", balancer.address);
        Self::with(Options::default(), balancer, vec![url, "--admission-certificate=secret".into()]).await
    }

    async fn with(options: Options, balancer: Balancer, flags: Vec<String>) -> Result<Self> {
        let cluster = installed_with(options).await?;
        let identity = countersign().identity(&cluster).await?;
        Ok(Self { cluster, identity, balancer, flags, told: AtomicUsize::new(0) })
    }

    /// Starts one more operator. It may be ready some time later.
    async fn start(&self) -> Result<Replica> {
        let backend = Backend { admission: free()?, readiness: free()? };
        let flags = [
            format!("--admission-bind={}", backend.admission),
            format!("--metrics-bind={}", backend.readiness),
            "--leader-elect".into(),
            format!("--lease-seconds={}", LEASE.as_secs()),
            "--drain-seconds=2".into(),
        ];
        let flags: Vec<&str> = flags.iter().chain(&self.flags).map(String::as_str).collect();
        let operator = countersign().start_beside(&self.cluster, &self.identity, &flags).await?;
        self.balancer.add(backend);
        Ok(Replica { operator, backend })
    }

    async fn ready(&self, replica: &Replica) -> Result<Duration> {
        let began = Instant::now();
        while !self.balancer.ready().contains(&replica.backend) {
            ensure!(
                began.elapsed() < Duration::from_secs(20),
                "it is not ready: {:?}\n{}",
                said(replica.backend.readiness, "/readyz").await,
                replica.operator.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }

    async fn two(&self) -> Result<[Replica; 2]> {
        let two = [self.start().await?, self.start().await?];
        self.settled(&two).await?;
        Ok(two)
    }

    /// Waits until both serve, and the gate is whole.
    async fn settled(&self, two: &[Replica; 2]) -> Result<()> {
        for replica in two {
            self.ready(replica).await?;
        }
        self.until_registered().await?;
        // Where no webhook was registered yet, that is told, too.
        let began = Instant::now();
        while !self.is_intact().await? {
            ensure!(began.elapsed() < Duration::from_secs(20), "the gate is not whole");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.told.store(self.broken().await?.len(), Ordering::Relaxed);
        Ok(())
    }

    /// A registration takes effect some time later.
    async fn until_registered(&self) -> Result<()> {
        let began = Instant::now();
        let probe = support::request("probe", None).to_string();
        loop {
            let create = ["create", "--dry-run=server", "-o", "json", "--filename", "-"];
            let output = self.cluster.admin().kubectl(create).stdin(probe.clone()).run().await?;
            if output.stdout.contains("\"requester\"") {
                return Ok(());
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "admission does not answer: {}", output.stderr);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn secrets(&self) -> Result<Api<Secret>> {
        Ok(Api::namespaced(client(&self.cluster.admin()).await?, HOME))
    }

    async fn gated(&self, name: &str) -> Result<Arc<Space>> {
        let space = Space::gated(&self.cluster, name).await?;
        space.policy(by_sre()).await?;
        Ok(Arc::new(space))
    }

    async fn is_intact(&self) -> Result<bool> {
        let get = ["get", "lease", "countersign-gate", "--namespace", HOME, "--output", "json", "--ignore-not-found"];
        Ok(self.cluster.admin().kubectl(get).ok().await?.contains("\"countersign.dev/gate-intact\": \"True\""))
    }

    async fn broken(&self) -> Result<Vec<Value>> {
        let events = self.cluster.admin().kubectl(["get", "events", "--namespace", HOME]).json().await?;
        let all = events["items"].as_array().context("items")?.iter();
        Ok(all.filter(|event| event["reason"] == "GateBroken").cloned().collect())
    }

    /// Whether what holds the gate was intact all the time: an Event tells of each time that it was not.
    async fn gate_was_intact(&self) -> Result<()> {
        ensure!(self.is_intact().await?, "the gate is not whole");
        let broken = self.broken().await?;
        ensure!(broken.len() == self.told.load(Ordering::Relaxed), "{broken:?}");
        Ok(())
    }

    /// A request and a Job that wait for approval outside of a gated namespace.
    async fn waiting(&self, name: &str) -> Result<(Space, String)> {
        let space = Space::new(&self.cluster, name).await?;
        space.policy(by_sre()).await?;
        let digest = space.bound("waits").await?;
        Ok((space, digest))
    }

    async fn released(&self, (space, digest): (Space, String)) -> Result<()> {
        let alice = self.cluster.user("alice", &["sre"])?;
        space.review(&alice, "waits", "Approve", &digest).ok().await?;
        space.state("waits", "Released").await?;
        Ok(())
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_rolling_restart() -> Result<()> {
    let lab = Lab::new().await?;
    let mut old = lab.two().await?;
    let space = lab.gated("rolling").await?;
    let waiting = lab.waiting("rolling-waits").await?;
    let stream = Stream::start(space, "rolling");
    stream.more(20).await?;
    for replica in &mut old {
        let new = lab.start().await?;
        lab.ready(&new).await?;
        stream.more(10).await?;
        let ending = replica.operator.terminate();
        let unready = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            said(replica.backend.readiness, "/readyz").await
        };
        let (ended, unready) = tokio::join!(ending, unready);
        ended?;
        let unready = unready.context("it drains, and says so meanwhile")?;
        ensure!(unready.starts_with("HTTP/1.1 503") && unready.contains("ending"), "{unready}");
        let log = replica.operator.log();
        ensure!(log.contains("every request was answered"), "{log}");
        stream.more(10).await?;
        // It serves until the test ends.
        std::mem::forget(new);
    }
    stream.end_without_refusal().await?;
    // What waited goes on with operators that were not there when it was asked.
    lab.released(waiting).await?;
    lab.gate_was_intact().await
}

/// States the window: what an operator was answering when it was killed is refused, and what the API server sends it before it
/// notices; users see errors for less than a second, and nothing is let through.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_is_noticed_for_less_than_a_second() -> Result<()> {
    let lab = Lab::new().await?;
    let [leader, follower] = lab.two().await?;
    let space = lab.gated("killed").await?;
    let waiting = lab.waiting("killed-waits").await?;
    let stream = Stream::start(space, "killed");
    stream.more(20).await?;
    ensure!(leader.operator.log().contains("this operator leads"), "the first one leads");
    let killed = Instant::now();
    leader.operator.kill();
    while !follower.operator.log().contains("this operator leads") {
        ensure!(killed.elapsed() < LEASE * 3, "nobody leads:\n{}", follower.operator.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("another leads {:?} after the kill", killed.elapsed());
    stream.more(40).await?;
    let deeds = stream.end().await?;
    let refused: Vec<_> = deeds.iter().filter(|deed| deed.refused.is_some()).collect();
    let last = refused.iter().map(|deed| (deed.at + deed.took).duration_since(killed)).max().unwrap_or_default();
    eprintln!("{} of {} were refused, the last {last:?} after the kill", refused.len(), deeds.len());
    ensure!(last < Duration::from_secs(1), "{refused:#?}");
    let strange =
        refused.iter().find(|deed| !deed.refused.as_ref().is_some_and(|text| text.contains("calling webhook")));
    ensure!(strange.is_none(), "{strange:?}");
    lab.released(waiting).await?;
    lab.gate_was_intact().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_nobodys_but_the_operators() -> Result<()> {
    let lab = Lab::new().await?;
    let _two = lab.two().await?;
    let mallory = lab.cluster.user("mallory", &["developers"])?;
    for args in [
        vec!["get", "secret", CERTIFICATE],
        vec!["delete", "secret", CERTIFICATE],
        vec!["patch", "secret", CERTIFICATE, "--type=merge", "--patch={\"data\":null}"],
    ] {
        let refused = mallory.kubectl(args.into_iter().chain(["--namespace", HOME])).refused().await?;
        ensure!(refused.contains("Forbidden") || refused.contains("forbidden"), "{refused}");
    }
    // The operator may do no more with Secrets than it says.
    for (verb, secret) in [("delete", CERTIFICATE), ("update", "other"), ("get", "other"), ("list", "")] {
        let secret = format!("secrets/{secret}");
        let may = ["auth", "can-i", verb, secret.trim_end_matches('/'), "--namespace", HOME];
        assert_eq!(lab.identity.kubectl(may).run().await?.stdout.trim(), "no", "{verb} {secret}");
    }
    let secret = lab.secrets().await?.get(CERTIFICATE).await?;
    let text = json!(secret).to_string();
    ensure!(text.contains("tls.crt") && text.contains("tls.key"), "{text}");
    // No key of an authority is kept, so whoever reads it signs no other.
    let data = secret.data.context("data")?;
    let keys = data.values().filter(|value| String::from_utf8_lossy(&value.0).contains("PRIVATE KEY")).count();
    assert_eq!(keys, 1, "{:?}", data.keys());
    Ok(())
}
