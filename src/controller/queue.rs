//! The work queue: each key at most once at a time, each wish to look again remembered, as in client-go's workqueue.
//!
//! Beyond that one, what somebody waits for comes before what many objects need at once, and namespaces take turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// Longest wait that is kept; longer ones look again after it and wait on.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Keys of the steady lane that are worked on at a time. The API server works on as many writes at once without delay; what
/// is beyond would only keep a prompt one waiting there.
const STEADY_AT_ONCE: usize = 8;
/// After so many prompt keys a steady one is due, so that it comes however much is prompt.
const STEADY_AFTER: usize = 16;
/// What is put off for no longer is looked at again as soon as it was this time: whoever waited for it still does.
const SOON: Duration = Duration::from_secs(10);

/// How soon a key is looked at.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// Somebody waits: a review, a new request, a Job.
    Prompt,
    /// Something changed that many objects rest on, or time passed.
    Steady,
}

/// What takes turns.
pub trait Grouped {
    /// The group of this key: of two groups, neither waits for more than one key of the other.
    fn group(&self) -> &str;
}

/// What is to be looked at. Keys that are being worked on are given out again only after [`Queue::done`].
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    timers: mpsc::UnboundedSender<Wish<K>>,
}

/// To look at a key from that time on; never, where there is none.
struct Wish<K> {
    key: K,
    when: Option<(Instant, Lane)>,
}

struct State<K> {
    prompt: Turns<K>,
    steady: Turns<K>,
    /// What is queued, and where. An entry of another lane is left over from before.
    queued: HashMap<K, Lane>,
    active: HashMap<K, Lane>,
    again: HashMap<K, Lane>,
    /// Of the active ones, those of the steady lane.
    steady_active: usize,
    /// Prompt keys since the last steady one.
    since_steady: usize,
}

/// Keys by group, the groups in turn.
struct Turns<K> {
    order: VecDeque<String>,
    groups: HashMap<String, VecDeque<K>>,
}

/// Wishes to look again later; drive it with [`run_timers`].
pub struct Timers<K>(mpsc::UnboundedReceiver<Wish<K>>);

impl<K: Grouped> Turns<K> {
    fn new() -> Self {
        Self { order: VecDeque::new(), groups: HashMap::new() }
    }

    fn push(&mut self, key: K) {
        if let Some(keys) = self.groups.get_mut(key.group()) {
            keys.push_back(key);
        } else {
            let group = key.group().to_string();
            self.order.push_back(group.clone());
            self.groups.insert(group, VecDeque::from([key]));
        }
    }

    fn pop(&mut self) -> Option<K> {
        let group = self.order.pop_front()?;
        let keys = self.groups.get_mut(&group)?;
        let key = keys.pop_front();
        if keys.is_empty() {
            self.groups.remove(&group);
        } else {
            self.order.push_back(group);
        }
        key
    }
}

impl<K: Clone + Eq + Grouped + Hash> State<K> {
    fn add(&mut self, key: K, lane: Lane) {
        if self.queued.get(&key).is_some_and(|queued| *queued <= lane) {
            return;
        }
        self.queued.insert(key.clone(), lane);
        self.turns(lane).push(key);
    }

    fn turns(&mut self, lane: Lane) -> &mut Turns<K> {
        match lane {
            Lane::Prompt => &mut self.prompt,
            Lane::Steady => &mut self.steady,
        }
    }

    /// The next key of that lane, past what is left over.
    fn pop(&mut self, lane: Lane) -> Option<K> {
        loop {
            let key = self.turns(lane).pop()?;
            if self.queued.get(&key) == Some(&lane) {
                self.queued.remove(&key);
                return Some(key);
            }
        }
    }

    fn take(&mut self) -> Option<K> {
        let room = self.steady_active < STEADY_AT_ONCE;
        let due = room && self.since_steady >= STEADY_AFTER;
        let lanes = if due { [Lane::Steady, Lane::Prompt] } else { [Lane::Prompt, Lane::Steady] };
        let mut open = lanes.into_iter().filter(|lane| room || *lane == Lane::Prompt);
        let (lane, key) = open.find_map(|lane| Some((lane, self.pop(lane)?)))?;
        match lane {
            Lane::Prompt => self.since_steady = self.since_steady.saturating_add(1),
            Lane::Steady => {
                self.since_steady = 0;
                self.steady_active += 1;
            }
        }
        self.active.insert(key.clone(), lane);
        Some(key)
    }
}

