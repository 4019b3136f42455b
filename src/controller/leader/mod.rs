//! Which of several operators writes. Every one watches and serves admission; the one that holds the Lease decides, records,
//! and tells. That two of them might write for a moment does no harm, since every write is guarded by what it was decided
//! from; the Lease keeps them from doing the work twice.

mod election;
#[cfg(test)]
mod election_tests;
mod lease;

pub use election::Terms;
pub use lease::{Candidate, LEASE, stand};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whether this operator leads. Clones tell of the same one.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Term>);

#[derive(Debug)]
struct Term {
    started: Instant,
    /// Milliseconds after `started` at which it ends, unless it is renewed before. Whoever asks compares it with the clock,
    /// so that it ends in time though whoever renews it hangs, or the process was stopped.
    until: AtomicU64,
    told: watch::Sender<bool>,
}

impl Leadership {
    /// That of the only operator, or of one among several that all write.
    pub fn always() -> Self {
        Self::until(u64::MAX)
    }

    /// That of a candidate, which does not lead yet.
    pub fn none() -> Self {
        Self::until(0)
    }

    fn until(until: u64) -> Self {
        let told = watch::Sender::new(until > 0);
        Self(Arc::new(Term { started: Instant::now(), until: AtomicU64::new(until), told }))
    }

    /// Time since this was made: what an election reads as its clock.
    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Whether this operator leads.
    pub fn is_mine(&self) -> bool {
        let until = self.0.until.load(Ordering::Acquire);
        until == u64::MAX || self.now() < Duration::from_millis(until)
    }

    /// Waits until it leads.
    pub async fn mine(&self) {
        self.turned(true).await;
    }

    /// Waits until it does not lead.
    pub async fn lost(&self) {
        self.turned(false).await;
    }

    async fn turned(&self, wanted: bool) {
        let mut told = self.0.told.subscribe();
        while self.is_mine() != wanted {
            // The sender lives as long as this does.
            let _ = told.changed().await;
        }
    }

    /// It leads until then, on its own clock, or not at all.
    fn set(&self, until: Option<Duration>) {
        let millis = until.map_or(0, |until| u64::try_from(until.as_millis()).unwrap_or(u64::MAX - 1));
        self.0.until.store(millis, Ordering::Release);
        self.tell();
    }

    /// Wakes whoever waits for a change, if there is one.
    fn tell(&self) {
        let mine = self.is_mine();
        self.0.told.send_if_modified(|told| std::mem::replace(told, mine) != mine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn leading_ends_by_the_clock_though_nobody_says_so() {
        let leadership = Leadership::none();
        assert!(!leadership.is_mine());
        leadership.set(Some(leadership.now() + Duration::from_millis(50)));
        timeout(Duration::from_secs(1), leadership.mine()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!leadership.is_mine());
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_both_turns() {
        let leadership = Leadership::none();
        let (waits, heard) = (leadership.clone(), tokio::sync::oneshot::channel());
        tokio::spawn(async move {
            waits.mine().await;
            waits.lost().await;
            let _ = heard.0.send(());
        });
        tokio::task::yield_now().await;
        leadership.set(Some(leadership.now() + Duration::from_secs(60)));
        tokio::task::yield_now().await;
        leadership.set(None);
        timeout(Duration::from_secs(5), heard.1).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_alone_always_leads() {
        let leadership = Leadership::always();
        leadership.mine().await;
        assert!(leadership.is_mine());
        assert!(timeout(Duration::from_millis(20), leadership.lost()).await.is_err());
    }
}
