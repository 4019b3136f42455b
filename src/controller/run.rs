//! The start: what was recorded is read, watches are opened, and workers begin once everything is known.

use crate::api::{TargetKind, names};
use crate::audit::Refusals;
use crate::controller::apply::{self, Writer};
use crate::controller::events::teller;
use crate::controller::index::Key;
use crate::controller::index::Kind;
use crate::controller::object;
use crate::controller::pruner::Pruner;
use crate::controller::queue::{Lane, Queue, Timers, run_timers};
use crate::controller::reconcile::Controller;
use crate::controller::recorder::Recorder;
use crate::controller::settings::Settings;
use crate::controller::watch::{Change, Scope, follow};
use jiff::Timestamp;
use kube::Client;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info};

/// Requests that are worked on at the same time. The API server is the limit, not the operator.
const WORKERS: usize = 32;
/// How often every unfinished request is looked at though nothing happened, from memory.
const RESYNC: Duration = Duration::from_secs(300);
/// In how many parts: thousands at once would take a processor for seconds.
const SLICES: u32 = 300;
/// How often the log says what a start still waits for, so that one among much can be told from one that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the controller until one of its tasks ends, which is an error: a process that goes on without one would look alive
/// and do nothing. Calls `ready` once everything is known.
pub async fn run(settings: Settings, ready: impl FnOnce() + Send + 'static) -> String {
    let Settings {
        client,
        namespace,
        instance,
        index,
        key,
        secrets,
        watches,
        checkpoints,
        reanchor,
        retention,
        leadership,
        refusals,
        hooks,
    } = settings;
    let recorder = Arc::new(Recorder::new(
        &client,
        &namespace,
        index.clone(),
        key.clone(),
        (checkpoints, reanchor),
        leadership.clone(),
        hooks.clone(),
    ));
    // What is recorded already is known before the first request is.
    let reading = told_of(recorder.read(Timestamp::now()), |waited| waits(waited, "the audit trail to be read"));
    if let Err(error) = reading.await {
        return error.to_string();
    }
    let pruner = retention.map(|kept| Pruner::new(&client, &namespace, index.clone(), leadership.clone(), kept));
    let (queue, timers) = Queue::new();
    let (teller, telling) = teller(client.clone(), instance, index.clone());
    let controller = Arc::new(Controller {
        client: client.clone(),
        index,
        leadership,
        key,
        queue,
        writer: Writer::new(client.clone(), namespace),
        teller,
        watches,
        secrets,
        hooks,
        troubles: Mutex::default(),
        listed: Semaphore::new(0),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        telling.await;
        "telling Events"
    });
    spawn_recorder(&mut tasks, &controller, recorder, refusals);
    if let Some(pruner) = pruner {
        tasks.spawn(async move {
            pruner.run().await;
            "pruning the audit trail"
        });
    }
    spawn_watches(&mut tasks, &controller, &client);
    spawn_timers(&mut tasks, &controller, timers);
    // Decisions rest on everything, so none is made before everything is known.
    let all_listed = u32::try_from(controller.watches.all().len()).unwrap_or(u32::MAX);
    let tell = |waited| {
        waits(waited, &format!("everything of these kinds: {}", controller.watches.unlisted().join(", ")));
    };
    tokio::select! {
        permits = told_of(controller.listed.acquire_many(all_listed), tell) => drop(permits),
        ended = tasks.join_next() => return describe(ended),
    }
    controller.index.forget_the_gone();
    controller.index.set_complete();
    // What a crash left out, and what was started while nobody watched.
    controller.index.record_overrides(Timestamp::now());
    ready();
    let leader = controller.clone();
    tasks.spawn(async move { leader.take_over().await });
    for _ in 0..WORKERS {
        let controller = controller.clone();
        tasks.spawn(async move { controller.work().await });
    }
    describe(tasks.join_next().await)
}

fn waits(waited: Duration, what: &str) {
    info!(seconds = waited.as_secs(), "starting, and waiting for {what}");
}

/// Waits for one part of the start. Tells every [`PATIENCE`] how long that takes already.
async fn told_of<T>(part: impl Future<Output = T>, tell: impl Fn(Duration)) -> T {
    let (mut part, began) = (pin!(part), Instant::now());
    loop {
        match tokio::time::timeout(PATIENCE, &mut part).await {
            Ok(done) => return done,
            Err(_) => tell(began.elapsed()),
        }
    }
}

