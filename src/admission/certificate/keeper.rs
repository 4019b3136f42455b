//! Serves what the Secret says, in every replica; and in the leader takes the steps that [`plan`] says.

use crate::admission::certificate::pair::{Flaw, Good};
use crate::admission::certificate::plan::{Step, View, plan};
use crate::admission::certificate::served::Served;
use crate::admission::certificate::stored::Stored;
use crate::admission::registration::{self, At, Endpoint, Hold, Versions, configurations};
use crate::admission::tls;
use crate::controller::object;
use crate::controller::watch::{Change, Pulse, Scope, follow};
use crate::controller::{Class, Error, Leadership, backoff, call};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, ObjectMeta, PostParams};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tracing::{info, warn};

/// Longest time until everything is looked at again, since certificates begin and end by the clock.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Waits after a failure, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How late a watch may tell what was registered. To expect it before that would tell of a gate that is broken.
const HEARD: Duration = Duration::from_secs(2);
/// Type of a Secret that the operator makes.
const TYPE: &str = "countersign.dev/admission-certificate";

/// Who keeps the Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// The operator that leads.
    Here,
    /// Somebody else: it is only read.
    Elsewhere,
}

/// Where admission is, of one's own.
#[derive(Clone, Debug)]
pub enum Address {
    /// As in [`At::Url`].
    Url(String),
    /// As in [`At::Service`], in the operator's namespace.
    Service(String),
}

/// What a [`Keeper`] needs.
pub struct Settings {
    /// Asks the API server as the operator.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// Who keeps it.
    pub kept: Kept,
    /// What certificates are for: a DNS name or an IP address.
    pub host: String,
    /// The same.
    pub name: ServerName<'static>,
    /// How long a certificate lasts that is made here.
    pub lifetime: SignedDuration,
    /// What is registered.
    pub address: Address,
    /// The operator's username.
    pub operator: String,
    /// What holds.
    pub hold: Hold,
    /// Whether this operator writes and registers.
    pub leadership: Leadership,
    /// What is served, here.
    pub served: Arc<Served>,
    /// When that ends.
    pub expiry: Gauge,
    /// Told how the webhook configurations are to be stored, before or once they are.
    pub expects: Box<dyn Fn(Vec<Value>) + Send + Sync>,
}

/// Keeps the certificate of one replica.
pub struct Keeper {
    settings: Settings,
    secrets: Api<Secret>,
    /// The Secret as it was seen last, and that it was looked at.
    seen: Mutex<Option<Option<Secret>>>,
    /// Why the Secret's pair cannot be served, if so.
    trouble: Mutex<Option<String>>,
    news: Notify,
    /// What the webhooks may trust, as it was told last.
    told: Mutex<Vec<String>>,
    /// Whether it leads, and never registered yet.
    owes: AtomicBool,
}

/// What one leader did so far.
#[derive(Default)]
struct Term {
    registered: Option<String>,
    /// When it did so first.
    since: Option<Instant>,
    versions: Option<Versions>,
}

impl Term {
    /// Whether the watches have told of what it registered.
    fn has_settled(&self) -> bool {
        self.since.is_some_and(|since| HEARD <= since.elapsed())
    }
}

impl Keeper {
    /// One that serves nothing yet.
    pub fn new(settings: Settings) -> Self {
        let secrets = Api::namespaced(settings.client.clone(), &settings.namespace);
        let trouble = Mutex::new(Some("it was not looked at yet".into()));
        Self {
            settings,
            secrets,
            seen: Mutex::default(),
            trouble,
            news: Notify::new(),
            told: Mutex::default(),
            owes: AtomicBool::new(false),
        }
    }

    /// Whether a certificate is served, in words.
    pub fn certificate(&self) -> (bool, String) {
        match self.settings.served.now(Timestamp::now()) {
            Some(pair) => (true, format!("served, until {}", pair.until)),
            None => {
                let why = lock(&self.trouble).clone().unwrap_or_else(|| "it has expired".into());
                (false, format!("none that is good, so nothing is served: {}: {why}", self.named()))
            }
        }
    }

    /// Whether the webhooks are registered, as far as that is this replica's to do, in words.
    pub fn registration(&self) -> (bool, String) {
        match self.owes.load(Ordering::Acquire) {
            true => (false, "this operator leads, and has not registered the webhooks yet".into()),
            false => (true, "the webhooks are registered by whoever leads".into()),
        }
    }

