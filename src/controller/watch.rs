//! One watch on one kind: list, then follow, for ever.
//!
//! Own code in place of kube's watcher for two things it hides: bookmarks, which tell that a silent watch is alive, and
//! the collection's resource version, which tells whether a view is older than another.

use crate::controller::backoff::backoff;
use crate::controller::index::{Name, name_of};
use crate::controller::listed::Listed;
use crate::controller::object::Stored;
use crate::controller::pages::{Page, Pages};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, trace, warn};

/// Objects listed at a time.
const PAGE: u32 = 500;
/// Objects of a page that are trees at a time.
const AT_ONCE: usize = 64;
/// How long one watch lasts before it is renewed, in seconds.
const WATCH_SECONDS: u32 = 290;
/// Silence after which a watch is opened anew. API servers send a bookmark every minute, though not of a kind of which they have
/// heard nothing from etcd since the watch began.
const RENEWAL: Duration = Duration::from_secs(70);
/// Silence after which a watch counts as dead: later, so that a busy API server has some time to open it anew.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);
/// Waits between failed attempts, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A watch that lasted so long is none of several that fail in a row.
const LASTING: Duration = Duration::from_secs(2);

/// What a watch tells.
pub(crate) enum Change {
    /// These are there. Only where [`Scope::by_page`] says so.
    Page(Vec<DynamicObject>),
    /// This is everything there is, beside what came by pages, as of that resource version, with all names, also of what came by
    /// pages.
    All(Listed, HashSet<Name>, i64),
    /// An object is there, or changed.
    Set(DynamicObject),
    /// An object is gone.
    Gone(DynamicObject),
    /// Nothing happened up to that resource version.
    Nothing(i64),
}

/// When a watch last spoke.
#[derive(Debug)]
pub(crate) struct Pulse {
    started: Instant,
    /// Milliseconds after `started`, plus one; 0 while it has not spoken.
    last: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    fn beat(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(elapsed + 1, Ordering::Release);
    }

    /// Whether it has spoken since the start.
    pub(crate) fn has_spoken(&self) -> bool {
        self.last.load(Ordering::Acquire) > 0
    }

    /// How long ago it spoke; since the start where it has not.
    pub(crate) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Acquire).saturating_sub(1));
        self.started.elapsed().saturating_sub(last)
    }

    /// Whether the watch has spoken within [`SILENCE`].
    pub(crate) fn is_fresh(&self) -> bool {
        self.has_spoken() && self.silence() < SILENCE
    }
}

/// What of a kind is followed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    /// A label selector; none for all objects.
    pub labels: Option<&'a str>,
    /// A field selector; none for all objects.
    pub fields: Option<&'a str>,
    /// Whether only metadata is asked for.
    pub metadata_only: bool,
    /// Whether the first list is told page by page, so that it never stands in memory as a whole: nothing is decided before it
    /// ends. A later one is told at once, since a view that is new in part looks newer than it is.
    pub by_page: bool,
}

enum Ended {
    /// Go on from where it ended.
    Resume,
    /// History is gone: list anew.
    Relist,
    /// Go on after a pause, of so long at least.
    Failed(Duration),
}

/// How long to rest between attempts that come to little. A server that ends each watch at once, or forgets each version, is not to
/// be asked in a hot loop either.
#[derive(Default)]
struct Unrest {
    /// Failures in a row.
    failures: u32,
    /// Watches in a row that ended as they may, and told next to nothing.
    hollow: u32,
}

impl Unrest {
    /// The rest after a watch that ended so, and lasted so long. None where it ended as one does that is renewed.
    fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        if lasted >= LASTING {
            *self = Self::default();
        }
        if let Ended::Failed(least) = ended {
            return self.failed().max(*least);
        }
        self.failures = 0;
        self.hollow = self.hollow.saturating_add(1);
        self.hollow.checked_sub(2).map_or(Duration::ZERO, |more| backoff(BACKOFF, more))
    }

    fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        backoff(BACKOFF, self.failures - 1)
    }
}

/// Follows everything that `api` covers. Never returns; errors are logged and retried.
pub(crate) async fn follow<Told: Future<Output = ()>>(
    api: Api<Stored>,
    kind: &'static str,
    mut scope: Scope<'_>,
    pulse: &Pulse,
    mut sink: impl FnMut(Change) -> Told,
) {
    let mut unrest = Unrest::default();
    loop {
        let mut version = match list(&api, scope, &mut sink).await {
            Ok(version) => {
                pulse.beat();
                scope.by_page = false;
                version
            }
            Err(error) => {
                warn!(kind, error = error.server_message(), "list failed, trying again");
                tokio::time::sleep(error.wait(unrest.failed())).await;
                continue;
            }
        };
        loop {
            let opened = Instant::now();
            let ended = watch(&api, kind, scope, &mut version, pulse, &mut sink).await;
            tokio::time::sleep(unrest.after(&ended, opened.elapsed())).await;
            if matches!(ended, Ended::Relist) {
                break;
            }
        }
    }
}

