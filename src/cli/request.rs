//! `countersign request`: asks for approval of one workflow step.

use crate::api::{ApprovalRequest, names};
use crate::binding;
use crate::cli::bounds::{self, object_name};
use crate::cli::client::{Connection, explained};
use crate::cli::compact::{self, Draft};
use crate::cli::escape::visible;
use crate::cli::manifests::dns_label;
use anyhow::{Context, bail};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = r#"Examples:
  countersign request -f request.json -n payments --target job/remediate-8f9a
  countersign request --run-id run_8f9a --step-id remediate --risk-tag prod \
    --requested-by workflow.incident-triage --reason "prod write detected"

The compact JSON, of which constraints, risk_tags and policy_snapshot are optional:
  {"run_id": "run_8f9a", "step_id": "remediate", "reason": "prod write detected",
   "policy_snapshot": "7f3d...9c2b", "risk_tags": ["prod", "write"],
   "constraints": {"max_lines_changed": 500, "max_runtime_sec": 900},
   "requested_by": "workflow.incident-triage"}"#;

/// The fields that every request needs, and the flags that give them.
const REQUIRED: [(&str, &str); 4] =
    [("runID", "--run-id"), ("stepID", "--step-id"), ("requestedBy", "--requested-by"), ("reason", "--reason")];

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
    /// Print the manifest and contact no server
    #[arg(long)]
    pub dry_run: bool,
}

/// Creates the request, or only composes it, and returns it as YAML.
pub async fn run(args: &Args) -> anyhow::Result<String> {
    let draft = match &args.file {
        Some(path) => compact::parse(&read(path)?).with_context(|| path.display().to_string())?,
        None => Draft::default(),
    };
    let manifest = compose(args, draft)?;
    if args.dry_run {
        return shown(&manifest);
    }
    shown(&create(args, manifest).await?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path == Path::new("-") {
        return Ok(compact::read(std::io::stdin().lock())?);
    }
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    compact::read(file).with_context(|| path.display().to_string())
}

/// YAML of an object. A program gets it as it is; on a terminal nothing in it may take effect.
fn shown(object: &Value) -> anyhow::Result<String> {
    let yaml = serde_yaml::to_string(object).context("the request cannot be written as YAML")?;
    if !std::io::stdout().is_terminal() {
        return Ok(yaml);
    }
    Ok(yaml.lines().map(|line| visible(line) + "\n").collect())
}

/// The manifest of the request, checked as far as it can be without a server.
pub fn compose(args: &Args, draft: Draft) -> anyhow::Result<Value> {
    let Draft { form, mut metadata, mut spec } = draft;
    apply_flags(args, &mut spec)?;
    for (field, flag) in REQUIRED {
        if !spec.contains_key(field) {
            let problem =
                bounds::Problem { path: field.into(), what: format!("is missing; give it here or with {flag}") };
            return Err(form.error(&problem).into());
        }
    }
    bounds::check(&spec).map_err(|problem| form.error(&problem))?;
    name(args, &spec, &mut metadata)?;
    place(args, &mut metadata)?;
    Ok(json!({"apiVersion": names::API_VERSION, "kind": "ApprovalRequest", "metadata": metadata, "spec": spec}))
}

fn apply_flags(args: &Args, spec: &mut Map<String, Value>) -> anyhow::Result<()> {
    let texts = [
        ("runID", &args.run_id),
        ("stepID", &args.step_id),
        ("requestedBy", &args.requested_by),
        ("reason", &args.reason),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            spec.insert(field.into(), text.as_str().into());
        }
    }
    for tag in &args.risk_tags {
        let tags = list(spec, "riskTags")?;
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.as_str().into());
        }
    }
    for (title, text) in &args.evidence {
        list(spec, "evidence")?.push(json!({"title": title, "text": text}));
    }
    if let Some(name) = &args.target {
        let mut target = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name});
        if let Some(uid) = &args.target_uid {
            target["uid"] = uid.as_str().into();
        }
        spec.insert("target".into(), target);
    }
    Ok(())
}

fn list<'a>(spec: &'a mut Map<String, Value>, field: &str) -> anyhow::Result<&'a mut Vec<Value>> {
    match spec.entry(field).or_insert_with(|| json!([])) {
        Value::Array(items) => Ok(items),
        _ => bail!("{field}: must be a list"),
    }
}

fn name(args: &Args, spec: &Map<String, Value>, metadata: &mut Map<String, Value>) -> anyhow::Result<()> {
    if let Some(name) = &args.name {
        metadata.remove("generateName");
        metadata.insert("name".into(), name.as_str().into());
    }
    if let Some(given) = metadata.get("name").and_then(Value::as_str) {
        return object_name(given).map_err(|why| anyhow::anyhow!("metadata.name: {why}"));
    }
    if !metadata.contains_key("generateName") {
        let part = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
        metadata.insert("name".into(), derived_name(part("runID"), part("stepID"))?.into());
    }
    Ok(())
}

/// The namespace, where it is said; the client knows it otherwise.
fn place(args: &Args, metadata: &mut Map<String, Value>) -> anyhow::Result<()> {
    match (metadata.get("namespace").and_then(Value::as_str), &args.namespace) {
        (Some(given), Some(flag)) if given != flag => {
            bail!("metadata.namespace: is {given}, and --namespace says {flag}; leave one of them out")
        }
        (Some(given), _) => {
            dns_label(given).map_err(|why| anyhow::anyhow!("metadata.namespace: {why}"))?;
        }
        (None, Some(flag)) => {
            metadata.insert("namespace".into(), flag.as_str().into());
        }
        (None, None) => {}
    }
    Ok(())
}

/// `run-8f9a-remediate` for `run_8f9a` and `remediate`. Where more than `_` was lost, a hash keeps different steps apart.
fn derived_name(run: &str, step: &str) -> anyhow::Result<String> {
    const LONGEST: usize = 253 - 9;
    let wanted = format!("{run}-{step}").replace('_', "-");
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name: String = wanted.chars().map(letter).take(LONGEST).collect();
    name = name.trim_matches('-').to_string();
    if name == wanted {
        return Ok(name);
    }
    let hash = binding::sha256(&json!([run, step])).context("naming the request")?;
    let stem = if name.is_empty() { "request" } else { &name };
    Ok(format!("{stem}-{}", hash.trim_start_matches("sha256:").get(..8).unwrap_or_default()))
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

async fn create(args: &Args, mut manifest: Value) -> anyhow::Result<Value> {
    let config = args.connection.config().await?;
    let server = config.cluster_url.to_string();
    let metadata = &mut manifest["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or(&config.default_namespace).to_string();
    metadata["namespace"] = namespace.as_str().into();
    let client = Client::try_from(config).context("no client can be made from this kubeconfig")?;
    // Untyped, so that the answer shows all that the server stored.
    let resource = ApiResource::erase::<ApprovalRequest>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    let object: DynamicObject = serde_json::from_value(manifest).context("the manifest is no Kubernetes object")?;
    let parameters = PostParams { field_manager: Some("countersign-request".into()), ..PostParams::default() };
    let stored = api.create(&parameters, &object).await.map_err(|error| explained(error, &server))?;
    let mut stored = serde_json::to_value(stored).context("the stored request cannot be read")?;
    if let Some(metadata) = stored["metadata"].as_object_mut() {
        // Bookkeeping of the server that drowns everything else.
        metadata.remove("managedFields");
    }
    Ok(stored)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
