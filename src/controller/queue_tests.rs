use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

impl Grouped for &'static str {
    /// The part before a slash.
    fn group(&self) -> &str {
        self.split('/').next().unwrap_or_default()
    }
}

fn drain(queue: &Queue<&'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| queue.take_ready().inspect(|key| queue.done(key))).collect()
}

#[tokio::test]
async fn a_key_is_worked_on_once_at_a_time_and_no_wish_is_lost() {
    let (queue, _timers) = Queue::new();
    queue.add("a", Lane::Prompt);
    queue.add("a", Lane::Prompt);
    queue.add("b", Lane::Steady);
    assert_eq!((queue.take().await, queue.take().await), ("a", "b"));
    queue.add("a", Lane::Steady);
    queue.add("a", Lane::Prompt);
    assert!(queue.take_ready().is_none(), "a is being worked on");
    queue.done(&"a");
    assert_eq!(queue.take().await, "a");
    queue.done(&"a");
    queue.done(&"b");
    assert!(queue.take_ready().is_none());
}

#[test]
fn what_somebody_waits_for_comes_first_even_if_it_was_to_come_later() {
    let (queue, _timers) = Queue::new();
    for key in ["a", "b", "c"] {
        queue.add(key, Lane::Steady);
    }
    queue.add("d", Lane::Prompt);
    queue.add("c", Lane::Prompt);
    queue.add("c", Lane::Steady);
    assert_eq!(drain(&queue), ["d", "c", "a", "b"]);
}

#[test]
fn one_group_does_not_keep_another_waiting() {
    let (queue, _timers) = Queue::new();
    for key in ["flood/1", "flood/2", "flood/3", "flood/4", "other/1", "other/2"] {
        queue.add(key, Lane::Prompt);
    }
    assert_eq!(drain(&queue), ["flood/1", "other/1", "flood/2", "other/2", "flood/3", "flood/4"]);
}

#[test]
fn the_steady_lane_leaves_workers_to_the_prompt_one_and_is_not_starved_by_it() {
    let names: Vec<&'static str> = (0..40).map(|n| &*format!("k{n}").leak()).collect();
    let (queue, _timers) = Queue::new();
    for name in &names {
        queue.add(*name, Lane::Steady);
    }
    let active: Vec<_> = std::iter::from_fn(|| queue.take_ready()).collect();
    assert_eq!(active.len(), STEADY_AT_ONCE, "and no more, however many workers there are");
    queue.add("now", Lane::Prompt);
    assert_eq!(queue.take_ready(), Some("now"));
    queue.done(&active[0]);
    assert_eq!(queue.take_ready(), Some(names[STEADY_AT_ONCE]));

    let (queue, _timers) = Queue::new();
    queue.add("steady", Lane::Steady);
    for name in &names {
        queue.add(*name, Lane::Prompt);
    }
    assert_eq!(drain(&queue)[STEADY_AFTER], "steady");
}

#[tokio::test]
async fn whoever_waits_for_work_gets_what_the_limit_held_back() {
    let (queue, _timers) = Queue::new();
    let names: Vec<&'static str> = (0..=STEADY_AT_ONCE).map(|n| &*format!("k{n}").leak()).collect();
    for name in &names {
        queue.add(*name, Lane::Steady);
    }
    let active: Vec<_> = std::iter::from_fn(|| queue.take_ready()).collect();
    let (taken, ()) = tokio::join!(queue.take(), async {
        tokio::task::yield_now().await;
        queue.done(&active[0]);
    });
    assert_eq!(taken, names[STEADY_AT_ONCE]);
}

#[tokio::test]
async fn work_that_never_waits_leaves_others_their_turn() {
    let (queue, _timers) = Queue::new();
    let names: Vec<&'static str> = (0..100).map(|n| &*format!("k{n}").leak()).collect();
    names.iter().for_each(|name| queue.add(*name, Lane::Steady));
    let worked = AtomicUsize::new(0);
    let work = async {
        for _ in &names {
            let key = queue.take().await;
            worked.fetch_add(1, Ordering::Relaxed);
            queue.done(&key);
        }
    };
    let other = async {
        for turn in 0..50 {
            let before = worked.load(Ordering::Relaxed);
            assert!(before <= turn + 1, "{before} keys were worked on before turn {turn} of another task");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(work, other);
    assert_eq!(worked.into_inner(), names.len());
}

/// A queue with its timers.
fn driven() -> Arc<Queue<&'static str>> {
    let (queue, timers) = Queue::new();
    let queue = Arc::new(queue);
    let driven = queue.clone();
    tokio::spawn(async move { run_timers(&driven, timers).await });
    queue
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_still_comes_first_after_it_was_put_off_for_a_moment() {
    let queue = driven();
    for (key, delay) in [("soon", 1), ("late", 60)] {
        queue.add(key, Lane::Prompt);
        assert_eq!(queue.take().await, key);
        queue.add_after(key, Duration::from_secs(delay));
        queue.done(&key);
    }
    queue.add_after("idle", Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(120)).await;
    queue.add("many", Lane::Steady);
    queue.add("now", Lane::Prompt);
    assert_eq!(drain(&queue), ["soon", "now", "idle", "late", "many"]);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_wish_counts() {
    let queue = driven();
    let start = Instant::now();
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(3));
    queue.add_after("a", Duration::from_secs(20));
    assert_eq!(queue.take().await, "a");
    assert_eq!(start.elapsed().as_secs(), 3);
    queue.done(&"a");
    assert!(tokio::time::timeout(Duration::from_secs(60), queue.take()).await.is_err(), "later wishes are gone");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_waits_for_no_time() {
    let queue = driven();
    for key in ["over", "other"] {
        queue.add_after(key, Duration::from_secs(10));
    }
    queue.forget_later("over");
    queue.forget_later("never asked for");
    assert_eq!(queue.take().await, "other");
    queue.done(&"other");
    assert!(
        tokio::time::timeout(Duration::from_secs(60), queue.take()).await.is_err(),
        "nobody wishes for it any more"
    );
    // One of that name comes again.
    queue.add_after("over", Duration::from_secs(10));
    assert_eq!(queue.take().await, "over");
}
