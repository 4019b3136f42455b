//! What is generated, or written down twice, agrees: the CRDs with the types, the examples with the code that reads
//! them, the documents with what they point at.
//!
//! `COUNTERSIGN_UPDATE=1 cargo test --test generated` writes the CRDs and docs/reference anew.

mod book;
mod chart;
mod command_lines;
mod commands;
mod reference;

use crate::book::pages;
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use countersign::api::policy::Decision;
use countersign::api::{ApprovalPolicy, Requester, crd, names};
use countersign::cli::compact;
use countersign::policy::{CompiledPolicy, Facts, PolicySet, compile, evaluate};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// Fails unless these files are what is stored in a directory, and all of it. Asked to, it first writes them.
fn stored(directory: &str, ending: &str, generated: &[(String, String)]) -> Result<()> {
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::create_dir_all(root().join(directory))?;
        generated.iter().try_for_each(|(path, text)| fs::write(root().join(path), text))?;
    }
    for (path, text) in generated {
        let stored = read(path).unwrap_or_default();
        ensure!(&stored == text, "{path} is not what the code says; run {UPDATE}=1 cargo test --test generated");
    }
    let expected: BTreeSet<_> = generated.iter().map(|(path, _)| root().join(path)).collect();
    let found: BTreeSet<_> = files(directory, ending)?.into_iter().collect();
    assert_eq!(found, expected, "a file under {directory}/ belongs to nothing");
    Ok(())
}

#[test]
fn the_crds_are_those_of_the_types() -> Result<()> {
    let files = crd::files()?.into_iter().map(|(name, text)| (format!("crds/{name}"), text));
    stored("crds", "yaml", &files.collect::<Vec<_>>())
}

