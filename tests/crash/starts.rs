//! The start of the operator itself, with a request that waits: approved, and not released.

use crate::bench::{Bench, Run};
use crate::ends::end;
use crate::points::{Point, points};
use crate::rounds::{Case, Learned, Outcome};
use crate::scenarios::{Act, Rest, Scenario};
use anyhow::{Context, Result, bail, ensure};
use countersign_testbed::{Asked, Effect, Happened};
use serde_json::Value;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(20);

/// Starts the operator twice, and learns what it asks until the request is released.
pub async fn learn(bench: &Bench, scenario: &'static Scenario) -> Result<Learned> {
    let (first, second) = (listen(bench, scenario).await?, listen(bench, scenario).await?);
    Learned::of(scenario, first, second)
}

async fn listen(bench: &Bench, scenario: &'static Scenario) -> Result<(String, Value, Vec<Point>)> {
    let run = bench.run(scenario);
    waiting(bench, &run).await?;
    bench.proxy.take_asked();
    bench.begin(flags(&run)).await?;
    bench.rest(&run, Rest::State("Released")).await?;
    let asked: Vec<(usize, Asked)> = bench.proxy.take_asked().into_iter().map(|asked| (0, asked)).collect();
    let mut points = points(&asked, &run.name);
    points.retain(|point| scenario.name != "election" || point.elects());
    let end = end(bench, &run).await?;
    bench.forget(&run).await?;
    Ok((run.name, end, points))
}

/// One start that meets a fault.
pub async fn start(bench: &Bench, case: &Case) -> Outcome {
    let run = bench.run(case.scenario);
    let mut met = false;
    let end = meet(bench, &run, case, &mut met).await;
    Outcome { case: case.clone(), name: run.name, met, end }
}

async fn meet(bench: &Bench, run: &Run, case: &Case, met: &mut bool) -> Result<Value> {
    waiting(bench, run).await?;
    let mut happened = bench.proxy.inject_where(case.point.finder(&run.name, true), case.fault.effect());
    bench.begin(flags(run)).await?;
    *met = until_met(bench, run, &mut happened).await?;
    if *met && case.fault.kills() {
        bench.kill().await;
        bench.begin(flags(run)).await?;
    }
    released(bench, run).await?;
    let end = end(bench, run).await?;
    bench.forget(run).await?;
    Ok(end)
}

/// Has a request approved and its Job not started: the operator is killed before it writes that.
async fn waiting(bench: &Bench, run: &Run) -> Result<()> {
    bench.prepare(run).await?;
    bench.act(run, Act::Ask).await?;
    bench.rest(run, Rest::Bound(1)).await?;
    let job = format!("/jobs/{}", run.name);
    let release = move |asked: &Asked| asked.method == "PATCH" && asked.path.ends_with(&job);
    let held = bench.proxy.inject_where(release, Effect::HoldBefore);
    bench.act(run, Act::Approve).await?;
    tokio::time::timeout(PATIENCE, held).await.context("no release to hold")??;
    bench.kill().await;
    let job = bench.job(run).await?.context("a Job")?;
    ensure!(job["spec"]["suspend"] == true, "{} is started already", run.name);
    bench.free_lease().await
}

/// Whether a request meets the fault before the operator has done its part.
async fn until_met(bench: &Bench, run: &Run, happened: &mut Happened) -> Result<bool> {
    tokio::select! {
        met = happened => Ok(met.is_ok()),
        released = released(bench, run) => released.map(|()| false),
    }
}

/// Waits until the request is released. An operator that ends by itself is started again, as in a cluster.
async fn released(bench: &Bench, run: &Run) -> Result<()> {
    let began = Instant::now();
    let rest = bench.rest(run, Rest::State("Released"));
    tokio::pin!(rest);
    loop {
        tokio::select! {
            rested = &mut rest => return rested,
            () = tokio::time::sleep(POLL) => {}
        }
        if bench.has_ended().await {
            bench.begin(flags(run)).await?;
        }
        if began.elapsed() > PATIENCE {
            bail!("{} is not released", run.name);
        }
    }
}

fn flags(run: &Run) -> &'static [&'static str] {
    run.scenario.starts.unwrap_or_default()
}
