//! The node of a cluster: simulated, or real.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

mod config;
mod namespaces;
mod needs;

pub(crate) use config::{Config, Files};
pub(crate) use namespaces::Namespaces;
pub use needs::real_node_possible;

use crate::programs::{NodePrograms, find_or_build_helm};
use crate::{Identity, Image, Output, Progress};

/// The address of a real node, which is also the gateway of its Pods.
pub(crate) const ADDRESS: &str = "10.244.0.1";
/// The name of a real node.
pub(crate) const NAME: &str = "real";
/// What holds the namespaces of each Pod.
pub(crate) const PAUSE_IMAGE: &str = "localhost/pause:1";

/// What Pods run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// Pods only seem to run: their status moves on by itself. Needs nothing of the machine.
    #[default]
    Simulated,
    /// A kubelet runs containers, and a kube-proxy leads to Services. The whole cluster is in namespaces of its own, where only
    /// the API server can be reached from outside. [`real_node_possible`] tells what this needs.
    ///
    /// No names resolve inside: Pods find the API server by `KUBERNETES_SERVICE_HOST`. NetworkPolicies are not enforced. Images
    /// come from [`RealNode::load_image`] alone: use the pull policy `Never`, or a tag other than `latest`.
    Real,
}

/// The real node of a control plane: see [`ControlPlane::real_node`](crate::ControlPlane::real_node).
pub struct RealNode {
    namespaces: Namespaces,
    programs: NodePrograms,
    dir: PathBuf,
    admin: Identity,
    progress: Progress,
}

impl RealNode {
    pub(crate) fn new(
        namespaces: Namespaces,
        programs: NodePrograms,
        dir: &Path,
        admin: Identity,
        progress: Progress,
    ) -> Self {
        Self { namespaces, programs, dir: dir.to_owned(), admin, progress }
    }

    /// Runs a program where the cluster is: it reaches Pods and Services by their addresses. Fails only if it could not be run.
    /// Dropping the future ends it.
    pub async fn exec(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Output> {
        self.run(program.as_ref(), args, &[]).await
    }

    /// Runs Helm as this identity. The first call may build Helm.
    pub async fn helm(&self, identity: &Identity, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        let progress = self.progress;
        let helm = tokio::task::spawn_blocking(move || find_or_build_helm(progress)).await??;
        let home = |part: &str| self.dir.join("helm").join(part).into_os_string();
        let env = [
            ("KUBECONFIG", identity.kubeconfig.clone().into_os_string()),
            ("HELM_CACHE_HOME", home("cache")),
            ("HELM_CONFIG_HOME", home("config")),
            ("HELM_DATA_HOME", home("data")),
        ];
        self.run(helm.as_os_str(), args, &env).await
    }

    /// Runs containerd's own client, in the namespace of what the kubelet runs.
    pub async fn ctr(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        let all = ["--namespace".into(), "k8s.io".into()].into_iter();
        let args = all.chain(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.run(self.programs.ctr.as_os_str(), args.collect::<Vec<OsString>>(), &[]).await
    }

    /// Makes an image known to the node, from a file in the format of `docker save` or of OCI.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let import = ["images".as_ref(), "import".as_ref(), archive.as_os_str()];
        self.ctr(import).await?.succeeded().with_context(|| format!("loading {}", archive.display()))?;
        Ok(())
    }

    /// Writes an image and makes it known to the node.
    pub async fn add_image(&self, image: &Image) -> Result<()> {
        let archive = tempfile::Builder::new().suffix(".tar").tempfile_in(&self.dir)?;
        image.write(archive.path())?;
        self.load_image(archive.path()).await
    }

    /// Kills a container of a Pod behind the kubelet's back, as a crash would.
    pub async fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        let found = self.admin.kubectl(["get", "pod", pod, "--namespace", namespace]).json().await?;
        let statuses = found.pointer("/status/containerStatuses").and_then(|all| all.as_array());
        let status = statuses.and_then(|all| all.iter().find(|status| status["name"] == *container));
        let id = status.and_then(|status| status["containerID"].as_str()?.strip_prefix("containerd://"));
        let Some(id) = id else { bail!("Pod {namespace}/{pod} has no running container {container}: {found}") };
        self.ctr(["tasks", "kill", "--signal", "SIGKILL", id]).await?.succeeded()?;
        Ok(())
    }

    /// Opens a port on loopback, for as long as the cluster is there, that leads to an address such as `10.96.7.7:443` inside.
    pub fn forward(&self, address: &str) -> Result<SocketAddr> {
        self.namespaces.forward(address)
    }

    /// What a real node needs beyond the programs of a control plane.
    pub fn programs(&self) -> &NodePrograms {
        &self.programs
    }

    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    async fn run(
        &self,
        program: &OsStr,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: &[(&str, OsString)],
    ) -> Result<Output> {
        let mut command = self.namespaces.command(program);
        command.args(args).env_remove("KUBECONFIG").envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("starting {}", program.display()))?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
