//! What operators take while nothing happens, as the node's kernel counts it.

use crate::lab::HOME;
use anyhow::{Context, Result, ensure};
use countersign_testbed::ControlPlane;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long they are watched. The leader renews its Lease meanwhile, and the node asks whether they are ready.
const WATCHED: Duration = Duration::from_secs(10);
/// How much more of a processor than its container asks for, since the machine is busy with tests.
const GENEROUS: f64 = 5.0;

/// One operator's process.
struct Process {
    pod: String,
    dir: PathBuf,
    /// What its container asks for, in cores, and the most memory that it is given, in MiB.
    cores: f64,
    limit: f64,
}

impl Process {
    /// The one that runs in the container of that Pod.
    fn of(pod: &Value) -> Result<Self> {
        let id = pod.pointer("/status/containerStatuses/0/containerID").and_then(Value::as_str);
        let id = id.and_then(|id| id.strip_prefix("containerd://")).context("a container")?;
        let within = |dir: &PathBuf| fs::read_to_string(dir.join("cgroup")).is_ok_and(|groups| groups.contains(id));
        let dir = fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).find(within);
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).context("a value of the chart");
        let cores = text("/spec/containers/0/resources/requests/cpu")?;
        let limit = text("/spec/containers/0/resources/limits/memory")?;
        Ok(Self {
            pod: text("/metadata/name")?.to_owned(),
            dir: dir.context("a process of that container")?,
            cores: cores.strip_suffix('m').context("millicores")?.parse::<f64>()? / 1000.0,
            limit: limit.strip_suffix("Mi").context("mebibytes")?.parse()?,
        })
    }

    /// The time that its threads had on a processor so far.
    fn ran(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(self.dir.join("task"))? {
            let said = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += said.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Memory, in MiB.
    fn memory(&self, file: &str, field: &str) -> Result<f64> {
        let said = fs::read_to_string(self.dir.join(file))?;
        let line =
            said.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("{field} in {said}"))?;
        let kibibytes = line.trim().strip_suffix(" kB").context("kB")?;
        Ok(kibibytes.trim().parse::<f64>()? / 1024.0)
    }
}

/// Measures each operator of that cluster, tells, and fails if one takes more than the chart is made for.
pub async fn is_little(cluster: &ControlPlane) -> Result<()> {
    let list = ["get", "pods", "--namespace", HOME, "--selector=app.kubernetes.io/component=operator"];
    let pods = cluster.admin().kubectl(list).json().await?;
    let all: Vec<_> = pods["items"].as_array().into_iter().flatten().map(Process::of).collect::<Result<_>>()?;
    ensure!(all.len() == 2, "{} operators", all.len());
    let (began, before) = (Instant::now(), all.iter().map(Process::ran).collect::<Result<Vec<_>>>()?);
    tokio::time::sleep(WATCHED).await;
    for (process, before) in all.iter().zip(before) {
        let cores = (process.ran()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let resident = process.memory("status", "VmRSS:")?;
        let own = process.memory("smaps_rollup", "Pss:")?;
        let most = process.memory("status", "VmHWM:")?;
        eprintln!(
            "{} idle: {:.1} millicores, {resident:.1} MiB resident ({own:.1} its share), {most:.1} MiB at most",
            process.pod,
            cores * 1000.0
        );
        ensure!(cores < process.cores * GENEROUS, "it is not idle");
        ensure!(most < process.limit / 2.0, "it comes near to the limit of {} MiB", process.limit);
    }
    Ok(())
}
