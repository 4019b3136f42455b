//! Runs a control plane until interrupted: `countersign-testbed [DIR]`.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::Result;
use countersign_testbed::{ControlPlane, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let control_plane = ControlPlane::start(Options { dir, ..Options::default() }).await?;
    // The one line on standard output is for scripts.
    println!("{}", control_plane.admin().kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
