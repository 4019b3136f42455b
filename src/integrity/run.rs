//! Watches what holds the gate, and tells what changed.

use crate::api::{Condition, ConditionStatus};
use crate::controller::object;
use crate::controller::watch::{Change, Pulse, Scope, follow};
use crate::controller::{Error, Leadership, backoff, call};
use crate::integrity::Kind;
use crate::integrity::kind::GROUP_VERSION;
use crate::integrity::lease::Herald;
use crate::integrity::state::{Changes, State, Unwatchable};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use kube::Client;
use kube::core::DynamicObject;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// How long changes are gathered before they are told: one `kubectl delete` of ten objects is one piece of news.
const GATHER: Duration = Duration::from_millis(250);
/// How long after the start it is normal that not everything was seen yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits after a failure, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What [`Integrity::run`] needs.
pub struct Settings {
    /// Asks the API server as the operator.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// Which operator this is, for Events and the Lease.
    pub instance: String,
    /// Whether to write the Lease and Events.
    pub announces: Announces,
}

/// Whether an operator tells of the gate. Only one that knows every expected object should: one that knows nothing of the
/// webhooks would call the gate intact while another sees them gone.
#[derive(Clone, Debug)]
pub enum Announces {
    /// It does not know all.
    Never,
    /// Nobody else knows as much.
    Always,
    /// Several know all; one is enough.
    Leading(Leadership),
}

impl Announces {
    fn now(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Leading(leadership) => leadership.is_mine(),
        }
    }

    /// Waits until [`Self::now`] says something else.
    async fn turn(&self, before: bool) {
        match self {
            Self::Leading(leadership) if before => leadership.lost().await,
            Self::Leading(leadership) => leadership.mine().await,
            Self::Never | Self::Always => std::future::pending().await,
        }
    }
}

/// Watches over the objects that hold the gate.
pub struct Integrity {
    state: Mutex<State>,
    pulses: BTreeMap<Kind, Pulse>,
    news: Notify,
    metrics: Metrics,
}

impl Integrity {
    /// Expects exactly these objects, each with every field that the API server would fill in, and those of these kinds and
    /// names in a way that is told later.
    pub fn new(expected: Vec<Value>, awaited: &[(Kind, &str)], metrics: Metrics) -> Result<Self, Unwatchable> {
        let mut state = State::new(expected)?;
        for (kind, name) in awaited {
            state.await_one(*kind, name);
        }
        let pulses = state.kinds().into_iter().map(|kind| (kind, Pulse::new())).collect();
        Ok(Self { state: Mutex::new(state), pulses, news: Notify::new(), metrics })
    }

    /// From now on these may also be stored like this, and only like this once they were.
    pub fn expect(&self, expected: Vec<Value>) {
        let mut state = self.state();
        expected.into_iter().for_each(|one| state.expect(one));
        drop(state);
        self.publish();
    }

    /// Somebody other than the operator started a Job or Pod that the gate held, and it was no override.
    pub fn report_foreign_start(&self, kind: &str, namespace: &str, name: &str) {
        self.metrics.foreign_unsuspends.inc();
        self.state().started_elsewhere(kind, namespace, name, Timestamp::now());
        self.publish();
    }

    /// What `/readyz` says about the gate, one a line.
    pub fn details(&self) -> Vec<String> {
        let mut state = self.state();
        let condition = state.condition(Timestamp::now());
        let mut lines = match condition.status {
            ConditionStatus::True => vec!["gate: intact".to_owned()],
            ConditionStatus::Unknown => vec![format!("gate: {}", condition.message)],
            ConditionStatus::False => state.findings().map(|finding| format!("gate: broken: {finding}")).collect(),
        };
        let unseen = state.unseen();
        let silent = self
            .pulses
            .iter()
            .filter(|(kind, pulse)| state.is_served(**kind) && !unseen.contains(kind) && !pulse.is_fresh());
        lines.extend(silent.map(|(kind, _)| format!("gate: the watch on {} is silent", kind.plural())));
        lines
    }

    /// Runs until one of its tasks ends, which is an error.
    pub async fn run(self: Arc<Self>, settings: Settings) -> String {
        let mut tasks = JoinSet::new();
        let served = served(&settings.client).await;
        for kind in self.state().kinds() {
            if served.contains(kind.plural()) {
                let (integrity, client) = (self.clone(), settings.client.clone());
                tasks.spawn(async move { integrity.watch(client, kind).await });
            } else {
                self.state().not_served(kind);
            }
        }
        self.publish();
        tasks.spawn(async move { self.announce(settings).await });
        match tasks.join_next().await {
            Some(Ok(task)) => format!("{task} ended"),
            Some(Err(error)) => error.to_string(),
            None => "no task is left".into(),
        }
    }

