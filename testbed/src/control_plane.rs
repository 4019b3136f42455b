//! Starts a control plane and hands out identities.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::components::{APISERVER, AUDIT_LOG, AUDIT_POLICY, CONTROLLER_MANAGER, Components, ETCD, Ports, STAGES};
use crate::identities::Identities;
use crate::pki::{Credential, Pki};
use crate::processes::{Place, Process};
use crate::programs::{NodePrograms, Programs};
use crate::readiness::Goal;
use crate::start::{self, Running, Started};
use crate::state_dir::StateDir;
use crate::{AuditLog, Identity, Node, Observer, Progress, RealNode, Storage, progress_to_stderr, real_node_possible};

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the state goes: a directory that is kept, and that holds no control plane yet. By default a temporary
    /// one, removed with the control plane unless `COUNTERSIGN_TESTBED_KEEP` is set.
    pub dir: Option<PathBuf>,
    /// What Pods run on.
    pub node: Node,
    /// Further flags for kube-apiserver; the last value of a flag wins.
    pub extra_apiserver_args: Vec<String>,
    /// Further flags for kube-controller-manager; the last value of a flag wins.
    pub extra_kcm_args: Vec<String>,
    /// Requests per second that kube-controller-manager and kube-scheduler allow themselves, with twice as many in a
    /// burst. Far above Kubernetes' own default, which would hide every other limit.
    pub kube_api_qps: u32,
    /// Whether etcd waits until what it stores is on the disk, as it does in earnest. What tests store is not meant to survive
    /// a power failure, so by default it does not.
    pub fsync: bool,
    /// Whether the audit log holds the bodies that an [`Observer`] judges by. Without them it costs the API server less.
    pub audit_bodies: bool,
    /// Told what takes long.
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: None,
            node: Node::default(),
            extra_apiserver_args: Vec::new(),
            extra_kcm_args: Vec::new(),
            kube_api_qps: 1000,
            fsync: false,
            audit_bodies: true,
            progress: progress_to_stderr,
        }
    }
}

/// A running control plane. It ends when this is dropped, and also when this process ends without dropping it.
///
/// May be shared between threads and used from any Tokio runtime.
pub struct ControlPlane {
    // Declared first, so that it takes its last look while everything is still there.
    observer: OnceLock<Arc<Observer>>,
    // Declared before the directory, which is removed when it is dropped: the programs have to be gone by then.
    processes: Running,
    node: Option<RealNode>,
    programs: Programs,
    ports: Ports,
    options: Options,
    storage: Storage,
    admin: Identity,
    users: Mutex<HashMap<(String, Vec<String>), Identity>>,
    identities: Identities,
    state: StateDir,
}

impl ControlPlane {
    /// Builds the programs if need be, starts them, and waits until pods can run in the `default` namespace.
    ///
    /// Fails at once where a real node is asked for and this machine cannot have one.
    pub async fn start(options: Options) -> Result<Self> {
        let progress = options.progress;
        let (programs, node_programs) = find_programs(&options).await?;
        let began = Instant::now();
        let state = StateDir::create(options.dir.clone())?;
        let pki = Pki::create(state.path().join("pki"))?;
        fs::write(state.path().join(AUDIT_POLICY), audit_policy(options.audit_bodies))?;
        fs::write(state.path().join(STAGES), include_str!("../assets/stages.yaml"))?;
        let mut identities = Identities::new(pki, &programs, state.path());
        let Started { running, ports, admin, node } = match node_programs {
            None => start::with_simulated_node(&programs, &mut identities, &options).await?,
            Some(more) => start::with_real_node(&programs, more, &mut identities, &options).await?,
        };
        progress(&format!(
            "control plane ready after {:.1} s: {}",
            began.elapsed().as_secs_f64(),
            admin.kubeconfig.display()
        ));
        Ok(Self {
            observer: OnceLock::new(),
            processes: running,
            node,
            programs,
            ports,
            options,
            storage: Storage { port: ports.etcd },
            admin,
            users: Mutex::default(),
            identities,
            state,
        })
    }

    /// The real node, where [`Options::node`] asked for one.
    pub fn real_node(&self) -> Result<&RealNode> {
        self.node.as_ref().context("Pods only seem to run here: start the control plane with Node::Real")
    }

    /// The directory with logs, certificates and kubeconfigs.
    pub fn dir(&self) -> &Path {
        self.state.path()
    }

    /// The URL of the API server.
    pub fn server_url(&self) -> &str {
        &self.identities.server
    }

    /// The kubectl of the same release as the API server.
    pub fn kubectl_path(&self) -> &Path {
        &self.admin.kubectl
    }

    /// The certificate authority of the API server, in PEM.
    pub fn ca_path(&self) -> PathBuf {
        self.identities.pki.file("ca.crt")
    }

    /// What is stored, past the API server.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The superuser `admin`.
    pub fn admin(&self) -> Identity {
        self.admin.clone()
    }

