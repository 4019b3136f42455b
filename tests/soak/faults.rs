//! What goes wrong, at random, one thing after another.

use crate::choice::Choice;
use crate::stage::{LEASE, Stage};
use crate::tally::Tally;
use anyhow::{Context, Result};
use countersign_testbed::{Effect, Fault};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// What operators ask, by method and by how the path begins.
const ASKED: [(&str, &str); 9] = [
    ("PATCH", "/apis/batch/v1/namespaces/"),
    ("PUT", "/apis/countersign.dev/v1alpha1/namespaces/"),
    ("PATCH", "/apis/countersign.dev/v1alpha1/namespaces/"),
    ("POST", "/apis/countersign.dev/v1alpha1/namespaces/"),
    ("POST", "/apis/apps/v1/namespaces/"),
    ("POST", "/apis/events.k8s.io/v1/namespaces/"),
    ("PUT", "/apis/coordination.k8s.io/v1/namespaces/"),
    ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/"),
    ("GET", "/"),
];

/// Has something fail every other second until that time; then nothing does any more.
pub async fn go_on(stage: &Stage, tally: &Tally, mut choice: Choice, until: Instant) -> Result<()> {
    let mut restart = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(choice.between(100, 1_500))).await;
        if Instant::now() > restart {
            restart_apiserver(stage, tally).await?;
            restart = Instant::now() + Duration::from_secs(choice.between(20, 60));
            continue;
        }
        match choice.below(20) {
            0 => kill(stage, tally, &mut choice).await?,
            1 => sleep(stage, tally, &mut choice).await?,
            _ => lose(stage, tally, &mut choice),
        }
        revive(stage, tally).await?;
    }
    tally.unmet(stage.replicas.iter().map(|replica| replica.proxy.take_armed().len()).sum());
    revive(stage, tally).await
}

fn lose(stage: &Stage, tally: &Tally, choice: &mut Choice) {
    let (method, path) = choice.of(&ASKED);
    let delay = Effect::Delay(Duration::from_millis(choice.between(50, 1_500)));
    let watch = method == "GET";
    let (what, effect) = match choice.below(5) {
        0 | 1 => ("request cut", Effect::CutBefore),
        // The answer to a watch has no end: cut after it, nobody would hear of it for minutes.
        2 | 3 if !watch => ("answer cut", Effect::CutAfter),
        2 => ("watch expired", Effect::Expired),
        3 => ("watch expired in its stream", Effect::ExpiredEvent),
        _ => ("delay", delay),
    };
    let number = choice.below(2) as usize;
    let fault = Fault { method: method.into(), path: path.into(), effect };
    stage.replicas[number].proxy.inject(fault);
    tally.met(what);
}

async fn kill(stage: &Stage, tally: &Tally, choice: &mut Choice) -> Result<()> {
    stage.replicas[0].kill().await;
    tally.met("operator killed");
    tokio::time::sleep(Duration::from_millis(choice.between(0, 2_000))).await;
    stage.restart(0).await.context("after a kill")
}

async fn sleep(stage: &Stage, tally: &Tally, choice: &mut Choice) -> Result<()> {
    tally.met("operator stopped beyond its lease");
    let number = choice.below(2) as usize;
    stage.replicas[number].sleep(LEASE + Duration::from_millis(choice.between(300, 2_000))).await
}

async fn restart_apiserver(stage: &Stage, tally: &Tally) -> Result<()> {
    // Those that come back meet it.
    for replica in &stage.replicas {
        let path = "/apis/countersign.dev/v1alpha1/approvalrequests".into();
        replica.proxy.inject(Fault { method: "GET".into(), path, effect: Effect::Expired });
    }
    tally.met("API server restarted");
    let killed = Timestamp::now();
    stage.cluster.restart_apiserver(async { Ok(()) }).await?;
    tally.restarted(killed);
    Ok(())
}

/// An operator that ends by itself is started anew, as its Deployment would.
async fn revive(stage: &Stage, tally: &Tally) -> Result<()> {
    for number in 0..stage.replicas.len() {
        if stage.replicas[number].has_ended().await {
            tally.met("operator ended by itself");
            stage.restart(number).await.context("after it ended by itself")?;
        }
    }
    Ok(())
}
