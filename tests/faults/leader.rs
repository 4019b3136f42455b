//! The Lease that says who leads cannot be written or watched. That a leader is killed, or stopped past its lease and resumed, is
//! tried in `tests/audit/leader.rs`.

use crate::case::Case;
use crate::judge::End;
use crate::*;
use countersign_testbed::Effect;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/countersign-system/leases";
/// Longer than a leader leads without having written its Lease anew.
const STORM: Duration = Duration::from_millis(3500);
/// Within that time after the end of it somebody leads again, and what was approved is released.
const RESUMES: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_lease_that_cannot_be_written_ends_the_lead_and_is_not_asked_for_in_a_hot_loop() -> Result<()> {
    let mut place = alone().await?;
    *place = None;
    let mut stand = Stand::start(&["--leader-elect", "--lease-seconds", "3"]).await?;
    let case = Case::pending("faults-lease").await?;
    let faults = [("PUT", CONFLICT), ("GET", Effect::EndsAtOnce)];
    for (method, effect) in faults {
        stand.proxy.storm(Fault { method: method.into(), path: LEASES.into(), effect });
    }
    stand.proxy.cut_watches(LEASES);
    stand.proxy.take_asked();
    tokio::time::sleep(STORM).await;
    let asked = stand.proxy.count(LEASES);
    eprintln!("a Lease that cannot be used: {asked} requests in {STORM:?}");
    let log = stand.operator.log();
    ensure!(log.contains("does not lead any more"), "it leads without its Lease:\n{log}");
    case.approve().await?;
    ensure!(case.stored().await?["status"]["state"] == "Pending", "released by one that does not lead");
    stand.proxy.calm("");
    let took = case.released(RESUMES).await?;
    eprintln!("released {took:?} after the Lease could be written again");
    stand.lives()?;
    ensure!((4..=40).contains(&asked), "{asked} requests in {STORM:?}");
    case.ends(End::Started).await
}
