//! Watches a whole run: no Pod of a gated namespace may come to run unapproved, whatever a test is about.

mod event;
mod ledger;
#[cfg(test)]
mod tests;
mod track;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::audit::{AuditLog, Mark};
use crate::{ControlPlane, progress_to_stderr};
pub use ledger::{Counts, Violation};

const BETWEEN_READS: Duration = Duration::from_millis(200);
const BETWEEN_CHECKS: Duration = Duration::from_millis(50);
/// The status of a test binary with a failed test.
const FAILED: i32 = 101;

/// Follows the audit log of a control plane, from its beginning, on a thread of its own.
///
/// Dropping it ends the thread after a last look at the log.
pub struct Observer {
    watch: Arc<Mutex<Watch>>,
    log: AuditLog,
    abort: bool,
    /// Dropping the sender wakes the thread and ends it.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

/// How far the log is read, and what came of it.
struct Watch {
    path: PathBuf,
    read: Mark,
    ledger: ledger::Ledger,
    violations: Vec<Violation>,
}

impl Observer {
    /// Observes `cluster`, and ends the whole process with the status 101 at the first violation, after printing it: a
    /// test binary has no other place for what concerns all of its tests.
    ///
    /// What looks wrong is told once nothing can explain it any more, which takes seconds, and a process may be over by
    /// then. So let every test end with [`Self::catch_up`] (best in the destructor of what each test has) or
    /// [`Self::check_now`], or drop the observer.
    pub fn start(cluster: &ControlPlane) -> Result<Self> {
        Self::new(cluster.audit_log(), true)
    }

    /// Observes `cluster`, and tells of violations only when asked.
    pub fn start_quiet(cluster: &ControlPlane) -> Result<Self> {
        Self::new(cluster.audit_log(), false)
    }

    /// Judges everything that was answered so far. Takes some seconds where something looks wrong, because what would
    /// explain it may not be logged yet.
    pub async fn check_now(&self) -> Result<()> {
        self.log.settle().await?;
        while self.look()? {
            tokio::time::sleep(BETWEEN_CHECKS).await;
        }
        self.verdict()
    }

    /// Judges everything that is logged by now. Returns at once where nothing looks wrong.
    pub fn catch_up(&self) -> Result<()> {
        while self.look()? {
            thread::sleep(BETWEEN_CHECKS);
        }
        self.verdict()
    }

    /// What was seen so far in gated namespaces: an observer that has seen nothing has proven nothing.
    pub fn counts(&self) -> Counts {
        lock(&self.watch).ledger.counts()
    }

    /// The violations found so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.watch).violations.clone()
    }

    fn new(log: AuditLog, abort: bool) -> Result<Self> {
        let watch = Watch::new(log.path());
        let watch = Arc::new(Mutex::new(watch));
        let (sender, wake) = mpsc::channel();
        let of_thread = Arc::clone(&watch);
        let follow = move || {
            while let Err(RecvTimeoutError::Timeout) = wake.recv_timeout(BETWEEN_READS) {
                // An error comes again, and is told, when the observer is asked.
                let _ = look(&of_thread, abort);
            }
        };
        let thread = thread::Builder::new().name("observer".into()).spawn(follow).context("starting the observer")?;
        Ok(Self { watch, log, abort, thread: Some((sender, thread)) })
    }

    fn look(&self) -> Result<bool> {
        look(&self.watch, self.abort)
    }

    fn verdict(&self) -> Result<()> {
        let violations: Vec<_> = self.violations().iter().map(Violation::to_string).collect();
        match violations.as_slice() {
            [] => Ok(()),
            some => bail!("past the gate:\n{}", some.join("\n")),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some((wake, thread)) = self.thread.take() {
            drop(wake);
            // Nothing in it panics; if it did, the last look below still counts.
            let _ = thread.join();
        }
        if self.abort {
            // A violation ends the process in there. A quiet observer has nobody left to tell.
            let _ = self.catch_up();
        }
    }
}

impl Watch {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mark::START, ledger: ledger::Ledger::default(), violations: Vec::new() }
    }

    /// Takes in what the log has gained. Returns whether something is in doubt.
    fn look(&mut self, now: Instant) -> Result<bool> {
        let (events, read) = crate::audit::read_bodied(&self.path, self.read)?;
        for event in &events {
            self.ledger.add(event, now);
        }
        self.read = read;
        self.violations.extend(self.ledger.judge(now));
        Ok(self.ledger.doubts())
    }
}

fn look(watch: &Mutex<Watch>, abort: bool) -> Result<bool> {
    let mut watch = lock(watch);
    let looked = watch.look(Instant::now());
    if abort {
        // Who cannot read the log sees nothing, and must not look like one who saw nothing wrong.
        let unread = looked.as_ref().err().map(|error| format!("the observer is blind: {error:#}"));
        let past = watch.violations.iter().map(|violation| format!("PAST THE GATE: {violation}"));
        let found: Vec<_> = past.chain(unread).collect();
        if !found.is_empty() {
            end_process(&found, &watch.path);
        }
    }
    looked
}

fn end_process(found: &[String], log: &Path) -> ! {
    for line in found {
        progress_to_stderr(line);
    }
    let log = log.display();
    progress_to_stderr(&format!("every test of this binary ends here; COUNTERSIGN_TESTBED_KEEP=1 would keep {log}"));
    std::process::exit(FAILED)
}

/// A panic between two events leaves the ledger usable.
fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}
