//! Traces of what has ended, sent to a collector as OTLP over HTTP, in its JSON form.
//!
//! A request lives for hours and passes through processes that come and go, so nobody holds its spans open: once it has ended,
//! whoever ended it tells all of them, from the times that are stored. The trace id is taken from the request's uid, which is one
//! already, and the span ids follow from it; a trace that two operators tell is the same trace.
//!
//! Best effort: what the collector does not take in time is dropped, and counted. Format:
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp> and the JSON mapping of its `ExportTraceServiceRequest`.

use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Traces that may wait; what comes on top is dropped.
const WAITING: usize = 256;
/// Traces that are sent at a time.
const BATCH: usize = 64;
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a body to the collector. What it says on failure is for the log.
pub type Post = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A name and what it is.
pub type Attribute = (&'static str, String);

/// Something that happened at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When.
    pub at: Timestamp,
    /// What.
    pub name: &'static str,
}

/// Something that lasted.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What it was; no two spans of a trace have the same name.
    pub name: &'static str,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// What is known of it.
    pub attributes: Vec<Attribute>,
    /// What happened meanwhile.
    pub events: Vec<Happened>,
}

/// Spans that belong together: the first holds the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// A UUID.
    pub id: String,
    /// The first holds the others.
    pub spans: Vec<Span>,
}

/// Takes traces to be sent.
#[derive(Clone)]
pub struct Tracer {
    waiting: mpsc::Sender<Trace>,
    dropped: Counter,
}

impl Tracer {
    /// Hands a trace over, or drops it when too many wait.
    pub fn tell(&self, trace: Trace) {
        if self.waiting.try_send(trace).is_err() {
            self.dropped.inc();
            debug!("too many traces wait, one is dropped");
        }
    }
}

/// A tracer, and the task that sends what it is told, as `instance` of the service.
pub fn tracer(post: Post, instance: String, dropped: Counter) -> (Tracer, impl Future<Output = ()>) {
    let (waiting, mut traces) = mpsc::channel(WAITING);
    let counter = dropped.clone();
    let sending = async move {
        let (mut batch, mut failing) = (vec![], false);
        while traces.recv_many(&mut batch, BATCH).await > 0 {
            let body = message(&batch, &instance).to_string().into_bytes();
            let sent = tokio::time::timeout(PATIENCE, post(body)).await;
            match sent.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
                Ok(()) => failing = false,
                Err(error) => {
                    counter.inc_by(batch.len() as u64);
                    // Said once, not with every batch.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(error, "traces were not sent and are dropped");
                    }
                }
            }
            batch.clear();
        }
    };
    (Tracer { waiting, dropped }, sending)
}

/// The body of a request to the collector.
fn message(traces: &[Trace], instance: &str) -> Value {
    let resource = attributes(&[
        ("service.name", "countersign".into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", instance.into()),
    ]);
    let spans: Vec<Value> = traces.iter().flat_map(spans).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "countersign"}, "spans": spans}],
    }]})
}

fn spans(trace: &Trace) -> Vec<Value> {
    let root = trace.spans.first().map(|span| span_id(&trace.id, span.name)).unwrap_or_default();
    trace
        .spans
        .iter()
        .map(|span| {
            let id = span_id(&trace.id, span.name);
            let parent = if id == root { "" } else { &root };
            let events =
                span.events.iter().map(|event| json!({"timeUnixNano": nanoseconds(event.at), "name": event.name}));
            json!({
                "traceId": trace_id(&trace.id), "spanId": id, "parentSpanId": parent,
                "name": span.name, "kind": 1,
                "startTimeUnixNano": nanoseconds(span.from), "endTimeUnixNano": nanoseconds(span.to.max(span.from)),
                "attributes": attributes(&span.attributes), "events": events.collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn attributes(list: &[Attribute]) -> Vec<Value> {
    list.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

/// 64 bits as JSON has them: in a string.
fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

/// The 32 hexadecimal digits of a UUID; of anything else, as many of its hash.
fn trace_id(id: &str) -> String {
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    let is_one =
        digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit()) && digits.chars().any(|c| c != '0');
    if is_one { digits.to_ascii_lowercase() } else { hexadecimal(&Sha256::digest(id)[..16]) }
}

fn span_id(trace: &str, name: &str) -> String {
    hexadecimal(&Sha256::digest(format!("{trace}/{name}"))[..8])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const ID: &str = "6f1c2a34-0000-4000-8000-00000000ABCD";

    fn trace(id: &str) -> Trace {
        let at = |second| Timestamp::from_second(second).unwrap();
        let span = |name, from, to| Span { name, from: at(from), to: at(to), attributes: vec![], events: vec![] };
        let mut root = span("request", 10, 30);
        root.attributes = vec![("k8s.namespace.name", "incidents".into())];
        root.events = vec![Happened { at: at(20), name: "Approve" }];
        Trace { id: id.into(), spans: vec![root, span("decide", 12, 11)] }
    }

    #[test]
    fn a_trace_is_found_by_the_uid_and_told_twice_is_the_same() {
        let message = message(&[trace(ID)], "one");
        let spans = &message["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let (root, child) = (&spans[0], &spans[1]);
        assert_eq!(root["traceId"], "6f1c2a340000400080000000".to_owned() + "0000abcd");
        assert_eq!((&root["parentSpanId"], &child["parentSpanId"]), (&json!(""), &root["spanId"]));
        assert_eq!(root["spanId"].as_str().unwrap().len(), 16);
        assert_eq!(root["startTimeUnixNano"], "10000000000");
        assert_eq!(root["attributes"][0], json!({"key": "k8s.namespace.name", "value": {"stringValue": "incidents"}}));
        assert_eq!(root["events"][0], json!({"timeUnixNano": "20000000000", "name": "Approve"}));
        // Two clocks that differ make no span that ends before it began.
        assert_eq!(
            (&child["startTimeUnixNano"], &child["endTimeUnixNano"]),
            (&json!("12000000000"), &json!("12000000000"))
        );
        assert_eq!(message, super::message(&[trace(ID)], "one"));
        for odd in ["", "00000000-0000-0000-0000-000000000000", "not a uuid"] {
            let id = trace_id(odd);
            assert!(id.len() == 32 && id.chars().any(|c| c != '0'), "{odd}: {id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_collector_does_not_take_is_dropped_and_counted() {
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (heard, dropped) = (bodies.clone(), Counter::default());
        let post: Post = Arc::new(move |body| {
            let mut bodies = heard.lock().unwrap();
            bodies.push(serde_json::from_slice(&body).unwrap());
            let first = bodies.len() == 1;
            Box::pin(async move {
                match first {
                    true => std::future::pending().await,
                    false => Ok(()),
                }
            })
        });
        let (tracer, sending) = tracer(post, "one".into(), dropped.clone());
        tracer.tell(trace(ID));
        let sending = tokio::spawn(sending);
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(bodies.lock().unwrap().len(), 1);
        for _ in 0..WAITING + 3 {
            tracer.tell(trace(ID));
        }
        assert_eq!(dropped.get(), 3, "more than may wait");
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(dropped.get(), 4, "what was not answered in time");
        assert_eq!(bodies.lock().unwrap().len(), 1 + WAITING / BATCH);
        drop(tracer);
        sending.await.unwrap();
    }
}
