//! The node's clock is set while the command waits.

use crate::{ASKED, Desk, Lab, Run, lab, times};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use tokio::process::Command;

const HOUR: i64 = 3600;

/// A wall clock for some processes, which can be set.
struct Clock {
    library: PathBuf,
    jump: PathBuf,
}

impl Clock {
    /// Builds it with the compiler that Rust itself links with.
    async fn new(lab: &Lab, name: &str) -> Result<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workflow/clock.c");
        let library = lab.cluster.dir().join(format!("{name}.so"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        let built = cc.output().await.context("cc is missing: install a C compiler, such as gcc")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        let clock = Self { library, jump: lab.cluster.dir().join(format!("{name}.jump")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds off the true time.
    fn set(&self, jump: i64) -> Result<()> {
        Ok(std::fs::write(&self.jump, jump.to_string())?)
    }

    fn environment(&self) -> [(&'static str, &PathBuf); 2] {
        [("LD_PRELOAD", &self.library), ("CLOCK_JUMP", &self.jump)]
    }

    /// What a process reads from it, in seconds since 1970.
    async fn reads(&self) -> Result<i64> {
        let said = Command::new("date").arg("+%s").envs(self.environment()).output().await?;
        Ok(String::from_utf8(said.stdout)?.trim().parse()?)
    }
}

fn start(desk: &Desk, clock: &Clock, step: &str, more: &[&str]) -> Result<Run> {
    let asked = [&["--step-id", step, "--wait", "--heartbeat", "1"], &ASKED[..], more].concat();
    desk.start_in(&desk.workflow, &asked, &clock.environment())
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_ends_no_wait_and_begins_none_anew() -> Result<()> {
    let lab = lab().await?;
    let desk = lab.desk("clock").await?;
    let clock = Clock::new(&lab, "clock").await?;
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
    let clock = Clock::new(&lab, "clock-back").await?;
    let mut run = start(&desk, &clock, "a", &["--timeout", "4s"])?;
    run.says("waiting for").await?;
    clock.set(-HOUR)?;
    run.ends(7, "run the same command").await?;
    Ok(())
}
