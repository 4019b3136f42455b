//! Composes the manifest of a request from the input and the flags. Pure.

use crate::api::names;
use crate::binding;
use crate::cli::bounds::{self, object_name};
use crate::cli::compact::Draft;
use crate::cli::manifests::dns_label;
use crate::cli::request::Args;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

/// The fields that every request needs, and the flags that give them.
const REQUIRED: [(&str, &str); 4] =
    [("runID", "--run-id"), ("stepID", "--step-id"), ("requestedBy", "--requested-by"), ("reason", "--reason")];

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

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
