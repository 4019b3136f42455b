//! The loop: watches feed the index, changes are queued, workers observe, plan and apply.

use crate::binding::Keyring;
use crate::controller::apply::{self, Writer, Written};
use crate::controller::error::{Class, Error};
use crate::controller::events::{Teller, teller};
use crate::controller::index::{Index, Key, Kind, name_of};
use crate::controller::queue::{Queue, Timers, run_timers};
use crate::controller::watch::{Change, Pulse, follow};
use crate::lifecycle::{Plan, Step, plan, plan_policy, version};
use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// Requests that are worked on at the same time. The API server is the limit, not the operator.
const WORKERS: usize = 32;
/// Waits after a failure, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// How often every unfinished request is looked at though nothing happened, from memory.
const RESYNC: Duration = Duration::from_secs(300);
/// The kinds that are watched, in the order of their pulses.
const KINDS: [Kind; 4] = [Kind::Policy, Kind::Namespace, Kind::Job, Kind::Request];

/// The parts that work together.
pub struct Controller {
    key: Arc<Keyring>,
    index: Index,
    queue: Queue<Key>,
    writer: Writer,
    teller: Teller,
    pulses: [Pulse; 4],
    troubles: Mutex<HashMap<Key, Trouble>>,
    /// One permit for each watch that has listed everything.
    listed: Semaphore,
}

/// Failures of one key, so far.
#[derive(Default)]
struct Trouble {
    failures: u32,
    /// What the API server said to the release.
    refused: Option<String>,
}

/// Runs the controller of the operator that lives in `namespace` until one of its tasks ends, which is an error: a
/// process that goes on without one would look alive and do nothing. Calls `ready` once everything is known.
pub async fn run(
    client: Client,
    namespace: String,
    instance: String,
    key: Arc<Keyring>,
    ready: impl FnOnce() + Send + 'static,
) -> String {
    let (queue, timers) = Queue::new();
    let (teller, telling) = teller(client.clone(), instance);
    let controller = Arc::new(Controller {
        index: Index::new(key.clone()),
        key,
        queue,
        writer: Writer::new(client.clone(), namespace),
        teller,
        pulses: std::array::from_fn(|_| Pulse::new()),
        troubles: Mutex::default(),
        listed: Semaphore::new(0),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        telling.await;
        "telling Events"
    });
    spawn_watches(&mut tasks, &controller, &client);
    spawn_timers(&mut tasks, &controller, timers);
    // Decisions rest on everything, so none is made before everything is known.
    let all_listed = u32::try_from(KINDS.len()).unwrap_or(u32::MAX);
    tokio::select! {
        permits = controller.listed.acquire_many(all_listed) => drop(permits),
        ended = tasks.join_next() => return describe(ended),
    }
    ready();
    for _ in 0..WORKERS {
        let controller = controller.clone();
        tasks.spawn(async move { controller.work().await });
    }
    describe(tasks.join_next().await)
}

fn describe(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(task)) => format!("{task} ended"),
        Some(Err(error)) => error.to_string(),
        None => "no task is left".into(),
    }
}