    /// Runs for ever.
    pub async fn run(self: Arc<Self>) -> String {
        let resource = ApiResource::erase::<Secret>(&());
        let api = object::api(&self.settings.client, Some(&self.settings.namespace), &resource);
        let one = format!("metadata.name={}", self.settings.secret);
        let scope = Scope { fields: Some(&one), ..Scope::default() };
        let (pulse, keeper) = (Pulse::new(), &self);
        let seen = |change| async move { keeper.take_in(change) };
        tokio::select! {
            () = follow(api, "Secret", scope, &pulse, seen) => "the watch on the certificate ended".into(),
            () = self.work() => "keeping the certificate ended".into(),
        }
    }

    fn named(&self) -> String {
        format!("Secret {}/{}", self.settings.namespace, self.settings.secret)
    }

    fn take_in(&self, change: Change) {
        match change {
            Change::All(listed, ..) => self.see(listed.into_objects().next().and_then(secret_of)),
            Change::Set(object) => match secret_of(object) {
                // A watch may tell late of what was written over here since.
                Some(secret) if self.is_older(version(&secret)) => return,
                secret => self.see(secret),
            },
            Change::Gone(object) => match object.resource_version().and_then(|version| version.parse().ok()) {
                Some(gone) if self.is_older(gone) => return,
                _ => self.see(None),
            },
            Change::Page(_) | Change::Nothing(_) => return,
        }
        self.news.notify_one();
    }

    fn see(&self, secret: Option<Secret>) {
        *lock(&self.seen) = Some(secret);
    }

    fn is_older(&self, version_of_other: u64) -> bool {
        lock(&self.seen).as_ref().and_then(Option::as_ref).is_some_and(|seen| version_of_other < version(seen))
    }

    async fn work(&self) {
        let (mut term, mut failures, mut registered) = (Term::default(), 0, false);
        loop {
            let leads = self.settings.leadership.is_mine();
            self.owes.store(leads && !registered, Ordering::Release);
            let stored = self.look();
            // Where nothing was expected yet, who leads registers first.
            if let Some(stored) = stored.as_ref().filter(|_| !leads || term.has_settled() || self.expects()) {
                self.tell(stored.expectations());
            }
            let mut wait = LOOK_AGAIN;
            match stored {
                Some(stored) if leads => match self.step(&stored, &mut term).await {
                    Ok(None) => {
                        failures = 0;
                        registered |= term.registered.is_some();
                        continue;
                    }
                    Ok(Some(longest)) => {
                        let most = if term.has_settled() { LOOK_AGAIN } else { HEARD };
                        (failures, wait) = (0, longest.min(most));
                    }
                    Err(error) => {
                        failures += 1;
                        wait = error.wait(backoff(BACKOFF, failures));
                        self.failed(&error, wait);
                    }
                },
                _ if !leads => term = Term::default(),
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.news.notified() => {}
                () = self.turn(leads) => {}
            }
        }
    }

    async fn turn(&self, leads: bool) {
        match leads {
            true => self.settings.leadership.lost().await,
            false => self.settings.leadership.mine().await,
        }
    }

    /// Serves what the Secret says, if that can be served. Returns what can be used of it; none while it was not looked at.
    fn look(&self) -> Option<Stored> {
        let seen = lock(&self.seen).clone()?;
        let now = Timestamp::now();
        let (stored, trouble) = match &seen {
            Some(secret) => {
                let (stored, flaw) = Stored::read(&data_of(secret), &self.settings.name, now);
                (self.kept(stored), flaw.map(|flaw| flaw.to_string()))
            }
            None => (Stored::default(), Some("it is not there".into())),
        };
        self.serve(&stored);
        let mut before = lock(&self.trouble);
        if let Some(trouble) = trouble.as_ref().filter(|trouble| before.as_ref() != Some(trouble)) {
            warn!("{}: {trouble}", self.named());
        }
        *before = trouble;
        drop(before);
        let serving = self.settings.served.now(now);
        self.settings.expiry.set(serving.map_or(0, |pair| pair.until.as_second()));
        Some(stored)
    }

    fn serve(&self, stored: &Stored) {
        let Some(current) = &stored.current else { return };
        if self.settings.served.serve(current.clone()) {
            info!(until = %current.until, secret = self.settings.secret, "another certificate is served from now on");
        }
    }

    /// What counts of the Secret: nothing beyond the pair that is served, where somebody else keeps it.
    fn kept(&self, stored: Stored) -> Stored {
        match self.settings.kept {
            Kept::Here => stored,
            Kept::Elsewhere => Stored { current: stored.current, ..Stored::default() },
        }
    }

    /// Says once how the webhooks are to be stored.
    fn tell(&self, bundles: Vec<String>) {
        let mut told = lock(&self.told);
        if bundles.is_empty() || bundles == *told {
            return;
        }
        bundles.iter().for_each(|bundle| self.expect(bundle));
        *told = bundles;
    }

