//! `countersign audit verify`.

use crate::audit::{Report, Trusted, verify};
use crate::cli::audit::input;
use crate::cli::escape::visible;
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check an export without a cluster.
///
/// Tells the first fault: edited, missing, reordered, there twice, cut off, forked, rewritten, or signed by a key that is not
/// trusted, was not introduced, or was retired. The trail itself tells of keys that took another's place: the one that it began
/// under is enough. That a trail was cut off at its end, or written anew by whoever holds the key, shows only against a checkpoint
/// that was kept elsewhere: give every one that you have.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The export, or several of one trail in their order, where an older one has what was pruned since; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    trail: Vec<PathBuf>,
    /// Public keys that vouch for the beginning of the trail, one a line, in base64
    #[arg(long, value_name = "FILE", required = true)]
    keys: PathBuf,
    /// A checkpoint that was kept; may be given more than once
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// Reads the files and says what is found. Exit code 1 where the trail is not whole.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keys = input::keys(&input::text(&args.keys)?).with_context(|| args.keys.display().to_string())?;
    let exports = args.trail.iter().map(|path| Ok(input::records(&input::text(path)?)));
    let records = input::joined(exports.collect::<anyhow::Result<Vec<_>>>()?);
    // A checkpoint may be signed by a key that the trail itself introduces.
    let alone = verify(&records, &Trusted { keys: keys.clone(), checkpoints: vec![] });
    let introduced = alone.signers.known().values().copied();
    let signers: Vec<_> = keys.iter().copied().chain(introduced).collect();
    let checkpoints = input::checkpoints(&args.checkpoint, &signers)?;
    let report = if checkpoints.is_empty() { alone } else { verify(&records, &Trusted { keys, checkpoints }) };
    crate::cli::print(&told(&report, args.checkpoint.len()))?;
    Ok(if report.fault.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(report: &Report, checkpoints: usize) -> String {
    let whole = whole(report);
    let trail = report.origin.as_deref().unwrap_or("no trail");
    match (&report.fault, report.line) {
        (None, _) => {
            let against = match checkpoints - report.uncompared {
                0 => "no checkpoint to compare, so that a cut at its end would not show".into(),
                1 => "the checkpoint agrees".into(),
                n => format!("{n} checkpoints agree"),
            };
            let uncompared = match report.uncompared {
                0 => String::new(),
                n => format!("; {n} of what was pruned: give the export that has it, too"),
            };
            format!("whole: {trail}, {whole}, head {}; {against}{uncompared}\n", report.head.hash)
        }
        (Some(fault), Some(line)) => {
            format!("NOT WHOLE: line {line}: {}\nbefore it: {whole}\n", visible(&fault.to_string()))
        }
        (Some(fault), None) => format!("NOT WHOLE: {}\nby itself: {trail}, {whole}\n", visible(&fault.to_string())),
    }
}

fn whole(report: &Report) -> String {
    match report.pruned {
        0 => format!("{} entries in {} records", report.entries, report.records),
        n => format!("entries {} to {} in {} records, those before pruned", n + 1, report.entries, report.records),
    }
}
