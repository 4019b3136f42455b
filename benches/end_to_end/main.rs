//! What an approval costs and how long it takes, on a real control plane, beside the same three writes with no logic.
//!
//! `cargo bench --bench end_to_end -- --help` tells what can be chosen; docs/performance.md tells what is measured and how.

mod admission;
mod arrivals;
mod audit;
mod growth;
mod lab;
mod machine;
mod null_writer;
mod plain;
mod report;
mod round;
mod size;
#[path = "../../tests/support/mod.rs"]
mod support;
mod webhook;

use anyhow::{Context, Result};
use clap::Parser;
use lab::Lab;
use report::Report;
use std::path::PathBuf;

/// Measures Countersign against the API server's own limit. Prints a table; --json writes every figure.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds of every part but `growth`, on a control plane each but for `admission`; another subject is first in each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Parts to run
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["rates", "burst", "admission", "size", "growth"])]
    only: Vec<Part>,
    /// Arrivals per second
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 100, 200])]
    rates: Vec<u32>,
    /// Seconds that each rate lasts
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Approvals in a burst
    #[arg(long, value_delimiter = ',', default_values_t = [1000])]
    bursts: Vec<usize>,
    /// Requests per second that kube-controller-manager allows itself while approvals are measured; 20 is its default
    #[arg(long, default_value_t = 20)]
    controller_qps: u32,
    /// Measure an operator as controller-runtime has it as well, built with Go: the same writes with nothing decided
    #[arg(long)]
    controller_runtime: bool,
    /// Pending requests in the part `size`, and those of which a policy is edited in the part `growth`
    #[arg(long, default_value_t = 10_000)]
    pending: usize,
    /// Finished requests in the part `size`, looked at after each 10,000
    #[arg(long, default_value_t = 10_000)]
    finished: usize,
    /// Created Jobs of each kind in the part `admission`
    #[arg(long, default_value_t = 500)]
    jobs: usize,
    /// Where every figure goes
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Ignored; cargo says it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    /// Approvals that arrive at a rate, whether the ones before are answered or not
    Rates,
    /// Approvals all at once
    Burst,
    /// What admission adds to the creation of a Job
    Admission,
    /// Memory, and time to start, with many requests
    Size,
    /// Approvals among many pending requests and policies, and while a policy of many is edited
    Growth,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    // Fails when something else was first, and then it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut report = Report::default();
    let measured = measure(&args, &mut report).await;
    // What was measured before something failed took long enough to be kept.
    report.print();
    let written = args.json.as_ref().map_or(Ok(()), |path| {
        std::fs::write(path, report.json()).with_context(|| format!("write {}", path.display()))
    });
    // A file that cannot be written hides nothing of what failed before it.
    measured?;
    written
}

/// Measures one part after the other.
async fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let has = |part| args.only.contains(&part);
    if has(Part::Admission) {
        admission::measure(args.jobs, args.rounds, report).await?;
    }
    if has(Part::Rates) || has(Part::Burst) {
        let loads = round::loads(args);
        for number in 0..args.rounds {
            // What one round leaves, thousands of Jobs that run, would slow the next one down.
            let mut lab = Lab::start(args.controller_qps, args.controller_runtime).await?;
            round::run(&mut lab, args, number, &loads, report).await?;
        }
    }
    if has(Part::Size) {
        for _ in 0..args.rounds {
            size::measure(args.pending, args.finished, report).await?;
        }
    }
    if has(Part::Growth) {
        growth::measure(args.pending, report).await?;
    }
    Ok(())
}
