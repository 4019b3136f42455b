//! Somebody who reads the tutorial at a terminal: a real one, with bash on it, and nothing of ours in the environment.

use anyhow::{Context, Result, ensure};
use pty_process::blocking::{Command, Pty, open};
use regex::Regex;
use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So wide that nothing that is typed wraps, and what is printed does so only where it was meant to.
const SIZE: (u16, u16) = (200, 400);
/// What a question ends with.
pub const QUESTION: &str = "? [y/N] ";
/// The first command may build something.
const LONGEST: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);

/// Before each prompt, bash says so, and how the last command ended: also a bash that the reader starts.
const PROMPT: &str = r#"printf "<<%s>>" "$?""#;

/// A bash on a terminal, and whoever sits there.
pub struct Reader {
    pty: Arc<Pty>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much was looked at.
    read: usize,
    bash: Child,
}

/// What a command printed, what was typed meanwhile among it, and how it ended.
pub struct Outcome {
    pub printed: String,
    pub status: i32,
}

impl Reader {
    /// Sits down in the checkout, with a home of their own, and waits for the prompt.
    pub fn sits_down(home: &Path, checkout: &Path) -> Result<Self> {
        let (pty, pts) = open()?;
        pty.resize(pty_process::Size::new(SIZE.0, SIZE.1))?;
        let pty = Arc::new(pty);
        let command = Command::new("bash").args(["--noprofile", "--norc"]).current_dir(checkout);
        let bash = command.env_clear().envs(environment(home)?).spawn(pts).context("starting bash")?;
        let shown = Arc::new(Mutex::new(vec![]));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A pty whose other side is closed reads as an error.
            while let Ok(read @ 1..) = (&*from).read(&mut buffer) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..read]);
            }
        });
        let mut reader = Self { pty, shown, read: 0, bash };
        reader.waits(&mut VecDeque::new())?;
        Ok(reader)
    }

    /// Types a command, answers what is asked, and waits for the next prompt.
    pub fn types(&mut self, command: &str, answers: &mut VecDeque<String>) -> Result<Outcome> {
        let typed = format!("{command}\n");
        (&*self.pty).write_all(typed.as_bytes())?;
        let outcome = self.waits(answers)?;
        let printed = outcome.printed.strip_prefix(&typed);
        let printed = printed.with_context(|| format!("typed {command:?}, and it shows {:?}", outcome.printed))?;
        Ok(Outcome { printed: printed.into(), ..outcome })
    }

    /// Waits for the next prompt.
    fn waits(&mut self, answers: &mut VecDeque<String>) -> Result<Outcome> {
        let prompt = Regex::new(r"<<(\d+)>>[^\n]*\$ \z")?;
        let (began, mut asked) = (Instant::now(), 0);
        loop {
            let (text, end) = self.news()?;
            if let Some(found) = prompt.captures(&text) {
                self.read = end;
                let printed = text[..found.get(0).map_or(0, |all| all.start())].into();
                return Ok(Outcome { printed, status: found[1].parse()? });
            }
            // A question that was answered has its answer behind it from then on.
            if text.ends_with(QUESTION) && text.matches(QUESTION).count() > asked {
                asked += 1;
                let answer = answers.pop_front().with_context(|| format!("the page has no answer:\n{text}"))?;
                (&*self.pty).write_all(format!("{answer}\n").as_bytes())?;
            }
            ensure!(began.elapsed() < LONGEST, "after {LONGEST:?} there is no prompt:\n{text}");
            std::thread::sleep(POLL);
        }
    }

    /// What came since the last prompt, as it is seen, and up to which byte that is.
    fn news(&self) -> Result<(String, usize)> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((seen(&String::from_utf8_lossy(&shown[self.read..]))?, shown.len()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // With it goes the terminal, and with that whatever still runs there.
        let _ = self.bash.kill();
        let _ = self.bash.wait();
    }
}

/// What stands on the screen: without colours, and of a line that is written over and over the last of it.
fn seen(text: &str) -> Result<String> {
    let text = Regex::new(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")?.replace_all(text, "");
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default());
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// What a reader has: cargo, go and the system's own commands, and what those have downloaded and built before.
fn environment(home: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let path = [directory_of("cargo")?, directory_of("go")?, "/usr/local/bin".into(), "/usr/bin".into(), "/bin".into()];
    let own = home.join("tmp");
    std::fs::create_dir_all(&own)?;
    let before = env::var_os("HOME").map(PathBuf::from).context("HOME")?;
    let or = |name: &str, otherwise: PathBuf| env::var_os(name).unwrap_or(otherwise.into());
    let cache = or("XDG_CACHE_HOME", before.join(".cache"));
    let mut environment = vec![
        ("HOME", home.into()),
        ("TMPDIR", own.into()),
        ("PATH", env::join_paths(path)?),
        ("TERM", "xterm-256color".into()),
        ("LANG", "C.UTF-8".into()),
        ("PS1", "reader$ ".into()),
        ("PROMPT_COMMAND", PROMPT.into()),
        ("CARGO_HOME", or("CARGO_HOME", before.join(".cargo"))),
        ("RUSTUP_HOME", or("RUSTUP_HOME", before.join(".rustup"))),
        ("CARGO_TARGET_DIR", target()?.into()),
        ("COUNTERSIGN_CACHE", or("COUNTERSIGN_CACHE", Path::new(&cache).join("countersign"))),
    ];
    // With another profile everything would be built anew.
    let profile = ["CARGO_INCREMENTAL", "CARGO_PROFILE_DEV_DEBUG"];
    let kept = ["KUBEBUILDER_ASSETS", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"].into_iter().chain(profile);
    environment.extend(kept.filter_map(|name| Some((name, env::var_os(name)?))));
    Ok(environment)
}

/// Where a command is that the page asks for.
fn directory_of(command: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").context("PATH")?;
    let found = env::split_paths(&path).find(|directory| directory.join(command).is_file());
    found.with_context(|| format!("{command} is not installed, and the tutorial needs it"))
}

/// Where cargo put this test: what it built there before is not built again.
fn target() -> Result<PathBuf> {
    let test = env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test is in target/debug/deps")?;
    ensure!(target.join("debug").is_dir(), "{} is no directory of cargo's", target.display());
    Ok(target.into())
}
