//! Countersign where containers really run: a kubelet, containerd and runc instead of the node that is simulated elsewhere.
//! Needs root on Linux, runc and nftables; without them these tests fail, and say so.

#[path = "../support/mod.rs"]
mod support;

mod approved;
mod containers;
mod gone;
mod idle;
mod installed;
mod lab;
mod reach;
mod release;
#[path = "../availability/stream.rs"]
mod stream;

use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Image, Node, Operator, Options};
use serde_json::{Value, json};
use std::process::Command;
use support::{countersign, installed_with};
use tokio::sync::OnceCell;

/// An image with the program of these tests.
const IMAGE: &str = "localhost/program:1";
/// An image with kubectl.
const KUBECTL: &str = "localhost/kubectl:1";

/// The cluster that these tests share, with the operator beside the API server, and images.
async fn cluster() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<(ControlPlane, Operator)> = OnceCell::const_new();
    let start = || async {
        let cluster = installed_with(real()).await?;
        add_images(&cluster).await?;
        let operator = countersign().start(&cluster).await?;
        anyhow::Ok((cluster, operator))
    };
    Ok(&SHARED.get_or_try_init(start).await?.0)
}

fn real() -> Options {
    Options { node: Node::Real, ..Options::default() }
}

async fn add_images(cluster: &ControlPlane) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let program = scratch.path().join("program");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/program.c");
    let compile = Command::new("cc").args(["-static", "-O1", "-Wall", "-Werror", source, "-o"]).arg(&program).status();
    ensure!(compile.context("starting cc: install a C compiler")?.success(), "cc failed");
    let node = cluster.real_node()?;
    let image = Image::new(IMAGE).file(program, "/program", 0o755).entrypoint(&["/program"]).user("65532:65532");
    node.add_image(&image).await?;
    let kubectl = Image::new(KUBECTL).file(cluster.kubectl_path(), "/kubectl", 0o755).entrypoint(&["/kubectl"]);
    node.add_image(&kubectl.user("65532:65532")).await
}

/// A namespace where only what Pod Security calls restricted may run.
async fn restricted(admin: &Identity, name: &str) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    admin.kubectl(["create", "--filename", "-"]).stdin(namespace.to_string()).ok().await?;
    // Its controller makes the service account, without which no Pod is accepted.
    admin.kubectl(["wait", "--for=create", "serviceaccount/default", "--namespace", name]).ok().await?;
    Ok(())
}

/// A Pod's spec that may run there: nobody's user, no privileges, and the seccomp profile of the runtime.
fn pod_spec(image: &str, args: &[&str]) -> Value {
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main",
            "image": image,
            "imagePullPolicy": "Never",
            "args": args,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
        }],
    })
}

fn job(name: &str, spec: Value) -> String {
    let spec = json!({"backoffLimit": 0, "template": {"spec": spec}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}).to_string()
}
