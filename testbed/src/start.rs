//! Starts the programs in the order in which they need each other.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::components::{Components, Ports};
use crate::control_plane::unpoisoned;
use crate::identities::Identities;
use crate::node::{self, Config, Namespaces};
use crate::processes::{self, Place, Process, port_was_taken};
use crate::programs::{NodePrograms, Programs, fnv1a};
use crate::readiness::Goal;
use crate::{Identity, Image, Options, RealNode};

const SIMULATED_NODE: &str = include_str!("../assets/node.json");
const SUPERUSERS: &str = "system:masters";
const START_TIMEOUT: Duration = Duration::from_secs(120);
const START_ATTEMPTS: usize = 4;
const POLL: Duration = Duration::from_millis(100);

/// What a start leaves.
pub(crate) struct Started {
    pub(crate) running: Running,
    pub(crate) ports: Ports,
    pub(crate) admin: Identity,
    pub(crate) node: Option<RealNode>,
}

/// Stops its programs when dropped.
#[derive(Default)]
pub(crate) struct Running(Mutex<Vec<Process>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    pub(crate) fn add(&self, more: impl IntoIterator<Item = Process>) {
        unpoisoned(&self.0).extend(more);
    }

    /// Sends the program of that name a signal.
    pub(crate) fn signal(&self, name: &str, signal: &str) -> Result<()> {
        let all = unpoisoned(&self.0);
        let named = all.iter().find(|process| process.name() == name);
        named.with_context(|| format!("{name} does not run"))?.signal_program(signal)
    }

    /// The process of that name, which is not watched from then on.
    pub(crate) fn take(&self, name: &str) -> Result<Process> {
        let mut all = unpoisoned(&self.0);
        let at =
            all.iter().position(|process| process.name() == name).with_context(|| format!("{name} does not run"))?;
        Ok(all.remove(at))
    }

    pub(crate) fn stop(&self) {
        processes::stop(&mut unpoisoned(&self.0));
    }

    /// Waits until `goal` is reached, a program ends, or it takes too long.
    pub(crate) async fn wait(&self, goal: Goal<'_>) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            unpoisoned(&self.0).iter_mut().try_for_each(Process::check)?;
            if goal.is_reached().await {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("waited {START_TIMEOUT:?} for {}", goal.description())
    }
}

/// A free port may be taken before its program binds it; then everything starts over with other ports.
pub(crate) async fn with_simulated_node(
    programs: &Programs,
    identities: &mut Identities,
    options: &Options,
) -> Result<Started> {
    let mut attempt = 1;
    loop {
        let ports = Ports::pick()?;
        identities.lead_to(ports.apiserver);
        match simulated_once(programs, identities, options, ports).await {
            Err(error) if attempt < START_ATTEMPTS && port_was_taken(&error) => attempt += 1,
            other => return other,
        }
    }
}

async fn simulated_once(
    programs: &Programs,
    identities: &Identities,
    options: &Options,
    ports: Ports,
) -> Result<Started> {
    let dir = identities.state_dir()?;
    remove_if_present(&dir.join("etcd"))?;
    let components = Components { programs, dir, pki: &identities.pki, ports, options, place: Place::Here };
    let running = Running::default();
    let admin = control_plane(&running, &components, identities).await?;
    let kwok = identities.with_certificate("node", "system:kwok", &[SUPERUSERS])?;
    running.add([components.simulated_node(&kwok.kubeconfig)?]);
    let create = ["create", "--raw", "/api/v1/nodes", "--filename", "-"];
    admin.kubectl(create).stdin(SIMULATED_NODE).ok().await?;
    running.wait(Goal::DefaultServiceAccount(&admin)).await?;
    running.wait(Goal::NodeTakesPods(&admin, "simulated")).await?;
    Ok(Started { running, ports, admin, node: None })
}

/// Inside, no port is taken; outside, ours are held from the beginning, and relays lead in from there.
pub(crate) async fn with_real_node(
    programs: &Programs,
    node_programs: NodePrograms,
    identities: &mut Identities,
    options: &Options,
) -> Result<Started> {
    let (ports, held) = Ports::held()?;
    identities.lead_to(ports.apiserver);
    let (identities, dir) = (&*identities, identities.state_dir()?);
    identities.pki.write_serving_certificate("kubelet", node::NAME, &[node::ADDRESS])?;
    identities.pki.write_client_certificate("kubelet-client", "kube-apiserver", &[SUPERUSERS])?;

    // Of several clusters at a time, each has its own.
    let cgroup = format!("countersign-{:016x}", fnv1a(dir.as_os_str().as_encoded_bytes()));
    let (process, namespaces) = Namespaces::create(dir, &node_programs.relay, node::ADDRESS, &cgroup)?;
    let running = Running::default();
    running.add([process]);
    for (listener, port) in held.into_iter().zip([ports.apiserver, ports.etcd]) {
        namespaces.relay(listener, &format!("127.0.0.1:{port}"))?;
    }

    let pki = &identities.pki;
    let components = Components { programs, dir, pki, ports, options, place: namespaces.place() };
    let proxy = identities.with_certificate("kube-proxy", "system:kube-proxy", &[])?;
    let config = Config { programs: &node_programs, dir, pki, cgroup: &cgroup, proxy_kubeconfig: &proxy.kubeconfig };
    let files = config.write()?;
    running.add([components.containerd(&node_programs, &files)?]);
    let admin = control_plane(&running, &components, identities).await?;
    let kubelet = identities.with_certificate("node", &format!("system:node:{}", node::NAME), &["system:nodes"])?;

    let node = RealNode::new(namespaces, node_programs, dir, admin.clone(), options.progress);
    running.wait(Goal::ContainersRun(&node)).await?;
    let pause = node.programs().pause();
    node.add_image(&Image::new(node::PAUSE_IMAGE).file(pause, "/pause", 0o755).entrypoint(&["/pause"])).await?;
    running.add([
        components.kubelet(node.programs(), &files, &kubelet.kubeconfig)?,
        components.kube_proxy(node.programs(), &files)?,
    ]);
    running.wait(Goal::DefaultServiceAccount(&admin)).await?;
    running.wait(Goal::NodeTakesPods(&admin, node::NAME)).await?;
    Ok(Started { running, ports, admin, node: Some(node) })
}

/// What is the same whatever Pods run on. Returns the superuser.
async fn control_plane(running: &Running, components: &Components<'_>, identities: &Identities) -> Result<Identity> {
    running.add([components.etcd()?]);
    // An API server that finds no etcd backs off for longer than etcd takes to listen.
    running.wait(Goal::EtcdListens(components.ports.etcd)).await?;
    running.add([components.apiserver()?]);
    let admin = identities.with_certificate("admin", "admin", &[SUPERUSERS])?;
    let component = |file, name| identities.with_certificate(file, name, &[]);
    let controller_manager = component("controller-manager", "system:kube-controller-manager")?;
    let scheduler = component("scheduler", "system:kube-scheduler")?;

    running.wait(Goal::ApiServerReady(&admin, components.ports.apiserver)).await?;
    running.add([
        components.controller_manager(&controller_manager.kubeconfig)?,
        components.scheduler(&scheduler.kubeconfig)?,
    ]);
    Ok(admin)
}

fn remove_if_present(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(())
}
