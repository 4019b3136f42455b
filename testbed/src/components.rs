//! The command lines of the control plane's programs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Result;

use crate::node::{self, Files};
use crate::pki::Pki;
use crate::processes::{Place, Process, free_ports};
use crate::programs::{NodePrograms, Programs};
use crate::{Node, Options};

/// What the process of the API server is called.
pub(crate) const APISERVER: &str = "kube-apiserver";
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// What the process of etcd is called.
pub(crate) const ETCD: &str = "etcd";
pub(crate) const AUDIT_LOG: &str = "audit.log";
pub(crate) const AUDIT_POLICY: &str = "audit-policy.yaml";
pub(crate) const STAGES: &str = "stages.yaml";

/// The loopback ports of one start. On a real node they are the same inside its namespaces.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) apiserver: u16,
    pub(crate) etcd: u16,
    etcd_peer: u16,
}

impl Ports {
    pub(crate) fn pick() -> Result<Self> {
        let [apiserver, etcd, etcd_peer] = free_ports()?;
        Ok(Self { apiserver, etcd, etcd_peer })
    }

    /// The same, with sockets that listen at the first two already.
    pub(crate) fn held() -> Result<(Self, [TcpListener; 2])> {
        let [apiserver, etcd] =
            [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        // Below all ports that are given out like that.
        let ports = Self { apiserver: port(&apiserver)?, etcd: port(&etcd)?, etcd_peer: 2380 };
        Ok((ports, [apiserver, etcd]))
    }
}

/// Everything the command lines refer to.
pub(crate) struct Components<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) dir: &'a Path,
    pub(crate) pki: &'a Pki,
    pub(crate) ports: Ports,
    pub(crate) options: &'a Options,
    pub(crate) place: Place,
}

