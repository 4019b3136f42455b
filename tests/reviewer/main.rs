//! `kubectl approve` and `kubectl deny` against a real API server, on a real terminal.

#[path = "../support/mod.rs"]
mod support;

mod batch;
mod changed;
mod completion;
mod decide;
mod hostile;
mod inbox;
mod outage;
mod races;
mod refusals;
mod requests;
mod terminal;
mod tui;
mod tui_hostile;
mod tui_outage;

use crate::support::Space;
use anyhow::{Context, Result};
use countersign_testbed::{Countersign, Identity, Output};
use serde_json::Value;

/// One of the two commands.
fn command(verb: &str) -> Countersign {
    let program = match verb {
        "approve" => env!("CARGO_BIN_EXE_kubectl-approve"),
        _ => env!("CARGO_BIN_EXE_kubectl-deny"),
    };
    Countersign::new(program, &[])
}

/// Runs it as somebody, in a namespace, with nobody at a terminal.
async fn run(verb: &str, who: &Identity, space: &Space, args: &[&str]) -> Result<Output> {
    let kubeconfig = who.kubeconfig.to_str().context("path")?;
    let place = ["--kubeconfig", kubeconfig, "-n", &space.namespace];
    command(verb).run(&[args, &place].concat(), "").await
}

/// The exit code, and both outputs after each other.
fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), format!("{}{}", output.stdout, output.stderr))
}

/// Fails unless the command ended with that code, and said that.
fn ended(output: &Output, code: i32, expected: &str) -> Result<()> {
    let (found, text) = told(output);
    anyhow::ensure!(
        found == Some(code) && text.contains(expected),
        "expected {code} and {expected:?}: {found:?}\n{text}"
    );
    Ok(())
}

/// The reviews that are stored.
async fn reviews(space: &Space, name: &str) -> Result<usize> {
    let request = space.get("approvalrequests", name).await?;
    Ok(request.pointer("/spec/reviews").and_then(Value::as_array).map_or(0, Vec::len))
}
