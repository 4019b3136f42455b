//! Starts a control plane and hands out identities.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::components::{AUDIT_LOG, AUDIT_POLICY, Components, Ports, STAGES};
use crate::pki::{Credential, Pki};
use crate::processes::{self, Process, port_was_taken};
use crate::programs::Programs;
use crate::readiness::Goal;
use crate::state_dir::StateDir;
use crate::{AuditLog, Identity, Observer, Progress, Storage, progress_to_stderr};

const NODE: &str = include_str!("../assets/node.json");
const SUPERUSERS: &str = "system:masters";
const START_TIMEOUT: Duration = Duration::from_secs(120);
const START_ATTEMPTS: usize = 4;
/// The place of kube-apiserver among the processes.
const APISERVER: usize = 1;
const POLL: Duration = Duration::from_millis(100);

/// How to start a control plane.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the state goes: a directory that is kept, and that holds no control plane yet. By default a temporary
    /// one, removed with the control plane unless `COUNTERSIGN_TESTBED_KEEP` is set.
    pub dir: Option<PathBuf>,
    /// Further flags for kube-apiserver; the last value of a flag wins.
    pub extra_apiserver_args: Vec<String>,
    /// Further flags for kube-controller-manager; the last value of a flag wins.
    pub extra_kcm_args: Vec<String>,
    /// Requests per second that kube-controller-manager and kube-scheduler allow themselves, with twice as many in a
    /// burst. Far above Kubernetes' own default, which would hide every other limit.
    pub kube_api_qps: u32,
    /// Told what takes long.
    pub progress: Progress,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: None,
            extra_apiserver_args: Vec::new(),
            extra_kcm_args: Vec::new(),
            kube_api_qps: 1000,
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
    programs: Programs,
    ports: Ports,
    options: Options,
    storage: Storage,
    admin: Identity,
    users: Mutex<HashMap<(String, Vec<String>), Identity>>,
    identities: Identities,
    state: StateDir,
}

/// Stops its programs when dropped.
struct Running(Mutex<Vec<Process>>);

impl Drop for Running {
    fn drop(&mut self) {
        processes::stop(&mut unpoisoned(&self.0));
    }
}