    fn expect(&self, bundle: &str) {
        (self.settings.expects)(configurations(&self.endpoint(bundle)).into());
    }

    fn expects(&self) -> bool {
        !lock(&self.told).is_empty()
    }

    /// The leader's next step. None where there is another at once, else after how long to look again.
    async fn step(&self, stored: &Stored, term: &mut Term) -> Result<Option<Duration>, Error> {
        let now = Timestamp::now();
        let serving = self.settings.served.now(now);
        let registered = term.registered.as_deref();
        let view = View { stored, registered, serving: serving.as_ref(), lifetime: self.settings.lifetime };
        let step = match (self.settings.kept, &stored.current) {
            (Kept::Here, _) => plan(&view, now),
            (Kept::Elsewhere, Some(_)) if registered != Some(&stored.bundle()) => Step::Register(stored.bundle()),
            (Kept::Elsewhere, _) => return Ok(Some(LOOK_AGAIN)),
        };
        match step {
            Step::Make(stored) => self.store(&stored.with_next(self.make(now)?)).await?,
            Step::Write(stored) => self.store(&stored).await?,
            Step::Register(bundle) => self.register(bundle, term).await?,
            Step::Wait(until) => return Ok(Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())),
        }
        Ok(None)
    }

    fn make(&self, now: Timestamp) -> Result<Good, Error> {
        let problem = |problem: String| Error::Key {
            namespace: self.settings.namespace.clone(),
            name: self.settings.secret.clone(),
            problem: format!("no certificate could be made: {problem}"),
        };
        let made = tls::self_signed(&self.settings.host, now, self.settings.lifetime);
        let made = made.map_err(|error| problem(error.to_string()))?;
        Good::check(&made, &self.settings.name, now).map_err(|flaw: Flaw| problem(flaw.to_string()))
    }

    /// Writes the Secret, unless somebody else wrote it since it was read: then it is read again.
    async fn store(&self, stored: &Stored) -> Result<(), Error> {
        let before = lock(&self.seen).clone().flatten();
        let data = Some(stored.data().into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect());
        let params = PostParams::default();
        let name = &self.settings.secret;
        let written = match before {
            Some(before) => {
                let mut secret = Secret { data, ..before };
                secret.metadata.managed_fields = None;
                call("write the certificate", self.secrets.replace(name, &params, &secret)).await
            }
            None => {
                let labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "countersign".to_owned())]);
                let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
                let secret = Secret { metadata, data, type_: Some(TYPE.into()), ..Secret::default() };
                call("create the certificate", self.secrets.create(&params, &secret)).await
            }
        };
        match written {
            Ok(written) => {
                // Before anything else is heard of the Secret: what others may take from it must stay trusted here.
                self.serve(stored);
                self.see(Some(written));
            }
            // What is there now is gone on with after a moment.
            Err(error) if error.class() == Class::Conflict => {
                self.see(call("read the certificate", self.secrets.get_opt(name)).await?);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Registers, over what this leader saw registered last: one that slept and leads no more writes over nothing.
    async fn register(&self, bundle: String, term: &mut Term) -> Result<(), Error> {
        let client = &self.settings.client;
        let versions = match term.versions.take() {
            Some(versions) => versions,
            None => call("read the webhook configurations", Versions::read(client)).await?,
        };
        if !self.settings.leadership.is_mine() {
            return Ok(());
        }
        if self.expects() {
            self.expect(&bundle);
        }
        let endpoint = self.endpoint(&bundle);
        let written = registration::register_over(client, &endpoint, &versions);
        term.versions = Some(call("register the webhooks", written).await?);
        info!(at = ?endpoint.at, hold = ?endpoint.hold, "admission is registered");
        term.registered = Some(bundle);
        term.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn endpoint<'a>(&'a self, bundle: &'a str) -> Endpoint<'a> {
        let at = match &self.settings.address {
            Address::Url(url) => At::Url(url),
            Address::Service(name) => At::Service { namespace: &self.settings.namespace, name },
        };
        Endpoint { at, authority: bundle, operator: &self.settings.operator, hold: self.settings.hold }
    }

    fn failed(&self, error: &Error, pause: Duration) {
        let error = error.server_message();
        warn!(error, ?pause, "the certificate for admission could not be kept, trying again");
    }
}

fn secret_of(object: DynamicObject) -> Option<Secret> {
    serde_json::from_value(serde_json::to_value(object).ok()?).ok()
}

fn data_of(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect()
}

fn version(secret: &Secret) -> u64 {
    secret.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
