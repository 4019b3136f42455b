//! A soak: two operators, people who do whatever people do, and faults all the while. In the end everything has come to what was
//! done about it, whatever happened in between.
//!
//! `COUNTERSIGN_SOAK=20m,10000 cargo test -p countersign --test soak -- --nocapture` is the long form: so much time, so many
//! requests. `COUNTERSIGN_SOAK_SEED` repeats a run's choices.

#[path = "../support/mod.rs"]
mod support;

#[path = "../availability/balancer.rs"]
#[allow(dead_code, reason = "a part is for a cluster with a network of its own")]
mod balancer;
mod choice;
mod faults;
mod known;
mod people;
mod stage;
mod story;
mod tally;

use anyhow::{Context, Result, ensure};
use choice::Choice;
use stage::Stage;
use std::sync::Arc;
use std::time::{Duration, Instant};
use story::Story;
use tally::{Sample, Tally};
use tokio::task::JoinSet;

/// Between two lines of progress.
const TELLS: Duration = Duration::from_secs(30);
/// How long what was begun may go on once the faults have stopped.
const AFTER: Duration = Duration::from_secs(90);
/// Memory that the operator which nobody kills may have gained since the first quarter, for each finished request that is kept
/// and at all: it knows each by name, uid and digest.
const EACH: u64 = 8 << 10;
const AT_ALL: u64 = 16 << 20;
/// Files and connections that it may have open beyond what it had then.
const MORE_FILES: usize = 16;

/// How long, and how many requests.
struct Length {
    time: Duration,
    requests: usize,
}

impl Length {
    fn read() -> Result<Self> {
        let text = std::env::var("COUNTERSIGN_SOAK").unwrap_or_else(|_| "30s,150".into());
        let (time, requests) =
            text.split_once(',').context("COUNTERSIGN_SOAK is a time and a number, such as 20m,10000")?;
        let (number, unit) = time.split_at(time.len().saturating_sub(1));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => 0,
        };
        let time = Duration::from_secs(number.parse::<u64>().context("the time of COUNTERSIGN_SOAK")? * seconds);
        ensure!(!time.is_zero(), "COUNTERSIGN_SOAK says for how many s, m or h, such as 20m");
        Ok(Self { time, requests: requests.parse().context("the number of COUNTERSIGN_SOAK")? })
    }
}

fn seed() -> Result<u64> {
    match std::env::var("COUNTERSIGN_SOAK_SEED") {
        Ok(seed) => seed.parse().context("COUNTERSIGN_SOAK_SEED"),
        Err(_) => Ok(1),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_meanwhile_everything_comes_to_what_was_decided_about_it() -> Result<()> {
    let (length, seed) = (Length::read()?, seed()?);
    println!("soak: {} requests in {:?}, COUNTERSIGN_SOAK_SEED={seed}", length.requests, length.time);
    let stage = Stage::new().await?;
    let tally = Arc::new(Tally::default());
    let result = soak(&stage, &tally, &length, seed).await;
    if result.is_err() {
        println!("soak: {}", tally.line());
        stage.tell_logs().await;
    }
    result
}

async fn soak(stage: &Arc<Stage>, tally: &Arc<Tally>, length: &Length, seed: u64) -> Result<()> {
    let began = Instant::now();
    let faults = faults::go_on(stage, tally, Choice::new(seed ^ 1), began + length.time);
    let edits =
        tokio::spawn(people::edit_policies(stage.clone(), tally.clone(), Choice::new(seed ^ 2), began + length.time));
    let watch = tokio::spawn(tally::follow(stage.clone(), tally.clone()));
    let quarter = tokio::spawn(sample_at(stage.clone(), tally.clone(), began + length.time / 4));
    let (faults, stories) = tokio::join!(faults, tell(stage, tally, length, seed, began));
    faults?;
    edits.await??;
    let stories = finish(stories, tally).await?;
    let end = stage.sample(tally).await?;
    watch.abort();
    println!("soak: {} after {:?}", tally.line(), began.elapsed());
    let quarter = quarter.await??;
    tally::all_hold([stage.check(&stories, tally).await, flat(&quarter, &end)])?;
    println!("soak: all is well after {:?}", began.elapsed());
    Ok(())
}

/// Begins each story at its time.
async fn tell(
    stage: &Arc<Stage>,
    tally: &Arc<Tally>,
    length: &Length,
    seed: u64,
    began: Instant,
) -> JoinSet<Result<Story>> {
    let mut choice = Choice::new(seed);
    let mut stories = JoinSet::new();
    let mut told = began;
    for number in 0..length.requests {
        let story = Story::choose(number, &mut choice);
        stories.spawn(people::act(stage.clone(), tally.clone(), story, choice.apart()));
        let due = began + length.time.mul_f64((number + 1) as f64 / length.requests as f64);
        tokio::time::sleep_until(due.into()).await;
        if told.elapsed() > TELLS {
            told = Instant::now();
            println!("soak: {}", tally.line());
        }
    }
    stories
}

async fn finish(mut stories: JoinSet<Result<Story>>, tally: &Tally) -> Result<Vec<Story>> {
    let mut ended = vec![];
    let ends = async {
        while let Some(story) = stories.join_next().await {
            ended.push(story??);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(AFTER, ends)
        .await
        .with_context(|| format!("not everything came to its end: {}", tally.line()))??;
    Ok(ended)
}

async fn sample_at(stage: Arc<Stage>, tally: Arc<Tally>, at: Instant) -> Result<Sample> {
    tokio::time::sleep_until(at.into()).await;
    stage.sample(&tally).await
}

/// What is kept of what is over is little, and nothing is left open.
fn flat(quarter: &Sample, end: &Sample) -> Result<()> {
    let kept = end.kept.saturating_sub(quarter.kept) as u64;
    let most = quarter.memory + AT_ALL + kept * EACH;
    println!(
        "soak: from the first quarter to the end {quarter:?} became {end:?}; at most {} MiB were allowed",
        most >> 20
    );
    ensure!(end.memory <= most, "memory grew from {} to {} bytes", quarter.memory, end.memory);
    ensure!(end.files <= quarter.files + MORE_FILES, "open files grew from {} to {}", quarter.files, end.files);
    ensure!(end.made > quarter.made, "nothing happened in between");
    Ok(())
}
