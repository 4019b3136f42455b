//! What else goes on on this machine: while somebody reads everything there is, nothing is measured.

use anyhow::{Context, Result};
use std::fs;
use std::time::{Duration, Instant};

/// How long it is looked at a time.
const LOOK: Duration = Duration::from_secs(2);
/// How long it may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);
/// What the kernel counts by, in milliseconds: a hundredth of a second (`USER_HZ`, see `man 5 proc_stat`).
const TICK: u64 = 10;

/// Waits until all processors together are at work for less than a quarter of the time of one.
pub async fn rests() -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let before = ran()?;
        tokio::time::sleep(LOOK).await;
        if ran()?.saturating_sub(before) < LOOK / 4 {
            return Ok(());
        }
    }
    println!("this machine is still at work after {PATIENCE:?}: what is measured now is measured beside that");
    Ok(())
}

/// How long the processors have worked since the machine started, each counted by itself.
fn ran() -> Result<Duration> {
    let said = fs::read_to_string("/proc/stat")?;
    let line = said.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("cpu in /proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user, nice and system; then idle and waiting; then irq, softirq and steal; then guests, which are in user.
    let worked = ticks.iter().take(3).chain(ticks.iter().skip(5).take(2)).sum::<u64>();
    Ok(Duration::from_millis(TICK * worked))
}
