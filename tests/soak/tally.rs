//! What happened so far.

use crate::stage::{SPACES, Stage};
use crate::story::Story;
use anyhow::{Result, ensure};
use countersign_testbed::{AuditFilter, Mark};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
/// Between two looks at the audit log.
const PERIOD: Duration = Duration::from_secs(3);

/// How long after the API server is back it may be that somebody acts on what it stored before.
const UNLOGGED: SignedDuration = SignedDuration::from_secs(20);

/// What the operator that nobody kills takes at one time.
#[derive(Debug)]
pub struct Sample {
    /// Bytes.
    pub memory: u64,
    pub files: usize,
    /// Requests that are there.
    pub kept: usize,
    /// Requests that were there.
    pub made: usize,
}

#[derive(Default)]
pub struct Tally {
    /// Requests, and Jobs without one.
    pub made: AtomicUsize,
    ended: Mutex<BTreeMap<&'static str, usize>>,
    faults: Mutex<BTreeMap<&'static str, usize>>,
    takes: Mutex<String>,
    /// From when to when the API server was away.
    restarts: Mutex<Vec<(Timestamp, Timestamp)>>,
    /// How far the audit log was read.
    read: Mutex<Option<Mark>>,
    /// Writes by which the operator started a Job, by namespace and name.
    starts: Mutex<HashMap<(String, String), HashSet<String>>>,
}

impl Tally {
    pub fn ended(&self, how: &'static str) {
        *lock(&self.ended).entry(how).or_default() += 1;
    }

    pub fn met(&self, fault: &'static str) {
        *lock(&self.faults).entry(fault).or_default() += 1;
    }

    /// The API server was killed then, and is there again.
    pub fn restarted(&self, killed: Timestamp) {
        lock(&self.restarts).push((killed, Timestamp::now()));
    }

    /// Whether that followed a kill of the API server so soon that it may have followed from what was stored last.
    pub fn was_restarting(&self, at: Timestamp) -> bool {
        let before = SignedDuration::from_secs(2);
        lock(&self.restarts).iter().any(|(killed, back)| *killed - before <= at && at <= *back + UNLOGGED)
    }

    /// Each Job that was to start was started by one write, and no other was by any.
    pub fn check_starts(&self, stories: &[Story]) -> Result<()> {
        let starts = lock(&self.starts);
        for story in stories {
            let job = (SPACES[story.space].name.to_string(), story.name.clone());
            let started = starts.get(&job).map_or(0, HashSet::len);
            ensure!(started == usize::from(story.starts()), "{story:?} was started by {started} writes");
        }
        Ok(())
    }

    /// So many faults waited for a request that never came.
    pub fn unmet(&self, number: usize) {
        lock(&self.faults).insert("never met", number);
    }

    pub fn line(&self) -> String {
        let made = self.made.load(Ordering::Relaxed);
        format!("{made} begun, ended {:?}, faults {:?}, {}", lock(&self.ended), lock(&self.faults), lock(&self.takes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads on in the audit log, and how much the operator takes, until it is stopped.
pub async fn follow(stage: Arc<Stage>, tally: Arc<Tally>) -> Result<()> {
    loop {
        starts(&stage, &tally)?;
        for replica in &stage.replicas {
            // It tells everything that was asked, and would keep it.
            replica.proxy.take_asked();
        }
        if let Ok(sample) = stage.sample(&tally).await {
            *lock(&tally.takes) =
                format!("{} MiB, {} open files, {} requests there", sample.memory >> 20, sample.files, sample.kept);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Takes in what the log says since it was read last. What is read twice counts once.
pub fn starts(stage: &Stage, tally: &Tally) -> Result<()> {
    let log = stage.cluster.audit_log();
    let since = lock(&tally.read).replace(log.mark()?).unwrap_or(Mark::START);
    let patched = AuditFilter::new().user(OPERATOR).verb("patch").resource("jobs").code(200);
    for event in log.select(since, &patched)? {
        if event["responseObject"]["spec"]["suspend"] == json!(false) {
            let text = |pointer: &str| event.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_string();
            let job = (text("/objectRef/namespace"), text("/objectRef/name"));
            lock(&tally.starts).entry(job).or_default().insert(text("/auditID"));
        }
    }
    Ok(())
}
