//! An operator whose role is older than itself.

use crate::support::countersign;
use crate::support::told::{metrics_address, said};
use crate::{Lab, lab};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

fn log(lab: &Lab) -> String {
    lab.operator.as_ref().map(|operator| operator.log()).unwrap_or_default()
}

/// Waits until its log has a line with all of these.
async fn logged(lab: &Lab, what: &[&str]) -> Result<()> {
    let began = Instant::now();
    loop {
        let log = log(lab);
        if log.lines().any(|line| what.iter().all(|part| line.contains(part))) {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(40), "no line with {what:?} in\n{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whoever is on call reads what is missing where they look first, and only has to give the right.
#[tokio::test]
async fn an_operator_that_may_not_list_a_kind_says_which_and_goes_on_once_it_may() -> Result<()> {
    let mut lab = lab().await?;
    lab.kill();
    lab.forbid("networkpolicies").await?;
    let identity = countersign().identity(lab.cluster).await?;
    let operator = countersign().begin(lab.cluster, &identity, &["--metrics-bind=127.0.0.1:0"])?;
    *lab.operator = Some(operator);
    logged(&lab, &["list failed", "NetworkPolicy", "networkpolicies.networking.k8s.io is forbidden"]).await?;
    logged(&lab, &["starting, and waiting for everything of these kinds: NetworkPolicy"]).await?;
    let address = metrics_address(&log(&lab))?;
    let unready = said(&address, "/readyz").await?;
    ensure!(unready.starts_with("HTTP/1.1 503"), "{unready}");
    ensure!(unready.contains("watches: not listed yet: NetworkPolicy\n"), "{unready}");
    lab.allow_all().await?;
    logged(&lab, &["ready: every watch has listed everything"]).await?;
    let ready = said(&address, "/readyz").await?;
    ensure!(ready.contains("watches: every watch has listed everything\n"), "{ready}");
    Ok(())
}
