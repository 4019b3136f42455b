//! What becomes of requests is seen from outside: in metrics, in traces, and in the log.

use crate::support::told::said;
use crate::support::{Space, by_sre};
use crate::{Lab, Replica};
use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Takes traces, as a collector does.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    async fn start() -> Result<Self> {
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let take = |State(spans): State<Arc<Mutex<Vec<Value>>>>, body: String| async move {
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            let told = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
            spans.lock().unwrap().extend(told.unwrap_or_default());
            "{}"
        };
        let router = Router::new().route("/collect/v1/traces", post(take)).with_state(spans.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/collect", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, spans })
    }

    /// The spans of the request of that uid, once there are some.
    async fn trace(&self, uid: &str) -> Result<Vec<Value>> {
        let (began, id) = (Instant::now(), uid.replace('-', ""));
        while began.elapsed() < Duration::from_secs(10) {
            let spans = self.spans.lock().unwrap().clone();
            let found: Vec<Value> = spans.into_iter().filter(|span| span["traceId"] == json!(id)).collect();
            if !found.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("no trace {id}: {:#?}", self.spans.lock().unwrap())
    }
}

/// What both operators count, together.
struct Counted(Vec<String>);

impl Counted {
    async fn of(replicas: &[Replica]) -> Result<Self> {
        let mut told = vec![];
        for replica in replicas {
            told.push(said(replica.backend.readiness, "/metrics").await.context("metrics")?);
        }
        Ok(Self(told))
    }

    /// The value of that series at each of them.
    fn each(&self, series: &str) -> Vec<f64> {
        let value = |told: &String| -> Option<f64> {
            told.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        };
        self.0.iter().map(|told| value(told).unwrap_or_default()).collect()
    }

    fn sum(&self, series: &str) -> f64 {
        self.each(series).iter().sum()
    }
}

async fn uid(space: &Space, name: &str) -> Result<String> {
    let request = space.get("approvalrequests", name).await?;
    Ok(request["metadata"]["uid"].as_str().context("uid")?.to_owned())
}

fn metrics_tell(counted: &Counted) -> Result<()> {
    let rule = r#"policy="seen",rule="prod-write""#;
    for (series, expected) in [
        (format!(r#"countersign_requests_ended_total{{state="Released",{rule}}}"#), 1.0),
        (format!(r#"countersign_requests_ended_total{{state="Denied",{rule}}}"#), 1.0),
        (r#"countersign_request_duration_seconds_count{state="Denied"}"#.into(), 1.0),
        ("countersign_release_duration_seconds_count".into(), 1.0),
        (r#"countersign_reconcile_errors_total{class="refused"}"#.into(), 0.0),
        ("countersign_traces_dropped_total".into(), 0.0),
        // Both see what waits.
        (format!(r#"countersign_requests_open{{state="Pending",{rule}}}"#), 2.0),
    ] {
        ensure!(counted.sum(&series) == expected, "{series} is not {expected}: {:#?}", counted.0);
    }
    let release = counted.sum("countersign_release_duration_seconds_sum");
    ensure!(release > 0.0 && release < 5.0, "the release took {release} s");
    ensure!(counted.each("countersign_oldest_pending_request_age_seconds").iter().all(|age| *age < 300.0));
    for (answered, least) in [("allowed", 5.0), ("refused", 1.0)] {
        let series = format!(r#"countersign_admission_duration_seconds_count{{asked="admit",answered="{answered}"}}"#);
        ensure!(counted.sum(&series) >= least, "{series}: {:#?}", counted.0);
    }
    for kind in ["ApprovalRequest", "ApprovalPolicy", "Job", "Pod", "Namespace", "NetworkPolicy", "ClusterRole"] {
        let series = format!(r#"countersign_watch_age_seconds{{kind="{kind}"}}"#);
        let ages = counted.each(&series);
        ensure!(ages.iter().all(|age| *age > 0.0 && *age < 150.0), "{series}: {ages:?}");
    }
    Ok(())
}

fn trace_tells(spans: &[Value], state: &str, names: &[&str]) -> Result<()> {
    let told: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
    ensure!(told == names, "{told:?}");
    let root = &spans[0];
    let attribute = |key: &str| {
        let all = root["attributes"].as_array().into_iter().flatten();
        all.filter(|a| a["key"] == key).find_map(|a| a["value"]["stringValue"].as_str()).unwrap_or_default()
    };
    assert_eq!(attribute("countersign.request.state"), state);
    assert_eq!((attribute("k8s.namespace.name"), attribute("countersign.rule")), ("seen", "prod-write"));
    ensure!(!attribute("k8s.job.uid").is_empty(), "{root:#}");
    let time = |span: &Value, field: &str| span[field].as_str().and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
    for span in &spans[1..] {
        assert_eq!(span["parentSpanId"], root["spanId"]);
        ensure!(time(span, "startTimeUnixNano") >= time(root, "startTimeUnixNano"), "{spans:#?}");
        ensure!(time(span, "endTimeUnixNano") <= time(root, "endTimeUnixNano"), "{spans:#?}");
    }
    let text = json!(spans).to_string();
    ensure!(!text.contains("alice"), "a trace names who reviewed: {text}");
    Ok(())
}

fn log_tells(replicas: &[Replica], uid: &str) -> Result<()> {
    let mut told = 0;
    for replica in replicas {
        for line in replica.operator.log().lines().filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(line).with_context(|| format!("a line that is no JSON: {line}"))?;
            if line["fields"]["namespace"] == "seen" && line["fields"]["name"] == "released" {
                assert_eq!(line["fields"]["uid"], json!(uid), "{line}");
                told += 1;
            }
        }
    }
    ensure!(told > 0, "the log does not tell of it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_requests_is_seen_from_outside() -> Result<()> {
    let (mut lab, collector) = (Lab::new().await?, Collector::start().await?);
    lab.flags.extend(["--log-json".into(), format!("--otlp-endpoint={}", collector.address)]);
    let two = lab.two().await?;
    let space = Space::new(&lab.cluster, "seen").await?;
    space.policy(by_sre()).await?;
    let (alice, mallory) = (lab.cluster.user("alice", &["sre"])?, lab.cluster.user("mallory", &["developers"])?);
    for name in ["released", "denied", "waits"] {
        space.bound(name).await?;
    }
    let digest = space.digest("released").await?;
    space.review(&mallory, "released", "Approve", &digest).refused().await?;
    space.review(&alice, "released", "Approve", &digest).ok().await?;
    let denied = space.digest("denied").await?;
    space.review(&alice, "denied", "Deny", &denied).ok().await?;
    space.state("released", "Released").await?;
    space.state("denied", "Denied").await?;

    let released = uid(&space, "released").await?;
    let whole = ["request", "evaluate", "decide", "release"];
    trace_tells(&collector.trace(&released).await?, "Released", &whole)?;
    trace_tells(&collector.trace(&uid(&space, "denied").await?).await?, "Denied", &whole[..3])?;
    metrics_tell(&Counted::of(&two).await?)?;
    log_tells(&two, &released)
}
