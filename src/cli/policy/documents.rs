//! YAML files: which there are, and the documents in them.

use crate::api::names;
use crate::policy::{BrokenPolicy, CompiledPolicy, PolicySet, compile};
use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep folders are searched.
const DEEPEST: usize = 32;
/// How the name of a fixture ends.
const FIXTURE: &str = ".test.yaml";

/// A policy as a file has it.
#[derive(Clone, Debug)]
pub struct PolicyDocument {
    /// The file.
    pub source: PathBuf,
    /// Its name.
    pub name: String,
    /// Who last changed it, where the file says that.
    pub editor: Option<String>,
    /// Its spec.
    pub spec: Value,
}

impl PolicyDocument {
    /// An ApprovalPolicy that stands in that file.
    pub fn read(source: &Path, document: &Value) -> anyhow::Result<Self> {
        let at = || source.display();
        if document["apiVersion"] != names::API_VERSION || document["kind"] != "ApprovalPolicy" {
            let (kind, version) = (&document["kind"], &document["apiVersion"]);
            bail!("{}: kind {kind} of {version} is no ApprovalPolicy of {}", at(), names::API_VERSION);
        }
        let name = document["metadata"]["name"].as_str().filter(|name| !name.is_empty());
        let name = name.with_context(|| format!("{}: metadata.name: is missing", at()))?;
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        if let Some(key) = document.as_object().into_iter().flatten().find(|(key, _)| !known.contains(&key.as_str())) {
            bail!("{}: {}: there is no such field in an ApprovalPolicy", at(), key.0);
        }
        let editor = document.pointer("/metadata/annotations").and_then(|a| a.get(names::EDITED_BY));
        Ok(Self {
            source: source.into(),
            name: name.into(),
            editor: editor.and_then(Value::as_str).map(String::from),
            spec: document["spec"].clone(),
        })
    }

    /// Compiles it, as last changed by whom the file names, or else by `editor`.
    pub fn compile(&self, editor: Option<&str>) -> Result<CompiledPolicy, Box<BrokenPolicy>> {
        compile(&self.name, &self.spec, self.editor.as_deref().or(editor))
    }
}

/// Compiles all of them.
pub fn policy_set(documents: &[PolicyDocument], editor: Option<&str>) -> PolicySet {
    let mut set = PolicySet::default();
    for document in documents {
        match document.compile(editor) {
            Ok(policy) => set.ready.push(Arc::new(policy)),
            Err(broken) => set.broken.push(Arc::from(broken)),
        }
    }
    set
}

/// Every document of a YAML or JSON file, with what a List holds taken out of it.
pub fn documents(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = vec![];
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document).context("is not well-formed YAML")?;
        match serde_json::to_value(value).context("holds what JSON cannot say")? {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => found.extend(items),
                    _ => bail!("a List needs items"),
                }
            }
            other => found.push(other),
        }
    }
    Ok(found)
}

/// What is found under a path.
#[derive(Debug, Default)]
pub struct Found {
    /// Fixtures, sorted.
    pub fixtures: Vec<PathBuf>,
    /// Other YAML files, sorted.
    pub others: Vec<PathBuf>,
}

/// The YAML files at a path: itself, where it is a file (then taken as a fixture), or those in the folder and below.
/// Folders are not followed through links.
pub fn find(path: &Path) -> anyhow::Result<Found> {
    let about = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !about.is_dir() {
        return Ok(Found { fixtures: vec![path.into()], others: vec![] });
    }
    let mut found = Found::default();
    search(path, DEEPEST, &mut found)?;
    found.fixtures.sort();
    found.others.sort();
    Ok(found)
}

fn search(folder: &Path, deeper: usize, found: &mut Found) -> anyhow::Result<()> {
    if deeper == 0 {
        bail!("{}: folders are searched {DEEPEST} deep, and this goes deeper", folder.display());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry.with_context(|| format!("{} cannot be read", folder.display()))?;
        let path = entry.path();
        let kind = entry.file_type().with_context(|| format!("{} cannot be read", path.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            search(&path, deeper - 1, found)?;
        } else if name.ends_with(FIXTURE) {
            found.fixtures.push(path);
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            found.others.push(path);
        }
    }
    Ok(())
}

/// The policies of a file, all of whose documents must be policies, or of the YAML files in a folder and below, whose
/// other documents are passed over.
pub fn policies(path: &Path) -> anyhow::Result<Vec<PolicyDocument>> {
    let folder = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.is_dir();
    let files = if folder { find(path)?.others } else { vec![path.to_path_buf()] };
    let mut found: Vec<PolicyDocument> = vec![];
    for file in files {
        for document in documents(&file)? {
            if !folder || is_policy(&document) {
                found.push(PolicyDocument::read(&file, &document)?);
            }
        }
    }
    if found.is_empty() {
        bail!("{}: there is no ApprovalPolicy here", path.display());
    }
    let mut names: Vec<_> = found.iter().map(|policy| policy.name.clone()).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => bail!("{}: two policies are named {}", path.display(), pair[0]),
        None => Ok(found),
    }
}

/// Whether a document says that it is a policy.
pub fn is_policy(document: &Value) -> bool {
    document["kind"] == "ApprovalPolicy"
}