fn spawn_watches(tasks: &mut JoinSet<&'static str>, controller: &Arc<Controller>, client: &Client) {
    for (i, kind) in KINDS.into_iter().enumerate() {
        let (resource, name): (ApiResource, _) = match kind {
            Kind::Policy => (apply::policies(), "ApprovalPolicy"),
            Kind::Namespace => (apply::namespaces(), "Namespace"),
            Kind::Job => (apply::jobs(), "Job"),
            Kind::Request => (apply::requests(), "ApprovalRequest"),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let controller = controller.clone();
        tasks.spawn(async move {
            let mut first = true;
            let sink = |change| {
                let listed = matches!(change, Change::All(..));
                controller.take_in(kind, change);
                if listed && std::mem::take(&mut first) {
                    controller.listed.add_permits(1);
                }
            };
            follow(api, name, &controller.pulses[i], sink).await;
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
        loop {
            tokio::time::sleep(RESYNC).await;
            controller.enqueue(controller.index.all_unfinished());
        }
    });
}

impl Controller {
    fn enqueue(&self, keys: Vec<Key>) {
        for key in keys {
            self.queue.add(key);
        }
    }

    /// Takes in what a watch tells.
    fn take_in(&self, kind: Kind, change: Change) {
        match change {
            Change::All(objects, version) => {
                let mut gone = self.index.names(kind);
                for object in &objects {
                    let name = name_of(object);
                    gone.remove(&name);
                    self.set(kind, object);
                }
                for (namespace, name) in gone {
                    self.remove(kind, &namespace, &name, version);
                }
                self.nothing(kind, version);
            }
            Change::Set(object) => self.set(kind, &object),
            Change::Gone(object) => {
                let (namespace, name) = name_of(&object);
                self.remove(kind, &namespace, &name, version(&object.metadata));
            }
            Change::Nothing(version) => self.nothing(kind, version),
        }
    }

    fn set(&self, kind: Kind, object: &DynamicObject) {
        self.enqueue(match kind {
            Kind::Request => self.index.set_request(object),
            Kind::Policy => self.index.set_policy(object),
            Kind::Namespace => self.index.set_namespace(object),
            Kind::Job => self.index.set_job(object),
        });
    }

    fn remove(&self, kind: Kind, namespace: &str, name: &str, version: i64) {
        match kind {
            Kind::Request => {
                self.forget_trouble(&Key::Request(namespace.into(), name.into()));
                self.enqueue(self.index.remove_request(namespace, name));
            }
            Kind::Policy => self.enqueue(self.index.remove_policy(name, version)),
            Kind::Namespace => self.index.remove_namespace(name),
            Kind::Job => {
                // First how far the view has come: the requests that are looked at next must see it.
                self.index.jobs_at(version);
                self.enqueue(self.index.remove_job(namespace, name));
            }
        }
    }

    fn nothing(&self, kind: Kind, version: i64) {
        match kind {
            Kind::Policy => self.index.policies_at(version),
            Kind::Job => self.index.jobs_at(version),
            Kind::Request | Kind::Namespace => {}
        }
    }

    async fn work(&self) -> &'static str {
        loop {
            let key = self.queue.take().await;
            let outcome = match &key {
                Key::Request(namespace, name) => self.request(&key, namespace, name).await,
                Key::Policy(name) => self.policy(name).await,
            };
            match outcome {
                Ok(()) => self.forget_trouble(&key),
                Err(error) => self.retry(&key, &error),
            }
            self.queue.done(&key);
        }
    }

    async fn request(&self, key: &Key, namespace: &str, name: &str) -> Result<(), Error> {
        if let Some(broken) = self.index.letting_go(namespace, name) {
            let finalizer = broken.letting_go.unwrap_or_default();
            return self.writer.remove_finalizer((namespace, name), &broken.resource_version, finalizer).await;
        }
        let Some(observation) = self.index.observe(namespace, name) else { return Ok(()) };
        let fresh = self.pulses.iter().all(Pulse::is_fresh);
        let refused = self.troubles().get(key).and_then(|t| t.refused.clone());
        let now = Timestamp::now();
        let plan = plan(&observation.observed(&self.key, fresh, refused.as_deref(), now));
        if let Some(next) = plan.next {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), wait);
        }
        self.carry_out(&observation.request, plan).await
    }

    async fn carry_out(&self, request: &crate::lifecycle::RequestFacts, plan: Plan) -> Result<(), Error> {
        for step in &plan.steps {
            let written = self.writer.step(request, step).await.inspect_err(|error| {
                if matches!(step, Step::ReleaseJob(_)) && error.class() == Class::Refused {
                    let key = Key::Request(request.namespace.clone(), request.name.clone());
                    self.troubles().entry(key).or_default().refused = Some(error.server_message());
                }
            })?;
            self.enqueue(match &written {
                Written::Request(object) => self.index.wrote_request(object),
                Written::Job(object) => self.index.wrote_job(object),
                Written::Other => vec![],
            });
        }
        if let Some(note) = plan.note {
            let (namespace, name, uid) = (&request.namespace, &request.name, &request.uid);
            // Part of the text is a tenant's: a log line stays one line.
            let message = note.message.replace(char::is_control, " ");
            info!(namespace, name, uid, reason = note.reason, "{message}");
            self.teller.tell(note, apply::reference(request));
        }
        Ok(())
    }

    async fn policy(&self, name: &str) -> Result<(), Error> {
        let Some(policy) = self.index.policy(name) else { return Ok(()) };
        let Some(status) = plan_policy(&policy, Timestamp::now()) else { return Ok(()) };
        let object = self.writer.policy_status(&policy, &status).await?;
        self.enqueue(self.index.set_policy(&object));
        Ok(())
    }

    fn retry(&self, key: &Key, error: &Error) {
        let failures = {
            let mut troubles = self.troubles();
            let trouble = troubles.entry(key.clone()).or_default();
            trouble.failures = trouble.failures.saturating_add(1);
            trouble.failures
        };
        // The first retry of a conflict comes from the watch that tells of the other writer; this one is the safety net.
        let wait = (BACKOFF.0 * 2u32.saturating_pow(failures.min(12))).min(BACKOFF.1);
        match error.class() {
            Class::Conflict => debug!(?key, %error, "somebody else wrote first"),
            _ => warn!(?key, %error, ?wait, "failed, trying again"),
        }
        self.queue.add_after(key.clone(), wait);
    }

    fn forget_trouble(&self, key: &Key) {
        self.troubles().remove(key);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
