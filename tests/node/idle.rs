//! What operators take while nothing happens, as the node's kernel counts it.

use crate::lab::HOME;
use crate::support::process::Process;
use anyhow::{Context, Result, ensure};
use countersign_testbed::ControlPlane;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long they are watched. The leader renews its Lease meanwhile, and the node asks whether they are ready.
const WATCHED: Duration = Duration::from_secs(10);
/// How much more of a processor than its container asks for, since the machine is busy with tests.
const GENEROUS: f64 = 5.0;

/// One operator.
struct Operator {
    pod: String,
    process: Process,
    /// What its container asks for, in cores, and the most memory that it is given, in MiB.
    cores: f64,
    limit: f64,
}

impl Operator {
    /// The one that runs in the container of that Pod.
    fn of(pod: &Value) -> Result<Self> {
        let id = pod.pointer("/status/containerStatuses/0/containerID").and_then(Value::as_str);
        let id = id.and_then(|id| id.strip_prefix("containerd://")).context("a container")?;
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).context("a value of the chart");
        let cores = text("/spec/containers/0/resources/requests/cpu")?;
        let limit = text("/spec/containers/0/resources/limits/memory")?;
        Ok(Self {
            pod: text("/metadata/name")?.to_owned(),
            process: Process::in_container(id)?,
            cores: cores.strip_suffix('m').context("millicores")?.parse::<f64>()? / 1000.0,
            limit: limit.strip_suffix("Mi").context("mebibytes")?.parse()?,
        })
    }
}

/// Measures each operator of that cluster, tells, and fails if one takes more than the chart is made for.
pub async fn is_little(cluster: &ControlPlane) -> Result<()> {
    let list = ["get", "pods", "--namespace", HOME, "--selector=app.kubernetes.io/component=operator"];
    let pods = cluster.admin().kubectl(list).json().await?;
    let all: Vec<_> = pods["items"].as_array().into_iter().flatten().map(Operator::of).collect::<Result<_>>()?;
    ensure!(all.len() == 2, "{} operators", all.len());
    let (began, before) =
        (Instant::now(), all.iter().map(|operator| operator.process.ran()).collect::<Result<Vec<_>>>()?);
    tokio::time::sleep(WATCHED).await;
    for (operator, before) in all.iter().zip(before) {
        let cores = (operator.process.ran()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let mebibytes = |file, field| anyhow::Ok(operator.process.memory(file, field)? as f64 / f64::from(1 << 20));
        let resident = mebibytes("status", "VmRSS:")?;
        let own = mebibytes("smaps_rollup", "Pss:")?;
        let most = mebibytes("status", "VmHWM:")?;
        eprintln!(
            "{} idle: {:.1} millicores, {resident:.1} MiB resident ({own:.1} its share), {most:.1} MiB at most",
            operator.pod,
            cores * 1000.0
        );
        ensure!(cores < operator.cores * GENEROUS, "it is not idle");
        ensure!(most < operator.limit / 2.0, "it comes near to the limit of {} MiB", operator.limit);
    }
    Ok(())
}
