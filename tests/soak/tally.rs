//! What happened so far.

use crate::stage::Stage;
use crate::story::Story;
use anyhow::{Result, ensure};
use countersign_testbed::{AuditFilter, Mark};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
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
    starts: Mutex<HashMap<Job, HashSet<String>>>,
    /// From when to when it wrote a Job, where the API server did not know whether that was stored: the connection was cut meanwhile.
    unsure: Mutex<HashMap<Job, Vec<(Timestamp, Timestamp)>>>,
}

/// Namespace and name.
type Job = (String, String);

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

    /// Whether a Job that was started then may have been started by no write that the log tells of as stored: the API server was
    /// killed before it told, or told that it did not know.
    fn is_untold(&self, job: &Job, started: Timestamp) -> bool {
        // It is noted to the second, and when the write came, not when it was stored.
        let second = SignedDuration::from_secs(1);
        let within = |from: Timestamp, to: Timestamp| from - second <= started && started <= to + second;
        let killed = lock(&self.restarts).iter().any(|(killed, _)| within(*killed - second * 4, *killed));
        killed || lock(&self.unsure).get(job).into_iter().flatten().any(|(asked, answered)| within(*asked, *answered))
    }

    /// Each Job that was to start was started by one write, and no other was by any.
    pub fn check_starts(&self, stories: &[Story]) -> Result<()> {
        for story in stories {
            let job = story.job();
            let writes = lock(&self.starts).get(&job).map_or(0, HashSet::len);
            let untold = writes == 0 && story.starts() && story.started.is_some_and(|at| self.is_untold(&job, at));
            if untold {
                println!("soak: the log does not tell how {} was started: a kill or a cut came first", story.name);
            }
            let started = untold || writes == usize::from(story.starts());
            ensure!(
                started,
                "{story:?} was started by {writes} writes; the API server did not know of {:?}, and was away {:?}",
                lock(&self.unsure).get(&job),
                lock(&self.restarts)
            );
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

/// Fails with everything that does not hold: what one check finds says nothing of the others.
pub fn all_hold<const N: usize>(checks: [Result<()>; N]) -> Result<()> {
    let wrong: Vec<_> = checks.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\nand: "));
    Ok(())
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
    let patched = AuditFilter::new().user(OPERATOR).verb("patch").resource("jobs");
    for event in log.select(since, &patched)? {
        let text = |pointer: &str| event.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_string();
        let job = (text("/objectRef/namespace"), text("/objectRef/name"));
        match event.pointer("/responseStatus/code").and_then(Value::as_u64) {
            Some(200) if event["responseObject"]["spec"]["suspend"] == json!(false) => {
                lock(&tally.starts).entry(job).or_default().insert(text("/auditID"));
            }
            Some(500..) => {
                let times = (text("/requestReceivedTimestamp").parse()?, text("/stageTimestamp").parse()?);
                lock(&tally.unsure).entry(job).or_default().push(times);
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_start_that_the_log_does_not_tell_came_with_a_kill_or_a_cut() {
    let (tally, killed) = (Tally::default(), Timestamp::UNIX_EPOCH);
    lock(&tally.restarts).push((killed, killed + SignedDuration::from_secs(5)));
    let mut story = Story::choose(0, &mut crate::choice::Choice::new(1));
    (story.deed, story.asks) = (crate::story::Deed::Approve, true);
    let mut check = |seconds: i64, writes: usize| {
        story.started = Some(killed + SignedDuration::from_secs(seconds));
        let job = story.job();
        let ids = (0..writes).map(|id| id.to_string()).collect();
        lock(&tally.starts).insert(job, ids);
        tally.check_starts(std::slice::from_ref(&story)).is_ok()
    };
    assert!(check(60, 1) && !check(60, 0) && !check(60, 2), "once, wherever nobody was killed");
    assert!(check(-1, 0) && check(-1, 1) && !check(-1, 2), "and never twice");
    assert!(!check(3, 0), "what is stored later is logged");
    let job = story.job();
    let at = |seconds| killed + SignedDuration::from_secs(seconds);
    lock(&tally.unsure).insert(job.clone(), vec![(at(60), at(65))]);
    assert!([60, 63, 65].iter().all(|seconds| tally.is_untold(&job, at(*seconds))), "it was asked for, and cut");
    assert!(![57, 68].iter().any(|seconds| tally.is_untold(&job, at(*seconds))));
    assert!(!tally.is_untold(&("other".into(), job.1), at(60)), "that was another");
}
