//! Reviewers: approvals at a rate, or all at once.

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::fmt;
use std::time::Duration;
use tokio::task::JoinSet;

/// Reviews on the way at the same time in a burst.
const AT_ONCE: usize = 64;

/// How approvals arrive.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// So many a second, for so many seconds.
    Rate(u32, u32),
    /// So many at once.
    Burst(usize),
}

impl Load {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Rate(rate, seconds) => (rate * seconds) as usize,
            Self::Burst(count) => count,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate, _) => write!(f, "{rate} a second"),
            Self::Burst(count) => write!(f, "burst of {count}"),
        }
    }
}

/// Sends each as the load says: at a rate, whether the ones before are answered or not. Returns when all are answered.
pub async fn send<F>(load: Load, all: Vec<F>) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    match load {
        Load::Burst(_) => stream::iter(all).buffer_unordered(AT_ONCE).try_collect().await,
        Load::Rate(rate, _) => {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            let mut sending = JoinSet::new();
            for one in all {
                ticks.tick().await;
                sending.spawn(one);
            }
            while let Some(sent) = sending.join_next().await {
                sent.context("a reviewer")??;
            }
            Ok(())
        }
    }
}