/// Tells everything there is. Returns as of which version.
async fn list<Told: Future<Output = ()>>(
    api: &Api<Stored>,
    scope: Scope<'_>,
    sink: &mut impl FnMut(Change) -> Told,
) -> Result<String, super::Error> {
    let params = ListParams {
        label_selector: scope.labels.map(String::from),
        field_selector: scope.fields.map(String::from),
        ..ListParams::default()
    };
    let mut pages = Pages::new(api, "list", params, scope.metadata_only);
    let (mut listed, mut told, mut version) = (Listed::default(), HashSet::new(), String::new());
    let mut next = pages.next(PAGE).await?;
    while let Some(page) = next {
        // The API server makes up the next page while this one is taken in.
        let (following, taken) = tokio::join!(pages.next(PAGE), take_in(&page, scope, &mut listed, &mut told, sink));
        taken?;
        version = page.version;
        next = following?;
    }
    sink(Change::All(listed, told, version.parse().unwrap_or(0))).await;
    Ok(version)
}

/// Takes in a page of a list.
async fn take_in<Told: Future<Output = ()>>(
    page: &Page,
    scope: Scope<'_>,
    listed: &mut Listed,
    told: &mut HashSet<Name>,
    sink: &mut impl FnMut(Change) -> Told,
) -> Result<(), super::Error> {
    let pack = !page.last || !told.is_empty();
    let mut objects = page.objects();
    loop {
        let some: Vec<_> = objects.by_ref().take(AT_ONCE).collect::<Result<_, _>>()?;
        if some.is_empty() {
            return Ok(());
        }
        told.extend(some.iter().map(name_of));
        let some = some.into_iter().map(|object| if scope.metadata_only { without_data(object) } else { object });
        match scope.by_page {
            true => sink(Change::Page(some.collect())).await,
            false => some.for_each(|object| listed.push(object, pack)),
        }
        // Whoever shares the thread has a turn.
        tokio::task::yield_now().await;
    }
}

fn without_data(object: DynamicObject) -> DynamicObject {
    DynamicObject { data: serde_json::Value::Null, ..object }
}

fn of_metadata(object: PartialObjectMeta<Stored>) -> DynamicObject {
    DynamicObject { types: object.types, metadata: object.metadata, data: serde_json::Value::Null }
}

async fn open(
    api: &Api<Stored>,
    params: &WatchParams,
    version: &str,
    metadata_only: bool,
) -> Result<BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>, super::Error> {
    if !metadata_only {
        let stream = super::error::call("watch", api.watch(params, version)).await?;
        return Ok(stream.map(|event| event.map(|event| of(event, |stored: Stored| stored.0))).boxed());
    }
    let stream = super::error::call("watch", api.watch_metadata(params, version)).await?;
    Ok(stream.map(|event| event.map(|event| of(event, of_metadata))).boxed())
}

fn of<K>(event: WatchEvent<K>, object: impl Fn(K) -> DynamicObject) -> WatchEvent<DynamicObject> {
    match event {
        WatchEvent::Added(stored) => WatchEvent::Added(object(stored)),
        WatchEvent::Modified(stored) => WatchEvent::Modified(object(stored)),
        WatchEvent::Deleted(stored) => WatchEvent::Deleted(object(stored)),
        WatchEvent::Bookmark(bookmark) => WatchEvent::Bookmark(bookmark),
        WatchEvent::Error(status) => WatchEvent::Error(status),
    }
}

async fn watch<Told: Future<Output = ()>>(
    api: &Api<Stored>,
    kind: &'static str,
    scope: Scope<'_>,
    version: &mut String,
    pulse: &Pulse,
    sink: &mut impl FnMut(Change) -> Told,
) -> Ended {
    let params = WatchParams {
        label_selector: scope.labels.map(String::from),
        field_selector: scope.fields.map(String::from),
        ..WatchParams::default().timeout(WATCH_SECONDS)
    };
    let mut stream = match open(api, &params, version, scope.metadata_only).await {
        Ok(stream) => stream,
        Err(error) => {
            let gone = matches!(&error, super::Error::Api { source: kube::Error::Api(s), .. } if s.code == 410);
            warn!(kind, error = error.server_message(), "watch failed");
            return if gone { Ended::Relist } else { Ended::Failed(error.wait(Duration::ZERO)) };
        }
    };
    pulse.beat();
    loop {
        let event = match tokio::time::timeout(RENEWAL, stream.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => {
                debug!(kind, %error, "watch broke off");
                return Ended::Failed(Duration::ZERO);
            }
            Ok(None) => return Ended::Resume,
            Err(_) => {
                debug!(kind, "watch is silent, renewing it");
                return Ended::Resume;
            }
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                take_version(version, &object);
                sink(Change::Set(object)).await;
            }
            WatchEvent::Deleted(object) => {
                take_version(version, &object);
                sink(Change::Gone(object)).await;
            }
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                trace!(kind, version, "bookmark");
                sink(Change::Nothing(version.parse().unwrap_or(0))).await;
            }
            WatchEvent::Error(status) if status.code == 410 => return Ended::Relist,
            WatchEvent::Error(status) => {
                warn!(kind, error = status.message, "watch failed");
                return Ended::Failed(Duration::ZERO);
            }
        }
        pulse.beat();
    }
}

fn take_version(version: &mut String, object: &DynamicObject) {
    if let Some(newer) = &object.metadata.resource_version {
        version.clone_from(newer);
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
