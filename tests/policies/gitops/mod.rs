//! The policy repository in examples/gitops, as Flux, Argo CD and kubectl deliver it. Neither of the two is here: what they do to
//! the API server is, and their objects are read.

mod delivered;
mod files;
mod health;
mod pipeline;

use crate::support::{by_sre, countersign, installed, policy};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Operator};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Where the operator registers itself.
const WEBHOOKS: [&str; 2] = ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"];

/// The control plane, and its operator. Holding it keeps other tests waiting, since some take the operator away.
struct Lab {
    cluster: &'static ControlPlane,
    operator: MutexGuard<'static, Option<Operator>>,
}

async fn control_plane() -> Result<&'static ControlPlane> {
    static CLUSTER: OnceCell<ControlPlane> = OnceCell::const_new();
    CLUSTER.get_or_try_init(installed).await
}

async fn lab() -> Result<Lab> {
    static OPERATOR: Mutex<Option<Operator>> = Mutex::const_new(None);
    let operator = OPERATOR.lock().await;
    let mut lab = Lab { cluster: control_plane().await?, operator };
    // A test that failed may have left anything.
    let admin = lab.cluster.admin();
    admin.kubectl(["delete", "apol", "--all"]).ok().await?;
    let webhooks = WEBHOOKS.map(|kind| format!("{kind}/countersign"));
    let registered = admin.kubectl([&["get".to_string()], &webhooks[..]].concat()).run().await?;
    if lab.operator.is_none() || !registered.status.success() {
        lab.start().await?;
    }
    Ok(lab)
}

impl Lab {
    /// Starts the operator anew: it also registers its webhooks, which a test may have taken away.
    async fn start(&mut self) -> Result<()> {
        self.kill();
        *self.operator = Some(countersign().start(self.cluster).await?);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    /// Flux as flux/prod.yaml has it: a service account with the role of that file, once it has it.
    async fn flux(&self) -> Result<Identity> {
        let admin = self.cluster.admin();
        let namespace = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"flux-system"}}"#;
        admin.kubectl(["apply", "-f", "-"]).stdin(namespace).ok().await?;
        for object in documents(&example("flux/prod.yaml"))? {
            if object["kind"] == "ServiceAccount" || object["kind"] == "ClusterRoleBinding" {
                admin.kubectl(["apply", "-f", "-"]).stdin(object.to_string()).ok().await?;
            }
        }
        let flux = self.cluster.service_account("flux-system", "approval-policies").await?;
        until("its role is in force", async || {
            Ok(flux.kubectl(["auth", "can-i", "patch", "apol"]).run().await?.status.success())
        })
        .await?;
        Ok(flux)
    }

    /// No operator, nor what would ask it: as between an installation and its first start.
    async fn unserved(&mut self) -> Result<()> {
        self.kill();
        self.delete_webhooks().await?;
        // The API server goes on for a moment with the webhooks that it has read.
        let probe = policy("probe", "unserved", by_sre()).to_string();
        let create = ["create", "--dry-run=server", "-f", "-"];
        until("no webhook is asked", async || {
            Ok(self.cluster.admin().kubectl(create).stdin(probe.as_str()).run().await?.status.success())
        })
        .await
    }

    async fn delete_webhooks(&self) -> Result<()> {
        for kind in WEBHOOKS {
            self.cluster.admin().kubectl(["delete", kind, "countersign"]).ok().await?;
        }
        Ok(())
    }

    async fn policy(&self, name: &str) -> Result<Value> {
        self.cluster.admin().kubectl(["get", "apol", name]).json().await
    }
}

/// A path in the example.
fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitops").join(path)
}

/// What Kustomize makes of a folder.
async fn rendered(who: &Identity, folder: &Path) -> Result<String> {
    who.kubectl(["kustomize", folder.to_str().context("path")?]).ok().await
}

/// Every document of a YAML file.
fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parsed(&text).with_context(|| path.display().to_string())
}

fn parsed(text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text).map(|document| Ok(Value::deserialize(document)?)).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < Duration::from_secs(30), "waited for long: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A condition of an object, by type.
fn condition<'a>(object: &'a Value, type_: &str) -> Result<&'a Value> {
    let mut all = crate::support::conditions(object);
    all.find(|condition| condition["type"] == type_).with_context(|| format!("no {type_} in {object:#}"))
}
