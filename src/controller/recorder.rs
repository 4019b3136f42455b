//! Writes the audit trail: records are created, named by their first number, and never changed. Two operators that want to
//! write the same number meet at the name, and the second reads what the first wrote.

use crate::api::{ApprovalRecord, names};
use crate::audit::{Fault, Keys, Misfit, Refusals, Sealed, by_name, object_name};
use crate::binding::Keyring;
use crate::controller::backoff::backoff;
use crate::controller::config_maps::{pruned_through, publish, published};
use crate::controller::error::{Class, Error, call};
use crate::controller::index::{Index, Key};
use crate::controller::leader::Leadership;
use crate::controller::object::{Stored, api};
use crate::controller::pages::Page;
use crate::controller::record_pages::{RecordPages, spec};
use crate::controller::settings::Hooks;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tracing::{error, info, warn};

/// How long entries are collected before they are written together.
const BATCH: Duration = Duration::from_millis(250);
/// How often one that does not lead reads what the leader wrote.
const FOLLOW: Duration = Duration::from_secs(5);
/// How old an entry is that nobody has recorded, before one that does not lead does it.
const OVERDUE: SignedDuration = SignedDuration::from_secs(15);
/// How often it is looked whether something was refused.
const REFUSALS: Duration = Duration::from_secs(1);
/// Least time between two checkpoints.
const CHECKPOINTS: Duration = Duration::from_secs(5);
/// Waits after a failure, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Where checkpoints go beside the ConfigMap.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Sink {
    /// Nowhere.
    #[default]
    None,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// Why the trail cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The API server did not give the records.
    #[error(transparent)]
    Api(#[from] Error),
    /// The trail is not whole.
    #[error("the audit trail is not whole: {0}; see docs/audit.md")]
    Fault(#[from] Fault),
    /// The last record is signed by another key.
    #[error(
        "the audit trail was signed by key {last}, and the key is {now} now: if the old one is lost, start once with \
         --reanchor-audit, which says so in the trail; see docs/audit.md"
    )]
    OtherKey {
        /// Who signed the last record.
        last: String,
        /// The key there is.
        now: String,
    },
    /// Others went on, and pruned what we did not read.
    #[error(
        "the audit trail was pruned through entry {0}, beyond where this operator stands; it reads it anew when it starts"
    )]
    Behind(i64),
    /// The keys there are do not go together with those that the trail tells of.
    #[error(
        "{0}; if a key was added, promoted or retired since this operator started, restart it; countersign keys show tells where a \
         rotation stands, docs/audit.md what to do"
    )]
    Misfit(Misfit),
}

/// Reads and writes the trail in the operator's namespace.
pub(super) struct Recorder {
    records: Api<Stored>,
    config_maps: Api<ConfigMap>,
    index: Arc<Index>,
    keys: Keys,
    key: Arc<Keyring>,
    sink: Sink,
    /// Whether to go on under our key where another signed the trail.
    reanchor: bool,
    leadership: Leadership,
    hooks: Arc<dyn Hooks>,
}

