//! A terminal with somebody at it: a real pty, and the screen that they would see.

use crate::support::Space;
use anyhow::{Context, Result, ensure};
use countersign_testbed::Identity;
use pty_process::blocking::{Command, Pty, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of the usual screen: nothing scrolls away.
const LINES: u16 = 200;

/// Columns of the screen.
const COLUMNS: u16 = 80;

/// What was written to the terminal, and what it made of it.
struct Screen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// A command that runs on a terminal of its own.
pub struct Terminal {
    pty: Arc<Pty>,
    screen: Arc<Mutex<Screen>>,
    reader: JoinHandle<()>,
    child: Child,
}

/// How a command ended, and what stood on the screen then.
pub struct End {
    /// The exit code.
    pub code: Option<i32>,
    /// The screen, a line that was too long for it in one piece.
    pub screen: String,
    /// The screen row by row.
    pub rows: Vec<String>,
    /// Every byte that went to the terminal.
    pub bytes: Vec<u8>,
    /// Whether the terminal is as it was before: its usual screen, a cursor, lines that are edited and keys that interrupt.
    pub restored: bool,
}

/// A command to start on a terminal.
pub struct Start<'a> {
    verb: &'a str,
    args: Vec<String>,
    env: Vec<(&'a str, &'a str)>,
    typed: &'a str,
    lines: u16,
    columns: u16,
}

/// `kubectl approve` or `kubectl deny`, as somebody, in a namespace.
pub fn start<'a>(verb: &'a str, who: &Identity, space: &Space, args: &[&str]) -> Start<'a> {
    let mut args: Vec<String> = args.iter().copied().map(String::from).collect();
    args.extend(["--kubeconfig".into(), who.kubeconfig.display().to_string(), "-n".into(), space.namespace.clone()]);
    Start { verb, args, env: vec![("TERM", "xterm-256color")], typed: "", lines: LINES, columns: COLUMNS }
}

impl<'a> Start<'a> {
    /// With a variable in its environment.
    pub fn env(mut self, name: &'a str, value: &'a str) -> Self {
        self.env.push((name, value));
        self
    }

    /// With something typed before it started.
    pub fn typed_ahead(mut self, text: &'a str) -> Self {
        self.typed = text;
        self
    }

    /// On a terminal of another width.
    pub fn columns(mut self, columns: u16) -> Self {
        self.columns = columns;
        self
    }

    /// On a terminal of a usual height.
    pub fn lines(mut self, lines: u16) -> Self {
        self.lines = lines;
        self
    }

    /// Starts it.
    pub fn run(self) -> Result<Terminal> {
        let program = match self.verb {
            "approve" => env!("CARGO_BIN_EXE_kubectl-approve"),
            _ => env!("CARGO_BIN_EXE_kubectl-deny"),
        };
        let (pty, pts) = open()?;
        pty.resize(pty_process::Size::new(self.lines, self.columns))?;
        let pty = Arc::new(pty);
        (&*pty).write_all(self.typed.as_bytes())?;
        let command = Command::new(program).args(&self.args).env_remove("KUBECONFIG").env_remove("NO_COLOR");
        let child = command.envs(self.env).spawn(pts)?;
        let parser = vt100::Parser::new(size(self.lines)?, size(self.columns)?, 0);
        let screen = Arc::new(Mutex::new(Screen { parser, bytes: vec![] }));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&screen));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A pty whose other side is closed reads as an error.
            while let Ok(read @ 1..) = (&*from).read(&mut buffer) {
                let mut screen = to.lock().unwrap_or_else(PoisonError::into_inner);
                screen.bytes.extend(&buffer[..read]);
                screen.parser.process(&buffer[..read]);
            }
        });
        Ok(Terminal { pty, screen, reader, child })
    }
}

fn size(n: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(n).context("a size")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    /// What stands on the screen.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).parser.screen().contents()
    }

    /// Waits until that stands on the screen, and returns all of it.
    pub async fn shows(&self, text: &str) -> Result<String> {
        self.shows_times(text, 1).await
    }

    /// Waits until that stands on the screen so many times, and returns all of it.
    pub async fn shows_times(&self, text: &str, times: usize) -> Result<String> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            let screen = self.screen();
            if screen.matches(text).count() >= times {
                return Ok(screen);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{text:?} did not come up:\n{}", self.screen())
    }

    /// Waits until that is asked: where a line begins, and only the command itself begins one. What somebody wrote may hold the
    /// same words, further above.
    pub async fn asks(&self, question: &str) -> Result<String> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            let screen = self.screen();
            if screen.lines().any(|line| line.starts_with(question)) {
                return Ok(screen);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{question:?} was not asked:\n{}", self.screen())
    }

    /// Waits until that no longer stands on the screen.
    pub async fn shows_no_more(&self, text: &str) -> Result<String> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            let screen = self.screen();
            if !screen.contains(text) {
                return Ok(screen);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{text:?} did not go:\n{}", self.screen())
    }

    /// Makes the window another size, as somebody who drags its corner.
    pub fn resize(&self, lines: u16, columns: u16) -> Result<()> {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.parser.set_size(size(lines)?, size(columns)?);
        Ok(self.pty.resize(pty_process::Size::new(lines, columns))?)
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Types something.
    pub fn types(&self, text: &str) -> Result<()> {
        Ok((&*self.pty).write_all(text.as_bytes())?)
    }

    /// Waits until the command ends.
    pub async fn ends(mut self) -> Result<End> {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "it did not end:\n{}", self.screen());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // What it wrote last may still be on its way: its side is closed, and all of it comes before the end is read.
        while !self.reader.is_finished() {
            ensure!(began.elapsed() < Duration::from_secs(40), "its terminal stays open:\n{}", self.screen());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = screen.parser.screen();
        let rows = shown.rows(0, shown.size().1.get()).collect();
        let modes = tcgetattr(&*self.pty)?.local_modes;
        let restored = !shown.alternate_screen()
            && !shown.hide_cursor()
            && !shown.bracketed_paste()
            && modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        Ok(End { code: status.code(), screen: shown.contents(), rows, bytes: screen.bytes.clone(), restored })
    }

    /// Waits until the command ends with that code, having said that.
    pub async fn ends_with(self, code: i32, text: &str) -> Result<End> {
        let end = self.ends().await?;
        ensure!(
            end.code == Some(code) && end.screen.contains(text),
            "expected {code} and {text:?}: {:?}\n{}",
            end.code,
            end.screen
        );
        Ok(end)
    }
}
