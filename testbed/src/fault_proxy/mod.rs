//! A proxy between one client and the API server that loses, delays, falsifies and repeats requests and answers on demand.
//!
//! The client speaks plain HTTP to it, and `kubectl proxy` behind it speaks TLS to the API server, as the client's identity.
//! Each connection carries one request, so that cutting one harms no other; what is answered is passed on as it comes, so
//! that watches stream.

mod answer;
mod fault;
mod request;

use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::processes::{Place, Process};
use crate::{ControlPlane, Identity};
pub use fault::{Answer, Asked, Effect, Fault, Happened};
use fault::{Chosen, State};
use request::Request;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The running proxy. It ends when this is dropped.
pub struct FaultProxy {
    identity: Identity,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
    upstream: Option<Process>,
}

impl FaultProxy {
    /// Starts a proxy for one client, on the Tokio runtime that this runs on.
    pub async fn start(cluster: &ControlPlane, identity: &Identity) -> Result<Self> {
        Self::start_on(&Handle::current(), cluster, identity).await
    }

    /// The same on a runtime that may outlive this one.
    pub async fn start_on(runtime: &Handle, cluster: &ControlPlane, identity: &Identity) -> Result<Self> {
        let upstream = Upstream::start(cluster, identity).await?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let server = format!("http://{}", listener.local_addr()?);
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, port) = (Arc::clone(&state), upstream.port);
        let accepting = runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                // An error ends this connection, which is all that the client would see of it.
                tokio::spawn(async move { drop(serve(client, port, &shared).await) });
            }
        });
        let identity = cluster.through(identity, &server)?;
        Ok(Self { identity, state, accepting, upstream: Some(upstream.process) })
    }

    /// The client's identity, whose kubeconfig leads here.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Everything that was asked since the last call, in order.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// Has a request meet this fault.
    pub fn inject(&self, fault: Fault) {
        lock(&self.state).armed.push(fault);
    }

    /// Has the first request of which `fits` says so meet this effect. `fits` is asked of every request from now on, so that it
    /// can count. Taken back when what is returned is dropped.
    pub fn inject_where(&self, fits: impl FnMut(&Asked) -> bool + Send + 'static, effect: Effect) -> Happened {
        let (happened, hears) = oneshot::channel();
        lock(&self.state).chosen.push(Chosen { fits: Box::new(fits), effect, happened });
        hears
    }

    /// Has every request meet this fault, until it is taken back.
    pub fn storm(&self, fault: Fault) {
        lock(&self.state).lasting.push(fault);
    }

    /// Takes back every fault that lasts and whose path holds that. What met it stays as it is: who waits for an answer waits on.
    pub fn calm(&self, part: &str) {
        lock(&self.state).lasting.retain(|fault| !fault.path.contains(part));
    }

    /// How many requests there were since [`Self::take_asked`] whose path holds that.
    pub fn count(&self, part: &str) -> usize {
        lock(&self.state).asked.iter().filter(|asked| asked.path.contains(part)).count()
    }

    /// Ends every watch whose path begins so. Returns how many.
    pub fn cut_watches(&self, path: &str) -> usize {
        let state = lock(&self.state);
        let meant = state.open.iter().filter(|(asked, _)| asked.path.starts_with(path));
        meant.inspect(|(_, cut)| cut.notify_one()).count()
    }

    /// Whether a fault whose path holds that was met by no request yet.
    pub fn is_armed(&self, part: &str) -> bool {
        lock(&self.state).armed.iter().any(|fault| fault.path.contains(part))
    }

    /// The faults that no request has met yet; they are taken back.
    pub fn take_armed(&self) -> Vec<Fault> {
        std::mem::take(&mut lock(&self.state).armed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(process) = self.upstream.take() {
            process.kill();
        }
    }
}

/// The part that speaks TLS.
struct Upstream {
    process: Process,
    port: u16,
}

