//! Prunes the audit trail. First the trail says what goes, then an admission policy is told that nothing is created there any
//! more, then records are deleted, the oldest first: each in a round of its own, so that every API server and every other
//! operator knows of one step before the next. Whatever a crash leaves is gone on with.

use crate::api::{ApprovalRecord, names};
use crate::audit::retention::{Limits, Walk};
use crate::audit::{Checkpoint, Fault, Held, Keys, Retention, chain, object_name};
use crate::controller::config_maps::{pruned_through, publish, read_config_map};
use crate::controller::error::{Class, Error, call};
use crate::controller::index::{Index, KeptTrail};
use crate::controller::leader::Leadership;
use crate::controller::object::{self, Stored};
use crate::controller::record_pages::{RecordPages, spec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{error, info, warn};

/// Records that are pruned in one round at most: at ten minutes a round, more than fifty releases a second write.
const RECORDS: usize = 50_000;

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] Error),
    #[error("the audit trail is not whole, and nothing of it is pruned: {0}")]
    Fault(#[from] Fault),
}

/// Deletes from the trail in the operator's namespace what need not be kept.
pub(super) struct Pruner {
    records: Api<Stored>,
    config_maps: Api<ConfigMap>,
    index: Arc<Index>,
    leadership: Leadership,
    retention: Retention,
    /// What was said last of why nothing goes.
    said: Mutex<Option<Held>>,
}

impl Pruner {
    /// A pruner for the operator in `namespace`.
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        index: Arc<Index>,
        leadership: Leadership,
        retention: Retention,
    ) -> Self {
        let resource = ApiResource::erase::<ApprovalRecord>(&());
        Self {
            records: object::api(client, Some(namespace), &resource),
            config_maps: Api::namespaced(client.clone(), namespace),
            index,
            leadership,
            retention,
            said: Mutex::default(),
        }
    }

    /// Prunes what is due, for ever, a step a round.
    pub(super) async fn run(&self) {
        let every = Duration::try_from(self.retention.settles).unwrap_or_default();
        loop {
            tokio::time::sleep(every).await;
            if !self.leadership.is_mine() {
                continue;
            }
            match self.round(Timestamp::now()).await {
                Ok(()) => {}
                Err(Failure::Api(error)) => warn!(%error, "the audit trail was not pruned"),
                Err(fault) => error!("{fault}"),
            }
        }
    }

    async fn round(&self, now: Timestamp) -> Result<(), Failure> {
        let trail = self.index.kept_trail();
        if trail.pruned < trail.first {
            return self.plan(&trail, now).await;
        }
        if pruned_through(&self.config_maps).await? < trail.pruned {
            let data = BTreeMap::from([("through".to_string(), trail.pruned.to_string())]);
            publish(&self.config_maps, "say what was pruned", names::PRUNED, &data).await?;
            return Ok(());
        }
        self.delete(trail.pruned).await
    }

    /// Says in the trail what goes next, if anything is due and nothing stands against it.
    async fn plan(&self, trail: &KeptTrail, now: Timestamp) -> Result<(), Failure> {
        let Ok(until) = now.checked_sub(self.retention.settles) else { return Ok(()) };
        // The anchor will say that everything until then is recorded.
        if !trail.is_settled(until) {
            return Ok(());
        }
        let keys = self.index.signers().known().clone();
        let limits = Limits {
            exported: self.exported().await?,
            checkpointed: self.checkpointed(&keys).await?,
            unfinished: trail.unfinished,
        };
        let mut walk = Walk::new(&self.retention, &limits, &keys, trail.length, now);
        self.pages(|record| {
            let created = record.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            walk.goes(spec(record), created)
        })
        .await?;
        self.tell(walk.held);
        if let Some(through) = walk.through() {
            info!(through = through.length, "the audit trail is pruned");
            self.index.prune_trail(&through, until, now);
        }
        Ok(())
    }

    /// Calls `each` with one record after the other from the oldest on, until it wants no more.
    async fn pages(&self, mut each: impl FnMut(&DynamicObject) -> Result<bool, Fault>) -> Result<(), Failure> {
        let (mut pages, mut read) = (RecordPages::new(&self.records), 0);
        while let Some(page) = pages.next().await? {
            read += page.len();
            for record in page.objects() {
                if !each(&record?)? {
                    return Ok(());
                }
            }
            if read >= RECORDS {
                break;
            }
        }
        Ok(())
    }

    /// The last entry that was exported, as whoever did says, who has to know the hash of its record.
    async fn exported(&self) -> Result<i64, Error> {
        let said = read_config_map(&self.config_maps, "read what was exported", names::EXPORTED).await?;
        let number = |name: &str| said.get(name)?.parse::<i64>().ok();
        let (Some(sequence), Some(last), Some(hash)) = (number("sequence"), number("last"), said.get("hash")) else {
            return Ok(0);
        };
        let name = object_name(sequence);
        let Some(record) = call("read the audit trail", self.records.get_opt(&name)).await? else { return Ok(0) };
        let spec = spec(&record.0);
        let same = spec["last"] == last && chain::hash(spec).is_ok_and(|stored| stored == *hash);
        if !same {
            warn!(name, "the ConfigMap {} does not tell of this record: nothing is taken as exported", names::EXPORTED);
        }
        Ok(if same { last } else { 0 })
    }

    /// The last entry that a checkpoint covers.
    async fn checkpointed(&self, keys: &Keys) -> Result<i64, Error> {
        let data = read_config_map(&self.config_maps, "read the checkpoint", names::CHECKPOINT).await?;
        let keys: Vec<_> = keys.values().copied().collect();
        let checkpoint = data.get("checkpoint").and_then(|note| Checkpoint::open(note, &keys).ok());
        Ok(checkpoint.map_or(0, |checkpoint| checkpoint.head.length))
    }

    /// Says once why something that is due stays.
    fn tell(&self, held: Option<Held>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.filter(|held| *said != Some(*held)) {
            warn!("the audit trail is longer than it is to be: {held}");
        }
        *said = held;
    }

    /// Deletes the records up to that entry, the oldest first, so that whatever is left has no gap.
    async fn delete(&self, through: i64) -> Result<(), Failure> {
        let mut gone = vec![];
        let mut whole = false;
        self.pages(|record| {
            let goes = spec(record)["last"].as_i64().is_some_and(|last| last <= through);
            whole = !goes;
            if goes {
                gone.push((record.metadata.name.clone().unwrap_or_default(), record.metadata.uid.clone()));
            }
            Ok(goes)
        })
        .await?;
        for (name, uid) in &gone {
            let only = Preconditions { uid: uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            match call("delete what was pruned", self.records.delete(name, &params)).await {
                // Another operator's work.
                Err(error) if error.class() != Class::Conflict => return Err(error.into()),
                _ => {}
            }
        }
        if whole {
            self.index.set_trail_missing(through);
            info!(through, records = gone.len(), "what was pruned is deleted");
        }
        Ok(())
    }
}