#[test]
fn the_reference_is_that_of_the_types_and_the_command_line() -> Result<()> {
    let crds = crd::all().into_iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let mut pages = reference::pages(&crds)?;
    pages.push((commands::PAGE.into(), commands::page()?));
    stored("docs/reference", "md", &pages)
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
            let status = (kind != "ApprovalRecord").then_some("status");
            for part in ["spec"].into_iter().chain(status) {
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
    let work = documents(&root().join("examples/workflow/work.yaml"))?.remove(0);
    let text = |key: &str| work["data"][key].as_str().context("a file of the workflow");
    compact::parse(text("request.json")?.as_bytes())?;
    let job: Job = serde_yaml::from_str(text("job.yaml")?)?;
    assert_eq!(job.spec.and_then(|spec| spec.suspend), Some(true));
    // What the workflow's Pod runs is a command that there is.
    let pod = documents(&root().join("examples/workflow/pod.yaml"))?.remove(0);
    let script = pod["spec"]["containers"][0]["args"][0].as_str().context("a script")?.replace("\\\n", " ");
    let call = script.split('>').next().context("a call")?;
    countersign::cli::Args::try_parse_from(call.split_whitespace())?;
    let objects = documents(&root().join("examples/incident/setup.yaml"))?;
    let named = |object: &Value| object["metadata"]["name"].is_string() && object["kind"].is_string();
    ensure!(!objects.is_empty() && objects.iter().all(named), "setup.yaml holds something that is no object");
    Ok(())
}

/// The Job that checks its receipt: where it looks is where it is mounted from, and the command is one that there is.
#[test]
fn the_example_of_a_receipt_reads_what_a_release_writes() -> Result<()> {
    let text = read("examples/receipt/job.yaml")?;
    let job: Job = serde_json::from_value(documents(&root().join("examples/receipt/job.yaml"))?.remove(0))?;
    let pod = job.spec.and_then(|spec| spec.template.spec).context("a Job without a pod")?;
    let volumes = serde_json::to_value(&pod.volumes)?;
    let receipt = format!("metadata.annotations['{}']", names::RECEIPT);
    assert_eq!(volumes[0]["downwardAPI"]["items"], json!([{"path": "receipt", "fieldRef": {"fieldPath": receipt}}]));
    let container = serde_json::to_value(&pod.containers[0])?;
    for (mount, volume) in [(0, 0), (1, 1)] {
        assert_eq!(container["volumeMounts"][mount]["name"], volumes[volume]["name"]);
    }
    ensure!(text.contains("--receipt /etc/countersign/receipt") && text.contains("--keys /etc/countersign-keys/keys"));
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/etc/countersign");
    assert_eq!(container["volumeMounts"][1]["mountPath"], "/etc/countersign-keys");
    let script = container["args"][0].as_str().context("a script")?.replace("\\\n", " ");
    let call = script.lines().find(|line| line.contains("receipt verify")).context("a call")?;
    let call = call.split_once("$(").context("a call")?.1.trim_end_matches(')').replace('"', "");
    countersign::cli::Args::try_parse_from(call.split_whitespace())?;
    ensure!(read("docs/receipts.md")?.contains(&receipt), "the documentation mounts another annotation");
    Ok(())
}

#[test]
fn the_readme_shows_the_request_as_it_is() -> Result<()> {
    let request = read("examples/incident/request.json")?;
    let readme = read("README.md")?;
    ensure!(readme.lines().any(|line| line == request.trim_end()), "README.md shows another request than the example");
    Ok(())
}

#[test]
fn the_readme_makes_the_operators_kubeconfig_as_the_docs_do() -> Result<()> {
    let page = read("docs/operating.md")?;
    let (_, block) = page.split_once("kubeconfig must carry it:\n\n```sh\n").context("the commands")?;
    let (block, _) = block.split_once("\n```").context("their end")?;
    ensure!(read("README.md")?.contains(block), "README.md makes the operator's kubeconfig otherwise");
    Ok(())
}

/// What Krew demands of a manifest, and that it is about commands that are there.
#[test]
fn the_krew_manifests_have_the_shape_that_krew_takes() -> Result<()> {
    let paths = files("deploy/krew", "yaml")?;
    assert_eq!(paths.len(), 2);
    for (path, verb) in paths.iter().zip(["approve", "deny"]) {
        let manifest = documents(path)?.remove(0);
        assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
        assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&json!("Plugin"), &json!(verb)));
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(verb), "a file is named like its plugin");
        let spec = &manifest["spec"];
        assert_eq!(spec["version"], concat!("v", env!("CARGO_PKG_VERSION")));
        for field in ["homepage", "shortDescription", "description"] {
            ensure!(spec[field].as_str().is_some_and(|text| !text.is_empty()), "{verb}: no {field}");
        }
        ensure!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50 && !text.ends_with('.')));
        let command = format!("kubectl-{verb}");
        ensure!(root().join(format!("src/bin/{command}.rs")).exists(), "{command} is no command");
        let mut platforms = vec![];
        for platform in spec["platforms"].as_array().context("platforms")? {
            let labels = &platform["selector"]["matchLabels"];
            platforms.push(format!(
                "{}-{}",
                labels["os"].as_str().context("os")?,
                labels["arch"].as_str().context("arch")?
            ));
            let uri = platform["uri"].as_str().context("uri")?;
            ensure!(
                uri.starts_with("https://") && uri.ends_with(&format!("{}.tar.gz", platforms[platforms.len() - 1]))
            );
            let sum = platform["sha256"].as_str().context("sha256")?;
            ensure!(sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()), "{verb}: {sum}");
            assert_eq!(platform["bin"], json!(command));
            let copied = platform["files"].as_array().context("files")?;
            ensure!(
                copied.contains(&json!({"from": command, "to": "."}))
                    && copied.contains(&json!({"from": "LICENSE", "to": "."}))
            );
        }
        assert_eq!(platforms, ["linux-amd64", "linux-arm64", "darwin-arm64"]);
    }
    Ok(())
}

/// The documentation of the commands names what they take and how they end.
#[test]
fn every_flag_and_exit_code_of_the_reviewers_commands_is_in_the_docs() -> Result<()> {
    let page = read("docs/reviewing.md")?;
    let command = countersign::cli::review::command(countersign::cli::review::Verb::Approve);
    let help = command.get_after_help().context("help")?.to_string();
    for code in [0, 1, 2, 3, 4, 5, 6, 130] {
        ensure!(page.contains(&format!("\n| {code} | ")), "docs/reviewing.md does not name exit code {code}");
        ensure!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))),
            "--help does not name {code}"
        );
    }
    for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
        let named = page.contains(&format!("`--{flag}")) || page.contains(&format!(" --{flag} "));
        let short = command
            .get_arguments()
            .any(|a| a.get_long() == Some(flag) && a.get_short().is_some_and(|s| page.contains(&format!("`-{s}"))));
        ensure!(named || short, "docs/reviewing.md does not name --{flag}");
    }
    Ok(())
}

#[test]
fn every_test_that_a_document_names_is_there() -> Result<()> {
    for (page, least) in [("docs/threats.md", 20), ("docs/faults.md", 40), ("docs/proof.md", 20)] {
        let named = tests_named_in(page)?;
        ensure!(named.len() > least, "{page} names only {} tests", named.len());
    }
    Ok(())
}

