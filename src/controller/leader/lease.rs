//! Holds the Lease, as far as the [`Election`] says so: one write every few seconds by the holder, none by the others, which
//! hear of it by a watch.

use crate::controller::error::{Class, Error, call};
use crate::controller::leader::Leadership;
use crate::controller::leader::election::{Election, Move, Seen, Terms};
use crate::controller::object;
use crate::controller::watch::{Change, Pulse, Scope, follow};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ApiResource, ObjectMeta, PostParams};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use std::future::ready;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// Name of the Lease in the operator's namespace.
pub const LEASE: &str = "countersign";

/// Who wants to lead, where, and on which terms.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Name of this candidate; no other ever had it.
    pub name: String,
    /// The operator's namespace.
    pub namespace: String,
    /// For how long things hold.
    pub terms: Terms,
}

/// Stands for election until it is told to resign; it then gives the Lease back, and says so.
pub async fn stand(
    client: Client,
    candidate: Candidate,
    leadership: Leadership,
    resign: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let api: Api<Lease> = Api::namespaced(client.clone(), &candidate.namespace);
    let (tell, mut news) = mpsc::unbounded_channel();
    let following = hear(client, candidate.namespace.clone(), tell);
    let mut booth = Booth {
        election: Election::new(&candidate.name, candidate.terms),
        api,
        candidate,
        leadership,
        last: None,
        led: false,
        conflicts: 0,
    };
    tokio::select! {
        () = following => {}
        () = booth.work(&mut news) => {}
        done = resign => {
            booth.give_back().await;
            // Whoever told it to may not wait.
            let _ = done.map(|done| done.send(()));
        }
    }
}

/// Tells what becomes of the Lease, for ever.
async fn hear(client: Client, namespace: String, tell: mpsc::UnboundedSender<Option<Lease>>) {
    let api = object::api(&client, Some(&namespace), &ApiResource::erase::<Lease>(&()));
    let one = format!("metadata.name={LEASE}");
    let scope = Scope { fields: Some(&one), ..Scope::default() };
    let told = |change| {
        let lease = match change {
            Change::All(listed, ..) => listed.into_objects().next().and_then(lease_of),
            Change::Set(object) => lease_of(object),
            Change::Gone(_) => None,
            Change::Page(_) | Change::Nothing(_) => return ready(()),
        };
        // Whoever listened has ended, and this ends with it.
        let _ = tell.send(lease);
        ready(())
    };
    follow(api, "Lease", scope, &Pulse::new(), told).await;
}

fn lease_of(object: DynamicObject) -> Option<Lease> {
    serde_json::from_value(serde_json::to_value(object).ok()?).ok()
}

struct Booth {
    api: Api<Lease>,
    candidate: Candidate,
    election: Election,
    leadership: Leadership,
    /// The Lease as it was seen last, to be written over.
    last: Option<Lease>,
    /// What was said last of who leads.
    led: bool,
    /// Writes in a row to which somebody else was said to have been first.
    conflicts: u32,
}