    /// The user `name` in `groups`, with a client certificate. The same arguments give the same identity again.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Identity> {
        let key = (name.to_owned(), groups.iter().copied().map(String::from).collect());
        let mut users = unpoisoned(&self.users);
        if let Some(identity) = users.get(&key) {
            return Ok(identity.clone());
        }
        let namesakes = users.keys().filter(|(taken, _)| taken == name).count();
        let file = match namesakes {
            0 => format!("user-{name}"),
            more => format!("user-{name}-{}", more + 1),
        };
        let identity = self.identities.with_certificate(&file, name, groups)?;
        users.insert(key, identity.clone());
        Ok(identity)
    }

    /// An existing service account, with a new token that is good for a day.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity> {
        let request = ["create", "token", name, "--namespace", namespace, "--duration", "24h"];
        let token = self.admin.kubectl(request).ok().await?.trim().to_owned();
        let file = format!("service-account-{namespace}-{name}");
        let name = format!("system:serviceaccount:{namespace}:{name}");
        self.identities.write(&file, &name, &Credential::Token(token))
    }

    /// The same identity, with a kubeconfig that leads to another server, which has its own way of proving who asks.
    pub(crate) fn through(&self, identity: &Identity, server: &str) -> Result<Identity> {
        let file = identity.kubeconfig.file_stem().context("a kubeconfig")?.to_string_lossy();
        let kubeconfig = identity.kubeconfig.with_file_name(format!("{file}-through.kubeconfig"));
        // Who asks is proven behind the proxy; the token is only there because a kubeconfig names some user.
        let credential = Credential::Token("through-the-proxy".into());
        self.identities.pki.write_kubeconfig(&kubeconfig, server, &identity.name, &credential)?;
        Ok(Identity { kubeconfig, ..identity.clone() })
    }

    /// The audit log of the API server.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.dir().join(AUDIT_LOG), self.admin())
    }

    /// The observer that this control plane keeps, started when it is first asked for: see [`Observer::start`].
    pub fn observer(&self) -> Result<Arc<Observer>> {
        if let Some(kept) = self.observer.get() {
            return Ok(Arc::clone(kept));
        }
        let started = Arc::new(Observer::start(self)?);
        // Another thread may have been first; then this one is dropped.
        Ok(Arc::clone(self.observer.get_or_init(|| started)))
    }

    /// Kills the API server, as a crash would, and starts it again. What happens in between, `meanwhile`, meets nobody.
    pub async fn restart_apiserver(&self, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
        self.restart(Part::ApiServer, meanwhile).await
    }

    /// Kills a part, as a crash would, and starts it again, on what it stored. Returns once the API server is ready again.
    pub async fn restart(&self, part: Part, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
        self.processes.take(part.name())?.kill();
        meanwhile.await?;
        let (dir, pki) = (self.state.path(), &self.identities.pki);
        let (programs, ports, options) = (&self.programs, self.ports, &self.options);
        let components = Components { programs, dir, pki, ports, options, place: self.place() };
        self.processes.add([match part {
            Part::ApiServer => components.apiserver()?,
            Part::Etcd => components.etcd()?,
        }]);
        self.processes.wait(Goal::ApiServerReady(&self.admin, self.ports.apiserver)).await
    }

    /// Ends kube-controller-manager, and starts it again with that many requests per second: see [`Options::kube_api_qps`].
    pub fn restart_controller_manager(&self, kube_api_qps: u32) -> Result<()> {
        self.processes.take(CONTROLLER_MANAGER)?.kill();
        let (dir, pki) = (self.state.path(), &self.identities.pki);
        let options = &Options { kube_api_qps, ..self.options.clone() };
        let (programs, ports) = (&self.programs, self.ports);
        let components = Components { programs, dir, pki, ports, options, place: self.place() };
        let kubeconfig = dir.join("identities").join("controller-manager.kubeconfig");
        self.processes.add([components.controller_manager(&kubeconfig)?]);
        Ok(())
    }

    /// Stops a part where it is, as a machine that is starved or suspended does, until what this returns is dropped.
    pub fn pause(&self, part: Part) -> Result<Paused<'_>> {
        self.processes.signal(part.name(), "STOP")?;
        Ok(Paused { cluster: self, part })
    }

    /// Starts a program that reaches the API server as it is reached from in there: with a real node, inside its namespaces.
    pub(crate) fn start_process(&self, name: &str, program: &Path, args: Vec<OsString>) -> Result<Process> {
        Process::start(self.place(), name, program, args, self.dir())
    }

    fn place(&self) -> Place {
        self.node.as_ref().map_or(Place::Here, |node| node.namespaces().place())
    }

    /// Ends all programs. The directory stays until this is dropped.
    pub fn stop(&self) {
        self.processes.stop();
    }
}

/// What the API server notes of requests.
fn audit_policy(bodies: bool) -> String {
    let policy = include_str!("../assets/audit-policy.yaml");
    if bodies { policy.into() } else { policy.replace("level: RequestResponse", "level: Metadata") }
}

/// What can be taken away from a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// etcd.
    Etcd,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => APISERVER,
            Self::Etcd => ETCD,
        }
    }
}

/// A part that stands still. It goes on when this is dropped.
pub struct Paused<'a> {
    cluster: &'a ControlPlane,
    part: Part,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // It fails only where the part is gone, and then it does not stand still.
        let _ = self.cluster.processes.signal(self.part.name(), "CONT");
    }
}

/// The programs that these options ask for.
async fn find_programs(options: &Options) -> Result<(Programs, Option<NodePrograms>)> {
    let (real, progress) = (options.node == Node::Real, options.progress);
    if let (true, Err(missing)) = (real, real_node_possible()) {
        bail!("this machine cannot have a real node:\n{}", missing.join("\n"));
    }
    let find = move || {
        let more = real.then(|| NodePrograms::find_or_build(progress)).transpose()?;
        Ok((Programs::find_or_build(progress)?, more))
    };
    tokio::task::spawn_blocking(find).await?
}

/// No invariant spans these locks, so a panic elsewhere leaves their content usable.
pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
