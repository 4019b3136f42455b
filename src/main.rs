//! The `countersign` binary: reads the command line, runs it, and reports a failure in one line.

use clap::Parser;
use countersign::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(cli::run(args)));
    outcome.unwrap_or_else(|error| {
        // Parts of an error may come from a file or a server, so nothing of it reaches the terminal unescaped.
        eprintln!("countersign: {}", cli::escape::visible(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}