impl Upstream {
    async fn start(cluster: &ControlPlane, identity: &Identity) -> Result<Self> {
        let kubeconfig = identity.kubeconfig.clone().into_os_string();
        // Paths under /exec and /attach are of no use here, and refused.
        let args: Vec<OsString> = vec!["proxy".into(), "--port=0".into(), "--kubeconfig".into(), kubeconfig];
        let mut process = Process::start(Place::Here, "fault-proxy", cluster.kubectl_path(), args, cluster.dir())?;
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            process.check()?;
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            let address = log.lines().find_map(|line| line.strip_prefix("Starting to serve on 127.0.0.1:"));
            if let Some(port) = address.and_then(|port| port.trim().parse().ok()) {
                return Ok(Self { process, port });
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("kubectl proxy did not say where it listens: {}", process.log().display())
    }
}

/// One request, its answer, and the end of the connection.
async fn serve(mut client: TcpStream, port: u16, state: &Mutex<State>) -> Result<()> {
    let Some(request) = request::read(&mut client).await? else { return Ok(()) };
    let (effect, mut happened) = lock(state).note(&request.asked);
    let mut happens = || {
        // Whoever wanted to know may be gone.
        let _ = happened.take().map(|happened| happened.send(()));
    };
    match effect {
        Some(Effect::CutBefore) => {
            happens();
            return Ok(());
        }
        Some(Effect::HoldBefore) => {
            happens();
            return until_gone(&mut client).await;
        }
        Some(Effect::Delay(time)) => {
            happens();
            tokio::time::sleep(time).await;
        }
        _ => {}
    }
    if let Some(text) = effect.and_then(answer::made_up) {
        happens();
        return Ok(client.write_all(text.as_bytes()).await?);
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(&request.bytes).await?;
    if let Some(effect @ (Effect::CutAfter | Effect::HoldAfter)) = effect {
        answered(&mut server, request.asked.watch).await?;
        happens();
        return if effect == Effect::HoldAfter { until_gone(&mut client).await } else { Ok(()) };
    }
    if let Some(Effect::LateAnswer(time)) = effect {
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        happens();
        tokio::time::sleep(time).await;
        return pass(&mut client, &mut answer.as_slice(), None).await;
    }
    happens();
    match effect {
        Some(Effect::Truncate(most)) => pass(&mut client, &mut server, Some(most)).await,
        _ if request.asked.watch => pass_watch(&mut client, &mut server, &request, state).await,
        _ => pass(&mut client, &mut server, None).await,
    }
}

/// Waits until the API server has answered: to the end, or that a watch opens, which ends when it is renewed.
async fn answered(server: &mut TcpStream, watch: bool) -> Result<()> {
    if watch {
        server.read_exact(&mut [0]).await?;
    } else {
        copy(server, &mut tokio::io::sink()).await?;
    }
    Ok(())
}

/// Waits until the client goes away.
async fn until_gone(client: &mut TcpStream) -> Result<()> {
    // A client that is killed resets its connections.
    let _ = copy(client, &mut tokio::io::sink()).await;
    Ok(())
}

/// Passes an answer on, unless the client goes away. What the API server works on then goes on all the same: a write that is
/// given up may be stored and logged as failed, and whoever judges by the log would take what follows from it for a breach.
async fn pass(client: &mut TcpStream, server: &mut (impl AsyncRead + Unpin), most: Option<usize>) -> Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let mut nowhere = tokio::io::sink();
    let passed = tokio::select! {
        passed = answer::pass(server, &mut to_client, most) => passed,
        gone = copy(&mut from_client, &mut nowhere) => gone.map(drop).map_err(Into::into),
    };
    // What is cut short ends at once, and of a watch there is no end to wait for.
    if most.is_none() {
        copy(server, &mut nowhere).await?;
    }
    passed
}

/// Passes a watch on, until the client goes away or somebody cuts it.
async fn pass_watch(
    client: &mut TcpStream,
    server: &mut TcpStream,
    request: &Request,
    state: &Mutex<State>,
) -> Result<()> {
    let cut = Arc::new(Notify::new());
    lock(state).open.push((request.asked.clone(), cut.clone()));
    let (mut from_client, mut to_client) = client.split();
    let mut nowhere = tokio::io::sink();
    let effect = || lock(state).of_events(&request.asked);
    let passed = tokio::select! {
        passed = answer::pass_events(server, &mut to_client, effect) => passed,
        gone = copy(&mut from_client, &mut nowhere) => gone.map(drop).map_err(Into::into),
        () = cut.notified() => Ok(()),
    };
    lock(state).open.retain(|(_, other)| !Arc::ptr_eq(other, &cut));
    passed
}

/// A panic between two requests leaves the state usable.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_api_server_answers_to_the_end_though_the_client_is_gone() -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut accepted, _) = listener.accept().await?;
        drop(client);
        // Nothing is left between them, so that an answer ends only where it is read.
        let (mut server, mut answer) = tokio::io::duplex(16);
        let answers = async move {
            tokio::time::sleep(POLL).await;
            server.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"kind\":\"Job\"}").await
        };
        let both = async { tokio::join!(answers, pass(&mut accepted, &mut answer, None)) };
        let (answered, _) = tokio::time::timeout(START_TIMEOUT, both).await?;
        Ok(answered?)
    }
}
