//! `countersign receipt`: the worker's own check, before it acts.

use crate::api::names;
use crate::binding::{Expected, Receipt, Refusal, check_receipt};
use crate::cli::audit::input;
use crate::cli::client::{Cluster, Connection, Found};
use crate::cli::escape::{visible, visible_identifier};
use crate::cli::explain::{Form, JOBS};
use crate::cli::manifests::dns_label;
use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the receipt that a release leaves on its Job.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Check a receipt before acting, and print the constraints to obey
    Verify(Box<Verify>),
}

const EXAMPLES: &str = "Examples:
  countersign receipt verify --receipt /etc/countersign/receipt --keys /etc/countersign-keys/keys --job-uid \"$JOB_UID\"
  countersign receipt verify --job remediate-8f9a -n payments -o text

Exit code: 0 the receipt holds; 1 it does not, and the reason is on standard error; 2 it could not be checked: a file, a \
flag or the cluster. A worker goes on after 0 alone.

How a Job mounts its receipt, and how to write another verifier: docs/receipts.md.";

/// Check a receipt before acting, and print the constraints to obey.
///
/// Checks that a trusted key signed the receipt, that it is for this Job, and that its time is not over. A worker reads it
/// from its Pod's annotation, through the downward API; a person reads it from a Job of the cluster.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[group(id = "source", required = true, multiple = false, args = ["receipt", "job"])]
struct Verify {
    /// File with the receipt, a DSSE envelope; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "keys")]
    receipt: Option<PathBuf>,
    /// Job in the cluster, whose receipt and uid are read from there
    #[arg(long, value_name = "NAME", value_parser = dns_label_or_longer)]
    job: Option<String>,
    /// The Job's namespace [default: the kubeconfig context's]
    #[arg(short, long, value_parser = dns_label, conflicts_with = "receipt")]
    namespace: Option<String>,
    /// Public keys that may sign, one a line, in base64 [default with --job: the ConfigMap countersign-public-keys]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Uid of the Job or bare Pod that the receipt must be for
    #[arg(long, value_name = "UID", value_parser = given)]
    job_uid: Option<String>,
    /// Digest that must have been approved
    #[arg(long, value_name = "DIGEST", value_parser = given)]
    digest: Option<String>,
    /// Check as of this time, such as 2026-11-20T17:05:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// What to print: the constraints for a program, or the whole receipt for a person
    #[arg(short, long, value_enum, default_value_t = Form::Json)]
    output: Form,
    /// Namespace the operator lives in
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

fn dns_label_or_longer(name: &str) -> Result<String, String> {
    crate::cli::bounds::object_name(name).map(|()| name.into())
}

/// An empty variable in a worker's script must not pass for no expectation.
fn given(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".into()) } else { Ok(text.into()) }
}

/// Runs the command. Exit code: 0 the receipt holds, 1 it does not, 2 it could not be checked.
pub async fn run(args: Args) -> ExitCode {
    let Command::Verify(args) = args.command;
    verify(&args).await.unwrap_or_else(|error| {
        eprintln!("countersign: {}", visible(&format!("{error:#}")));
        ExitCode::from(2)
    })
}

/// What to check, by which keys.
struct Gathered {
    envelope: String,
    keys: Vec<[u8; 32]>,
    /// Uid and full name of the Job that it was read from.
    job: Option<(String, String)>,
}

async fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let gathered = match (&args.receipt, &args.job) {
        (Some(path), _) => {
            Gathered { envelope: input::text(path)?, keys: keys_of(args)?.context("--keys is missing")?, job: None }
        }
        (None, Some(job)) => from_cluster(args, job).await?,
        (None, None) => bail!("give --receipt or --job"),
    };
    if let (Some(asked), Some((uid, name))) = (&args.job_uid, &gathered.job)
        && asked != uid
    {
        return refused(&format!("{name} has the uid {uid}, not {asked}"));
    }
    let expected = Expected {
        job_uid: args.job_uid.as_deref().or(gathered.job.as_ref().map(|(uid, _)| uid.as_str())),
        job_name: gathered.job.as_ref().map(|(_, name)| name.as_str()),
        digest: args.digest.as_deref(),
    };
    let now = args.at.unwrap_or_else(Timestamp::now);
    match check_receipt(&gathered.keys, &gathered.envelope, &expected, now) {
        Ok(receipt) => {
            crate::cli::print(&told(&receipt, args.output))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => refused(&advised(&refusal)),
    }
}

fn refused(why: &str) -> anyhow::Result<ExitCode> {
    eprintln!("countersign: NOT VALID: {}", visible(why));
    Ok(ExitCode::FAILURE)
}

/// What is wrong, and what to do where the words do not say it.
fn advised(refusal: &Refusal) -> String {
    use crate::binding::NoReceipt::{Absent, OtherKey};
    match refusal {
        Refusal::NoReceipt(Absent) => {
            format!("{refusal}, or somebody started it past the gate; kubectl describe the Job and its request")
        }
        Refusal::NoReceipt(OtherKey) => {
            format!("{refusal}; if the key was changed, take the public keys from the ConfigMap {}", names::PUBLIC_KEYS)
        }
        _ => refusal.to_string(),
    }
}

fn keys_of(args: &Verify) -> anyhow::Result<Option<Vec<[u8; 32]>>> {
    let Some(path) = &args.keys else { return Ok(None) };
    let keys = input::keys(&input::text(path)?).with_context(|| path.display().to_string())?;
    Ok(Some(keys))
}

async fn from_cluster(args: &Verify, job: &str) -> anyhow::Result<Gathered> {
    let given = keys_of(args)?;
    let cluster = args.connection.cluster().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| cluster.namespace.clone());
    let keys = match given {
        Some(keys) => keys,
        None => published_keys(&cluster, &args.operator_namespace).await?,
    };
    let object = match cluster.get(JOBS, Some(&namespace), job).await? {
        Found::There(object) => object,
        Found::Absent => bail!("there is no Job {job} in namespace {namespace}"),
        Found::Refused(what) => bail!("{what}"),
    };
    let annotations = object.data.pointer("/spec/template/metadata/annotations");
    let envelope = annotations.and_then(|a| a.get(names::RECEIPT)).and_then(|r| r.as_str()).unwrap_or_default();
    let uid = object.metadata.uid.clone().context("the Job has no uid")?;
    Ok(Gathered { envelope: envelope.into(), keys, job: Some((uid, format!("{namespace}/Job/{job}"))) })
}

