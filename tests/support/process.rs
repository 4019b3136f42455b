//! What the kernel counts of a process.

use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A running process, by its directory under `/proc`.
#[derive(Clone, Debug)]
pub struct Process(PathBuf);

impl Process {
    /// The one of that id.
    pub fn new(id: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{id}")))
    }

    /// One that runs in that container.
    pub fn in_container(id: &str) -> Result<Self> {
        let within = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup")).is_ok_and(|groups| groups.contains(id));
        let found = fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).find(within);
        Ok(Self(found.context("a process of that container")?))
    }

    /// The time that its threads had on a processor so far.
    pub fn ran(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(self.0.join("task"))? {
            let said = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += said.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Memory in bytes, by the file and the field that tell it, such as `status` and `VmRSS:`.
    pub fn memory(&self, file: &str, field: &str) -> Result<u64> {
        let said = fs::read_to_string(self.0.join(file))?;
        let line =
            said.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("{field} in {said}"))?;
        let kibibytes = line.trim().strip_suffix(" kB").context("kB")?;
        Ok(kibibytes.trim().parse::<u64>()? << 10)
    }

    /// How many files it has open.
    pub fn files(&self) -> Result<usize> {
        Ok(fs::read_dir(self.0.join("fd"))?.count())
    }
}
