//! The API server or etcd is killed, stands still, or is slow. It hits everybody, so that alice has to try again as well.

use crate::case::{Case, RUN};
use crate::judge::End;
use crate::*;
use countersign_testbed::Part;

/// Within that time after such a fault alice's approval is stored, and the Job started.
const RESUMES: Duration = Duration::from_secs(20);
/// Requests of the operator in a second while something is away, at most, on average. It has some 20 watches.
const MOST_A_SECOND: usize = 60;
const STANDS_STILL: Duration = Duration::from_secs(2);

/// Has alice approve as soon as that is possible again, and the Job started by that.
async fn afterwards(stand: &mut Stand, case: Case) -> Result<()> {
    let name = case.space.namespace.clone();
    stand.lives()?;
    let approved = case.approve_as_soon_as_possible(RESUMES).await?;
    let released = case.released(RESUMES).await?;
    eprintln!("{name}: approved {approved:?} after the end of the fault, released {released:?} later");
    case.ends(End::Started).await
}

async fn killed(part: Part, name: &str) -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let case = Case::pending(name).await?;
    stand.proxy.take_asked();
    let away = Duration::from_millis(1500);
    cluster()
        .await?
        .restart(part, async {
            let refused = tokio::time::timeout(away, case.try_to_approve()).await;
            ensure!(!matches!(refused, Ok(Ok(_))), "stored without {part:?}");
            tokio::time::sleep(away).await;
            let asked = stand.proxy.take_asked().len();
            eprintln!("{name}: {asked} requests while it was away");
            ensure!(asked <= MOST_A_SECOND * 4, "{asked} requests in some 3 s");
            Ok(())
        })
        .await?;
    afterwards(&mut stand, case).await
}

#[tokio::test]
async fn an_api_server_that_is_killed_loses_nothing() -> Result<()> {
    killed(Part::ApiServer, "faults-api-killed").await
}

#[tokio::test]
async fn an_etcd_that_is_killed_loses_nothing() -> Result<()> {
    killed(Part::Etcd, "faults-etcd-killed").await
}

/// Alice's patch is on its way when everything stands still.
async fn stands_still(part: Part, name: &str) -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let case = Case::pending(name).await?;
    stand.proxy.take_asked();
    let paused = cluster().await?.pause(part)?;
    let trying = async {
        // Her client gives up sooner or later, or waits: what became of it shows later.
        let _ = tokio::time::timeout(STANDS_STILL * 2, case.try_to_approve()).await;
    };
    let still = async {
        tokio::time::sleep(STANDS_STILL).await;
        let asked = stand.proxy.take_asked().len();
        drop(paused);
        asked
    };
    let ((), asked) = tokio::join!(trying, still);
    eprintln!("{name}: {asked} requests while it stood still");
    ensure!(asked <= MOST_A_SECOND * 2, "{asked} requests in {STANDS_STILL:?}");
    afterwards(&mut stand, case).await
}

#[tokio::test]
async fn an_api_server_that_stands_still_starts_nothing_twice() -> Result<()> {
    stands_still(Part::ApiServer, "faults-api-still").await
}

#[tokio::test]
async fn an_etcd_that_stands_still_starts_nothing_twice() -> Result<()> {
    stands_still(Part::Etcd, "faults-etcd-still").await
}

/// As with a disk whose fsync takes long: etcd stands still for most of the time, again and again, so that each write takes a
/// good part of a second.
#[tokio::test]
async fn an_etcd_that_is_slow_delays_and_does_no_more() -> Result<()> {
    let mut stand = alone_with_proxy().await?;
    let case = Case::pending("faults-etcd-slow").await?;
    let cluster = cluster().await?;
    let slow = async {
        for _ in 0..6 {
            let paused = cluster.pause(Part::Etcd)?;
            tokio::time::sleep(Duration::from_millis(400)).await;
            drop(paused);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    let approved = async {
        let approved = case.approve_as_soon_as_possible(RESUMES).await?;
        let released = case.released(RESUMES).await?;
        eprintln!("a slow etcd: approved after {approved:?}, released {released:?} later");
        anyhow::Ok(())
    };
    let (slow, approved) = tokio::join!(slow, approved);
    slow.and(approved)?;
    stand.lives()?;
    ensure!(case.space.started(RUN).await?);
    case.ends(End::Started).await
}
