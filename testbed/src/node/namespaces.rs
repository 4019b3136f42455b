//! A world of its own for a cluster with a real node: network, processes and mounts. The kernel ends all of it together.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::control_plane::unpoisoned;
use crate::processes::{Place, Process, tail};

/// Where the log goes, and how messages call it.
const NAME: &str = "namespaces";
const LOG_LINES_SHOWN: usize = 15;

/// Namespaces that end when the process that comes with them does, and ways into them.
pub(crate) struct Namespaces {
    place: Place,
    dir: PathBuf,
    relay: PathBuf,
    relays: Mutex<Vec<Relay>>,
}

/// Leads from a port of ours into the namespaces. It ends with them.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        // It can only fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Namespaces {
    /// Makes them, with a bridge that has the `address` of the node, and control groups named `cgroup`, which go when they do.
    /// Blocks the thread for a moment.
    pub(crate) fn create(dir: &Path, relay: &Path, address: &str, cgroup: &str) -> Result<(Process, Self)> {
        let inside = include_str!("../../assets/inside.sh");
        let args = [inside, address, cgroup].map(OsStr::new);
        let (process, printed) = Process::script(NAME, include_str!("../../assets/namespaces.sh"), &args, dir)?;
        let mut line = String::new();
        BufReader::new(printed).read_line(&mut line)?;
        let Ok(id) = line.trim().parse() else {
            let log = tail(process.log(), LOG_LINES_SHOWN);
            process.kill();
            bail!("no namespaces for a real node:\n{log}");
        };
        let (dir, relay) = (dir.to_owned(), relay.to_owned());
        Ok((process, Self { place: Place::Inside(id), dir, relay, relays: Mutex::default() }))
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// A command that runs `program` inside.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        self.place.command(program, &self.dir).into()
    }

    /// Opens a port of ours that leads to `address` inside.
    pub(crate) fn forward(&self, address: &str) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?;
        self.relay(listener, address)?;
        Ok(port)
    }

    /// The same for a socket that listens already.
    pub(crate) fn relay(&self, listener: TcpListener, address: &str) -> Result<()> {
        let mut command = self.place.command(&self.relay, &self.dir);
        command.arg(address).stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
        unpoisoned(&self.relays).push(Relay(command.spawn().context("starting a relay")?));
        Ok(())
    }
}
