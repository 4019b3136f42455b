//! The configuration files of a real node's programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{ADDRESS, NAME, PAUSE_IMAGE};
use crate::pki::Pki;
use crate::programs::NodePrograms;

/// The socket of containerd, inside the namespaces; where its client looks by default.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// The files, in one directory.
pub(crate) struct Files {
    pub(crate) containerd: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_proxy: PathBuf,
}

/// Everything the files tell of.
pub(crate) struct Config<'a> {
    pub(crate) programs: &'a NodePrograms,
    /// The state directory.
    pub(crate) dir: &'a Path,
    pub(crate) pki: &'a Pki,
    /// The control group that holds the Pods.
    pub(crate) cgroup: &'a str,
    /// The kubeconfig of kube-proxy.
    pub(crate) proxy_kubeconfig: &'a Path,
}

impl Config<'_> {
    /// Writes the files below the state directory.
    pub(crate) fn write(&self) -> Result<Files> {
        let dir = self.dir.join("node");
        fs::create_dir_all(dir.join("cni"))?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            anyhow::Ok(path)
        };
        write("cni/10-pods.conflist", network())?;
        Ok(Files {
            containerd: write("containerd.toml", self.containerd(&dir))?,
            kubelet: write("kubelet.json", self.kubelet())?,
            kube_proxy: write("kube-proxy.json", self.kube_proxy())?,
        })
    }

    fn containerd(&self, dir: &Path) -> String {
        // The strings of TOML and JSON are the same as far as paths go.
        let quoted = |path: &Path| json!(path.to_string_lossy()).to_string();
        let plugins: Vec<_> = self.programs.cni.iter().filter_map(|path| path.parent()).map(quoted).collect();
        format!(
            r#"version = 3
root = {root}
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE, runc would fail where it is to make a container less likely to be killed for its memory.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{plugins}]
    conf_dir = {network}
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = {shim}
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
            root = quoted(&self.dir.join("containerd")),
            plugins = plugins.join(", "),
            network = quoted(&dir.join("cni")),
            shim = quoted(&self.programs.shim),
        )
    }

    fn kubelet(&self) -> String {
        // The machine's disk is not the tests' business.
        let never = json!({"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%",
            "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"});
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.pki.file("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.pki.file("kubelet.crt"),
            "tlsPrivateKeyFile": self.pki.file("kubelet.key"),
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": false,
            "evictionHard": never,
            // Nobody answers there: names do not resolve.
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "podLogsDir": self.dir.join("logs/pods"),
            "volumePluginDir": self.dir.join("node/volume-plugins"),
            // A container that fails is tried again soon.
            "crashLoopBackOff": {"maxContainerRestartPeriod": "2s"},
        })
        .to_string()
    }

    fn kube_proxy(&self) -> String {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            // All Pods are at one bridge, where an answer would go past what has to translate it back.
            "nftables": {"masqueradeAll": true},
            "clientConnection": {"kubeconfig": self.proxy_kubeconfig},
            "hostnameOverride": NAME,
            "conntrack": {"maxPerCore": 0},
            "oomScoreAdj": 0,
        })
        .to_string()
    }
}

fn network() -> String {
    let subnet = format!("{}.0/24", ADDRESS.rsplit_once('.').map_or(ADDRESS, |(network, _)| network));
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{"subnet": subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
    .to_string()
}