impl Recorder {
    /// A recorder for the operator in `namespace`.
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        index: Arc<Index>,
        key: Arc<Keyring>,
        (sink, reanchor): (Sink, bool),
        leadership: Leadership,
        hooks: Arc<dyn Hooks>,
    ) -> Self {
        let resource = ApiResource::erase::<ApprovalRecord>(&());
        Self {
            records: api(client, Some(namespace), &resource),
            config_maps: Api::namespaced(client.clone(), namespace),
            index,
            keys: by_name(&key.accepted()),
            key,
            sink,
            reanchor,
            leadership,
            hooks,
        }
    }

    /// Reads the whole trail, once, before anything is decided. A trail that cannot be gone on with keeps everything from
    /// being released, and nothing else.
    pub(super) async fn read(&self, now: Timestamp) -> Result<(), Error> {
        match self.read_all(now).await {
            Ok(()) => info!(entries = self.index.next_sequence() - 1, "the audit trail was read"),
            Err(Broken::Api(error)) => return Err(error),
            Err(broken) => self.give_up(&broken),
        }
        self.index.set_trail_read();
        self.index.trail_goes_on(Timestamp::now());
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let trail = self.index.kept_trail();
        self.hooks.trail(!self.index.is_trail_broken(), self.index.unrecorded(), trail.length + 1 - trail.first);
    }

    fn give_up(&self, broken: &Broken) {
        error!(%broken, "nothing is released any more");
        self.index.set_trail_broken();
        self.tell();
    }

    async fn read_all(&self, now: Timestamp) -> Result<(), Broken> {
        let published = published(&self.config_maps).await?;
        let own = [&self.key.accepted(), self.key.retired()].concat();
        let mut keys = by_name(&published.into_iter().chain(own).collect::<Vec<_>>());
        let mut pages = RecordPages::new(&self.records);
        let mut next = pages.next().await?;
        while let Some(page) = next {
            // The API server makes up the next page while this one is verified.
            let (following, verified) = tokio::join!(pages.next(), self.verify(page, &keys));
            verified?;
            next = following?;
        }
        self.index.check_trail_beginning()?;
        self.go_on(now)?;
        keys.extend(self.index.signers().known().clone());
        self.publish_keys(&keys).await?;
        Ok(())
    }

    /// Takes in a page of the trail.
    async fn verify(&self, page: Page, keys: &Keys) -> Result<(), Broken> {
        for record in page.objects() {
            self.index.learn_record(spec(&record?), keys)?;
            // Admission shares the thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Says in the trail what it does not know of our keys yet, where they are those that it goes on under.
    fn go_on(&self, now: Timestamp) -> Result<(), Broken> {
        let signers = self.index.signers();
        match signers.fit(&self.key) {
            Ok(()) => self.index.tell_of_keys(now),
            Err(misfit @ Misfit::Retired(_)) => return Err(Broken::Misfit(misfit)),
            Err(_) if self.reanchor => self.index.anchor_trail(signers.last().unwrap_or_default(), now),
            Err(Misfit::OtherKey(last)) => return Err(Broken::OtherKey { last, now: self.key.id().into() }),
            Err(misfit) => return Err(Broken::Misfit(misfit)),
        }
        Ok(())
    }

    fn learn(&self, learned: Result<Vec<Key>, Fault>) -> Result<Vec<Key>, Broken> {
        let keys = learned?;
        self.index.trail_goes_on(Timestamp::now());
        // Whoever retired our key waits for us to end.
        if self.index.signers().is_retired(self.key.id()) {
            return Err(Broken::Misfit(Misfit::Retired(self.key.id().into())));
        }
        Ok(keys)
    }

    /// Publishes every key that signed, so that whoever keeps them can verify.
    async fn publish_keys(&self, keys: &Keys) -> Result<(), Error> {
        let data = keys.iter().map(|(name, key)| (name.clone(), STANDARD.encode(key))).collect();
        self.publish("publish the public keys", names::PUBLIC_KEYS, &data).await
    }

    async fn publish(&self, what: &'static str, name: &str, data: &BTreeMap<String, String>) -> Result<(), Error> {
        publish(&self.config_maps, what, name, data).await
    }

    /// Records what waits, until others went on without us. `look` is called with what waited for a record.
    pub(super) async fn run(&self, look: impl Fn(Vec<Key>)) {
        let mut failures = 0u32;
        loop {
            let leads = self.leadership.is_mine();
            let outcome = if leads { self.lead(&look).await } else { self.follow(&look).await };
            self.tell();
            match outcome {
                Ok(()) => failures = 0,
                Err(Broken::Api(error)) => {
                    failures = failures.saturating_add(1);
                    let wait = error.wait(backoff(BACKOFF, failures));
                    warn!(%error, ?wait, waiting = self.index.unrecorded(), "the audit trail was not written");
                    tokio::time::sleep(wait).await;
                }
                // What waits here is made up from the stored objects.
                Err(Broken::Behind(through)) => return error!("{}", Broken::Behind(through)),
                Err(broken) => {
                    self.give_up(&broken);
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Writes what waits, as soon as something does.
    async fn lead(&self, look: &impl Fn(Vec<Key>)) -> Result<(), Broken> {
        let idle = self.index.unrecorded() == 0;
        tokio::select! {
            () = self.index.something_to_record() => {}
            () = self.leadership.lost() => return Ok(()),
        }
        if idle {
            self.index.trail_goes_on(Timestamp::now());
        }
        tokio::time::sleep(BATCH).await;
        // Meanwhile it may have been stopped for long.
        if self.leadership.is_mine() { self.write(look).await } else { Ok(()) }
    }

    /// Reads what the leader wrote. What it did not write for long, such as what was refused by this operator alone, is
    /// written here: whoever comes second to a number reads what the first wrote.
    async fn follow(&self, look: &impl Fn(Vec<Key>)) -> Result<(), Broken> {
        tokio::select! {
            () = tokio::time::sleep(FOLLOW) => {}
            () = self.leadership.mine() => {}
        }
        look(self.catch_up().await?);
        let overdue = |since: Timestamp| Timestamp::now().duration_since(since) > OVERDUE;
        if self.index.kept_trail().waits_since.is_some_and(overdue) {
            self.write(look).await?;
        }
        Ok(())
    }

    /// Writes what waits now. What comes meanwhile is collected for the next time, so that many decisions cost few records.
    async fn write(&self, look: &impl Fn(Vec<Key>)) -> Result<(), Broken> {
        let through = self.index.last_entry();
        while self.index.next_sequence() <= through {
            let record = self.index.next_record().unwrap_or_else(|error| {
                // Entries are made here, from strings and small numbers: there is nothing that has no canonical form.
                error!(%error, "an entry of the audit trail cannot be signed");
                None
            });
            let Some(sealed) = record else { return Ok(()) };
            let object = self.object(&sealed);
            match call("write the audit trail", self.records.create(&PostParams::default(), &object)).await {
                Ok(stored) => look(self.learn(self.index.learn_sealed(sealed, spec(&stored.0), &self.keys))?),
                // Another operator's, or our own, where the answer got lost. If neither is there, it is tried again later.
                Err(error) if error.class() == Class::Conflict => {
                    let stood = self.index.next_sequence();
                    look(self.catch_up().await?);
                    if self.index.next_sequence() == stood {
                        return Err(error.into());
                    }
                }
                Err(error) if error.class() == Class::Refused => return Err(self.refused(error).await),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Why a record was refused: a name that was pruned is not given again.
    async fn refused(&self, error: Error) -> Broken {
        match pruned_through(&self.config_maps).await {
            Ok(through) if through >= self.index.next_sequence() => Broken::Behind(through),
            _ => error.into(),
        }
    }

    fn object(&self, sealed: &Sealed) -> Stored {
        let resource = ApiResource::erase::<ApprovalRecord>(&());
        let mut object = DynamicObject::new(&object_name(sealed.record.sequence), &resource);
        object.data = json!({"spec": sealed.spec});
        Stored(object)
    }

    /// Reads on from where we stand.
    async fn catch_up(&self) -> Result<Vec<Key>, Broken> {
        let mut keys = vec![];
        loop {
            let name = object_name(self.index.next_sequence());
            let Some(record) = call("read the audit trail", self.records.get_opt(&name)).await? else {
                return Ok(keys);
            };
            keys.extend(self.learn(self.index.learn_record(spec(&record.0), &self.keys))?);
        }
    }

    /// Hands over what admission refused, for ever.
    pub(super) async fn run_refusals(&self, refusals: &Mutex<Refusals>) {
        loop {
            tokio::time::sleep(REFUSALS).await;
            let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
            self.index.record_refusals(&mut refusals, Timestamp::now());
        }
    }

    /// States how far the trail has come, whenever it has, for ever.
    pub(super) async fn run_checkpoints(&self) -> String {
        let mut stated = None;
        loop {
            tokio::time::sleep(CHECKPOINTS).await;
            if !self.leadership.is_mine() {
                continue;
            }
            let Some(checkpoint) = self.index.checkpoint().filter(|c| stated.as_ref() != Some(c)) else { continue };
            let Some(note) = checkpoint.sign(&self.key) else { continue };
            if let Err(error) = self.state(&note).await {
                warn!(%error, "a checkpoint of the audit trail was not written");
                continue;
            }
            if let Err(error) = self.sink(&note).await {
                return format!("checkpoints cannot be written to {:?}: {error}", self.sink);
            }
            stated = Some(checkpoint);
        }
    }

    async fn state(&self, note: &str) -> Result<(), Error> {
        let data = BTreeMap::from([("checkpoint".to_string(), note.to_string())]);
        self.publish("write a checkpoint", names::CHECKPOINT, &data).await
    }

    async fn sink(&self, note: &str) -> std::io::Result<()> {
        // One after the other, each with an empty line behind it: a note holds one of its own.
        let text = format!("{note}\n");
        match &self.sink {
            Sink::None => Ok(()),
            Sink::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
            Sink::File(path) => {
                let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
                file.write_all(text.as_bytes()).await?;
                file.sync_data().await
            }
        }
    }
}
