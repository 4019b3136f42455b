//! Runs with a fault, several side by side.
//!
//! Each run of a round is held at a request that is about that run alone, and when all are, the operator is killed once. So
//! each meets its own crash at its own point, as far as what is stored goes. The trail is one for all, so that a run that is held
//! while it appends to it has its round for itself.

use crate::bench::{Bench, Run};
use crate::ends::end;
use crate::points::{Fault, Point, mentions, points};
use crate::scenarios::Scenario;
use anyhow::{Context, Result, ensure};
use countersign_testbed::{Asked, Effect};
use futures::future::{join_all, try_join_all};
use futures::try_join;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long those that are held wait for the others.
const LATEST: Duration = Duration::from_secs(4);

/// A run that meets a fault.
#[derive(Clone)]
pub struct Case {
    pub scenario: &'static Scenario,
    pub point: Point,
    pub fault: Fault,
}

/// What came of it.
pub struct Outcome {
    pub case: Case,
    pub name: String,
    /// Whether the request was made at all.
    pub met: bool,
    pub end: Result<Value>,
}

/// What a scenario takes where nothing fails.
pub struct Learned {
    pub scenario: &'static Scenario,
    pub names: Vec<String>,
    pub end: Value,
    /// Requests of every run.
    pub points: Vec<Point>,
    /// Requests that one run made and another did not.
    pub sometimes: usize,
}

enum News {
    Held(usize),
    Over(usize),
}

/// Tells each of these scenarios twice, all of them at once, and learns what the operator asks.
pub async fn learn(bench: &Bench, scenarios: &[&'static Scenario]) -> Result<Vec<Learned>> {
    try_join_all(scenarios.iter().copied().map(async |scenario| {
        let runs = [bench.run(scenario), bench.run(scenario)];
        let (first, second) = try_join!(listen(bench, &runs[0]), listen(bench, &runs[1]))?;
        Learned::of(scenario, first, second)
    }))
    .await
}

impl Learned {
    /// What two runs without a fault have in common: name, end, and requests of each.
    pub fn of(
        scenario: &'static Scenario,
        first: (String, Value, Vec<Point>),
        second: (String, Value, Vec<Point>),
    ) -> Result<Self> {
        let ((name, end, points), (other, other_end, others)) = (first, second);
        ensure!(end == other_end, "{} ends with {end:#} or with {other_end:#}", scenario.name);
        let (points, one): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| others.contains(point));
        let sometimes = one.len() + others.iter().filter(|point| !points.contains(point)).count();
        ensure!(!points.is_empty(), "{}: the operator asks nothing", scenario.name);
        Ok(Self { scenario, names: vec![name, other], end, points, sometimes })
    }
}

/// A run without a fault: its name, its end, and what was asked in it.
async fn listen(bench: &Bench, run: &Run) -> Result<(String, Value, Vec<Point>)> {
    let heard: Arc<Mutex<Vec<(usize, Asked)>>> = Arc::default();
    let act = Arc::new(AtomicUsize::new(0));
    bench.prepare(run).await?;
    let (keeps, now, name) = (heard.clone(), act.clone(), run.name.clone());
    let ear = move |asked: &Asked| {
        if mentions(asked, &name) {
            let mut heard = keeps.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push((now.load(Ordering::SeqCst), asked.clone()));
        }
        false
    };
    let ear = bench.proxy.inject_where(ear, Effect::CutBefore);
    for (number, (what, rest)) in run.scenario.acts.iter().enumerate() {
        act.store(number, Ordering::SeqCst);
        bench.act(run, *what).await?;
        bench.rest(run, *rest).await?;
    }
    drop(ear);
    let end = end(bench, run).await?;
    bench.forget(run).await?;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((run.name.clone(), end, points(&heard, &run.name)))
}

/// Runs all of these at once.
pub async fn round(bench: &Bench, cases: &[Case]) -> Vec<Outcome> {
    let (tells, hears) = unbounded_channel();
    let runs = cases.iter().enumerate().map(async |(number, case)| {
        let run = bench.run(case.scenario);
        let met = Arc::new(AtomicBool::new(false));
        let end = meet(bench, &run, case, (number, &tells), &met).await;
        let _ = tells.send(News::Over(number));
        Outcome { case: case.clone(), name: run.name, met: met.load(Ordering::SeqCst), end }
    });
    let waits: Vec<usize> = (0..cases.len()).filter(|number| cases[*number].fault.kills()).collect();
    tokio::join!(join_all(runs), crash(bench, waits, hears)).0
}

/// One run that meets its fault.
async fn meet(
    bench: &Bench,
    run: &Run,
    case: &Case,
    (number, tells): (usize, &UnboundedSender<News>),
    met: &Arc<AtomicBool>,
) -> Result<Value> {
    bench.prepare(run).await?;
    for (act, (what, rest)) in run.scenario.acts.iter().enumerate() {
        let waits = (act == case.point.act).then(|| {
            let happened = bench.proxy.inject_where(case.point.finder(&run.name, false), case.fault.effect());
            let (met, tells) = (met.clone(), tells.clone());
            tokio::spawn(async move {
                if happened.await.is_ok() {
                    met.store(true, Ordering::SeqCst);
                    let _ = tells.send(News::Held(number));
                }
            })
        });
        bench.act(run, *what).await?;
        bench.rest(run, *rest).await?;
        if let Some(waits) = waits {
            // What was not met by now is not met later.
            waits.abort();
        }
    }
    let end = end(bench, run).await.with_context(|| run.name.clone())?;
    bench.forget(run).await?;
    Ok(end)
}

/// Kills the operator once all of these are held or over, and starts another.
async fn crash(bench: &Bench, mut waits: Vec<usize>, mut hears: UnboundedReceiver<News>) {
    let mut held = 0;
    while !waits.is_empty() {
        let heard = match held {
            0 => hears.recv().await,
            // One that does not come to its point may be waiting for one that is held.
            _ => tokio::time::timeout(LATEST, hears.recv()).await.unwrap_or(None),
        };
        match heard {
            Some(News::Held(number)) if waits.contains(&number) => {
                waits.retain(|waits| *waits != number);
                held += 1;
            }
            Some(News::Over(number)) => waits.retain(|waits| *waits != number),
            Some(News::Held(_)) => continue,
            None if held == 0 => return,
            None => {
                restart(bench).await;
                held = 0;
            }
        }
    }
    if held > 0 {
        restart(bench).await;
    }
}

/// A failure to start shows in every run that waits for the operator.
async fn restart(bench: &Bench) {
    bench.kill().await;
    let _ = bench.begin(&[]).await;
}