impl Components<'_> {
    pub(crate) fn etcd(&self) -> Result<Process> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let args = vec![
            flag("data-dir", self.dir.join("etcd")),
            flag("listen-client-urls", &client),
            flag("advertise-client-urls", &client),
            flag("listen-peer-urls", &peer),
            flag("initial-advertise-peer-urls", &peer),
            flag("initial-cluster", format!("default={peer}")),
            flag("quota-backend-bytes", "6442450944"),
            flag("unsafe-no-fsync", (!self.options.fsync).to_string()),
            flag("log-level", "warn"),
        ];
        Process::start(self.place, ETCD, &self.programs.etcd, args, self.dir)
    }

    pub(crate) fn apiserver(&self) -> Result<Process> {
        let pki = |name| self.pki.file(name);
        let mut args = vec![
            flag("etcd-servers", format!("http://127.0.0.1:{}", self.ports.etcd)),
            flag("secure-port", self.ports.apiserver.to_string()),
            flag("service-cluster-ip-range", "10.96.0.0/16"),
            flag("tls-cert-file", pki("server.crt")),
            flag("tls-private-key-file", pki("server.key")),
            flag("client-ca-file", pki("ca.crt")),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", pki("service-account.pub")),
            flag("service-account-signing-key-file", pki("service-account.key")),
            flag("authorization-mode", "Node,RBAC"),
            flag("max-requests-inflight", "5000"),
            flag("max-mutating-requests-inflight", "2500"),
        ];
        args.extend(self.reach());
        args.extend(self.audit_flags());
        args.extend(self.options.extra_apiserver_args.iter().map(OsString::from));
        Process::start(self.place, APISERVER, &self.programs.kube_apiserver, args, self.dir)
    }

    /// Who reaches the API server, and whom it reaches.
    fn reach(&self) -> Vec<OsString> {
        match self.options.node {
            Node::Simulated => vec![
                flag("bind-address", "127.0.0.1"),
                flag("advertise-address", "127.0.0.1"),
                // The endpoints of the `kubernetes` service may not be loopback addresses.
                flag("endpoint-reconciler-type", "none"),
            ],
            Node::Real => vec![
                flag("bind-address", "0.0.0.0"),
                flag("advertise-address", node::ADDRESS),
                flag("enable-admission-plugins", "NodeRestriction"),
                flag("kubelet-preferred-address-types", "InternalIP"),
                flag("kubelet-certificate-authority", self.pki.file("ca.crt")),
                flag("kubelet-client-certificate", self.pki.file("kubelet-client.crt")),
                flag("kubelet-client-key", self.pki.file("kubelet-client.key")),
            ],
        }
    }

    /// Blocking, so that an event is in the file when its request ends, and a test that reads the file does not
    /// have to guess when a batch is written. The rotation size is out of reach, because a mark is a file offset.
    fn audit_flags(&self) -> [OsString; 4] {
        [
            flag("audit-policy-file", self.dir.join(AUDIT_POLICY)),
            flag("audit-log-path", self.dir.join(AUDIT_LOG)),
            flag("audit-log-mode", "blocking"),
            flag("audit-log-maxsize", "100000"),
        ]
    }

    pub(crate) fn controller_manager(&self, kubeconfig: &Path) -> Result<Process> {
        let mut args = self.client_flags(kubeconfig);
        args.extend([
            flag("service-account-private-key-file", self.pki.file("service-account.key")),
            flag("root-ca-file", self.pki.file("ca.crt")),
            flag("cluster-signing-cert-file", self.pki.file("ca.crt")),
            flag("cluster-signing-key-file", self.pki.file("ca.key")),
            flag("use-service-account-credentials", "true"),
            flag("concurrent-job-syncs", "50"),
        ]);
        if self.options.node == Node::Simulated {
            // It sends no heartbeats.
            args.push(flag("node-monitor-grace-period", "87600h"));
        }
        args.extend(self.options.extra_kcm_args.iter().map(OsString::from));
        let program = &self.programs.kube_controller_manager;
        Process::start(self.place, CONTROLLER_MANAGER, program, args, self.dir)
    }

    pub(crate) fn scheduler(&self, kubeconfig: &Path) -> Result<Process> {
        let args = self.client_flags(kubeconfig);
        Process::start(self.place, "kube-scheduler", &self.programs.kube_scheduler, args, self.dir)
    }

    pub(crate) fn simulated_node(&self, kubeconfig: &Path) -> Result<Process> {
        let args = vec![
            flag("kubeconfig", kubeconfig),
            flag("config", self.dir.join(STAGES)),
            flag("manage-all-nodes", "true"),
            // Lease renewals would only be noise in the audit log.
            flag("node-lease-duration-seconds", "0"),
        ];
        Process::start(self.place, "kwok", &self.programs.kwok, args, self.dir)
    }

    pub(crate) fn containerd(&self, programs: &NodePrograms, files: &Files) -> Result<Process> {
        Process::start(
            self.place,
            "containerd",
            &programs.containerd,
            vec![flag("config", &files.containerd)],
            self.dir,
        )
    }

    pub(crate) fn kubelet(&self, programs: &NodePrograms, files: &Files, kubeconfig: &Path) -> Result<Process> {
        let args = vec![
            flag("config", &files.kubelet),
            flag("kubeconfig", kubeconfig),
            flag("hostname-override", node::NAME),
            flag("node-ip", node::ADDRESS),
            flag("root-dir", self.dir.join("kubelet")),
        ];
        Process::start(self.place, "kubelet", &programs.kubelet, args, self.dir)
    }

    pub(crate) fn kube_proxy(&self, programs: &NodePrograms, files: &Files) -> Result<Process> {
        let args = vec![flag("config", &files.kube_proxy)];
        Process::start(self.place, "kube-proxy", &programs.kube_proxy, args, self.dir)
    }

    /// What the controller manager and the scheduler have in common. Neither serves anything to us.
    fn client_flags(&self, kubeconfig: &Path) -> Vec<OsString> {
        let qps = self.options.kube_api_qps;
        vec![
            flag("kubeconfig", kubeconfig),
            flag("leader-elect", "false"),
            flag("secure-port", "0"),
            flag("kube-api-qps", qps.to_string()),
            flag("kube-api-burst", qps.saturating_mul(2).to_string()),
        ]
    }
}

fn flag(name: &str, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value);
    flag
}
