//! What is generated, or written down twice, agrees: the CRDs with the types, the examples with the code that reads
//! them, the documents with what they point at.
//!
//! `COUNTERSIGN_UPDATE=1 cargo test --test generated` writes the CRDs anew.

use anyhow::{Context, Result, bail, ensure};
use countersign::api::{ApprovalPolicy, crd, names};
use countersign::cli::compact;
use countersign::policy::compile;
use k8s_openapi::api::batch::v1::Job;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const UPDATE: &str = "COUNTERSIGN_UPDATE";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| path.to_string())
}

/// The files of a directory with that ending, sorted.
fn files(directory: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root().join(directory)).with_context(|| directory.to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    Ok(paths)
}

/// Every document of a YAML file, as JSON.
fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let read = |document| Ok(serde_json::to_value(serde_yaml::Value::deserialize(document)?)?);
    serde_yaml::Deserializer::from_str(&text)
        .map(read)
        .collect::<Result<_>>()
        .with_context(|| path.display().to_string())
}

#[test]
fn the_crds_are_those_of_the_types() -> Result<()> {
    let directory = root().join("crds");
    let update = std::env::var_os(UPDATE).is_some_and(|value| value == "1");
    if update {
        fs::create_dir_all(&directory)?;
    }
    let generated = crd::files()?;
    for (name, text) in &generated {
        if update {
            fs::write(directory.join(name), text)?;
        }
        let stored = read(&format!("crds/{name}")).unwrap_or_default();
        ensure!(&stored == text, "crds/{name} is not what the types say; run {UPDATE}=1 cargo test --test generated");
    }
    let expected: BTreeSet<_> = generated.iter().map(|(name, _)| directory.join(name)).collect();
    let found: BTreeSet<_> = files("crds", "yaml")?.into_iter().collect();
    assert_eq!(found, expected, "a file under crds/ belongs to no type");
    Ok(())
}

#[test]
fn every_field_of_the_crds_is_described() -> Result<()> {
    let mut silent = vec![];
    for crd in crd::all() {
        let crd = serde_json::to_value(crd)?;
        let kind = crd["spec"]["names"]["kind"].as_str().context("kind")?;
        for version in crd["spec"]["versions"].as_array().context("versions")? {
            let schema = &version["schema"]["openAPIV3Schema"];
            ensure!(schema["description"].is_string(), "{kind} has no description");
            for part in ["spec", "status"] {
                let properties = &schema["properties"][part];
                ensure!(properties["properties"].is_object(), "{kind} has no {part}");
                undescribed(properties, &format!("{kind}.{part}"), &mut silent);
            }
        }
    }
    assert!(silent.is_empty(), "without a description: {silent:#?}");
    Ok(())
}

/// Collects the properties below `schema` that say nothing of themselves, through lists and maps.
fn undescribed(schema: &Value, path: &str, silent: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if property["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
            silent.push(path.clone());
        }
        undescribed(property, &path, silent);
    }
    for (part, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[part].is_object() {
            undescribed(&schema[part], &format!("{path}{mark}"), silent);
        }
    }
}

#[test]
fn the_example_policies_compile() -> Result<()> {
    let paths = files("examples/policies", "yaml")?;
    ensure!(paths.len() >= 2, "there are only {} example policies", paths.len());
    for path in paths {
        for document in documents(&path)? {
            let policy: ApprovalPolicy = serde_json::from_value(document.clone())?;
            let name = policy.metadata.name.context("a policy without a name")?;
            assert_eq!(document["apiVersion"], names::API_VERSION, "{name}");
            assert_eq!(document["kind"], "ApprovalPolicy", "{name}");
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(name.as_str()), "a file is named like it");
            if let Err(broken) = compile(&name, &document["spec"], None) {
                bail!("{}: {}", path.display(), broken.error);
            }
        }
    }
    Ok(())
}

#[test]
fn the_example_requests_and_jobs_can_be_read() -> Result<()> {
    for directory in ["examples/incident", "examples/schema-change"] {
        let request = compact::parse(read(&format!("{directory}/request.json"))?.as_bytes())?;
        ensure!(request.spec.contains_key("runID"), "{directory}: no runID");
        for document in documents(&root().join(directory).join("job.yaml"))? {
            let job: Job = serde_json::from_value(document)?;
            let spec = job.spec.context("a Job without a spec")?;
            assert_eq!(spec.suspend, Some(true), "{directory}: a Job that waits for approval starts suspended");
        }
    }
    let objects = documents(&root().join("examples/incident/setup.yaml"))?;
    let named = |object: &Value| object["metadata"]["name"].is_string() && object["kind"].is_string();
    ensure!(!objects.is_empty() && objects.iter().all(named), "setup.yaml holds something that is no object");
    Ok(())
}

#[test]
fn the_readme_shows_the_request_as_it_is() -> Result<()> {
    let request = read("examples/incident/request.json")?;
    let readme = read("README.md")?;
    ensure!(readme.lines().any(|line| line == request.trim_end()), "README.md shows another request than the example");
    Ok(())
}

/// The README and everything under docs/.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = files("docs", "md")?;
    pages.push(root().join("README.md"));
    Ok(pages)
}

#[test]
fn every_link_between_documents_leads_somewhere() -> Result<()> {
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = match file {
                "" => page.clone(),
                file => page.parent().context("a page is in a directory")?.join(file),
            };
            ensure!(there.exists(), "{}: nothing at {link}", page.display());
            let headings = if anchor.is_empty() { String::new() } else { fs::read_to_string(&there)? };
            let named = |line: &str| line.starts_with('#') && slug(line) == anchor;
            ensure!(anchor.is_empty() || headings.lines().any(named), "{}: no heading for {link}", page.display());
        }
    }
    Ok(())
}

/// A heading as the anchor that it gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_test_that_a_document_names_is_there() -> Result<()> {
    let is_name = |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut seen = 0;
    for line in read("docs/threats.md")?.lines() {
        let mut file = String::new();
        for word in line.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = read(word)?;
            } else if is_name(&word) && !file.is_empty() {
                ensure!(file.contains(&format!("fn {word}(")), "docs/threats.md: no test is called {word}");
                seen += 1;
            }
        }
    }
    ensure!(seen > 20, "only {seen} tests are named");
    Ok(())
}

/// The YAML of every fenced block in a page that holds a policy.
fn policies_in(page: &str) -> Vec<&str> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| block.contains("kind: ApprovalPolicy")).collect()
}

#[test]
fn every_policy_in_the_docs_compiles() -> Result<()> {
    let pages = files("docs", "md")?.into_iter().chain([root().join("README.md")]);
    let mut found = 0;
    for path in pages {
        let page = fs::read_to_string(&path)?;
        for block in policies_in(&page) {
            let policy: Value = serde_yaml::from_str(block).with_context(|| path.display().to_string())?;
            let name = policy["metadata"]["name"].as_str().context("a policy without a name")?;
            if let Err(broken) = compile(name, &policy["spec"], None) {
                bail!("{}: {name}: {}", path.display(), broken.error);
            }
            found += 1;
        }
    }
    ensure!(found >= 5, "only {found} policies were found in the docs");
    Ok(())
}
