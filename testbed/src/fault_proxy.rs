//! A proxy between one client and the API server that loses requests and answers on demand.
//!
//! The client speaks plain HTTP to it, and `kubectl proxy` behind it speaks TLS to the API server, as the client's identity.
//! Each connection carries one request, so that cutting one harms no other; what is answered is passed on as it comes, so
//! that watches stream.

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::processes::{Place, Process};
use crate::{ControlPlane, Identity};

/// More than any head of a request takes.
const MOST_HEAD: usize = 64 * 1024;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A request as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Its method, such as `PATCH`.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Whether it opens a watch.
    pub watch: bool,
    /// What was sent with it.
    pub body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The API server never hears of it.
    CutBefore,
    /// The API server answers it in full, and the client never hears of that. Of a watch, the answer is that it opens.
    CutAfter,
    /// The API server never hears of it, and the client waits until it ends.
    HoldBefore,
    /// The API server answers it as before a cut, and the client waits until it ends.
    HoldAfter,
    /// It is passed on after a while.
    Delay(Duration),
    /// Meets watches alone. The API server never hears of it, and the client is told that the version which it wants to
    /// watch from is forgotten (410, `Expired`).
    Expired,
    /// The same, where the watch opens, and its only event says so.
    ExpiredEvent,
}

/// Does that to the next request of this method whose path begins so, once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method.
    pub method: String,
    /// How the path begins.
    pub path: String,
    /// What becomes of the request.
    pub effect: Effect,
}

/// The running proxy. It ends when this is dropped.
pub struct FaultProxy {
    identity: Identity,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
    upstream: Option<Process>,
}

/// Tells that an effect took place: with a hold, that the request is held now. It never does where no request met it.
pub type Happened = oneshot::Receiver<()>;

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    armed: Vec<Fault>,
    chosen: Vec<Chosen>,
}

/// What becomes of the first request that fits.
struct Chosen {
    fits: Box<dyn FnMut(&Asked) -> bool + Send>,
    effect: Effect,
    happened: oneshot::Sender<()>,
}