/// The tests that a page names, each of which must be in the file that it names before.
fn tests_named_in(page: &str) -> Result<BTreeSet<String>> {
    let is_name = |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut named = BTreeSet::new();
    for line in read(page)?.lines() {
        let mut file = String::new();
        for word in line.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                file = read(word)?;
            } else if is_name(&word) && !file.is_empty() {
                ensure!(file.contains(&format!("fn {word}(")), "{page}: no test is called {word}");
                named.insert(word.to_string());
            }
        }
    }
    Ok(named)
}

#[test]
fn every_scenario_of_a_fault_is_in_the_table() -> Result<()> {
    let named = tests_named_in("docs/faults.md")?;
    for path in files("tests/faults", "rs")? {
        for scenario in fs::read_to_string(&path)?.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = scenario.split('(').next().context("a name")?;
            ensure!(named.contains(name), "docs/faults.md does not name {name}, of {}", path.display());
        }
    }
    Ok(())
}

/// Every field below a schema, by its own name.
fn fields(schema: &Value, found: &mut BTreeSet<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(name.clone());
        fields(property, found);
    }
    for part in ["items", "additionalProperties"].into_iter().filter(|part| schema[*part].is_object()) {
        fields(&schema[part], found);
    }
}

#[test]
fn every_field_of_a_policy_is_in_the_docs() -> Result<()> {
    let crd = crd::all().into_iter().find(|crd| crd.spec.names.kind == "ApprovalPolicy").context("the CRD")?;
    let crd = serde_json::to_value(crd)?;
    let mut found = BTreeSet::new();
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").context("the schema")?;
    fields(schema, &mut found);
    ensure!(found.len() >= 45, "only {} fields were found", found.len());
    // Whole words in code, not in prose: `name` is in that everywhere.
    let page = read("docs/policies.md")?;
    let (_, reference) = page.split_once("\n## Every field\n").context("the reference")?;
    let (reference, _) = reference.split_once("\n## ").context("what follows the reference")?;
    let code = reference.split('`').skip(1).step_by(2);
    let words: BTreeSet<&str> = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric())).collect();
    let missing: Vec<_> = found.iter().filter(|field| !words.contains(field.as_str())).collect();
    ensure!(missing.is_empty(), "docs/policies.md, Every field: {missing:?} are missing");
    Ok(())
}

/// The YAML of every fenced block in a page that holds a policy.
fn policies_in(page: &str) -> Vec<&str> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| block.contains("kind: ApprovalPolicy")).collect()
}

/// Whether a policy by itself lets through what somebody asks who is nobody, about a deletion without a Job.
fn allows_everybody(policy: CompiledPolicy) -> bool {
    let policies = PolicySet { ready: vec![Arc::new(policy)], broken: vec![] };
    let requester = Requester { username: "mallory".into(), uid: None, groups: vec!["system:authenticated".into()] };
    [vec![], vec![("env", "prod")]].into_iter().any(|labels| {
        let labels = labels.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let facts = Facts {
            requested_by: "workflow.cleanup",
            declared_tags: &["prod".into(), "delete".into()],
            claims: &Value::Null,
            derived_tags: &[],
            requester: &requester,
            namespace: "payments",
            namespace_labels: &labels,
            object: None,
            asked: Timestamp::UNIX_EPOCH,
        };
        evaluate(&policies, &facts).decision == Some(Decision::Allow)
    })
}

#[test]
fn a_policy_that_allows_everybody_is_found_out() -> Result<()> {
    let of = |rule: Value| -> Result<bool> {
        let spec = serde_json::json!({"rules": [rule]});
        compile("p", &spec, None).map(allows_everybody).map_err(|broken| anyhow::anyhow!("{}", broken.error))
    };
    assert!(of(serde_json::json!({"name": "everything-else", "decision": "Allow"}))?);
    assert!(!of(serde_json::json!({"name": "some", "when": {"riskTags": ["read-only"]}, "decision": "Allow"}))?);
    Ok(())
}

#[test]
fn every_policy_in_the_docs_compiles() -> Result<()> {
    let mut found = 0;
    for path in pages()? {
        let page = fs::read_to_string(&path)?;
        for block in policies_in(&page) {
            let policy: Value = serde_yaml::from_str(block).with_context(|| path.display().to_string())?;
            let name = policy["metadata"]["name"].as_str().context("a policy without a name")?;
            match compile(name, &policy["spec"], Some("policy-editor")) {
                Ok(compiled) => ensure!(!allows_everybody(compiled), "{}: {name} allows everybody", path.display()),
                Err(broken) => bail!("{}: {name}: {}", path.display(), broken.error),
            }
            found += 1;
        }
    }
    ensure!(found >= 5, "only {found} policies were found in the docs");
    Ok(())
}
