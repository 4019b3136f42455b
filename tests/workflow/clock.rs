//! The node's clock is set while the command waits.

use crate::support::clock::{Clock, HOUR};
use crate::{ASKED, Desk, Run, lab, times};
use anyhow::{Result, ensure};

fn start(desk: &Desk, clock: &Clock, step: &str, more: &[&str]) -> Result<Run> {
    let asked = [&["--step-id", step, "--wait", "--heartbeat", "1"], &ASKED[..], more].concat();
    desk.start_in(&desk.workflow, &asked, &clock.environment())
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_ends_no_wait_and_begins_none_anew() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("clock").await?;
    let clock = Clock::new(lab.cluster.dir(), "clock").await?;
    let before = clock.reads().await?;
    let mut run = start(&desk, &clock, "a", &["--timeout", "10m"])?;
    run.says("waiting for").await?;
    for jump in [HOUR, -HOUR] {
        clock.set(jump)?;
        run.says("still waiting after").await?;
        run.says("still waiting after").await?;
    }
    // The clock did jump, for whoever asks it.
    let off = clock.reads().await? - before + HOUR;
    ensure!((0..600).contains(&off), "{off}");
    desk.decide("run-8f9a-a", "Approve").await?;
    let (_, said) = run.ends(0, "clock/run-8f9a-a: Released").await?;
    assert_eq!(times(&said, "trying again"), 0, "{said}");
    assert_eq!(times(&said, "still waiting after 1h"), 0, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_put_off_the_timeout() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("clock-back").await?;
    let clock = Clock::new(lab.cluster.dir(), "clock-back").await?;
    let mut run = start(&desk, &clock, "a", &["--timeout", "4s"])?;
    run.says("waiting for").await?;
    clock.set(-HOUR)?;
    run.ends(7, "run the same command").await?;
    Ok(())
}
