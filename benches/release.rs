//! How long a release takes, from the answered approval to the started Job, of two operators in turns on one control plane:
//! `cargo bench --profile dev --bench release -- --against PATH --rounds 6`. Times are the API server's own, from its audit
//! log. Without `--against` this operator runs against itself, which shows what the method cannot tell apart.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, ControlPlane, Countersign, Mark, Options};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::many::{approval, list};
use support::{Space, by_sre, client, countersign, installed_with, merge};

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
/// Approvals one after the other, and at fifty a second.
const SERIAL: usize = 40;
const BURST: usize = 200;
const PACE: Duration = Duration::from_millis(20);
/// How long the control plane has for each step.
const PATIENCE: Duration = Duration::from_secs(180);

/// Latencies in milliseconds, sorted.
struct Sample(Vec<f64>);

impl Sample {
    /// The value at that share of the way from the least to the greatest, between two where it falls between them.
    fn at(&self, share: f64) -> f64 {
        let place = self.0.len().saturating_sub(1) as f64 * share;
        let value = |place: f64| self.0.get(place as usize).copied().unwrap_or(f64::NAN);
        let (low, high) = (value(place.floor()), value(place.ceil()));
        low + (high - low) * place.fract()
    }
}

/// What one operator did in one round: in turn, and at fifty a second.
type Round = [Sample; 2];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let rounds = value("--rounds").map_or(Ok(6), |text| text.parse()).context("--rounds")?;
    let against = value("--against").map_or_else(countersign, |path| Countersign::new(path, &[]));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(&[against, countersign()], rounds))?;
    for (mode, name) in ["one after the other", "fifty a second"].into_iter().enumerate() {
        report(name, &measured.iter().map(|[before, after]| [&before[mode], &after[mode]]).collect::<Vec<_>>());
    }
    Ok(())
}

fn report(name: &str, rounds: &[[&Sample; 2]]) {
    println!("{name}: milliseconds, median (p95), round by round");
    let column = |arm: usize, share: f64| Sample(sorted(rounds.iter().map(|round| round[arm].at(share))));
    for (arm, label) in ["against", "this"].into_iter().enumerate() {
        let each: Vec<_> = rounds.iter().map(|r| format!("{:.1} ({:.1})", r[arm].at(0.5), r[arm].at(0.95))).collect();
        let (medians, tails) = (column(arm, 0.5), column(arm, 0.95));
        println!(
            "  {label:8} {}  | median of medians {:.1} [{:.1}, {:.1}], of p95 {:.1}",
            each.join("  "),
            medians.at(0.5),
            medians.at(0.0),
            medians.at(1.0),
            tails.at(0.5)
        );
    }
    let pairs = Sample(sorted(rounds.iter().map(|round| round[1].at(0.5) - round[0].at(0.5))));
    println!("  paired difference of medians: {:.1} [{:.1}, {:.1}]", pairs.at(0.5), pairs.at(0.0), pairs.at(1.0));
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

async fn measure(arms: &[Countersign; 2], rounds: usize) -> Result<Vec<[Round; 2]>> {
    // As in the load tests: Kubernetes' own limit, or running the Pods of what was released is what is measured.
    let cluster = installed_with(Options { kube_api_qps: 20, ..Options::default() }).await?;
    // The first start of each fills caches.
    let mut measured = vec![];
    for round in 0..=rounds {
        let mut pair = [None, None];
        for turn in 0..2 {
            // In turns, each first as often as second.
            let arm = (round + turn) % 2;
            pair[arm] = Some(run(&cluster, &arms[arm], &format!("release-{round}-{arm}")).await?);
        }
        if let [Some(before), Some(after)] = pair
            && round > 0
        {
            measured.push([before, after]);
        }
    }
    Ok(measured)
}

/// One operator, from its start to its end; nothing of it is left.
async fn run(cluster: &ControlPlane, arm: &Countersign, name: &str) -> Result<Round> {
    let _operator = arm.start(cluster).await?;
    let space = Space::new(cluster, name).await?;
    space.policy(by_sre()).await?;
    let digests = space.bound_many(SERIAL + BURST).await?;
    quiet(&space).await?;
    let alice = client(&cluster.user("alice", &["sre"])?).await?;
    let alice: Api<DynamicObject> = Api::namespaced_with(alice, name, &support::requests());
    let mark = cluster.audit_log().settle().await?;
    let (serial, burst): (Vec<_>, Vec<_>) = digests.into_iter().enumerate().partition(|(place, _)| *place < SERIAL);
    for (_, (run, digest)) in &serial {
        merge(&alice, run, &approval(digest)).await?;
        space.state(run, "Released").await?;
    }
    let mut ticks = tokio::time::interval(PACE);
    let mut sending = tokio::task::JoinSet::new();
    for (_, (run, digest)) in burst.clone() {
        ticks.tick().await;
        let alice = alice.clone();
        sending.spawn(async move { merge(&alice, &run, &approval(&digest)).await.map(drop) });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    until("all are released", async || {
        let requests = list(&space.api("approvalrequests")).await?;
        Ok(requests.iter().all(|request| request["status"]["state"] == "Released"))
    })
    .await?;
    let latencies = latencies(cluster, mark, name).await?;
    space.admin.kubectl(["delete", "namespace", name, "--timeout=170s"]).ok().await?;
    space.admin.kubectl(["delete", "approvalpolicy", name]).ok().await?;
    let of = |runs: &[(usize, (String, String))]| -> Result<Sample> {
        let each = runs.iter().map(|(_, (run, _))| latencies.get(run).copied().context("a release"));
        Ok(Sample(sorted(each.collect::<Result<Vec<_>>>()?.into_iter())))
    };
    Ok([of(&serial)?, of(&burst)?])
}

/// Waits until the Job controller has taken note of every Job, and the operator has recorded what it records.
async fn quiet(space: &Space) -> Result<()> {
    until("the Job controller is done", async || {
        let jobs = list(&space.api("jobs")).await?;
        Ok(jobs.iter().all(|job| support::conditions(job).any(|c| c["type"] == "Suspended")))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    Ok(())
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !reached().await? {
        ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// From the answer to the approval to the answer to the write that started the Job, in milliseconds, by name.
async fn latencies(cluster: &ControlPlane, mark: Mark, namespace: &str) -> Result<BTreeMap<String, f64>> {
    let log = cluster.audit_log();
    log.settle().await?;
    let patched = || AuditFilter::new().verb("patch").namespace(namespace).code(200).stage("ResponseComplete");
    let times = |filter: AuditFilter| -> Result<BTreeMap<String, Timestamp>> {
        let mut times = BTreeMap::new();
        for event in log.select(mark, &filter)? {
            let name = event["objectRef"]["name"].as_str().context("a name")?;
            times.entry(name.into()).or_insert(event["stageTimestamp"].as_str().context("a time")?.parse()?);
        }
        Ok(times)
    };
    let approved = times(patched().user("alice").resource("approvalrequests").subresource(""))?;
    let started = times(patched().user(OPERATOR).resource("jobs").subresource(""))?;
    let latency = |name: &String, at: &Timestamp| Some(started.get(name)?.duration_since(*at).as_secs_f64() * 1000.0);
    Ok(approved.iter().filter_map(|(name, at)| Some((name.clone(), latency(name, at)?))).collect())
}
