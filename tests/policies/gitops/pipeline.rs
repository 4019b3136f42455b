//! The repository's own check, as a CI calls it.

use super::{control_plane, example};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The API server takes it, and it does not compile.
pub const UNLESS_NOTHING: &str = "    - {op: add, path: /spec/rules/0/unless, value: {}}\n";

/// A copy of the example, to change.
pub struct Repository(TempDir);

impl Repository {
    pub fn new() -> Result<Self> {
        let copy = Self(TempDir::new()?);
        let source = example(".");
        let copied = Command::new("cp").arg("-r").arg(source).arg(copy.path("")).status()?;
        ensure!(copied.success(), "{copied}");
        Ok(copy)
    }

    /// A path in the copy. Beside it there is room for commands.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("repository").join(path)
    }

    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.path(path), text).with_context(|| path.to_string())
    }

    pub fn replace(&self, path: &str, old: &str, new: &str) -> Result<()> {
        let text = fs::read_to_string(self.path(path)).with_context(|| path.to_string())?;
        ensure!(text.contains(old), "{path} has no {old:?}");
        self.write(path, &text.replace(old, new))
    }

    /// Appends to the patch that ends a cluster's kustomization.
    pub fn patch(&self, cluster: &str, operation: &str) -> Result<()> {
        let path = format!("clusters/{cluster}/kustomization.yaml");
        let text = fs::read_to_string(self.path(&path))?;
        self.write(&path, &(text + operation))
    }

    /// Runs the check from elsewhere, with kubectl and our command on the PATH.
    async fn check(&self, args: &[&str]) -> Result<Output> {
        let bin = self.0.path().join("bin");
        if !bin.exists() {
            fs::create_dir(&bin)?;
            symlink(control_plane().await?.kubectl_path(), bin.join("kubectl"))?;
            symlink(env!("CARGO_BIN_EXE_countersign"), bin.join("countersign"))?;
        }
        let mut path = OsString::from(&bin);
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(self.path("ci.sh"));
        command.args(args).current_dir(self.0.path()).env("PATH", path).env_remove("KUBECONFIG");
        Ok(command.output()?)
    }

    /// What it says where it fails.
    async fn fails(&self) -> Result<String> {
        let output = self.check(&[]).await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(!output.status.success(), "it was to fail: {said}");
        Ok(said)
    }
}

#[tokio::test]
async fn the_example_repository_passes_its_own_check_and_leaves_nothing_behind() -> Result<()> {
    let repository = Repository::new()?;
    let before = files(&repository)?;
    let output = repository.check(&["results.xml"]).await?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.success(), "{said}");
    assert!(said.contains("./tests/prod.test.yaml\n") && said.contains("6 passed, 0 failed\n"), "{said}");
    let xml = fs::read_to_string(repository.0.path().join("results.xml"))?;
    assert!(xml.contains(r#"tests="6" failures="0""#), "{xml}");
    assert_eq!(files(&repository)?, before);
    Ok(())
}

fn files(repository: &Repository) -> Result<String> {
    let found = Command::new("find").arg(repository.path("")).output()?;
    Ok(String::from_utf8(found.stdout)?)
}

#[tokio::test]
async fn a_policy_that_does_not_compile_in_one_cluster_alone_does_not_pass() -> Result<()> {
    let repository = Repository::new()?;
    repository.patch("staging", UNLESS_NOTHING)?;
    let said = repository.fails().await?;
    let expected = "policy changes does not compile and might apply: spec.rules[can-change-something].unless: is empty";
    assert!(said.contains(expected), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_rule_or_a_cluster_without_a_test_and_a_weaker_patch_do_not_pass() -> Result<()> {
    let repository = Repository::new()?;
    repository.replace("clusters/prod/kustomization.yaml", "value: 2}", "value: 1}")?;
    let said = repository.fails().await?;
    assert!(said.contains("requirements: expected sre: 2, found sre: 1"), "{said}");

    let repository = Repository::new()?;
    let more = "  - {name: untested, when: {riskTags: [host]}, decision: Deny}\n";
    let policy = fs::read_to_string(repository.path("base/images.yaml"))?;
    repository.write("base/images.yaml", &(policy + more))?;
    let said = repository.fails().await?;
    assert!(said.contains("not covered: images/untested: no test matches it"), "{said}");

    let repository = Repository::new()?;
    fs::create_dir(repository.path("clusters/new"))?;
    repository.write("clusters/new/kustomization.yaml", "resources: [../../base]\n")?;
    let said = repository.fails().await?;
    assert!(said.contains("not covered: images: no test uses it"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_patch_that_would_hit_another_rule_renders_nothing() -> Result<()> {
    let repository = Repository::new()?;
    let first = "  rules:\n";
    let inserted = "  rules:\n  - {name: host, when: {riskTags: [host]}, decision: Deny}\n";
    repository.replace("base/changes.yaml", first, inserted)?;
    let said = repository.fails().await?;
    assert!(said.contains("/spec/rules/0/name"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_editor_in_git_and_what_is_no_policy_do_not_pass() -> Result<()> {
    let repository = Repository::new()?;
    let annotated = "  name: images\n  annotations: {countersign.dev/edited-by: alice}\n";
    repository.replace("base/images.yaml", "  name: images\n", annotated)?;
    let said = repository.fails().await?;
    assert!(said.contains("is stamped by admission: take it out of Git"), "{said}");

    let repository = Repository::new()?;
    repository.replace("base/images.yaml", "kind: ApprovalPolicy", "kind: ConfigMap")?;
    let said = repository.fails().await?;
    assert!(said.contains("is no ApprovalPolicy"), "{said}");
    Ok(())
}
