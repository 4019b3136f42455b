//! Wherever the operator crashes, the end is the same. A proxy between it and the API server learns what it asks in each
//! scenario; then, for each of these requests, it is killed before the request arrives, killed before it hears the answer, or
//! never hears the answer and goes on. A new operator comes, and the end has to be that of a run in which nothing failed.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod checks;
mod ends;
mod matrix;
mod points;
mod rounds;
mod scenarios;
mod starts;
mod trail;

use anyhow::{Result, ensure};
use bench::Bench;
use matrix::{Extent, Tally};
use points::Fault;
use rounds::Learned;
use scenarios::{SCENARIOS, STARTS};
use std::collections::BTreeMap;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_operator_crashes_the_end_is_the_same() -> Result<()> {
    let began = Instant::now();
    let extent = Extent::asked()?;
    let bench = Bench::start().await?;
    let learned = learn(&bench, &extent).await?;
    let (mut tallies, named) = matrix::run(&bench, &extent, &learned).await?;

    let writes = checks::writes(&bench).await?;
    for (run, what, scenario) in &named {
        let learned = learned.iter().find(|learned| learned.scenario.name == *scenario);
        if let Some(wrong) = learned.and_then(|learned| checks::more_or_less(&writes, learned, run)) {
            tallies.entry(scenario).or_default().failed.push(format!("{what}: {wrong}"));
        }
    }
    let names: Vec<&str> = named.iter().map(|(run, ..)| run.as_str()).collect();
    checks::whole_trail(&bench, &names).await?;
    let releases = writes.values().map(|writes| writes.starts).sum();
    bench.observed(names.len() + 2 * learned.len(), releases).await?;

    let wrong = told(&learned, &tallies);
    println!("{} runs in {:?}", names.len(), began.elapsed());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Prints what came of each scenario. Returns what is wrong.
fn told(learned: &[Learned], tallies: &BTreeMap<&str, Tally>) -> Vec<String> {
    let (mut wrong, mut met, mut all) = (vec![], 0, 0);
    for Learned { scenario, points, sometimes, .. } in learned {
        let (name, tally, points) = (scenario.name, &tallies[scenario.name], points.len() * Fault::ALL.len());
        let result = if tally.failed.is_empty() { "the same end" } else { "ANOTHER END" };
        let (requests, runs) = (points / Fault::ALL.len(), tally.runs);
        let rare = format!("{sometimes} more in some runs, {} points not met", tally.unmet);
        println!("{name}: {requests} requests, {points} points, {runs} runs ({rare}): {result}");
        met += tally.met;
        all += points;
        wrong.extend(tally.failed.iter().map(|what| format!("{name}: {what}")));
    }
    println!("{met} of {all} points were met");
    wrong
}

/// Starts come first: while the trail is short, each reads it in one part.
async fn learn(bench: &Bench, extent: &Extent) -> Result<Vec<Learned>> {
    let mut learned = vec![];
    for scenario in STARTS.iter().filter(|scenario| extent.has(scenario.name)) {
        learned.push(starts::learn(bench, scenario).await?);
    }
    let told: Vec<_> = SCENARIOS.iter().filter(|scenario| extent.has(scenario.name)).collect();
    learned.extend(rounds::learn(bench, &told).await?);
    Ok(learned)
}
