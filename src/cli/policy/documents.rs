//! YAML files: which there are, and the documents in them.

use crate::api::names;
use crate::cli::bounds;
use crate::cli::policy::fixture::{API_VERSION, KIND};
use crate::cli::yaml;
use crate::policy::{BrokenPolicy, CompiledPolicy, PolicySet, compile};
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep folders are searched.
const DEEPEST: usize = 32;
/// How the name of a fixture ends.
const FIXTURE: &str = ".test.yaml";
/// Names that somebody took for that.
const NEARLY: [&str; 2] = [".test.yml", ".test.json"];
/// How the name of a file ends in which policies may stand.
const READ: [&str; 3] = [".yaml", ".yml", ".json"];

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

    /// What is wrong with it: it does not compile, or the API server would not take it.
    pub fn problem(&self, editor: &str) -> Option<String> {
        let at = |what: String| format!("{}: policy {}: {what}", self.source.display(), self.name);
        if let Err(broken) = self.compile(Some(editor)) {
            return Some(at(broken.error.to_string()));
        }
        let problem = bounds::check_policy(&self.name, self.spec.as_object()?).err()?;
        Some(at(format!("{}: {}; the API server refuses it", problem.path, problem.what)))
    }

    /// Whether it compiles.
    pub fn compiles(&self, editor: &str) -> bool {
        self.compile(Some(editor)).is_ok()
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
    let about = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    // Reading a pipe would wait for somebody to write into it.
    ensure!(about.is_file(), "{}: is no regular file", path.display());
    read(path)
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    yaml::check(text.as_bytes())?;
    let mut found = vec![];
    for document in serde_yaml::Deserializer::from_str(text) {
        let mut value = serde_yaml::Value::deserialize(document).context("is not well-formed YAML")?;
        // As kubectl reads it.
        value.apply_merge().context("merges (`<<`) what cannot be merged")?;
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
    /// Other YAML and JSON files, sorted.
    pub others: Vec<PathBuf>,
    /// Links to folders, which are not followed, sorted.
    pub links: Vec<PathBuf>,
}

/// The YAML files at a path: itself, where it is a file (then taken as a fixture), or those in the folder and below.
/// Folders are not followed through links.
pub fn find(path: &Path) -> anyhow::Result<Found> {
    let about = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !about.is_dir() {
        return Ok(Found { fixtures: vec![path.into()], ..Found::default() });
    }
    let mut found = Found::default();
    search(path, DEEPEST, &mut found)?;
    found.fixtures.sort();
    found.others.sort();
    found.links.sort();
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
        } else if kind.is_symlink() && path.is_dir() {
            found.links.push(path);
        } else if name.ends_with(FIXTURE) {
            found.fixtures.push(path);
        } else if NEARLY.iter().any(|ending| name.ends_with(ending)) {
            bail!("{}: a fixture's name ends in {FIXTURE}; rename it", path.display());
        } else if READ.iter().any(|ending| name.ends_with(ending)) {
            found.others.push(path);
        }
    }
    Ok(())
}

/// The policies of a file, all of whose documents must be policies, or of the YAML files in a folder and below, whose
/// other documents are passed over.
pub fn policies(path: &Path) -> anyhow::Result<Vec<PolicyDocument>> {
    let folder = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.is_dir();
    let mut found: Vec<PolicyDocument> = vec![];
    if folder {
        for file in find(path)?.others {
            found.extend(beside(&file)?);
        }
    } else {
        for document in read(path)? {
            found.push(PolicyDocument::read(path, &document)?);
        }
    }
    if found.is_empty() {
        bail!("{}: there is no ApprovalPolicy here", path.display());
    }
    match twice(&found) {
        Some(name) => bail!("{}: two policies are named {name}", path.display()),
        None => Ok(found),
    }
}

/// The name that two policies have.
pub fn twice(policies: &[PolicyDocument]) -> Option<&str> {
    let mut names = BTreeSet::new();
    policies.iter().map(|policy| policy.name.as_str()).find(|name| !names.insert(*name))
}

/// The policies of a file among others, such as charts and settings: what is none is passed over, and so is what is no YAML,
/// unless it speaks of us.
pub fn beside(file: &Path) -> anyhow::Result<Vec<PolicyDocument>> {
    let found = match documents(file) {
        Ok(found) => found,
        Err(error) if speaks_of_us(file) => return Err(error),
        Err(_) => vec![],
    };
    if found.iter().any(|document| document["kind"] == KIND && document["apiVersion"] == API_VERSION) {
        bail!("{}: holds a {KIND}, and its name does not end in {FIXTURE}; rename it", file.display());
    }
    let policies = found.iter().filter(|document| document["kind"] == "ApprovalPolicy");
    policies.map(|document| PolicyDocument::read(file, document)).collect()
}

/// Whether our group is named in a file, or nobody can tell.
fn speaks_of_us(file: &Path) -> bool {
    let regular = fs::metadata(file).is_ok_and(|about| about.is_file());
    let text = if regular { fs::read(file).ok() } else { None };
    text.is_none_or(|text| text.windows(names::GROUP.len()).any(|part| part == names::GROUP.as_bytes()))
}
