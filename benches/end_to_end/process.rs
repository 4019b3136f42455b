//! What the kernel counts of a process.

use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// A running process.
#[derive(Clone, Debug)]
pub struct Process(PathBuf);

impl Process {
    /// The one of that id.
    pub fn new(id: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{id}")))
    }

    /// Milliseconds that its threads had on a processor so far.
    pub fn cpu_ms(&self) -> Result<f64> {
        let mut nanoseconds = 0u64;
        for thread in fs::read_dir(self.0.join("task"))? {
            let said = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += said.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(nanoseconds as f64 / 1e6)
    }

    /// Memory that it has now, in megabytes (1,000,000 bytes).
    pub fn resident_mb(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that it had, in megabytes.
    pub fn most_mb(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<f64> {
        let said = fs::read_to_string(self.0.join("status"))?;
        let line = said.lines().find_map(|line| line.strip_prefix(field)).context("a field of memory")?;
        let kibibytes: f64 = line.trim().strip_suffix(" kB").context("kB")?.trim().parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    }
}
