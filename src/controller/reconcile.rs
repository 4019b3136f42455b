//! The loop: watches feed the index, changes are queued, workers observe, plan and apply.

use crate::api::{InputKind, TargetKind};
use crate::audit;
use crate::binding::Keyring;
use crate::controller::apply::{self, Writer, Written};
use crate::controller::backoff::backoff;
use crate::controller::error::{Class, Error};
use crate::controller::events::Teller;
use crate::controller::index::{Index, Key, Kind, name_of};
use crate::controller::leader::Leadership;
use crate::controller::queue::{Lane, Queue};
use crate::controller::reread::reread;
use crate::controller::settings::{Hooks, ReadSecrets};
use crate::controller::trouble::Trouble;
use crate::controller::watch::Change;
use crate::controller::watches::Watches;
use crate::lifecycle::{Milestones, Note, Plan, Step, plan, plan_gate, plan_policy, version};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::core::DynamicObject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

/// Waits after a failure, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// The parts that work together.
pub struct Controller {
    pub(super) client: Client,
    pub(super) key: Arc<Keyring>,
    pub(super) index: Arc<Index>,
    pub(super) leadership: Leadership,
    pub(super) queue: Queue<Key>,
    pub(super) writer: Writer,
    pub(super) teller: Teller,
    pub(super) watches: Arc<Watches>,
    pub(super) secrets: ReadSecrets,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) troubles: Mutex<HashMap<Key, Trouble>>,
    /// One permit for each watch that has listed everything.
    pub(super) listed: Semaphore,
}

impl Controller {
    /// Wishes these to be looked at. Whoever does not lead remembers no wishes: who takes over looks at everything.
    pub(super) fn enqueue(&self, keys: Vec<Key>, lane: Lane) {
        if !self.leadership.is_mine() {
            return;
        }
        for key in keys {
            // Whoever applied a policy waits for its status.
            let lane = if matches!(key, Key::Policy(_)) { Lane::Prompt } else { lane };
            self.queue.add(key, lane);
        }
    }

    /// Takes in what a watch tells.
    pub(super) async fn take_in(&self, kind: Kind, change: Change) {
        match change {
            Change::Page(objects) => objects.into_iter().for_each(|object| self.set(kind, object, Lane::Steady)),
            Change::All(listed, told, version) => {
                let gone = self.index.missing(kind, &told);
                listed.for_each(|object| self.set(kind, object, Lane::Steady)).await;
                for (namespace, name) in gone {
                    self.remove(kind, &namespace, &name, version);
                }
                self.listed(kind, version);
                self.hurry(kind);
            }
            Change::Set(object) => self.set(kind, object, kind.lane()),
            Change::Gone(object) => {
                let (namespace, name) = name_of(&object);
                self.remove(kind, &namespace, &name, version(&object.metadata));
            }
            Change::Nothing(version) => self.nothing(kind, version),
        }
        self.index.record_overrides(Timestamp::now());
    }

    fn set(&self, kind: Kind, object: DynamicObject, lane: Lane) {
        let keys = match kind {
            Kind::Request => self.index.set_request(object),
            Kind::Policy => self.index.set_policy(&object),
            Kind::Namespace => self.index.set_namespace(&object),
            Kind::Target(kind) => self.index.set_target(kind, object),
            Kind::Input(input) => self.index.set_input(input, &object, self.metadata_only(kind)),
            Kind::Rbac(kind) => self.index.set_rbac(kind, &object),
            Kind::NetworkPolicy => self.index.set_network_policy(&object),
        };
        self.enqueue(keys, lane);
        self.tell_foreign_starts();
    }

    /// What somebody started past the gate: told, not stopped, and by the leader. Whoever can do that can do more.
    fn tell_foreign_starts(&self) {
        let started = self.index.take_foreign_starts();
        for target in started.into_iter().filter(|_| self.leadership.is_mine()) {
            if let Some(by) = target.overridden() {
                let message = format!("{} was started without approval by {}: {}", target.noun(), by.by, by.reason);
                let note = Note { warning: true, reason: "Overridden".into(), message };
                self.tell_recorded(note, apply::target_reference(&target), Some(audit::override_of(&target.uid)));
                continue;
            }
            let (namespace, name, uid) = (&target.namespace, &target.name, &target.uid);
            error!(namespace, name, uid, "a held {} was started past the gate", target.kind.as_str());
            let message = format!("{} was started past the gate, by somebody other than Countersign", target.noun());
            let note = Note { warning: true, reason: "StartedPastTheGate".into(), message };
            self.teller.tell(note, apply::target_reference(&target), None);
            self.hooks.started_past_the_gate(target.kind, namespace, name);
        }
    }

