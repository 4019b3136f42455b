//! Child processes that end with this process, however it ends.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// Runs a command and kills it as soon as standard input ends. Its input is a pipe that only we hold open, and the
/// kernel closes it even when we are killed or leak the handle, so nothing depends on a destructor.
///
/// The command is killed outright: its state is disposable, and an API server asked politely waits for its watches.
///
/// What asks the command to end (TERM) goes to the whole group, and it may take its time: until then we stay.
const WATCHDOG: &str = r#"
trap : TERM
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ trap '' TERM; read -r _; kill -9 "$child"; } <&3 2>/dev/null &
watcher=$!
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
kill -9 "$watcher" 2>/dev/null
exit "$status"
"#;

/// Removes a directory once standard input ends. Retries while dying processes still write into it.
const JANITOR: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null && exit
    sleep 0.3
done
"#;

const LOG_LINES_SHOWN: usize = 15;

/// Where programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside us.
    Here,
    /// In the namespaces of the process with this id.
    Inside(u32),
}

impl Place {
    /// A command that runs `program` there, in `dir`.
    pub(crate) fn command(self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        match self {
            Self::Here => {
                let mut command = Command::new(program);
                command.current_dir(dir);
                command
            }
            Self::Inside(id) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--target={id}")).args(["--net", "--mount", "--pid", "--"]);
                // What was entered for is to end with who entered. And whoever enters a mount namespace starts at its root.
                command
                    .args(["setpriv", "--pdeathsig", "KILL", "env", "-C"])
                    .arg(dir)
                    .arg(program)
                    .env("PATH", system_path());
                command
            }
        }
    }
}

/// The path for programs, with the places for what only root uses.
pub(crate) fn system_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin:/usr/bin:/bin");
    path
}

/// A shell that acts when our end of its standard input closes.
struct Leash {
    shell: Child,
    held: Option<ChildStdin>,
}

impl Leash {
    fn start(command: &mut Command) -> Result<Self> {
        let mut shell = command
            .stdin(Stdio::piped())
            // Its own process group: an interrupt from the terminal is for us to handle, not for our children.
            .process_group(0)
            .spawn()
            .context("starting sh")?;
        let held = shell.stdin.take();
        Ok(Self { shell, held })
    }

    fn release(&mut self) {
        self.held = None;
    }

    fn wait(&mut self) {
        self.release();
        // It can only fail when the shell was already waited for.
        let _ = self.shell.wait();
    }
}

/// A running program of the control plane.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    leash: Leash,
}

impl Process {
    /// Starts `program` at `place` in `dir`, its output in `dir/logs/NAME.log`.
    pub(crate) fn start(place: Place, name: &str, program: &Path, args: Vec<OsString>, dir: &Path) -> Result<Self> {
        let (log, output) = log_file(name, dir)?;
        let mut command = place.command("sh", dir);
        command.arg("-c").arg(WATCHDOG).arg(name).arg(program).args(args);
        command.env("KWOK_WORKDIR", dir.join("kwok"));
        // What the caller wants to see of itself is not for the programs: their logs are read for what they tell.
        command.env_remove("RUST_LOG");
        command.stdout(output.try_clone()?).stderr(output);
        let leash = Leash::start(&mut command)?;
        Ok(Self { name: name.to_owned(), log, leash })
    }

    /// Starts a shell script, which has to end when its standard input does, with its errors in `dir/logs/NAME.log`. What it
    /// prints is for us.
    pub(crate) fn script(name: &str, text: &str, args: &[&OsStr], dir: &Path) -> Result<(Self, ChildStdout)> {
        let (log, output) = log_file(name, dir)?;
        let mut command = Place::Here.command("sh", dir);
        command.arg("-c").arg(text).arg(name).args(args).env("PATH", system_path());
        command.stdout(Stdio::piped()).stderr(output);
        let mut leash = Leash::start(&mut command)?;
        let printed = leash.shell.stdout.take().context("standard output")?;
        Ok((Self { name: name.to_owned(), log, leash }, printed))
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The process id of the program, which the shell started before anything else.
    pub(crate) fn child(&self) -> Result<u32> {
        let shell = self.leash.shell.id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let first = children.split(' ').next().and_then(|child| child.parse().ok());
        first.with_context(|| format!("{} has no process of its own", self.name))
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.leash.wait();
    }

    /// Stops it where it is, or lets it go on: `STOP` or `CONT`, to its whole group.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let group = format!("-{}", self.leash.shell.id());
        let status = Command::new("kill").args(["-s", signal, "--", &group]).status().context("starting kill")?;
        anyhow::ensure!(status.success(), "kill -s {signal} {}: {status}", self.name);
        Ok(())
    }

    /// The same to the program alone, which still ends as soon as we do.
    pub(crate) fn signal_program(&self, signal: &str) -> Result<()> {
        let shell = self.leash.shell.id();
        let runs = |id: &str| fs::read_link(format!("/proc/{id}/exe")).ok();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        // The shell's other child is a shell as well.
        let ours = runs(&shell.to_string());
        let program = children.split_whitespace().find(|id| runs(id) != ours);
        let program = program.with_context(|| format!("{} does not run", self.name))?;
        let status = Command::new("kill").args(["-s", signal, program]).status().context("starting kill")?;
        anyhow::ensure!(status.success(), "kill -s {signal} {}: {status}", self.name);
        Ok(())
    }

    /// An error with the end of the log if the program has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.leash.shell.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let tail = tail(&self.log, LOG_LINES_SHOWN);
                anyhow::bail!("{} ended early ({status}); the end of its log:\n{tail}", self.name)
            }
        }
    }
}

fn log_file(name: &str, dir: &Path) -> Result<(PathBuf, File)> {
    let log = dir.join("logs").join(format!("{name}.log"));
    let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    Ok((log, output))
}

/// Ends `processes` and waits until they are gone.
pub(crate) fn stop(processes: &mut Vec<Process>) {
    for process in processes.iter_mut() {
        process.leash.release();
    }
    for mut process in processes.drain(..) {
        process.leash.wait();
    }
}

/// Removes a directory when dropped, or when this process ends without dropping it.
pub(crate) struct Janitor(Leash);

impl Janitor {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(JANITOR).arg("janitor").arg(dir);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(Leash::start(&mut command)?))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// Loopback ports that are free now. Another process may take one before it is used: see [`port_was_taken`].
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until all are known, so that they differ.
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Whether a program ended because somebody else got its port first.
pub(crate) fn port_was_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}

/// The last `count` lines of a file.
pub(crate) fn tail(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
