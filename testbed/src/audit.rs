//! The API server's audit log: what was really asked of it, by whom, and how it answered.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Identity;

const MARKER: &str = "testbed-settle=";
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);

/// The audit log of a control plane, without reads and renewals of leases by the control plane. Writes of Pods, Jobs,
/// namespaces and requests, other than of their status, come with what was sent and what was stored; the rest is at level
/// Metadata.
///
/// A request leaves one event, except a watch, which leaves one when it starts and one when it ends.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
    admin: Identity,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// The beginning of the log.
    pub const START: Self = Self(0);
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf, admin: Identity) -> Self {
        Self { path, admin }
    }

    /// The file itself: one event in JSON on each line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current end of the log.
    pub fn mark(&self) -> Result<Mark> {
        whole_lines(&self.path, Mark::START).map(|(_, end)| end)
    }

    /// Waits until every request answered so far is in the log, and returns the end of the log.
    ///
    /// Sends a request of its own and waits for that to appear. What controllers do later on their own account
    /// is not waited for.
    pub async fn settle(&self) -> Result<Mark> {
        static SENT: AtomicU64 = AtomicU64::new(0);
        let number = SENT.fetch_add(1, Ordering::Relaxed);
        let uri = format!("/version?{MARKER}{}-{number}", process::id());
        let mut mark = self.mark()?;
        self.admin.kubectl(["get", "--raw", &uri]).ok().await?;
        let began = Instant::now();
        while began.elapsed() < SETTLE_TIMEOUT {
            let (events, end) = self.read(mark)?;
            if events.iter().any(|event| event["requestURI"] == *uri) {
                return Ok(end);
            }
            mark = end;
            tokio::time::sleep(POLL).await;
        }
        bail!("the audit log did not show {uri} within {SETTLE_TIMEOUT:?}")
    }

    /// The events since `mark`, oldest first.
    pub fn events_since(&self, mark: Mark) -> Result<Vec<Value>> {
        let (mut events, _) = self.read(mark)?;
        let own = |event: &Value| event["requestURI"].as_str().is_some_and(|uri| uri.contains(MARKER));
        events.retain(|event| !own(event));
        Ok(events)
    }

    /// The events since `mark` that `filter` matches, oldest first.
    pub fn select(&self, mark: Mark, filter: &AuditFilter) -> Result<Vec<Value>> {
        let mut events = self.events_since(mark)?;
        events.retain(|event| filter.matches(event));
        Ok(events)
    }

    /// How many events since `mark` match `filter`.
    pub fn count(&self, mark: Mark, filter: &AuditFilter) -> Result<usize> {
        Ok(self.select(mark, filter)?.len())
    }

    fn read(&self, mark: Mark) -> Result<(Vec<Value>, Mark)> {
        let (text, end) = whole_lines(&self.path, mark)?;
        Ok((parse(text.lines())?, end))
    }
}

/// The events since `mark` that show what was stored, and where to go on reading.
pub(crate) fn read_bodied(path: &Path, mark: Mark) -> Result<(Vec<Value>, Mark)> {
    let (text, end) = whole_lines(path, mark)?;
    // The rest is most of the log, and parsing is most of the cost.
    let events = parse(text.lines().filter(|line| line.contains("\"responseObject\"")))?;
    Ok((events, end))
}

fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Value>> {
    let events = lines.filter(|line| !line.is_empty()).map(serde_json::from_str).collect::<Result<_, _>>();
    events.context("reading the audit log")
}

/// Whole lines only: the API server may be writing the last one.
fn whole_lines(path: &Path, mark: Mark) -> Result<(String, Mark)> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(mark.0))?;
            file.read_to_end(&mut bytes)?;
        }
        // Not created before the first event, and gone with the control plane.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("opening the audit log"),
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes.truncate(whole);
    let text = String::from_utf8(bytes).context("reading the audit log")?;
    Ok((text, Mark(mark.0 + whole as u64)))
}

/// Selects audit events. Every condition that is set has to hold; a new filter matches everything.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    conditions: Vec<(&'static str, Value)>,
}

impl AuditFilter {
    /// Matches every event.
    pub fn new() -> Self {
        Self::default()
    }

    /// The authenticated user.
    pub fn user(self, name: &str) -> Self {
        self.with("/user/username", name)
    }

    /// The verb, as RBAC names it.
    pub fn verb(self, verb: &str) -> Self {
        self.with("/verb", verb)
    }

    /// The plural resource name.
    pub fn resource(self, resource: &str) -> Self {
        self.with("/objectRef/resource", resource)
    }

    /// The subresource; an empty one matches only requests to the resource itself.
    pub fn subresource(self, subresource: &str) -> Self {
        self.with("/objectRef/subresource", subresource)
    }

    /// The name of the object. The creation of an object does not always carry it.
    pub fn name(self, name: &str) -> Self {
        self.with("/objectRef/name", name)
    }

    /// The namespace of the object.
    pub fn namespace(self, namespace: &str) -> Self {
        self.with("/objectRef/namespace", namespace)
    }

    /// The status code of the response.
    pub fn code(self, code: u16) -> Self {
        self.with("/responseStatus/code", code)
    }

    /// The stage, such as `ResponseComplete`.
    pub fn stage(self, stage: &str) -> Self {
        self.with("/stage", stage)
    }

    /// Whether `event` meets all conditions.
    pub fn matches(&self, event: &Value) -> bool {
        self.conditions.iter().all(|(pointer, wanted)| match event.pointer(pointer) {
            Some(found) => found == wanted,
            // The API server leaves out what is empty.
            None => wanted == "",
        })
    }

    fn with(mut self, pointer: &'static str, wanted: impl Into<Value>) -> Self {
        self.conditions.push((pointer, wanted.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_subresource_matches_its_absence_only() {
        let filter = AuditFilter::new().resource("jobs").subresource("");
        assert!(filter.matches(&json!({"objectRef": {"resource": "jobs"}})));
        assert!(!filter.matches(&json!({"objectRef": {"resource": "jobs", "subresource": "status"}})));
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let event = json!({"verb": "create", "user": {"username": "alice"}, "responseStatus": {"code": 201}});
        assert!(AuditFilter::new().user("alice").verb("create").code(201).matches(&event));
        assert!(!AuditFilter::new().user("bob").verb("create").matches(&event));
        assert!(!AuditFilter::new().user("alice").code(403).matches(&event));
    }
}
