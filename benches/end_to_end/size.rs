//! Memory and the time to start, with many requests.

use crate::lab::control_plane;
use crate::report::Report;
use crate::support::process::Process;
use crate::support::{Space, by_sre, countersign, create, policy, request};
use anyhow::{Result, ensure};
use countersign_testbed::{ControlPlane, Operator};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use std::time::{Duration, Instant};

/// Of finished requests, how many come between two looks.
const STEP: usize = 10_000;
/// Until what a load needed for a moment is given back.
const REST: Duration = Duration::from_secs(15);

/// One round: takes the memory of an idle operator, then with pending requests, then with finished ones, and starts it with each.
pub async fn measure(pending: usize, finished: usize, report: &mut Report) -> Result<()> {
    let cluster = control_plane().await?;
    let operator = countersign().start(&cluster).await?;
    tokio::time::sleep(REST).await;
    look(&operator, "idle", report)?;
    drop(operator);
    start(&cluster, "nothing", report).await?;

    let operator = countersign().start(&cluster).await?;
    let space = Space::given(&cluster.admin(), None, "pending").await?;
    space.policy(by_sre()).await?;
    space.bound_many(pending).await?;
    tokio::time::sleep(REST).await;
    look(&operator, &format!("{pending} pending"), report)?;
    drop(operator);
    start(&cluster, &format!("{pending} pending"), report).await?;

    let operator = countersign().start(&cluster).await?;
    tokio::time::sleep(REST).await;
    let mut done = 0;
    while done < finished {
        let step = STEP.min(finished - done);
        finish(&cluster, done, step).await?;
        done += step;
        tokio::time::sleep(REST).await;
        look(&operator, &format!("{pending} pending, {done:06} finished"), report)?;
    }
    drop(operator);
    start(&cluster, &format!("{pending} pending, {finished} finished"), report).await
}

fn look(operator: &Operator, with: &str, report: &mut Report) -> Result<()> {
    let process = Process::new(operator.id()?);
    for (figure, field) in [("resident MB", "VmRSS:"), ("resident MB at most", "VmHWM:")] {
        report.add(&format!("size, {with}"), figure, process.memory("status", field)? as f64 / 1e6);
    }
    Ok(())
}

/// Starts an operator, until it has listed everything, and takes the time and the memory.
async fn start(cluster: &ControlPlane, with: &str, report: &mut Report) -> Result<()> {
    let identity = countersign().identity(cluster).await?;
    let began = Instant::now();
    let operator = countersign().start_beside(cluster, &identity, &[]).await?;
    report.add(&format!("start, {with}"), "seconds to ready", began.elapsed().as_secs_f64());
    look(&operator, &format!("after a start, {with}"), report)
}

/// Makes requests that a policy allows without approval, and waits until all have ended.
async fn finish(cluster: &ControlPlane, from: usize, count: usize) -> Result<()> {
    let name = format!("finished-{from:06}");
    let space = Space::given(&cluster.admin(), None, &name).await?;
    let allow = json!([{"name": "allow", "decision": "Allow", "reason": "only counted"}]);
    let body = policy(&name, &name, allow).to_string();
    space.admin.kubectl(["apply", "--filename", "-"]).stdin(body).ok().await?;
    let requests = space.api("approvalrequests");
    stream::iter(0..count)
        .map(|number| {
            let requests = requests.clone();
            async move { create(&requests, &request(&format!("run-{number:05}"), None)).await.map(drop) }
        })
        .buffer_unordered(32)
        .try_collect::<()>()
        .await?;
    let began = Instant::now();
    loop {
        let last = space.api("approvalrequests").get(&format!("run-{:05}", count - 1)).await?;
        if last.data.pointer("/status/state").is_some_and(|state| state == "Released" || state == "Approved") {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(900), "the last request does not end: {:?}", last.data["status"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
