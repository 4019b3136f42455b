//! One watch on one kind: list, then follow, for ever.
//!
//! Own code in place of kube's watcher for two things it hides: bookmarks, which tell that a silent watch is alive, and
//! the collection's resource version, which tells whether a view is older than another.

use crate::controller::backoff::backoff;
use crate::controller::index::{Name, name_of};
use crate::controller::listed::Listed;
use crate::controller::object::Stored;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{DynamicObject, ObjectList, PartialObjectMeta};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, trace, warn};

/// Objects listed at a time.
const PAGE: u32 = 250;
/// How long one watch lasts before it is renewed, in seconds.
const WATCH_SECONDS: u32 = 290;
/// Silence after which a watch counts as dead. API servers send a bookmark every minute.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);
/// Waits between failed attempts, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A watch that lasted so long is none of several that fail in a row.
const LASTING: Duration = Duration::from_secs(2);

/// What a watch tells.
pub(crate) enum Change {
    /// These are there, and more. Only where [`Scope::by_page`] says so.
    Page(Vec<DynamicObject>),
    /// This is everything there is, beside what came by pages, as of that resource version. Objects of these names are there,
    /// among them those that came by pages.
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
    let (mut listed, mut told) = (Listed::default(), HashSet::new());
    let first = ListParams {
        label_selector: scope.labels.map(String::from),
        field_selector: scope.fields.map(String::from),
        ..ListParams::default().limit(PAGE)
    };
    let mut params = first.clone();
    loop {
        let page = page(api, &params, scope.metadata_only).await?;
        let more = page.metadata.continue_.filter(|token| !token.is_empty());
        if more.is_some() {
            told.extend(page.items.iter().map(name_of));
        }
        match more.is_some() && scope.by_page {
            true => sink(Change::Page(page.items)).await,
            false => page.items.into_iter().for_each(|object| listed.push(object, more.is_some())),
        }
        let Some(token) = more else {
            let version = page.metadata.resource_version.unwrap_or_default();
            sink(Change::All(listed, told, version.parse().unwrap_or(0))).await;
            return Ok(version);
        };
        params = first.clone().continue_token(&token);
    }
}

async fn page(
    api: &Api<Stored>,
    params: &ListParams,
    metadata_only: bool,
) -> Result<ObjectList<DynamicObject>, super::Error> {
    if !metadata_only {
        let page = super::error::call("list", api.list(params)).await?;
        let items = page.items.into_iter().map(|stored| stored.0).collect();
        return Ok(ObjectList { types: page.types, metadata: page.metadata, items });
    }
    let page = super::error::call("list", api.list_metadata(params)).await?;
    let items = page.items.into_iter().map(without_data).collect();
    Ok(ObjectList { types: page.types, metadata: page.metadata, items })
}

fn without_data(object: PartialObjectMeta<Stored>) -> DynamicObject {
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
    Ok(stream.map(|event| event.map(|event| of(event, without_data))).boxed())
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
        let event = match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => {
                debug!(kind, %error, "watch broke off");
                return Ended::Failed(Duration::ZERO);
            }
            Ok(None) => return Ended::Resume,
            Err(_) => {
                warn!(kind, "watch is silent, renewing it");
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
mod tests {
    use super::*;
    use kube::client::Body;
    use kube::core::ApiResource;
    use serde_json::json;
    use std::convert::Infallible;

    /// Lists two pages of one object each, and has forgotten every version that a watch asks for.
    fn forgetful() -> Api<Stored> {
        let answer = |request: axum::http::Request<Body>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let page = |name: &str, changed: &str, more: &str| {
                json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7", "continue": more},
                    "items": [{"metadata": {"name": name, "namespace": "a", "resourceVersion": changed}}]})
            };
            let (code, body) = match () {
                () if query.contains("watch=true") => {
                    (410, json!({"status": "Failure", "reason": "Expired", "code": 410}))
                }
                () if query.contains("continue=") => (200, page("second", "3", "")),
                () => (200, page("first", "5", "more")),
            };
            let answer = axum::http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        crate::controller::object::api(&client, None, &pods)
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_list_is_told_by_pages_and_a_later_one_at_once() {
        let told = std::cell::RefCell::new(vec![]);
        let names = |objects: Vec<DynamicObject>| objects.iter().map(|object| name_of(object).1).collect::<Vec<_>>();
        let sink = |change| {
            told.borrow_mut().push(match change {
                Change::Page(objects) => ("page", names(objects), 0),
                Change::All(listed, earlier, _) => ("all", names(listed.into_objects().collect()), earlier.len()),
                _ => unreachable!("the watch tells nothing"),
            });
            std::future::ready(())
        };
        let (scope, pulse) = (Scope { by_page: true, ..Scope::default() }, Pulse::new());
        let following = follow(forgetful(), "Pod", scope, &pulse, sink);
        assert!(tokio::time::timeout(Duration::from_secs(1), following).await.is_err(), "it goes on for ever");
        let told = told.into_inner();
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (first, second) = (named(&["first"]), named(&["second"]));
        assert_eq!(told[..2], [("page", first, 0), ("all", second, 1)]);
        assert_eq!(told[2], ("all", named(&["second", "first"]), 1), "what was changed first comes first");
    }

    #[test]
    fn the_first_to_end_is_renewed_at_once_and_those_after_it_more_and_more_rarely() {
        let (mut unrest, short) = (Unrest::default(), Duration::from_millis(1));
        let mut rests = |ended: Ended, lasted| unrest.after(&ended, lasted).as_millis();
        assert_eq!(rests(Ended::Resume, LASTING), 0);
        let waits = [Ended::Resume, Ended::Relist, Ended::Relist].map(|ended| rests(ended, short));
        assert_eq!(waits, [200, 400, 800]);
        assert_eq!([(); 2].map(|()| rests(Ended::Failed(Duration::ZERO), short)), [200, 400], "counted apart");
        assert_eq!([(); 3].map(|()| rests(Ended::Resume, short)), [1600, 3200, 5000]);
        assert_eq!(rests(Ended::Failed(Duration::from_secs(30)), LASTING), 30_000, "as long as it is asked to");
        assert_eq!(rests(Ended::Relist, LASTING), 0, "one that lasted begins anew");
    }

    #[test]
    fn a_watch_that_never_spoke_is_not_fresh() {
        let pulse = Pulse::new();
        assert!(!pulse.is_fresh());
        pulse.beat();
        assert!(pulse.is_fresh());
    }
}
