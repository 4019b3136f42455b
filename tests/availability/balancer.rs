//! What a Service is in a cluster: leads each new connection to an operator that says it is ready, and leaves those alone that
//! are there.

use crate::support::told::said;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How often operators are asked whether they are ready.
const PERIOD: Duration = Duration::from_millis(100);

/// Where an operator serves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backend {
    pub admission: SocketAddr,
    pub readiness: SocketAddr,
}

#[derive(Default)]
struct State {
    backends: Vec<Backend>,
    ready: Vec<Backend>,
    next: usize,
}

/// The running balancer. It ends with the runtime of its test.
#[derive(Clone)]
pub struct Balancer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Balancer {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let balancer = Self { address: listener.local_addr()?, state: Arc::default() };
        tokio::spawn(balancer.clone().probe());
        let accepting = balancer.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Some(backend) = accepting.pick() {
                    tokio::spawn(pass(client, backend));
                }
            }
        });
        Ok(balancer)
    }

    /// Is the way into the cluster's network as well, for an API server that asks for one at this socket. Whatever Service it
    /// asks for, here is the only one.
    pub fn lead_in(&self, socket: &Path) -> Result<()> {
        let (listener, balancer) = (UnixListener::bind(socket)?, self.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if let (Ok(()), Some(backend)) = (let_in(&mut client).await, balancer.pick()) {
                    tokio::spawn(pass(client, backend));
                }
            }
        });
        Ok(())
    }

    pub fn add(&self, backend: Backend) {
        self.state.lock().unwrap().backends.push(backend);
    }

    /// Those that said so when they were asked last.
    pub fn ready(&self) -> Vec<Backend> {
        self.state.lock().unwrap().ready.clone()
    }

    fn pick(&self) -> Option<Backend> {
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let number = state.next % state.ready.len().max(1);
        state.ready.get(number).copied()
    }

    async fn probe(self) {
        loop {
            let backends = self.state.lock().unwrap().backends.clone();
            let mut ready = vec![];
            for backend in backends {
                if is_ready(backend.readiness).await {
                    ready.push(backend);
                }
            }
            self.state.lock().unwrap().ready = ready;
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn pass(mut client: impl AsyncRead + AsyncWrite + Unpin, backend: Backend) {
    if let Ok(mut server) = TcpStream::connect(backend.admission).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Lets somebody in who asks for it, wherever to.
async fn let_in(client: &mut UnixStream) -> std::io::Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await
}

async fn is_ready(address: SocketAddr) -> bool {
    let said = tokio::time::timeout(Duration::from_secs(2), said(address, "/readyz"));
    matches!(said.await, Ok(Ok(said)) if said.starts_with("HTTP/1.1 200"))
}
