//! What an administrator types, and the pages that say what.

use super::helm;
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use std::env;
use std::os::unix::fs::symlink;
use std::time::Duration;

const RUNBOOKS: &str = include_str!("../../docs/runbooks.md");
const PATIENCE: Duration = Duration::from_secs(180);

/// What may have objects of Countersign outside of namespaces.
const KINDS: [&str; 8] = [
    "namespaces",
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
];

/// The blocks of commands below that heading of the runbooks.
pub fn runbook(heading: &str) -> Result<Vec<String>> {
    let (_, section) = RUNBOOKS.split_once(&format!("\n## {heading}\n")).context("a runbook of that name")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(String::from).collect())
}

/// Types lines into a shell, where `kubectl`, `helm` and `countersign` are. The first that fails ends it.
pub async fn typed(admin: &Identity, lines: &str) -> Result<String> {
    let home = tempfile::tempdir()?;
    let programs = [
        ("kubectl", admin.kubectl_path().to_owned()),
        ("helm", helm::program().await?),
        ("countersign", env!("CARGO_BIN_EXE_countersign").into()),
    ];
    for (name, program) in programs {
        symlink(program, home.path().join(name))?;
    }
    let before = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([home.path().to_owned()].into_iter().chain(env::split_paths(&before)))?;
    let running = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", lines])
        .env("PATH", path)
        .env("HOME", home.path())
        .env("KUBECONFIG", &admin.kubeconfig)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, running).await.context("it takes too long")??;
    let [said, told] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    ensure!(output.status.success(), "{lines}\n{said}{told}");
    Ok(said.into_owned())
}

/// Names of what there is of Countersign outside of namespaces, and of its own namespace.
pub async fn remains(admin: &Identity) -> Result<Vec<String>> {
    // Since Kubernetes 1.36 there are more.
    let served =
        admin.kubectl(["api-resources", "--api-group=admissionregistration.k8s.io", "--output=name"]).ok().await?;
    let more = served.lines().filter(|kind| kind.starts_with("mutatingadmissionpolic"));
    let mut remains = vec![];
    for kind in KINDS.into_iter().chain(more) {
        let named = admin.kubectl(["get", kind, "--output=name"]).ok().await?;
        remains.extend(named.lines().filter(|name| name.contains("countersign")).map(String::from));
    }
    Ok(remains)
}