    fn remove(&self, kind: Kind, namespace: &str, name: &str, version: i64) {
        let keys = match kind {
            Kind::Request => {
                self.forget_trouble(&Key::Request(namespace.into(), name.into()));
                self.index.remove_request(namespace, name, version)
            }
            Kind::Policy => self.index.remove_policy(name, version),
            Kind::Input(kind) => self.index.remove_input(kind, namespace, name, version),
            Kind::Rbac(kind) => self.index.remove_rbac(kind, namespace, name, version),
            Kind::NetworkPolicy => self.index.remove_network_policy(namespace, name, version),
            Kind::Namespace => {
                self.index.remove_namespace(name);
                vec![]
            }
            Kind::Target(kind) => {
                self.forget_trouble(&Key::Target(namespace.into(), kind, name.into()));
                // First how far the view has come: the requests that are looked at next must see it.
                self.index.targets_at(kind, version);
                self.index.remove_target(kind, namespace, name, version)
            }
        };
        self.enqueue(keys, kind.lane());
    }

    /// Everything is known up to that resource version. What went while nobody watched has left no version of its own.
    fn listed(&self, kind: Kind, version: i64) {
        match kind {
            Kind::Input(_) => self.index.inputs_at(version),
            Kind::Rbac(_) | Kind::NetworkPolicy => self.index.surroundings_at(version),
            other => self.nothing(other, version),
        }
    }

    /// Of kinds that share one version, a bookmark says nothing: it would make a view look newer than the changes of the
    /// other kinds that it has seen.
    fn nothing(&self, kind: Kind, version: i64) {
        match kind {
            Kind::Policy => self.enqueue(self.index.policies_at(version), Lane::Steady),
            Kind::Target(kind) => self.index.targets_at(kind, version),
            Kind::Request | Kind::Namespace | Kind::Input(_) | Kind::Rbac(_) | Kind::NetworkPolicy => {}
        }
    }

    /// Whether every watch has spoken lately.
    fn is_fresh(&self) -> bool {
        self.watches.are_fresh()
    }

    pub(super) fn metadata_only(&self, kind: Kind) -> bool {
        kind == Kind::Input(InputKind::Secret) && self.secrets == ReadSecrets::Metadata
    }

    /// Of what a list told, or is to be taken over: those come first whom somebody waits for.
    fn hurry(&self, kind: Kind) {
        if kind == Kind::Request {
            self.enqueue(self.index.reviewed(), Lane::Prompt);
        }
    }

