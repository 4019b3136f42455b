//! A wall clock that can be set, for some processes alone.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// In seconds.
pub const HOUR: i64 = 3600;

/// A wall clock for some processes, which can be set.
pub struct Clock {
    library: PathBuf,
    jump: PathBuf,
}

impl Clock {
    /// Builds it with the compiler that Rust itself links with.
    pub async fn new(dir: &Path, name: &str) -> Result<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let library = dir.join(format!("{name}.so"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
        let built = cc.output().await.context("cc is missing: install a C compiler, such as gcc")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        let clock = Self { library, jump: dir.join(format!("{name}.jump")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds off the true time.
    pub fn set(&self, jump: i64) -> Result<()> {
        Ok(std::fs::write(&self.jump, jump.to_string())?)
    }

    pub fn environment(&self) -> [(&'static str, &PathBuf); 2] {
        [("LD_PRELOAD", &self.library), ("CLOCK_JUMP", &self.jump)]
    }

    /// What a process reads from it, in seconds since 1970.
    pub async fn reads(&self) -> Result<i64> {
        let said = Command::new("date").arg("+%s").envs(self.environment()).output().await?;
        Ok(String::from_utf8(said.stdout)?.trim().parse()?)
    }
}
