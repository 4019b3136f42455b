//! `countersign audit export`.

use crate::api::names;
use crate::audit::{Trusted, chain, verify};
use crate::cli::audit::input;
use crate::cli::client::{Cluster, Connection};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  countersign audit export --output trail.jsonl --checkpoint checkpoint --keys keys
  countersign audit export --output trail.jsonl --append --acknowledge    # every night; the operator may prune what is in it";

/// Write the trail of a cluster as JSON lines, one record a line.
///
/// Each line is the `spec` of one ApprovalRecord. Keep exports, checkpoints and public keys where the cluster's
/// administrators cannot change them: what they prove, they prove to whoever holds an earlier checkpoint.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    /// File for the records; `-` for standard output
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    output: PathBuf,
    /// Go on with the file where it ends, in place of writing it anew. It has to be of this trail, and without a gap
    #[arg(long)]
    append: bool,
    /// Once the file is written, and found whole, tell the operator that it may prune what is in it (see the operator's
    /// --audit-keep-days). Takes the role countersign-archivist
    #[arg(long)]
    acknowledge: bool,
    /// Also write the newest checkpoint to this file
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Also write the public keys to this file
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Reads the cluster and writes the files.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let to_stdout = args.output == Path::new("-");
    ensure!(!(to_stdout && (args.append || args.acknowledge)), "--append and --acknowledge take --output FILE");
    let cluster = args.connection.cluster().await?;
    let namespace = &args.operator_namespace;
    // First the checkpoint: what is exported then reaches at least as far.
    if let Some(path) = &args.checkpoint {
        let data = input::published(&cluster, namespace, names::CHECKPOINT).await?;
        write(path, data["checkpoint"].as_str().context("the ConfigMap has no checkpoint")?)?;
    }
    if let Some(path) = &args.keys {
        write(path, &input::key_lines(&input::published(&cluster, namespace, names::PUBLIC_KEYS).await?))?;
    }
    let stored = input::stored(&cluster, namespace).await?;
    if args.append {
        let path = || args.output.display().to_string();
        let before = if args.output.exists() { input::text(&args.output)? } else { String::new() };
        let new = behind(&before, &stored).with_context(path)?;
        append(&args.output, &lines(new)).with_context(path)?;
    } else {
        write(&args.output, &lines(&stored))?;
    }
    if args.acknowledge {
        acknowledge(args, &cluster).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(records: &[Value]) -> String {
    let mut lines = String::new();
    for spec in records {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{spec}");
    }
    lines
}

/// What of the stored records comes behind an export: the rest of the same trail.
fn behind<'a>(export: &str, stored: &'a [Value]) -> anyhow::Result<&'a [Value]> {
    ensure!(
        export.is_empty() || export.ends_with('\n'),
        "its last line is not whole: the export before was broken off"
    );
    let records = input::records(export);
    let Some(last) = records.last() else { return Ok(stored) };
    let end = last["last"].as_i64().context("its last line is no record")?;
    let hash = chain::hash(last).context("its last line is no record")?;
    let at = stored.iter().position(|record| record["sequence"].as_i64().is_some_and(|first| first > end));
    let Some(next) = at.map(|at| &stored[at]) else {
        let there = stored.last().is_some_and(|record| record == last);
        ensure!(
            there,
            "it ends with entry {end}, and the cluster's trail does not: it is another trail, or was cut off"
        );
        return Ok(&[]);
    };
    let first = next["sequence"].as_i64().unwrap_or_default();
    if first != end + 1 {
        bail!(
            "it ends with entry {end}, and the cluster has what is from entry {first} on: another export has the rest"
        );
    }
    ensure!(
        next["previous"] == *hash,
        "entry {first} of the cluster does not follow from its last record: it is another trail"
    );
    Ok(&stored[at.unwrap_or_default()..])
}

fn append(path: &Path, lines: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(lines.as_bytes())?;
    Ok(file.sync_all()?)
}

/// Reads the file again, and tells the operator how far it is whole: what is acknowledged is what is on the disk.
async fn acknowledge(args: &Args, cluster: &Cluster) -> anyhow::Result<()> {
    let (namespace, path) = (&args.operator_namespace, &args.output);
    std::fs::File::open(path).and_then(|file| file.sync_all()).with_context(|| path.display().to_string())?;
    let records = input::records(&input::text(path)?);
    let keys = input::keys(&input::key_lines(&input::published(cluster, namespace, names::PUBLIC_KEYS).await?))?;
    if let Some(fault) = verify(&records, &Trusted { keys, checkpoints: vec![] }).fault {
        bail!("{} is not whole, and nothing was acknowledged: {fault}", path.display());
    }
    let Some(last) = records.last() else { return Ok(()) };
    input::acknowledge(cluster, namespace, last, &chain::hash(last)?).await?;
    eprintln!("acknowledged: entries up to {} may be pruned", last["last"]);
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return crate::cli::print(text);
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RecordEntry;
    use crate::audit::{Head, seal};
    use crate::binding::Keyring;
    use serde_json::json;

    fn trail() -> Vec<Value> {
        let key = Keyring::from_seed(&[7; 32]).unwrap();
        let mut head = Head::default();
        let record = |n: i64| {
            let entry = json!({"key": format!("u/{n}/Reviewed"), "transition": "Reviewed", "time": "2026-11-20T17:00:00.000000Z"});
            let entry: RecordEntry = serde_json::from_value(entry).unwrap();
            let spec = serde_json::to_value(seal(&head, vec![entry], &key).unwrap()).unwrap();
            head = Head { length: n + 1, hash: chain::hash(&spec).unwrap() };
            spec
        };
        (0..5).map(record).collect()
    }

    #[test]
    fn an_export_goes_on_where_it_ended() {
        let trail = trail();
        assert_eq!(behind("", &trail).unwrap(), trail);
        for n in 1..=5 {
            assert_eq!(behind(&lines(&trail[..n]), &trail).unwrap(), &trail[n..], "{n}");
        }
        // What was exported may be gone from the cluster by now.
        assert_eq!(behind(&lines(&trail[..3]), &trail[3..]).unwrap(), &trail[3..]);
        assert_eq!(behind(&lines(&trail[..3]), &trail[1..]).unwrap(), &trail[3..]);
    }

    #[test]
    fn a_file_that_does_not_go_before_is_left_alone() {
        let trail = trail();
        let other: Vec<_> = trail
            .iter()
            .cloned()
            .map(|mut record| {
                record["entries"][0]["key"] = "other/0/Reviewed".into();
                record
            })
            .collect();
        let text = lines(&trail);
        for (export, stored, error) in [
            (lines(&trail[..2]), &trail[3..], "it ends with entry 2, and the cluster has what is from entry 4 on"),
            (lines(&other[..2]), &trail[..], "entry 3 of the cluster does not follow from its last record"),
            (lines(&other), &trail[..], "it ends with entry 5, and the cluster's trail does not"),
            (lines(&trail), &trail[..3], "it ends with entry 5, and the cluster's trail does not"),
            (lines(&trail), &[], "it ends with entry 5, and the cluster's trail does not"),
            (text[..text.len() - 3].into(), &trail[..], "its last line is not whole"),
            ("nonsense\n".into(), &trail[..], "its last line is no record"),
        ] {
            let said = behind(&export, stored).unwrap_err().to_string();
            assert!(said.contains(error), "{said}");
        }
    }
}
