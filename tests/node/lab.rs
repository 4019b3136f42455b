//! A cluster to install on. Whoever acts there has a kubeconfig and nothing else, be it the test bed's own cluster or one that
//! somebody gives.

use crate::real;
use crate::release;
use crate::support::helm::{self, CHART};
use crate::support::shell::remains;
use crate::support::{Space, countersign};
use anyhow::{Context, Result, ensure};
use countersign_testbed::{ControlPlane, Identity, Observer, progress_to_stderr};
use serde_json::{Value, json};
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// The namespace of the release.
pub const HOME: &str = "countersign-system";
/// Names a kubeconfig of an administrator. Without it, the test bed starts a cluster with a node of its own.
const KUBECONFIG: &str = "COUNTERSIGN_E2E_KUBECONFIG";
/// Names the image of Countersign there, in full.
const IMAGE: &str = "COUNTERSIGN_E2E_IMAGE";

/// The cluster, and who acts there.
pub struct Lab {
    pub admin: Identity,
    pub alice: Identity,
    /// Repository and tag, or digest.
    image: String,
    ground: Ground,
    /// Where the kubeconfigs are.
    _dir: TempDir,
}

/// What is below.
enum Ground {
    /// A cluster of this test, whose node can be looked into.
    Own(Box<ControlPlane>),
    /// Somebody's, of which nothing but its API is known.
    Given,
}

impl Lab {
    /// Starts the test bed's cluster, or takes the one that is given, on which nothing of Countersign may be.
    pub async fn new() -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (kubeconfig, image, ground) = match env::var_os(KUBECONFIG) {
            Some(kubeconfig) => {
                let image = env::var(IMAGE).with_context(|| {
                    format!("with {KUBECONFIG}, {IMAGE} names the image of Countersign, where the nodes pull from")
                })?;
                (PathBuf::from(kubeconfig), image, Ground::Given)
            }
            None => {
                let cluster = ControlPlane::start(real()).await?;
                cluster.observer()?;
                release::add_image(cluster.real_node()?).await?;
                (cluster.admin().kubeconfig, release::IMAGE.into(), Ground::Own(Box::new(cluster)))
            }
        };
        let dir = tempfile::tempdir()?;
        let path = dir.path().to_owned();
        let given = move || Identity::given(&kubeconfig, &path, progress_to_stderr);
        let admin = tokio::task::spawn_blocking(given).await??;
        let alice = admin.acting_as("alice", &["sre"])?;
        let lab = Self { admin, alice, image, ground, _dir: dir };
        let left = remains(&lab.admin).await?;
        ensure!(
            left.is_empty(),
            "Countersign is installed there, and this test removes it with all its requests; take another cluster, or \
             follow docs/runbooks.md#remove-countersign first: {left:?}"
        );
        Ok(lab)
    }

    /// Who looks on, where somebody can.
    pub fn own(&self) -> Option<&ControlPlane> {
        match &self.ground {
            Ground::Own(cluster) => Some(cluster),
            Ground::Given => None,
        }
    }

    fn observer(&self) -> Result<Option<Arc<Observer>>> {
        self.own().map(ControlPlane::observer).transpose()
    }

    /// A namespace there.
    pub async fn space(&self, name: &str) -> Result<Space> {
        Space::given(&self.admin, self.observer()?, &Self::namespace(name)).await
    }

    /// What a namespace is called, so that it is nobody's.
    pub fn namespace(name: &str) -> String {
        format!("countersign-e2e-{name}")
    }

    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        let args = args.iter().copied().chain(["--namespace", HOME]).collect::<Vec<_>>();
        helm::helm(Some(&self.admin), &args).await?.succeeded()
    }

    /// Installs or upgrades, and waits until every Pod is ready.
    pub async fn release(&self, verb: &str, more: &[&str]) -> Result<()> {
        let (repository, version) = match self.image.split_once('@') {
            Some((repository, digest)) => (repository, format!("digest={digest}")),
            None => {
                let (repository, tag) = self.image.rsplit_once(':').context("an image with a tag")?;
                (repository, format!("tag={tag}"))
            }
        };
        let image = format!("--set=image.repository={repository},image.{version}");
        let flags =
            [verb, "countersign", CHART, &image, "--set=leaseSeconds=5,drainSeconds=5", "--wait", "--timeout=120s"];
        let said = self.helm(&[&flags, more].concat()).await;
        if said.is_err() {
            let pods = self.home(&["get", "pods", "--output=yaml"]).await?;
            let logs = self.home(&["logs", "--selector=app.kubernetes.io/name=countersign", "--tail=50"]).await;
            eprintln!("{pods}\n{logs:?}");
        }
        said.map(drop)
    }

    /// kubectl in the namespace of the release.
    pub async fn home(&self, args: &[&str]) -> Result<String> {
        self.admin.kubectl(args.iter().copied().chain(["--namespace", HOME])).ok().await
    }

    /// Brings back what somebody saved.
    pub async fn restore(&self, saved: &str) -> Result<()> {
        let mut object: Value = serde_json::from_str(saved)?;
        let metadata = object["metadata"].as_object_mut().context("metadata")?;
        metadata.retain(|field, _| ["name", "namespace", "labels"].contains(&field.as_str()));
        self.admin.kubectl(["create", "--filename", "-"]).stdin(object.to_string()).ok().await?;
        Ok(())
    }

    /// The Pod of the operator that leads.
    pub async fn leader(&self) -> Result<String> {
        let holder = self.home(&["get", "lease", "countersign", "--output=jsonpath={.spec.holderIdentity}"]).await?;
        let pods = self.home(&["get", "pods", "--output=jsonpath={.items[*].metadata.name}"]).await?;
        let leads = pods.split(' ').find(|pod| holder.starts_with(*pod));
        Ok(leads.with_context(|| format!("{holder:?} is none of {pods}"))?.to_owned())
    }

    /// Ends an operator without a word: its container is killed, or where nobody reaches the node its Pod is.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        match &self.ground {
            Ground::Own(cluster) => cluster.real_node()?.kill_container(HOME, pod, "operator").await,
            Ground::Given => {
                self.home(&["delete", "pod", pod, "--grace-period=0", "--force", "--wait=false"]).await.map(drop)
            }
        }
    }

    /// Approves what the gate or a workflow asked.
    pub async fn approve(&self, space: &Space, name: &str) -> Result<()> {
        let digest = space.digest(name).await?;
        space.review(&self.alice, name, "Approve", &digest).ok().await?;
        Ok(())
    }

    /// The spec of a Pod that runs `countersign` with these arguments. It may run where only what Pod Security calls restricted
    /// does.
    pub fn pod_spec(&self, args: &[&str]) -> Value {
        let mut spec = crate::pod_spec(&self.image, args);
        spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
        spec
    }

    /// Writes the public keys to a ConfigMap, for workers that check receipts.
    pub async fn publish_keys(&self, space: &Space) -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let path = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
        let (trail, keys, kubeconfig) = (path("trail"), path("keys"), self.admin.kubeconfig.to_string_lossy());
        let args = ["audit", "export", "--output", &trail, "--keys", &keys, "--kubeconfig", &kubeconfig];
        countersign().run(&args, "").await?.succeeded()?;
        let create =
            ["create", "configmap", "keys", "--namespace", &space.namespace, &format!("--from-file=keys={keys}")];
        self.admin.kubectl(create).ok().await?;
        Ok(())
    }
}
