//! The work queue: each key at most once at a time, each wish to look again remembered, as in client-go's workqueue.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// Longest wait that is kept; longer ones look again after it and wait on.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is to be looked at. Keys that are being worked on are given out again only after [`Queue::done`].
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    timers: mpsc::UnboundedSender<(K, Instant)>,
}

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    active: HashSet<K>,
    again: HashSet<K>,
}

/// Wishes to look again later; drive it with [`run_timers`].
pub struct Timers<K>(mpsc::UnboundedReceiver<(K, Instant)>);

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue and its timers.
    pub fn new() -> (Self, Timers<K>) {
        let (timers, receiver) = mpsc::unbounded_channel();
        let state =
            State { ready: VecDeque::new(), queued: HashSet::new(), active: HashSet::new(), again: HashSet::new() };
        (Self { state: Mutex::new(state), wake: Notify::new(), timers }, Timers(receiver))
    }

    /// Wishes `key` to be looked at: once, however often it is wished for before that.
    pub fn add(&self, key: K) {
        let mut state = self.lock();
        if state.active.contains(&key) {
            state.again.insert(key);
        } else if state.queued.insert(key.clone()) {
            state.ready.push_back(key);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Wishes `key` to be looked at after that time; the earliest such wish counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        // Only fails when the timers are gone, and then the process is ending.
        let _ = self.timers.send((key, Instant::now() + delay.min(LONGEST)));
    }

    /// The next key to look at. [`Queue::done`] must follow.
    pub async fn take(&self) -> K {
        loop {
            let woken = self.wake.notified();
            if let Some(key) = self.take_ready() {
                return key;
            }
            woken.await;
        }
    }

    fn take_ready(&self) -> Option<K> {
        let mut state = self.lock();
        let key = state.ready.pop_front()?;
        state.queued.remove(&key);
        state.active.insert(key.clone());
        if !state.ready.is_empty() {
            self.wake.notify_one();
        }
        Some(key)
    }

    /// The work on `key` has ended.
    pub fn done(&self, key: &K) {
        let again = {
            let mut state = self.lock();
            state.active.remove(key);
            state.again.remove(key)
        };
        if again {
            self.add(key.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts keys back into the queue when their time has come. Returns when the queue is gone.
pub async fn run_timers<K: Clone + Eq + Hash>(queue: &Queue<K>, mut timers: Timers<K>) {
    let mut delays: DelayQueue<K> = DelayQueue::new();
    let mut set: HashMap<K, (delay_queue::Key, Instant)> = HashMap::new();
    loop {
        tokio::select! {
            Some(expired) = std::future::poll_fn(|cx| delays.poll_expired(cx)), if !delays.is_empty() => {
                let key = expired.into_inner();
                set.remove(&key);
                queue.add(key);
            }
            wish = timers.0.recv() => {
                let Some((key, at)) = wish else { return };
                match set.get_mut(&key) {
                    Some((_, earlier)) if *earlier <= at => {}
                    Some((slot, when)) => {
                        delays.reset_at(slot, at);
                        *when = at;
                    }
                    None => {
                        let slot = delays.insert_at(key.clone(), at);
                        set.insert(key, (slot, at));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_worked_on_once_at_a_time_and_no_wish_is_lost() {
        let (queue, _timers) = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!((queue.take().await, queue.take().await), ("a", "b"));
        queue.add("a");
        queue.add("a");
        assert!(queue.take_ready().is_none(), "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.take().await, "a");
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.take_ready().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wish_counts() {
        let (queue, timers) = Queue::new();
        let queue = std::sync::Arc::new(queue);
        let driven = queue.clone();
        tokio::spawn(async move { run_timers(&driven, timers).await });
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(20));
        assert_eq!(queue.take().await, "a");
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"a");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.take()).await.is_err(), "later wishes are gone");
    }
}