fn describe(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(task)) => format!("{task} ended"),
        Some(Err(error)) => error.to_string(),
        None => "no task is left".into(),
    }
}

fn spawn_recorder(
    tasks: &mut JoinSet<&'static str>,
    controller: &Arc<Controller>,
    recorder: Arc<Recorder>,
    refusals: Arc<Mutex<Refusals>>,
) {
    let (controller, writing, counting) = (controller.clone(), recorder.clone(), recorder.clone());
    tasks.spawn(async move {
        writing.run(|keys| controller.enqueue(keys, Lane::Prompt)).await;
        "writing the audit trail"
    });
    tasks.spawn(async move {
        counting.run_refusals(&refusals).await;
        "recording refusals"
    });
    tasks.spawn(async move {
        error!("{}", recorder.run_checkpoints().await);
        "writing checkpoints"
    });
}

fn spawn_watches(tasks: &mut JoinSet<&'static str>, controller: &Arc<Controller>, client: &Client) {
    for i in 0..controller.watches.all().len() {
        let kind = controller.watches.all()[i].0;
        let resource = match kind {
            Kind::Policy => apply::policies(),
            Kind::Namespace => apply::namespaces(),
            Kind::Target(kind) => apply::targets(kind),
            Kind::Input(kind) => apply::inputs(kind),
            Kind::Rbac(kind) => apply::rbac(kind),
            Kind::NetworkPolicy => apply::network_policies(),
            Kind::Request => apply::requests(),
        };
        // Of all Pods, those that the gate holds or held.
        let labels = (kind == Kind::Target(TargetKind::Pod)).then_some(names::HELD);
        let scope = Scope { labels, metadata_only: controller.metadata_only(kind), by_page: true, ..Scope::default() };
        let api = object::api(client, None, &resource);
        let controller = controller.clone();
        tasks.spawn(async move {
            let (controller, first) = (&controller, &AtomicBool::new(true));
            let sink = |change| async move {
                let listed = matches!(change, Change::All(..));
                controller.take_in(kind, change).await;
                if listed && first.swap(false, Ordering::Relaxed) {
                    controller.listed.add_permits(1);
                }
            };
            follow(api, kind.as_str(), scope, &controller.watches.all()[i].1, sink).await;
            "a watch"
        });
    }
}

fn spawn_timers(tasks: &mut JoinSet<&'static str>, controller: &Arc<Controller>, timers: Timers<Key>) {
    let driven = controller.clone();
    tasks.spawn(async move {
        run_timers(&driven.queue, timers).await;
        "the timers"
    });
    let controller = controller.clone();
    tasks.spawn(async move {
        let open = || controller.index.everything_open();
        resync(open, |keys| controller.enqueue(keys, Lane::Steady)).await;
        "looking again"
    });
}

/// Looks at everything that is open once in [`RESYNC`], for ever.
async fn resync(open: impl Fn() -> Vec<Key>, look: impl Fn(Vec<Key>)) {
    loop {
        let mut keys = open().into_iter();
        let at_once = keys.len().div_ceil(SLICES as usize);
        for _ in 0..SLICES {
            tokio::time::sleep(RESYNC / SLICES).await;
            look(keys.by_ref().take(at_once).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test(start_paused = true)]
    async fn a_start_says_what_it_waits_for_while_it_does() {
        let told = RefCell::new(vec![]);
        let tell = |waited: Duration| told.borrow_mut().push(waited.as_secs());
        let lists = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            seconds
        };
        assert_eq!((told_of(lists(9), tell).await, told.take()), (9, vec![]), "what is quick is not told");
        assert_eq!((told_of(lists(35), tell).await, told.take()), (35, vec![10, 20, 30]), "what is slow is let go on");
    }

    #[tokio::test(start_paused = true)]
    async fn everything_open_is_looked_at_again_a_few_at_a_time() {
        for count in [0, 1, 7, 10_000] {
            let (began, looks) = (Instant::now(), RefCell::new(vec![]));
            let name = |n: usize| Key::Request("a".into(), n.to_string());
            let look = |keys: Vec<Key>| {
                assert!(keys.len() <= 34, "{} at once, of {count}", keys.len());
                looks.borrow_mut().extend(keys);
            };
            let all = || (0..count).map(name).collect::<Vec<_>>();
            let within = RESYNC + Duration::from_millis(1);
            assert!(tokio::time::timeout(within, resync(all, look)).await.is_err(), "it goes on for ever");
            assert_eq!((began.elapsed(), looks.into_inner()), (within, all()), "each once");
        }
    }
}
