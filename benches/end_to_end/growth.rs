//! Approvals among many pending requests and many policies, and while a policy of many pending requests is edited.

use crate::arrivals::Load;
use crate::audit;
use crate::lab::{Lab, REST};
use crate::report::Report;
use crate::support::{by_sre, policy};
use anyhow::Result;
use serde_json::json;
use std::time::{Duration, Instant};

/// The approvals that are measured each time.
const LOAD: Load = Load::Rate(20, 10);

/// Measures with a growing number of pending requests, then of policies, then during an edit.
pub async fn measure(pending: usize, report: &mut Report) -> Result<()> {
    let mut lab = Lab::start(20, false).await?;
    let mut before = 0;
    let mut many = None;
    for count in [pending / 10, pending] {
        lab.prepares().await?;
        many = Some(lab.prepare(&format!("pending-{count}"), count - before).await?);
        before = count;
        approve(&mut lab, &format!("growth, {count} pending"), report, async |_| Ok(())).await?;
    }
    let mut made = 0;
    for count in [10, 100, 1000] {
        for number in made..count {
            let body = policy(&format!("other-{number:04}"), &format!("other-{number}"), by_sre()).to_string();
            lab.cluster.admin().kubectl(["apply", "--filename", "-"]).stdin(body).ok().await?;
        }
        made = count;
        lab.prepares().await?;
        approve(&mut lab, &format!("growth, {pending} pending, {count} policies"), report, async |_| Ok(())).await?;
    }
    let Some(many) = many else { return Ok(()) };
    let part = format!("growth, a policy of {} pending is edited", many.digests.len());
    lab.prepares().await?;
    let log = lab.cluster.audit_log();
    let began = std::cell::Cell::new((Instant::now(), 0));
    approve(&mut lab, &part, report, async |lab: &Lab| {
        let mut rules = by_sre();
        rules[0]["reason"] = json!("another reason");
        let body = policy(&many.space.namespace, &many.space.namespace, rules).to_string();
        began.set((Instant::now(), audit::length(&lab.cluster.audit_log())?));
        lab.cluster.admin().kubectl(["apply", "--filename", "-"]).stdin(body).ok().await?;
        Ok(())
    })
    .await?;
    let (began, from) = began.get();
    audit::wait_for(&log, from, &many.space.namespace, many.digests.len()).await?;
    report.add(&part, "seconds until all are bound anew", began.elapsed().as_secs_f64());
    Ok(())
}

/// Measures approvals of requests that are made for it, just after something happened.
async fn approve(
    lab: &mut Lab,
    part: &str,
    report: &mut Report,
    happens: impl AsyncFnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    let name = format!("measured-{}", part.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte)));
    let waiting = lab.prepare(&name, LOAD.count()).await?;
    lab.measures().await?;
    tokio::time::sleep(REST).await;
    let mark = lab.cluster.audit_log().settle().await?;
    happens(lab).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    lab.approve(&waiting, LOAD).await?;
    let mut outcome = audit::read(&lab.cluster, mark, &name).await?;
    report.add_times(part, "reviewed to released", &mut outcome.released_ms);
    Ok(())
}
