//! Several operators, of which one leads: who writes, who follows, and that nothing is lost or done twice in between.

use crate::effects::all_recorded;
use crate::support::{Space, by_sre, countersign};
use crate::{Lab, lab, transitions};
use anyhow::{Result, ensure};
use countersign_testbed::{FaultProxy, Identity, Operator};
use std::time::{Duration, Instant};

/// Others wait so long for a leader that is silent.
const LEASE: Duration = Duration::from_secs(3);
const ELECT: [&str; 3] = ["--leader-elect", "--lease-seconds", "3"];
const LEADS: &str = "this operator leads";

/// An operator behind a proxy that tells what it asks.
struct One {
    operator: Operator,
    proxy: FaultProxy,
}

impl One {
    /// Starts it without admission, and waits until it leads, or until it only watches.
    async fn beside(lab: &Lab, leads: bool) -> Result<Self> {
        let proxy = FaultProxy::start(lab.cluster, &countersign().identity(lab.cluster).await?).await?;
        let operator = countersign().start_beside(lab.cluster, proxy.identity(), &ELECT).await?;
        let one = Self { operator, proxy };
        if leads {
            one.says(LEADS, LEASE * 3).await?;
        }
        Ok(one)
    }

    /// Starts it with admission. It is a second one, and only watches.
    async fn second(lab: &Lab) -> Result<Self> {
        let proxy = FaultProxy::start(lab.cluster, &countersign().identity(lab.cluster).await?).await?;
        let operator = countersign().start_as(lab.cluster, proxy.identity(), &ELECT).await?;
        Ok(Self { operator, proxy })
    }

    /// Waits until its log says that; how long it took.
    async fn says(&self, text: &str, most: Duration) -> Result<Duration> {
        let began = Instant::now();
        while !self.operator.log().contains(text) {
            ensure!(began.elapsed() < most, "{text:?} is not in its log:\n{}", self.operator.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(began.elapsed())
    }

    /// What it wrote since the last call, but for the Lease that says who leads, and for questions, which store nothing.
    fn wrote(&self) -> Vec<String> {
        let asked = self.proxy.take_asked().into_iter().filter(|asked| asked.method != "GET");
        let wrote = asked.filter(|asked| !asked.path.contains("/leases/") && !asked.path.contains("accessreviews"));
        wrote.map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

/// A request that is approved, and released by whoever leads.
async fn release(space: &Space, alice: &Identity, name: &str) -> Result<()> {
    let digest = space.bound(name).await?;
    space.review(alice, name, "Approve", &digest).ok().await?;
    space.state(name, "Released").await?;
    Ok(())
}

/// The trail tells each once, and is whole.
async fn whole(lab: &Lab, namespace: &str, names: &[&str]) -> Result<()> {
    let told: Vec<_> = names.iter().map(|name| (namespace, *name, "Released")).collect();
    let export = lab.export(namespace, &told).await?;
    let (whole, said) = export.verify(&export.trail).await?;
    ensure!(whole, "{said}");
    let entries = export.entries()?;
    for name in names {
        let told = transitions(&entries, namespace, name);
        ensure!(told == ["Requested", "Evaluated", "Reviewed", "Approved", "Released"], "{name}: {told:?}");
    }
    all_recorded(lab).await
}

#[tokio::test]
async fn one_writes_and_the_other_takes_over_when_it_ends_or_is_killed() -> Result<()> {
    let mut lab = lab().await?;
    lab.kill();
    let mut first = One::beside(&lab, true).await?;
    let second = One::second(&lab).await?;
    let space = Space::new(lab.cluster, "leader").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    second.wrote();

    release(&space, &alice, "a").await?;
    // What waits while the leader changes is gone on with.
    let waits = space.bound("b").await?;
    let wrote = second.wrote();
    ensure!(wrote.is_empty(), "the one that only watches wrote: {wrote:?}");

    let began = Instant::now();
    first.operator.terminate().await?;
    second.says(LEADS, LEASE * 3).await?;
    eprintln!("a leader that ends is followed after {:?}", began.elapsed());
    ensure!(first.operator.log().contains("was given back"), "{}", first.operator.log());
    space.review(&alice, "b", "Approve", &waits).ok().await?;
    space.state("b", "Released").await?;

    // One that starts now watches, also while much is written.
    let third = One::beside(&lab, false).await?;
    third.wrote();
    release(&space, &alice, "c").await?;
    tokio::time::sleep(LEASE * 2).await;
    let wrote = third.wrote();
    ensure!(wrote.is_empty(), "the one that only watches wrote: {wrote:?}");
    ensure!(!third.operator.log().contains(LEADS), "two lead");
    whole(&lab, "leader", &["a", "b", "c"]).await?;
    drop((first, second, third));
    Ok(())
}

#[tokio::test]
async fn a_killed_leader_is_followed_within_the_lease_and_one_that_slept_writes_nothing() -> Result<()> {
    let mut lab = lab().await?;
    lab.kill();
    let first = One::beside(&lab, true).await?;
    let second = One::second(&lab).await?;
    let space = Space::new(lab.cluster, "leader-killed").await?;
    space.policy(by_sre()).await?;
    let alice = lab.user("alice", "sre")?;
    let waits = space.bound("a").await?;
    // What is under way when it is stopped is finished when it goes on: an Event that tells of what is long known.
    space.wait_for_event("a", "ApprovalRequired").await?;

    // Stopped where it is, and let go on when another leads long since.
    first.operator.pause()?;
    let took = second.says(LEADS, LEASE * 3).await?;
    eprintln!("a leader that sleeps is followed after {took:?}");
    space.review(&alice, "a", "Approve", &waits).ok().await?;
    space.state("a", "Released").await?;
    first.wrote();
    first.operator.resume()?;
    first.says("does not lead any more", LEASE * 3).await?;
    release(&space, &alice, "b").await?;
    let wrote = first.wrote();
    ensure!(wrote.is_empty(), "it wrote though it leads no more: {wrote:?}");

    // The one that leads now has admission, so what waits is decided before it is killed.
    let digest = space.bound("c").await?;
    space.review(&alice, "c", "Approve", &digest).ok().await?;
    second.operator.kill();
    let began = Instant::now();
    while first.operator.log().matches(LEADS).count() < 2 {
        ensure!(began.elapsed() < LEASE * 3, "nobody leads:\n{}", first.operator.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("a leader that is killed is followed after {:?}", began.elapsed());
    space.state("c", "Released").await?;
    whole(&lab, "leader-killed", &["a", "b", "c"]).await?;
    drop(first);
    Ok(())
}