    /// Looks at everything whenever this operator begins to lead.
    pub(super) async fn take_over(&self) -> &'static str {
        loop {
            self.leadership.mine().await;
            self.hurry(Kind::Request);
            self.enqueue(self.index.take_over(Timestamp::now()), Lane::Steady);
            self.leadership.lost().await;
        }
    }

    pub(super) async fn work(&self) -> &'static str {
        loop {
            let key = self.queue.take().await;
            if !self.leadership.is_mine() {
                self.queue.done(&key);
                continue;
            }
            if let Some(rest) = self.rest(&key) {
                self.queue.add_after(key.clone(), rest);
                self.queue.done(&key);
                continue;
            }
            let outcome = match &key {
                Key::Request(namespace, name) => self.request(&key, namespace, name).await,
                Key::Policy(name) => self.policy(name).await,
                Key::Target(namespace, kind, name) => self.target(&key, namespace, *kind, name).await,
            };
            match outcome {
                Ok(()) => self.looked_at(&key),
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
        if let Some((namespace, kind, name)) = self.index.unread(namespace, name) {
            let found = reread(&self.client, (&namespace, kind, &name)).await?;
            let keys = found.map(|object| self.index.read_again(kind, object));
            self.enqueue(keys.unwrap_or_default(), Lane::Prompt);
        }
        let Some(observation) = self.index.observe(namespace, name) else { return Ok(()) };
        let fresh = self.is_fresh();
        let refused = self.refused(key);
        let now = Timestamp::now();
        let plan = plan(&observation.observed(&self.key, fresh, refused.as_deref(), now));
        if let Some(next) = plan.next {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), wait);
        }
        self.carry_out(key, &observation.request, plan).await
    }

    async fn carry_out(&self, key: &Key, request: &crate::lifecycle::RequestFacts, plan: Plan) -> Result<(), Error> {
        let status = plan.steps.iter().find_map(|step| match step {
            Step::WriteStatus(status) => Some(status),
            _ => None,
        });
        let end = status.and_then(|status| audit::end(&request.uid, status));
        for step in &plan.steps {
            let written = self.writer.step(request, step).await;
            self.learn(written.or_else(|error| self.tolerate(key, &request.uid, step, error))?);
        }
        let ended = status.and_then(|status| Milestones::of(request, status, audit::ended_at(status)?));
        if let Some(milestones) = ended {
            self.hooks.ended(milestones);
        }
        if let Some(note) = plan.note {
            self.tell_recorded(note, apply::reference(request), end);
        }
        Ok(())
    }

    /// A Job or Pod in a gated namespace.
    async fn target(&self, key: &Key, namespace: &str, kind: TargetKind, name: &str) -> Result<(), Error> {
        let Some(observation) = self.index.observe_held(namespace, kind, name) else { return Ok(()) };
        let fresh = self.is_fresh();
        let refused = self.refused(key);
        let now = Timestamp::now();
        let plan = plan_gate(&observation.held(&self.key, fresh, refused.as_deref(), now));
        if let Some(next) = plan.next {
            self.queue.add_after(key.clone(), Duration::try_from(next.duration_since(now)).unwrap_or_default());
        }
        for step in &plan.steps {
            let written = self.writer.target_step(step).await;
            self.learn(written.or_else(|error| self.tolerate(key, &observation.target.uid, step, error))?);
        }
        if let Some(foreseen) = plan.foreseen {
            self.hooks.warned(foreseen);
        }
        if let Some(note) = plan.note {
            self.tell(note, apply::target_reference(&observation.target));
        }
        Ok(())
    }

    /// What we wrote is known at once, before the watch tells.
    fn learn(&self, written: Written) {
        let keys = match written {
            Written::Request(object) => self.index.wrote_request(*object),
            Written::NewRequest(object) => self.index.set_request(*object),
            Written::Target(kind, object) => self.index.wrote_target(kind, *object),
            Written::Other => vec![],
        };
        self.enqueue(keys, Lane::Prompt);
    }

    fn tell(&self, note: Note, about: ObjectReference) {
        self.tell_recorded(note, about, None);
    }

    /// Tells of what is to be recorded under the key `entry`.
    fn tell_recorded(&self, note: Note, about: ObjectReference, entry: Option<String>) {
        let (namespace, name, uid) = (&about.namespace, &about.name, &about.uid);
        // Part of the text is a tenant's: a log line stays one line.
        let message = note.message.replace(char::is_control, " ");
        info!(namespace, name, uid, reason = note.reason, "{message}");
        self.teller.tell(note, about, entry);
    }

    async fn policy(&self, name: &str) -> Result<(), Error> {
        let Some(policy) = self.index.policy(name) else { return Ok(()) };
        let Some(status) = plan_policy(&policy, Timestamp::now()) else { return Ok(()) };
        let object = self.writer.policy_status(&policy, &status).await?;
        self.enqueue(self.index.set_policy(&object), Lane::Steady);
        Ok(())
    }

    /// How long the API server asked to be left alone with that yet.
    fn rest(&self, key: &Key) -> Option<Duration> {
        self.troubles().get(key)?.rest(Instant::now())
    }

    fn retry(&self, key: &Key, error: &Error) {
        let failures = self.troubles().entry(key.clone()).or_default().failed(error, Instant::now());
        // The first retry of a conflict comes from the watch that tells of the other writer; this one is the safety net.
        let wait = error.wait(backoff(BACKOFF, failures));
        let uid = self.index.uid(key);
        match error.class() {
            Class::Conflict => debug!(?key, uid, %error, "somebody else wrote first"),
            _ => warn!(?key, uid, %error, ?wait, "failed, trying again"),
        }
        self.hooks.failed(error.class());
        self.queue.add_after(key.clone(), wait);
    }

    /// What the API server said to the release last time, if it refused it.
    fn refused(&self, key: &Key) -> Option<String> {
        self.troubles().get(key).and_then(|trouble| trouble.refused.clone())
    }

    /// What a step failed with, unless it can be done without. A release that is refused is told by the next look.
    fn tolerate(&self, key: &Key, uid: &str, step: &Step, error: Error) -> Result<Written, Error> {
        if error.class() != Class::Refused {
            return Err(error);
        }
        match step {
            Step::Release(_) => {
                self.troubles().entry(key.clone()).or_default().refused = Some(error.server_message());
                Err(error)
            }
            // A Job that refuses the note for good still ends its request: it stays suspended either way.
            Step::Close(patch) if self.count_unnoted(key) => {
                let (namespace, name) = (&patch.namespace, &patch.name);
                let text = "the end of a request could not be noted on its Job: once the request is deleted, the Job can be asked for \
                            again; see to it that Countersign may write annotations of Jobs";
                warn!(namespace, name, uid, %error, "{text}");
                Ok(Written::Other)
            }
            _ => Err(error),
        }
    }

    /// Counts that a Job refused the note. Returns whether that is to be gone on without.
    fn count_unnoted(&self, key: &Key) -> bool {
        self.troubles().entry(key.clone()).or_default().count_unnoted(Instant::now())
    }

    /// Nothing went wrong. Of what is over or gone no timer is kept: the end that it might have come to is an hour away, or days.
    /// Here and not where the watch tells of it: nobody else works on the key and wishes to look at it again.
    fn looked_at(&self, key: &Key) {
        self.forget_trouble(key);
        if let Key::Request(namespace, name) = key
            && self.index.is_over(namespace, name)
        {
            self.queue.forget_later(key.clone());
        }
    }

    fn forget_trouble(&self, key: &Key) {
        self.troubles().remove(key);
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