impl<K: Clone + Eq + Grouped + Hash> Queue<K> {
    /// An empty queue and its timers.
    pub fn new() -> (Self, Timers<K>) {
        let (timers, receiver) = mpsc::unbounded_channel();
        let state = State {
            prompt: Turns::new(),
            steady: Turns::new(),
            queued: HashMap::new(),
            active: HashMap::new(),
            again: HashMap::new(),
            steady_active: 0,
            since_steady: 0,
        };
        (Self { state: Mutex::new(state), wake: Notify::new(), timers }, Timers(receiver))
    }

    /// Wishes `key` to be looked at: once, however often it is wished for before that, and as soon as the most urgent wish
    /// says.
    pub fn add(&self, key: K, lane: Lane) {
        let mut state = self.lock();
        if state.active.contains_key(&key) {
            let again = state.again.entry(key).or_insert(lane);
            *again = lane.min(*again);
            return;
        }
        state.add(key, lane);
        drop(state);
        self.wake.notify_one();
    }

    /// Wishes `key` to be looked at after that time; the earliest such wish counts. A time may come for many at once, so that
    /// this is in the steady lane, but for what is being worked on in the prompt one and put off for a moment.
    pub fn add_after(&self, key: K, delay: Duration) {
        let now = self.lock().active.get(&key).copied();
        let lane = now.filter(|_| delay <= SOON).unwrap_or(Lane::Steady);
        // Only fails when the timers are gone, and then the process is ending.
        let _ = self.timers.send(Wish { key, when: Some((Instant::now() + delay.min(LONGEST), lane)) });
    }

    /// Forgets the wish to look at `key` later: no time brings about anything for it any more.
    pub fn forget_later(&self, key: K) {
        let _ = self.timers.send(Wish { key, when: None });
    }

    /// The next key to look at. [`Queue::done`] must follow.
    ///
    /// Whoever takes one lets others have their turn first: where thousands of keys need no write, nothing else would make
    /// workers wait, and admission, which shares their threads, would not be answered until all were looked at.
    pub async fn take(&self) -> K {
        tokio::task::yield_now().await;
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
        let key = state.take()?;
        if !state.queued.is_empty() {
            self.wake.notify_one();
        }
        Some(key)
    }

    /// The work on `key` has ended.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        if state.active.remove(key) == Some(Lane::Steady) {
            state.steady_active -= 1;
        }
        if let Some(lane) = state.again.remove(key) {
            state.add(key.clone(), lane);
        }
        if !state.queued.is_empty() {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts keys back into the queue when their time has come. Returns when the queue is gone.
pub async fn run_timers<K: Clone + Eq + Grouped + Hash>(queue: &Queue<K>, mut timers: Timers<K>) {
    // Thousands may wait, each for its end: every key is kept once.
    let mut delays: DelayQueue<Arc<K>> = DelayQueue::new();
    let mut set: HashMap<Arc<K>, (delay_queue::Key, Instant, Lane)> = HashMap::new();
    loop {
        tokio::select! {
            Some(expired) = std::future::poll_fn(|cx| delays.poll_expired(cx)), if !delays.is_empty() => {
                let key = expired.into_inner();
                let lane = set.remove(&key).map_or(Lane::Steady, |(.., lane)| lane);
                queue.add(Arc::unwrap_or_clone(key), lane);
            }
            wish = timers.0.recv() => {
                let Some(Wish { key, when }) = wish else { return };
                match (set.get_mut(&key), when) {
                    (Some((slot, known_at, known)), Some((at, lane))) => {
                        *known = lane.min(*known);
                        if at < *known_at {
                            delays.reset_at(slot, at);
                            *known_at = at;
                        }
                    }
                    (None, Some((at, lane))) => {
                        let key = Arc::new(key);
                        let slot = delays.insert_at(key.clone(), at);
                        set.insert(key, (slot, at, lane));
                    }
                    (Some((slot, ..)), None) => {
                        delays.remove(slot);
                        set.remove(&key);
                    }
                    (None, None) => {}
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