    async fn watch(&self, client: Client, kind: Kind) -> &'static str {
        let Some(pulse) = self.pulses.get(&kind) else { return "a watch on nothing" };
        let api = object::api(&client, None, &kind.resource());
        follow(api, kind.name(), Scope::default(), pulse, |change| async move { self.take_in(kind, change) }).await;
        "a watch on the gate"
    }

    /// Takes in what a watch tells. Objects of others are dropped at once.
    fn take_in(&self, kind: Kind, change: Change) {
        let name = |object: &DynamicObject| object.metadata.name.clone().unwrap_or_default();
        let mut state = self.state();
        match change {
            Change::All(listed, ..) => {
                let ours = listed.into_objects().map(|object| (name(&object), object.data));
                let ours: BTreeMap<_, _> = ours.filter(|(name, _)| state.expects(kind, name)).collect();
                state.all(kind, &ours);
            }
            Change::Set(object) if state.expects(kind, &name(&object)) => {
                state.set(kind, &name(&object), Some(&object.data));
            }
            Change::Gone(object) if state.expects(kind, &name(&object)) => state.set(kind, &name(&object), None),
            Change::Page(_) | Change::Set(_) | Change::Gone(_) | Change::Nothing(_) => return,
        }
        drop(state);
        self.publish();
    }

    /// Sets the gauges at once, and wakes whoever writes.
    fn publish(&self) {
        let mut state = self.state();
        let intact = state.condition(Timestamp::now()).status == ConditionStatus::True;
        self.metrics.gate_intact.set(i64::from(intact));
        self.metrics.gate_findings.set(i64::try_from(state.findings().count()).unwrap_or(i64::MAX));
        drop(state);
        self.news.notify_one();
    }

    /// Tells what changed: in the log, on the Lease, as Events. Never returns.
    async fn announce(&self, settings: Settings) -> &'static str {
        let started = Instant::now();
        let Settings { client, namespace, instance, announces: announced } = settings;
        let mut herald = Herald::new(client, namespace, instance);
        let mut failures = 0;
        loop {
            let announces = announced.now();
            let patient = PATIENCE.saturating_sub(started.elapsed());
            let (condition, changes, next) = self.news();
            log(&changes);
            self.metrics.gate_broken.inc_by(u64::try_from(changes.found.len()).unwrap_or(u64::MAX));
            let mut wait = next;
            if announces {
                let early = condition.status == ConditionStatus::Unknown && !patient.is_zero();
                let written = if early { Ok(()) } else { herald.write(&condition).await };
                tell(&herald, changes).await;
                if early {
                    wait = sooner(wait, patient);
                }
                failures = if written.is_ok() { 0 } else { failures + 1 };
                if let Err(error) = written {
                    let pause = error.wait(backoff(BACKOFF, failures));
                    warn!(%error, ?pause, "the Lease that tells of the gate was not written, trying again");
                    wait = sooner(wait, pause);
                }
            } else {
                // Whoever tells meanwhile writes what this knows nothing of.
                herald.forget();
            }
            tokio::select! {
                () = self.until_news(wait) => {}
                () = announced.turn(announces) => {}
            }
        }
    }

    /// What to tell now, and after how long to look again though nothing happens.
    fn news(&self) -> (Condition, Changes, Option<Duration>) {
        let now = Timestamp::now();
        let mut state = self.state();
        let next = state.forget(now).map(|then| Duration::try_from(then.duration_since(now)).unwrap_or_default());
        (state.condition(now), state.changes(), next)
    }

    async fn until_news(&self, wait: Option<Duration>) {
        let waiting = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.news.notified() => tokio::time::sleep(GATHER).await,
            () = waiting => self.forget(),
        }
    }

    /// Time alone may mend the gate.
    fn forget(&self) {
        self.state().forget(Timestamp::now());
        self.publish();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resources that the API server serves of those that hold the gate. Asked once: what it serves changes with its
/// release, and so does what this operator expects.
async fn served(client: &Client) -> BTreeSet<String> {
    let (group, version) = GROUP_VERSION;
    let group_version = format!("{group}/{version}");
    let mut failures = 0;
    loop {
        match call("list the API's resources", client.list_api_group_resources(&group_version)).await {
            Ok(list) => return list.resources.into_iter().map(|resource| resource.name).collect(),
            Err(error) => {
                failures += 1;
                let pause = error.wait(backoff(BACKOFF, failures));
                warn!(error = Error::server_message(&error), ?pause, "cannot see what holds the gate, trying again");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn sooner(wait: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(wait.map_or(other, |wait| wait.min(other)))
}

fn log(changes: &Changes) {
    for finding in &changes.found {
        warn!(object = finding.object, "the gate is broken: {}", finding.problem);
    }
    for object in &changes.mended {
        info!(object, "as expected again");
    }
}

async fn tell(herald: &Herald, changes: Changes) {
    if !changes.found.is_empty() {
        let found: Vec<_> = changes.found.iter().map(ToString::to_string).collect();
        herald.tell(true, "GateBroken", found.join("; ")).await;
    }
    if changes.whole_again {
        let note = "every object that holds the gate is as expected again";
        herald.tell(false, "GateIntact", note.into()).await;
    }
}
