//! `countersign request`: asks for approval of one workflow step, and waits for the answer.
//!
//! What to ask, what to say, what differs and when to give up is decided by pure functions (`compose`, `progress`, `same`,
//! `job`, `trouble`); asking, watching and printing are thin around them.

mod ask;
mod compose;
mod desk;
mod exit;
mod job;
mod progress;
mod same;
mod show;
mod trouble;
mod wait;

pub use compose::compose;
pub use show::Form;

use crate::cli::bounds::object_name;
use crate::cli::client::Connection;
use crate::cli::compact::{self, Draft};
use crate::cli::escape::visible;
use crate::cli::manifests::dns_label;
use crate::cli::review::duration;
use anyhow::Context;
use desk::Desk;
use exit::{End, Exit};
use job::Planned;
use progress::Progress;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = r#"Examples:
  countersign request -f request.json -n payments --target job/remediate-8f9a
  countersign request --run-id run_8f9a --step-id remediate --risk-tag prod \
    --requested-by workflow.incident-triage --reason "prod write detected"

The compact JSON, of which constraints, risk_tags and policy_snapshot are optional:
  {"run_id": "run_8f9a", "step_id": "remediate", "reason": "prod write detected",
   "policy_snapshot": "7f3d...9c2b", "risk_tags": ["prod", "write"],
   "constraints": {"max_lines_changed": 500, "max_runtime_sec": 900},
   "requested_by": "workflow.incident-triage"}

In a workflow's Pod, which may be restarted at any time and then runs the same command again:
  countersign request -f request.json --job job.yaml --wait --timeout 1h30m

Exit codes:
  0  released; without --wait: stored
  1  another failure
  2  the command line cannot be used
  3  denied
  4  expired
  5  cancelled, or the request is gone
  6  the request or Job of that name is not what this call asks, or another took its name
  7  --timeout passed first; the request stands, and the same command goes on waiting"#;

/// Flags of `countersign request`. Where a flag and the input say something about the same field, the flag wins.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to ask: compact JSON, or an ApprovalRequest as JSON or YAML; `-` is stdin
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Namespace of the request and of its target [default: the kubeconfig context's, or the Pod's own]
    #[arg(short, long, value_parser = dns_label)]
    pub namespace: Option<String>,
    /// Which cluster, and as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// Name of the request [default: from run and step]
    #[arg(long, value_parser = parse_name)]
    pub name: Option<String>,
    /// The workflow run
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// The step of the run that waits
    #[arg(long, value_name = "ID")]
    pub step_id: Option<String>,
    /// The workflow's name, shown to reviewers as a claim
    #[arg(long, value_name = "WORKFLOW")]
    pub requested_by: Option<String>,
    /// Why, for the reviewers
    #[arg(long)]
    pub reason: Option<String>,
    /// A risk tag to add; may be given more than once
    #[arg(long = "risk-tag", value_name = "TAG")]
    pub risk_tags: Vec<String>,
    /// The suspended Job that is started on approval
    #[arg(long, value_name = "job/NAME", value_parser = parse_target)]
    pub target: Option<String>,
    /// The Job's uid: no other Job of that name is taken
    #[arg(long, value_name = "UID", requires = "target")]
    pub target_uid: Option<String>,
    /// Evidence to show; may be given more than once
    #[arg(long, value_name = "TITLE=TEXT", value_parser = parse_evidence)]
    pub evidence: Vec<(String, String)>,
    /// The Job to gate, as YAML or JSON: it is created suspended, and the request asks for it. Takes the place of --target
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "target_uid"])]
    pub job: Option<PathBuf>,
    /// Wait until the request is at its end; the exit code says which
    #[arg(short, long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// The longest wait, such as 30m or 1h30m [default: as long as it takes]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// While nothing changes, say so every so many seconds; 0 never does
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value = "60")]
    pub heartbeat: u64,
    /// What to print [default: yaml, with --wait nothing]
    #[arg(short, long, value_enum, conflicts_with = "dry_run")]
    pub output: Option<Form>,
    /// Print the manifest and contact no server
    #[arg(long)]
    pub dry_run: bool,
}

/// Creates the request, or only composes it; with `--wait`, waits for its end.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let told = match asked(args).await {
        Ok(told) => told,
        Err(end) => Told { out: String::new(), end: Some(end) },
    };
    crate::cli::print(&told.out)?;
    let Some(end) = told.end else { return Ok(ExitCode::SUCCESS) };
    desk::say(&end.text);
    Ok(end.exit.into())
}

/// What goes to stdout, and how it ended where there is something to say of that.
struct Told {
    out: String,
    end: Option<End>,
}