impl ControlPlane {
    /// Builds the programs if need be, starts them, and waits until pods can run in the `default` namespace.
    pub async fn start(options: Options) -> Result<Self> {
        let progress = options.progress;
        let programs = tokio::task::spawn_blocking(move || Programs::find_or_build(progress)).await??;
        let began = Instant::now();
        let state = StateDir::create(options.dir.clone())?;
        let pki = Pki::create(state.path().join("pki"))?;
        fs::write(state.path().join(AUDIT_POLICY), include_str!("../assets/audit-policy.yaml"))?;
        fs::write(state.path().join(STAGES), include_str!("../assets/stages.yaml"))?;
        let mut identities = Identities::new(pki, &programs, state.path());
        let (running, ports, admin) = start_until_ports_fit(&programs, &mut identities, &options).await?;
        progress(&format!(
            "control plane ready after {:.1} s: {}",
            began.elapsed().as_secs_f64(),
            admin.kubeconfig.display()
        ));
        Ok(Self {
            observer: OnceLock::new(),
            processes: running,
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
        unpoisoned(&self.processes.0).remove(APISERVER).kill();
        meanwhile.await?;
        let (dir, pki) = (self.state.path(), &self.identities.pki);
        let components = Components { programs: &self.programs, dir, pki, ports: self.ports, options: &self.options };
        unpoisoned(&self.processes.0).insert(APISERVER, components.apiserver()?);
        wait(&self.processes, Goal::ApiServerReady(&self.admin, self.ports.apiserver)).await
    }

    /// Ends all programs. The directory stays until this is dropped.
    pub fn stop(&self) {
        processes::stop(&mut unpoisoned(&self.processes.0));
    }
}

/// Writes kubeconfigs.
struct Identities {
    pki: Pki,
    server: String,
    dir: PathBuf,
    kubectl: PathBuf,
    cache: PathBuf,
}

impl Identities {
    fn new(pki: Pki, programs: &Programs, dir: &Path) -> Self {
        Self {
            pki,
            server: String::new(),
            dir: dir.join("identities"),
            kubectl: programs.kubectl.clone(),
            cache: dir.join("kubectl-cache"),
        }
    }

    fn with_certificate(&self, file: &str, name: &str, groups: &[&str]) -> Result<Identity> {
        self.write(file, name, &self.pki.issue(name, groups)?)
    }

    fn write(&self, file: &str, name: &str, credential: &Credential) -> Result<Identity> {
        // User names may hold characters that mean something in a path.
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._@".contains(character);
        let file = file.replace(|character| !plain(character), "_");
        let kubeconfig = self.dir.join(format!("{file}.kubeconfig"));
        self.pki.write_kubeconfig(&kubeconfig, &self.server, name, credential)?;
        Ok(Identity { name: name.to_owned(), kubeconfig, kubectl: self.kubectl.clone(), cache: self.cache.clone() })
    }
}

/// A free port may be taken before its program binds it; then everything starts over with other ports.
async fn start_until_ports_fit(
    programs: &Programs,
    identities: &mut Identities,
    options: &Options,
) -> Result<(Running, Ports, Identity)> {
    let mut attempt = 1;
    loop {
        let ports = Ports::pick()?;
        identities.server = format!("https://127.0.0.1:{}", ports.apiserver);
        match start_once(programs, identities, options, ports).await {
            Err(error) if attempt < START_ATTEMPTS && port_was_taken(&error) => attempt += 1,
            other => return other,
        }
    }
}

async fn start_once(
    programs: &Programs,
    identities: &Identities,
    options: &Options,
    ports: Ports,
) -> Result<(Running, Ports, Identity)> {
    let dir = identities.dir.parent().context("identities have a directory")?;
    remove_if_present(&dir.join("etcd"))?;
    let (etcd_port, port) = (ports.etcd, ports.apiserver);
    let components = Components { programs, dir, pki: &identities.pki, ports, options };
    let running = Running(Mutex::new(vec![components.etcd()?]));
    // An API server that finds no etcd backs off for longer than etcd takes to listen.
    wait(&running, Goal::EtcdListens(etcd_port)).await?;
    unpoisoned(&running.0).push(components.apiserver()?);
    let admin = identities.with_certificate("admin", "admin", &[SUPERUSERS])?;
    let component = |file, name| identities.with_certificate(file, name, &[]);
    let controller_manager = component("controller-manager", "system:kube-controller-manager")?;
    let scheduler = component("scheduler", "system:kube-scheduler")?;
    let node = identities.with_certificate("node", "system:kwok", &[SUPERUSERS])?;

    wait(&running, Goal::ApiServerReady(&admin, port)).await?;
    unpoisoned(&running.0).extend([
        components.controller_manager(&controller_manager.kubeconfig)?,
        components.scheduler(&scheduler.kubeconfig)?,
        components.node(&node.kubeconfig)?,
    ]);
    let create = ["create", "--raw", "/api/v1/nodes", "--filename", "-"];
    admin.kubectl(create).stdin(NODE).ok().await?;
    wait(&running, Goal::DefaultServiceAccount(&admin)).await?;
    wait(&running, Goal::NodeTakesPods(&admin)).await?;
    Ok((running, ports, admin))
}

/// Waits until `goal` is reached, a program ends, or it takes too long.
async fn wait(running: &Running, goal: Goal<'_>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < START_TIMEOUT {
        unpoisoned(&running.0).iter_mut().try_for_each(Process::check)?;
        if goal.is_reached().await {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("{goal:?} was not reached within {START_TIMEOUT:?}")
}

fn remove_if_present(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}

/// No invariant spans these locks, so a panic elsewhere leaves their content usable.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