impl FaultProxy {
    /// Starts a proxy for one client, on the Tokio runtime that this runs on.
    pub async fn start(cluster: &ControlPlane, identity: &Identity) -> Result<Self> {
        let upstream = Upstream::start(cluster, identity).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let server = format!("http://{}", listener.local_addr()?);
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, port) = (Arc::clone(&state), upstream.port);
        let accepting = tokio::spawn(async move {
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
    let Some(request) = read(&mut client).await? else { return Ok(()) };
    let (fault, happened) = lock(state).note(&request.asked);
    let happens = || {
        // Whoever wanted to know may be gone.
        let _ = happened.map(|happened| happened.send(()));
    };
    match fault {
        Some(Effect::CutBefore) => {
            happens();
            return Ok(());
        }
        Some(Effect::HoldBefore) => {
            happens();
            return until_gone(&mut client).await;
        }
        Some(effect @ (Effect::Expired | Effect::ExpiredEvent)) => {
            happens();
            client.write_all(expired(effect == Effect::ExpiredEvent).as_bytes()).await?;
            return Ok(());
        }
        Some(Effect::Delay(time)) => tokio::time::sleep(time).await,
        Some(Effect::CutAfter | Effect::HoldAfter) | None => {}
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(&request.bytes).await?;
    if let Some(effect @ (Effect::CutAfter | Effect::HoldAfter)) = fault {
        answered(&mut server, request.asked.watch).await?;
        happens();
        return if effect == Effect::HoldAfter { until_gone(&mut client).await } else { Ok(()) };
    }
    happens();
    let (mut from_server, mut to_server) = server.split();
    let (mut from_client, mut to_client) = client.split();
    tokio::select! {
        // Everything that is answered, and the end of it.
        answered = copy(&mut from_server, &mut to_client) => drop(answered?),
        // A client that goes away ends its watch.
        gone = copy(&mut from_client, &mut to_server) => drop(gone?),
    }
    Ok(())
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

/// What the API server answers to a watch from a version that it has forgotten: at once, or as an event.
fn expired(event: bool) -> String {
    let status = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
        r#""message":"too old resource version","reason":"Expired","code":410}"#
    );
    let (line, body) = match event {
        true => ("200 OK", format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n")),
        false => ("410 Gone", status.into()),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

impl State {
    /// Notes a request. Returns what becomes of it, where somebody wants something of it, and whom to tell.
    fn note(&mut self, asked: &Asked) -> (Option<Effect>, Option<oneshot::Sender<()>>) {
        self.asked.push(asked.clone());
        self.chosen.retain(|chosen| !chosen.happened.is_closed());
        if let Some(place) = self.chosen.iter_mut().position(|chosen| (chosen.fits)(asked)) {
            let chosen = self.chosen.remove(place);
            return (Some(chosen.effect), Some(chosen.happened));
        }
        let meets = |fault: &Fault| {
            let fits = asked.watch || !matches!(fault.effect, Effect::Expired | Effect::ExpiredEvent);
            fits && fault.method == asked.method && asked.path.starts_with(&fault.path)
        };
        let place = self.armed.iter().position(meets);
        (place.map(|place| self.armed.remove(place).effect), None)
    }
}

/// A whole request, as it is passed on.
struct Request {
    asked: Asked,
    bytes: Vec<u8>,
}

/// Reads a request, and has it be the only one of its connection. None where the client leaves first.
async fn read(client: &mut TcpStream) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MOST_HEAD {
            bail!("a request with a head of more than {MOST_HEAD} bytes");
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = std::str::from_utf8(&bytes[..end]).context("the head of a request")?;
    let head = Head::read(head)?;
    let missing = (end + head.length).saturating_sub(bytes.len());
    let mut rest = vec![0; missing];
    client.read_exact(&mut rest).await.map_err(|error| io::Error::new(error.kind(), "the body of a request"))?;
    let body = [&bytes[end..], &rest].concat();
    let bytes = [head.passed_on.as_bytes(), &body].concat();
    Ok(Some(Request { asked: Asked { body, ..head.asked }, bytes }))
}

/// The head of a request.
struct Head {
    /// What it asks, without the body.
    asked: Asked,
    /// Of the body, in bytes.
    length: usize,
    passed_on: String,
}

impl Head {
    fn read(head: &str) -> Result<Self> {
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().context("a request line")?;
        let mut words = first.split(' ');
        let (method, target) = words.next().zip(words.next()).context("a request line")?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let watch = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        let (mut length, mut passed_on) = (0, format!("{first}\r\n"));
        for line in lines {
            let (name, value) = line.split_once(':').context("a header")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().context("a length")?,
                "transfer-encoding" => bail!("a body without a length is not passed on"),
                // Whose request it is, the part that speaks TLS proves.
                "connection" | "authorization" => continue,
                _ => {}
            }
            passed_on.push_str(line);
            passed_on.push_str("\r\n");
        }
        passed_on.push_str("Connection: close\r\n\r\n");
        let asked = Asked { method: method.into(), path: path.into(), watch, body: vec![] };
        Ok(Self { asked, length, passed_on })
    }
}

/// A panic between two requests leaves the state usable.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Asked {
        Asked { method: method.into(), path: path.into(), watch: false, body: vec![] }
    }

    #[test]
    fn a_head_is_read_and_made_the_last_of_its_connection() {
        let text = "PATCH /apis/batch/v1/jobs/a?x=y HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nConnection: keep-alive\r\nContent-Length: 12\r\n\r\n";
        let head = Head::read(text).unwrap();
        assert_eq!(head.asked, asked("PATCH", "/apis/batch/v1/jobs/a"));
        assert_eq!(head.length, 12);
        let passed_on =
            "PATCH /apis/batch/v1/jobs/a?x=y HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nConnection: close\r\n\r\n";
        assert_eq!(head.passed_on, passed_on);
        assert_eq!(Head::read("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().length, 0);
        assert!(Head::read("GET /a?x=y&watch=true HTTP/1.1\r\n\r\n").unwrap().asked.watch);
        assert!(Head::read("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_fault_meets_the_first_request_that_it_is_meant_for_and_no_other() {
        let mut state = State::default();
        let note = |state: &mut State, asked: Asked| state.note(&asked).0;
        state.armed.push(Fault { method: "POST".into(), path: "/a".into(), effect: Effect::CutAfter });
        assert_eq!(note(&mut state, asked("GET", "/a")), None);
        assert_eq!(note(&mut state, asked("POST", "/b")), None);
        assert_eq!(note(&mut state, asked("POST", "/a/b")), Some(Effect::CutAfter));
        assert_eq!(note(&mut state, asked("POST", "/a/b")), None);
        state.armed.push(Fault { method: "GET".into(), path: "/a".into(), effect: Effect::Expired });
        assert_eq!(note(&mut state, asked("GET", "/a")), None);
        assert_eq!(note(&mut state, Asked { watch: true, ..asked("GET", "/a") }), Some(Effect::Expired));
        assert_eq!(state.asked.len(), 6);
    }

    #[test]
    fn an_effect_can_be_kept_for_the_second_request_that_fits() {
        let mut state = State::default();
        let choose = |state: &mut State| {
            let (happened, hears) = oneshot::channel();
            let mut seen = 0;
            let fits = move |asked: &Asked| {
                seen += usize::from(asked.path == "/a");
                seen == 2
            };
            state.chosen.push(Chosen { fits: Box::new(fits), effect: Effect::HoldAfter, happened });
            hears
        };
        let _hears = choose(&mut state);
        let effects = ["/a", "/b", "/a", "/a"].map(|path| state.note(&asked("GET", path)).0);
        assert_eq!(effects, [None, None, Some(Effect::HoldAfter), None]);
        drop(choose(&mut state));
        assert_eq!(["/a", "/a"].map(|path| state.note(&asked("GET", path)).0), [None, None]);
    }
}