impl Booth {
    async fn work(&mut self, news: &mut mpsc::UnboundedReceiver<Option<Lease>>) {
        loop {
            let now = self.leadership.now();
            match self.election.next(now) {
                Move::Look => self.look().await,
                Move::Write => self.write().await,
                Move::Wait(until) => {
                    // While it leads, it must also hear that it does no longer.
                    let ends = self.election.leads_until().filter(|ends| *ends > now);
                    let wake = ends.map_or(until, |ends| ends.min(until)).saturating_sub(now);
                    tokio::select! {
                        () = tokio::time::sleep(wake) => {}
                        Some(lease) = news.recv() => self.see(lease),
                    }
                }
            }
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.leadership.set(self.election.leads_until());
        let leads = self.leadership.is_mine();
        match (std::mem::replace(&mut self.led, leads), leads) {
            (false, true) => info!(name = self.candidate.name, "this operator leads"),
            (true, false) => warn!(name = self.candidate.name, "this operator does not lead any more"),
            _ => {}
        }
    }

    fn see(&mut self, lease: Option<Lease>) {
        let now = self.leadership.now();
        // A watch may tell late of what was overtaken by what we read or wrote.
        if is_older(lease.as_ref(), self.last.as_ref()) {
            return;
        }
        self.election.see(lease.as_ref().map(seen), now);
        self.last = lease;
    }

    async fn look(&mut self) {
        match self.soon("read the Lease", self.api.get_opt(LEASE)).await {
            Ok(lease) => {
                let now = self.leadership.now();
                self.election.see(lease.as_ref().map(seen), now);
                self.last = lease;
            }
            Err(error) => self.trouble(&error),
        }
    }

    async fn write(&mut self) {
        // Counted from before the write, so that nobody waits for less than what we count on.
        let begun = self.leadership.now();
        let lease = self.lease(&self.candidate.name, Timestamp::now());
        match self.store(&lease).await {
            Ok(stored) => {
                self.election.wrote(seen(&stored), begun);
                self.last = Some(stored);
                self.conflicts = 0;
            }
            Err(error) if error.class() == Class::Conflict => {
                self.election.lost_sight();
                self.conflicts = self.conflicts.saturating_add(1);
                // Once is another candidate; what goes on is trouble.
                if self.conflicts > 1 {
                    self.trouble(&error);
                }
            }
            Err(error) => self.trouble(&error),
        }
    }

    async fn store(&self, lease: &Lease) -> Result<Lease, Error> {
        let params = PostParams::default();
        match lease.metadata.resource_version {
            Some(_) => self.soon("write the Lease", self.api.replace(LEASE, &params, lease)).await,
            None => self.soon("create the Lease", self.api.create(&params, lease)).await,
        }
    }

    /// Makes a call that must not hang: there has to be time for another before a leader's time is up.
    async fn soon<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let limit = self.candidate.terms.renew.max(Duration::from_secs(1));
        match tokio::time::timeout(limit, call(operation, answer)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { operation, limit }),
        }
    }

    fn trouble(&mut self, error: &Error) {
        warn!(%error, leads = self.leadership.is_mine(), "the Lease that says who leads could not be used, trying again");
        self.election.failed(self.leadership.now());
    }

    /// Leads no more at once, and says so in the Lease, so that another need not wait.
    async fn give_back(&mut self) {
        let held = self.election.resign();
        self.leadership.set(None);
        if !held {
            return;
        }
        match self.released().await {
            Ok(()) => info!("the Lease that says who leads was given back"),
            Err(error) => warn!(%error, "the Lease that says who leads was not given back; others wait until it ends"),
        }
    }

    /// Writes a Lease that nobody holds, while it is ours. A write of our own that was on its way when this began may have
    /// changed it: then it is read, and written once more.
    async fn released(&mut self) -> Result<(), Error> {
        match self.store(&self.lease("", Timestamp::now())).await {
            Err(error) if error.class() == Class::Conflict => {}
            other => return other.map(drop),
        }
        self.last = self.soon("read the Lease", self.api.get_opt(LEASE)).await?;
        let ours = self.last.as_ref().is_some_and(|lease| seen(lease).holder == self.candidate.name);
        match ours {
            true => self.store(&self.lease("", Timestamp::now())).await.map(drop),
            false => Ok(()),
        }
    }

    /// The Lease in the name of `holder`.
    fn lease(&self, holder: &str, now: Timestamp) -> Lease {
        let before = self.last.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let turns = before.holder_identity.as_deref() != Some(holder) && !holder.is_empty();
        let mut metadata = ObjectMeta { name: Some(LEASE.into()), ..ObjectMeta::default() };
        if let Some(last) = &self.last {
            metadata = last.metadata.clone();
            metadata.managed_fields = None;
        }
        let seconds = i32::try_from(self.candidate.terms.lease.as_secs()).unwrap_or(i32::MAX).max(1);
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            // As client-go leaves it behind: a Lease that nobody holds promises next to nothing.
            lease_duration_seconds: Some(if holder.is_empty() { 1 } else { seconds }),
            acquire_time: if turns { Some(MicroTime(now)) } else { before.acquire_time },
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(turns))),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

/// The parts of a Lease that an election is decided from. What is missing or absurd is nobody's promise.
fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        lasts: Duration::from_secs(seconds.unwrap_or(0)),
    }
}

/// Whether that is of an earlier time than this.
fn is_older(one: Option<&Lease>, other: Option<&Lease>) -> bool {
    let version = |lease: &Lease| lease.resource_version().and_then(|version| version.parse::<u64>().ok());
    match (one.and_then(version), other.and_then(version)) {
        (Some(one), Some(other)) => one < other,
        _ => false,
    }
}
