//! `countersign audit export`.

use crate::api::names;
use crate::cli::audit::input;
use crate::cli::client::Connection;
use anyhow::Context;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the trail of a cluster as JSON lines, one record a line.
///
/// Each line is the `spec` of one ApprovalRecord. Keep exports, checkpoints and public keys where the cluster's
/// administrators cannot change them: what they prove, they prove to whoever holds an earlier checkpoint.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    /// File for the records; `-` for standard output
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    output: PathBuf,
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
    let mut lines = String::new();
    for spec in input::stored(&cluster, namespace).await? {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{spec}");
    }
    write(&args.output, &lines)?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return crate::cli::print(text);
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
