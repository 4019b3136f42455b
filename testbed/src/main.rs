//! Runs a control plane until interrupted: `countersign-testbed [--real] [DIR]`, with a real node if asked for.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::Result;
use countersign_testbed::{ControlPlane, Node, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).peekable();
    let node = args.next_if(|arg| arg == "--real").map_or(Node::Simulated, |_| Node::Real);
    let dir = args.next().map(PathBuf::from);
    let control_plane = ControlPlane::start(Options { dir, node, ..Options::default() }).await?;
    // The one line on standard output is for scripts.
    println!("{}", control_plane.admin().kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
