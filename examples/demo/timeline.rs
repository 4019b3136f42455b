//! When each step happened, by the API server's own clock: its audit log has microseconds.

use anyhow::{Context, Result, ensure};
use countersign_testbed::{AuditFilter, AuditLog, Mark};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

const OPERATOR: &str = "system:serviceaccount:countersign-system:countersign";
const RECEIVED: &str = "requestReceivedTimestamp";
const ANSWERED: &str = "stageTimestamp";
const TRIES: usize = 50;
const POLL: Duration = Duration::from_millis(100);

/// The steps of one approval, in the order in which they happened.
pub struct Timeline {
    rows: Vec<Row>,
    /// From the arrival of the approval to the answer that started the Job.
    effect_ms: f64,
}

struct Row {
    at: Timestamp,
    what: &'static str,
    who: &'static str,
}

/// The requests to the API server that tell the story.
struct Calls {
    asked: Call,
    bound: Call,
    refused: Call,
    review: Call,
    started: Call,
    released: Call,
    created: Call,
    done: Call,
}

/// One request to the API server.
#[derive(Clone, Copy)]
struct Call {
    received: Timestamp,
    answered: Timestamp,
}

impl Timeline {
    /// Reads the steps from the log. The last of them may take a moment to be written.
    pub async fn read(log: &AuditLog, since: Mark, pod: &str, node: &'static str) -> Result<Self> {
        log.settle().await?;
        let mut tries = 1;
        loop {
            match Self::of(&log.events_since(since)?, pod, node) {
                Err(_) if tries < TRIES => tokio::time::sleep(POLL).await,
                other => return other,
            }
            tries += 1;
        }
    }

    fn of(events: &[Value], pod: &str, node: &'static str) -> Result<Self> {
        let calls = Calls::find(events, pod)?;
        calls.check()?;
        Ok(Self { effect_ms: milliseconds(calls.review.received, calls.started.answered), rows: calls.rows(node) })
    }

    /// A table, and what matters in it.
    pub fn render(&self) -> String {
        let start = self.rows.first().map_or(Timestamp::UNIX_EPOCH, |row| row.at);
        let mut before = start;
        let mut text = format!("   {:>12}  {:>10}  {:42}  by\n", "since start", "step", "what");
        for row in &self.rows {
            let (total, step) = (milliseconds(start, row.at), milliseconds(before, row.at));
            text.push_str(&format!("   {total:>9.1} ms  {step:>7.1} ms  {:42}  {}\n", row.what, row.who));
            before = row.at;
        }
        text.push_str(&format!(
            "\n   From alice's patch to the started Job: {:.1} ms. The long steps are this demo's own commands.\n",
            self.effect_ms
        ));
        text
    }
}

impl Calls {
    fn find(events: &[Value], pod: &str) -> Result<Self> {
        let request = |verb| AuditFilter::new().resource("approvalrequests").verb(verb);
        let operator = |resource| AuditFilter::new().user(OPERATOR).verb("patch").resource(resource).code(200);
        let status = operator("approvalrequests").subresource("status");
        let node = AuditFilter::new().resource("pods").subresource("status").name(pod).code(200);
        let review = first(events, "alice's review", &request("patch").user("alice").code(200))?;
        // A request may be found waiting for its Job first; what counts is the status that was reviewed.
        let mut earlier = events.iter().filter(|event| time(event, RECEIVED).is_ok_and(|at| at < review.received));
        Ok(Self {
            asked: first(events, "the request", &request("create").code(201))?,
            bound: call("a status before the review", earlier.rfind(|event| status.matches(event)))?,
            refused: first(events, "mallory's attempt", &request("patch").user("mallory").code(403))?,
            review,
            started: first(events, "the Job's start", &operator("jobs"))?,
            released: last(events, "the last status", &status)?,
            created: first(events, "the Pod", &AuditFilter::new().resource("pods").verb("create").code(201))?,
            done: last(events, "the Pod's last status", &node)?,
        })
    }

    /// The order that the gate promises.
    fn check(&self) -> Result<()> {
        ensure!(self.bound.received > self.asked.received, "the request was bound before it was made");
        ensure!(self.started.received > self.review.received, "the Job was started before it was approved");
        ensure!(self.created.received > self.started.received, "the Pod was made before the Job was started");
        Ok(())
    }

    fn rows(&self, node: &'static str) -> Vec<Row> {
        let mut rows = vec![
            row(self.asked.answered, "request created", "triage, the workflow"),
            row(self.bound.answered, "evaluated and bound: ready for review", "operator"),
            row(self.refused.answered, "mallory refused", "admission"),
            row(self.review.received, "alice's patch arrives", "alice"),
            row(self.review.answered, "review sealed and stored", "admission"),
            row(self.started.answered, "Job unsuspended, with bounds and receipt", "operator"),
            row(self.released.answered, "request Released", "operator"),
            row(self.created.answered, "Pod created", "Job controller"),
            row(self.done.answered, "Pod Succeeded", node),
        ];
        rows.sort_by_key(|row| row.at);
        rows
    }
}

fn row(at: Timestamp, what: &'static str, who: &'static str) -> Row {
    Row { at, what, who }
}

fn first(events: &[Value], what: &str, filter: &AuditFilter) -> Result<Call> {
    call(what, events.iter().find(|event| filter.matches(event)))
}

fn last(events: &[Value], what: &str, filter: &AuditFilter) -> Result<Call> {
    call(what, events.iter().rfind(|event| filter.matches(event)))
}

fn call(what: &str, event: Option<&Value>) -> Result<Call> {
    let event = event.with_context(|| format!("the audit log does not show {what}"))?;
    Ok(Call { received: time(event, RECEIVED)?, answered: time(event, ANSWERED)? })
}

fn time(event: &Value, field: &str) -> Result<Timestamp> {
    let text = event[field].as_str().with_context(|| format!("an audit event has no {field}: {event}"))?;
    text.parse().with_context(|| format!("{field} of an audit event"))
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
