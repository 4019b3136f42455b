//! Users who go on asking, whatever happens to the operators.

use crate::support::{Space, create, request};
use anyhow::{Result, ensure};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two things that a user does.
const PAUSE: Duration = Duration::from_millis(25);

/// One thing that somebody did.
#[derive(Debug)]
pub struct Deed {
    pub at: Instant,
    pub took: Duration,
    /// What the API server said, and of what, where it refused.
    pub refused: Option<String>,
}

/// A steady stream of new requests and of new Jobs in a gated namespace.
pub struct Stream {
    deeds: Arc<Mutex<Vec<Deed>>>,
    ends: Arc<AtomicBool>,
    running: JoinHandle<Result<()>>,
}

impl Stream {
    /// Starts. The namespace must be gated.
    pub fn start(space: Arc<Space>, prefix: &'static str) -> Self {
        Self::paced(space, prefix, PAUSE)
    }

    /// The same with so long a pause between two things: for what takes long, so that not too much is left to be removed.
    pub fn paced(space: Arc<Space>, prefix: &'static str, pause: Duration) -> Self {
        let (deeds, ends) = (Arc::<Mutex<Vec<Deed>>>::default(), Arc::<AtomicBool>::default());
        let running = tokio::spawn(run(space, prefix, pause, deeds.clone(), ends.clone()));
        Self { deeds, ends, running }
    }

    /// How much was done so far.
    pub fn count(&self) -> usize {
        self.deeds.lock().unwrap().len()
    }

    /// Waits until that much more was done.
    pub async fn more(&self, number: usize) -> Result<()> {
        let (wanted, began) = (self.count() + number, Instant::now());
        while self.count() < wanted {
            ensure!(began.elapsed() < Duration::from_secs(60), "the stream stands still");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends, and tells everything. Fails if anything gated was let go.
    pub async fn end(self) -> Result<Vec<Deed>> {
        self.ends.store(true, Ordering::Release);
        self.running.await??;
        Ok(std::mem::take(&mut self.deeds.lock().unwrap()))
    }

    /// Ends, and fails if anybody was refused.
    pub async fn end_without_refusal(self) -> Result<()> {
        let deeds = self.end().await?;
        let refused: Vec<_> = deeds.iter().filter(|deed| deed.refused.is_some()).collect();
        ensure!(refused.is_empty(), "{} of {} were refused: {refused:#?}", refused.len(), deeds.len());
        ensure!(deeds.len() > 50, "only {} were asked", deeds.len());
        let slowest = deeds.iter().map(|deed| deed.took).max().unwrap_or_default();
        eprintln!("{} requests and Jobs, none refused, the slowest took {slowest:?}", deeds.len());
        Ok(())
    }
}

async fn run(
    space: Arc<Space>,
    prefix: &str,
    pause: Duration,
    deeds: Arc<Mutex<Vec<Deed>>>,
    ends: Arc<AtomicBool>,
) -> Result<()> {
    for number in 0.. {
        if ends.load(Ordering::Acquire) {
            return Ok(());
        }
        let name = format!("{prefix}-{number}");
        let (what, object) = match number % 2 {
            0 => ("approvalrequests", request(&name, None)),
            _ => ("jobs", unheld(&name)),
        };
        let at = Instant::now();
        let answer = create(&space.api(what), &object).await;
        if let (Ok(job), "jobs") = (&answer, what) {
            ensure!(held(job), "{name} was let go by a gated namespace: {job:?}");
        }
        let refused = answer.err().map(|error| format!("{what}: {error}"));
        deeds.lock().unwrap().push(Deed { at, took: at.elapsed(), refused });
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// A Job that would start at once.
fn unheld(name: &str) -> Value {
    let mut job = crate::support::job(name);
    job["spec"]["suspend"] = json!(false);
    job
}

fn held(job: &DynamicObject) -> bool {
    job.data.pointer("/spec/suspend") == Some(&json!(true))
}