async fn published_keys(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<[u8; 32]>> {
    let data = input::published(cluster, namespace, names::PUBLIC_KEYS).await?;
    input::keys(&input::key_lines(&data)).with_context(|| format!("the ConfigMap {}", names::PUBLIC_KEYS))
}

fn told(receipt: &Receipt, form: Form) -> String {
    let constraints = json!(receipt.constraints);
    if form == Form::Json {
        return format!("{constraints}\n");
    }
    let names = |names: &[String]| names.iter().map(|n| visible_identifier(n)).collect::<Vec<_>>().join(", ");
    let name = if receipt.job.name.is_empty() { "a Job or Pod" } else { &receipt.job.name };
    let mut lines = vec![format!("valid: {}, uid {}", visible_identifier(name), visible_identifier(&receipt.job.uid))];
    lines.push(match receipt.approvers.as_slice() {
        [] => "allowed by policy".into(),
        approvers => format!("approved by {}", names(approvers)),
    });
    lines.extend(receipt.passed.iter().map(|pass| {
        let window = [&pass.policy, &pass.rule, &pass.window].map(|part| visible_identifier(part)).join("/");
        format!("freeze window {window} passed by {}", visible_identifier(&pass.by))
    }));
    lines.extend(receipt.request.as_ref().map(|request| {
        let name = [&request.namespace, &request.name].map(|part| visible_identifier(part)).join("/");
        format!("request {name}, uid {}", visible_identifier(&request.uid))
    }));
    lines.push(format!("digest {}", visible_identifier(&receipt.digest)));
    lines.push(format!("policy snapshot {}", visible_identifier(&receipt.policy_snapshot)));
    lines.push(format!("released at {}", receipt.time));
    lines.push(receipt.valid_until.map_or("valid without end".into(), |until| format!("valid until {until}")));
    lines.push(format!("constraints {}", visible(&constraints.to_string())));
    lines.join("\n") + "\n"
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
mod tests;