async fn asked(args: &Args) -> Result<Told, End> {
    let draft = match &args.file {
        Some(path) => {
            compact::parse(&read(path)?).map_err(anyhow::Error::from).with_context(|| path.display().to_string())?
        }
        None => Draft::default(),
    };
    let mut manifest = compose(args, draft)?;
    let named = manifest["metadata"]["name"].as_str().map(String::from);
    if (args.wait || args.job.is_some()) && named.is_none() {
        let text = "metadata.generateName: a restarted call would not find its request; give it a name";
        return Err(End::new(Exit::Usage, text));
    }
    if args.dry_run {
        let job = planned(args, &named.unwrap_or_default(), manifest["metadata"]["namespace"].as_str())?;
        return dry(&manifest, job.as_ref());
    }
    let config = args.connection.config().await?;
    let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or(&config.default_namespace).to_string();
    manifest["metadata"]["namespace"] = namespace.as_str().into();
    let job = planned(args, named.as_deref().unwrap_or_default(), Some(&namespace))?;
    if let Some(job) = &job {
        // Until its uid is known; what else is asked does not change.
        manifest["spec"]["target"] = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name});
    }
    if args.output == Some(Form::Receipt) && !(args.wait && manifest["spec"]["target"].is_object()) {
        let text = "--output receipt: a receipt is on a released Job; it takes --wait, and --job or --target";
        return Err(End::new(Exit::Usage, text));
    }
    let desk = Desk::new(config, &namespace, named.as_deref().unwrap_or_default(), args.wait)?;
    if args.wait {
        return wait_for(args, &desk, manifest, job.as_ref()).await;
    }
    let stored = ask::ask(&desk, manifest, job.as_ref()).await?;
    Ok(Told { out: show::request(args.output.unwrap_or(Form::Yaml), &stored.request)?, end: None })
}

/// Asks, and waits until the end or the timeout, with a line now and then.
async fn wait_for(args: &Args, desk: &Desk, manifest: Value, job: Option<&Planned>) -> Result<Told, End> {
    let progress = RefCell::new(Progress::new(manifest.clone()));
    let waited = async {
        let stored = ask::ask(desk, manifest, job).await?;
        progress.borrow_mut().asks(stored.manifest);
        // From here on it is the one of this uid.
        let step = progress.borrow_mut().see(&stored.request);
        match wait::told(step) {
            Some(end) => Ok(end),
            None => wait::follow(desk, &progress).await,
        }
    };
    let beat = async {
        loop {
            tokio::time::sleep(Duration::from_secs(args.heartbeat)).await;
            desk::say(&progress.borrow().heartbeat(desk.elapsed()));
        }
    };
    let late = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout.saturating_sub(desk.elapsed())).await,
            None => std::future::pending().await,
        }
    };
    let end: End = tokio::select! {
        biased;
        end = waited => end?,
        () = late => progress.borrow().timed_out(desk.elapsed()),
        () = beat, if args.heartbeat > 0 => return Err(End::new(Exit::Failed, "the heartbeat ended")),
    };
    let last = progress.borrow().last().cloned();
    let out = match (args.output, last) {
        (Some(Form::Receipt), Some(request)) if end.exit == Exit::Done => show::receipt(desk, &request).await?,
        (Some(form), Some(request)) if end.exit != Exit::StillWaiting => show::request(form, &request)?,
        _ => String::new(),
    };
    Ok(Told { out, end: Some(end) })
}

fn planned(args: &Args, request: &str, namespace: Option<&str>) -> Result<Option<Planned>, End> {
    let Some(path) = &args.job else { return Ok(None) };
    let job =
        read(path).and_then(|text| job::plan(&text, request, namespace).with_context(|| path.display().to_string()))?;
    Ok(Some(job))
}

/// What would be created, the Job first.
fn dry(manifest: &Value, job: Option<&Planned>) -> Result<Told, End> {
    let Some(job) = job else { return Ok(Told { out: show::yaml(manifest)?, end: None }) };
    let mut manifest = manifest.clone();
    manifest["spec"]["target"] = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name});
    Ok(Told { out: format!("{}---\n{}", show::yaml(&job.object)?, show::yaml(&manifest)?), end: None })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        return Ok(compact::read(std::io::stdin().lock())?);
    }
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    compact::read(file).with_context(|| path.display().to_string())
}

fn parse_name(name: &str) -> Result<String, String> {
    object_name(name).map(|()| name.into())
}

fn parse_target(target: &str) -> Result<String, String> {
    match target.split_once('/') {
        Some(("job", name)) if !name.contains('/') => object_name(name).map(|()| name.into()),
        Some((_, rest)) if rest.contains('/') => {
            Err("a target is in the request's own namespace: write job/NAME, and choose the namespace with -n".into())
        }
        Some((kind, _)) => Err(format!("only a Job can be the target, not `{}`: write job/NAME", visible(kind))),
        None => Err("write job/NAME".into()),
    }
}

fn parse_evidence(evidence: &str) -> Result<(String, String), String> {
    match evidence.split_once('=') {
        Some((title, text)) if !title.is_empty() => Ok((title.into(), text.into())),
        _ => Err("write TITLE=TEXT, such as \"error rate=5xx 12%\"".into()),
    }
}
