//! The objects of Argo CD and Flux, and the workflow: read, since nobody is here who runs them.

use super::{documents, example};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn of_kind(path: &str, kind: &str) -> Result<Value> {
    let found = documents(&example(path))?.into_iter().find(|object| object["kind"] == kind);
    found.with_context(|| format!("no {kind} in {path}"))
}

/// A path in the repository leads to something that Kustomize renders.
fn is_rendered(path: &Value) -> Result<()> {
    let path = path.as_str().context("path")?;
    ensure!(example(path).join("kustomization.yaml").is_file(), "nothing to render at {path}");
    Ok(())
}

#[test]
fn argo_cd_renders_prod_into_policies_and_nothing_else() -> Result<()> {
    let (project, application) =
        (of_kind("argocd/prod.yaml", "AppProject")?, of_kind("argocd/prod.yaml", "Application")?);
    is_rendered(&application["spec"]["source"]["path"])?;
    assert_eq!(application["spec"]["project"], project["metadata"]["name"]);
    assert_eq!(application["metadata"]["namespace"], project["metadata"]["namespace"]);
    assert_eq!(project["spec"]["sourceRepos"], json!([application["spec"]["source"]["repoURL"]]));
    assert_eq!(project["spec"]["destinations"][0]["server"], application["spec"]["destination"]["server"]);
    let only = json!([{"group": "countersign.dev", "kind": "ApprovalPolicy"}]);
    assert_eq!(project["spec"]["clusterResourceWhitelist"], only);
    // Without both, defaults inside of lists are drift for ever.
    assert_eq!(application["spec"]["syncPolicy"]["syncOptions"], json!(["ServerSideApply=true"]));
    let compared = &application["metadata"]["annotations"]["argocd.argoproj.io/compare-options"];
    assert_eq!(compared, "ServerSideDiff=true");
    Ok(())
}

#[test]
fn flux_renders_prod_as_the_service_account_of_the_same_file_and_waits() -> Result<()> {
    let file = "flux/prod.yaml";
    let (kustomization, source) = (of_kind(file, "Kustomization")?, of_kind(file, "GitRepository")?);
    let (account, binding) = (of_kind(file, "ServiceAccount")?, of_kind(file, "ClusterRoleBinding")?);
    is_rendered(&kustomization["spec"]["path"])?;
    assert_eq!(kustomization["spec"]["wait"], json!(true));
    // Flux passes over healthChecks where it waits for everything.
    assert_eq!(kustomization["spec"].get("healthChecks"), None);
    assert_eq!(kustomization["spec"]["serviceAccountName"], account["metadata"]["name"]);
    assert_eq!(
        kustomization["spec"]["sourceRef"],
        json!({"kind": "GitRepository", "name": source["metadata"]["name"]})
    );
    for object in [&kustomization, &source, &account] {
        assert_eq!(object["metadata"]["namespace"], "flux-system");
    }
    assert_eq!(binding["roleRef"]["name"], "countersign-policy-editor");
    let (name, namespace) = (&account["metadata"]["name"], &account["metadata"]["namespace"]);
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]));
    Ok(())
}

#[test]
fn the_workflow_runs_the_check_which_can_be_run() -> Result<()> {
    let workflow = documents(&example(".github/workflows/policies.yaml"))?.remove(0);
    let steps = workflow["jobs"]["test"]["steps"].as_array().context("steps")?;
    let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let check =
        runs.iter().find_map(|run| run.strip_prefix("./")).context("no step runs anything of the repository")?;
    let check = check.split(' ').next().unwrap_or_default();
    assert_eq!(Path::new(check), Path::new("ci.sh"));
    let mode = std::fs::metadata(example(check))?.permissions().mode();
    ensure!(mode & 0o111 == 0o111, "{check} is not executable: {mode:o}");
    Ok(())
}
