//! `countersign explain`: why a request stands where it stands.

mod account;
mod approvals;
mod gather;
mod reviews;
mod text;

pub use account::{Account, account};
pub(crate) use account::{derived, passers, requirements, terms};
pub use gather::Gathered;
pub(crate) use gather::{JOBS, NAMESPACES, PODS, POLICIES, REQUESTS, read_request};
pub(crate) use reviews::standing;
pub use text::{policy_line, render, rule_lines};

use crate::cli::bounds::object_name;
use crate::cli::client::Connection;
use crate::cli::manifests::dns_label;
use anyhow::Context;

const EXAMPLES: &str = "Examples:
  countersign explain run-8f9a-remediate -n payments
  countersign explain run-8f9a-remediate -n payments -o json | jq '.policies[].rules[] | select(.matched)'

Everything is read with your own rights: get approvalrequests, list approvalpolicies, get the namespace and the Job or \
Pod. What you may not read is said, and left out. Seals are the operator's to check: they take its key.";

/// Flags of `countersign explain`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The ApprovalRequest
    #[arg(value_name = "REQUEST", value_parser = parse_name)]
    pub request: String,
    /// Its namespace [default: the kubeconfig context's]
    #[arg(short, long, value_parser = dns_label)]
    pub namespace: Option<String>,
    /// Which cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
}

/// Forms of the output.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// For a person
    Text,
    /// For a program
    Json,
}

fn parse_name(name: &str) -> Result<String, String> {
    object_name(name).map(|()| name.into())
}

/// Reads what is needed, and returns the explanation.
pub async fn run(args: &Args) -> anyhow::Result<String> {
    let cluster = args.connection.cluster().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
    let gathered = Gathered::read(&cluster, &namespace, &args.request).await?;
    let account = account(&gathered);
    match args.output {
        Form::Text => Ok(render(&account)),
        // A program gets every word as it was written.
        Form::Json => {
            let json = serde_json::to_string_pretty(&account).context("the explanation cannot be written as JSON")?;
            Ok(json + "\n")
        }
    }
}
