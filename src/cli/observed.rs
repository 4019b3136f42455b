//! Takes what the operator does to where people look: metrics and traces.

use crate::api::{State, TargetKind};
use crate::controller::{self, Class, Index, Watches};
use crate::integrity::Integrity;
use crate::lifecycle::{Foreseen, Milestones};
use crate::telemetry::{Failed, Happened, Metrics, Post, Span, Stands, Trace, Tracer, Warned};
use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use kube::{Client, Config};
use std::sync::Arc;
use std::time::Duration;

/// Where what happens is told.
pub struct Observed {
    /// Hears of what was started past the gate.
    pub integrity: Arc<Integrity>,
    /// Count.
    pub metrics: Metrics,
    /// Takes traces, where somebody wants them.
    pub tracer: Option<Tracer>,
}

impl controller::Hooks for Observed {
    fn started_past_the_gate(&self, kind: TargetKind, namespace: &str, name: &str) {
        self.integrity.report_foreign_start(kind.as_str(), namespace, name);
    }

    fn trail(&self, intact: bool, waiting: usize, kept: i64) {
        self.metrics.audit_trail_intact.set(i64::from(intact));
        self.metrics.audit_entries_kept.set(kept);
        self.metrics.audit_entries_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    fn warned(&self, foreseen: Foreseen) {
        self.metrics.warned(match foreseen {
            Foreseen::Allow => Warned::Allow,
            Foreseen::Deny => Warned::Deny,
            Foreseen::Hold => Warned::RequireApproval,
            Foreseen::NoPolicy => Warned::NoMatchingPolicy,
        });
    }

    fn ended(&self, milestones: Milestones) {
        let release = milestones.release_took().map(unsigned);
        let took = unsigned(milestones.took());
        self.metrics.requests.ended(stands(milestones.state), milestones.rule.clone(), took, release);
        if let Some(tracer) = &self.tracer {
            tracer.tell(trace(milestones));
        }
    }

    fn failed(&self, class: Class) {
        self.metrics.work.failed(match class {
            Class::Conflict => Failed::Conflict,
            Class::Refused => Failed::Refused,
            Class::Unavailable => Failed::Unavailable,
        });
    }
}

/// Brings up to date what metrics tell of how things are now.
pub fn refresh(metrics: &Metrics, index: &Index, watches: &Watches) {
    let open = index.open_requests(Timestamp::now());
    let counts = open.counts.into_iter().map(|((state, rule), count)| ((stands(state), rule), count));
    metrics.requests.set_open(counts, unsigned(open.oldest));
    watches.silences().for_each(|(kind, age)| metrics.work.set_watch_age(kind, age));
}

fn stands(state: State) -> Stands {
    match state {
        State::Pending => Stands::Pending,
        State::Approved => Stands::Approved,
        State::Released => Stands::Released,
        State::Denied => Stands::Denied,
        State::Expired => Stands::Expired,
        State::Cancelled => Stands::Cancelled,
    }
}

fn unsigned(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

/// The request from its creation to its end, and within that: until it was bound, until it was decided, until it was released.
/// Reviewers are not named: who may read traces is another circle than who may read the audit trail.
fn trace(told: Milestones) -> Trace {
    let span = |name, from, to| Span { name, from, to, attributes: vec![], events: vec![] };
    let decided = told.decided.unwrap_or(told.ended);
    // It is stored in whole seconds, the next one: nothing was decided before it was shown.
    let shown = told.shown.unwrap_or(decided).clamp(told.asked.min(decided), decided);
    let mut spans = vec![span("request", told.asked, told.ended), span("evaluate", told.asked, shown)];
    let mut decide = span("decide", shown, decided);
    let said = told.reviews.iter().map(|(at, decision)| {
        let name = match decision {
            crate::api::ReviewDecision::Approve => "Approve",
            crate::api::ReviewDecision::Deny => "Deny",
        };
        Happened { at: *at, name }
    });
    decide.events = said.collect();
    spans.push(decide);
    if told.state == State::Released {
        if let Some(due) = told.due.filter(|due| *due > decided) {
            spans.push(span("wait", decided, due));
        }
        spans.push(span("release", told.due.unwrap_or(decided), told.ended));
    }
    let known = &mut spans[0].attributes;
    known.push(("k8s.namespace.name", told.namespace));
    known.push(("countersign.request.name", told.name));
    known.push(("countersign.request.uid", told.uid.clone()));
    known.push(("countersign.request.state", told.state.as_str().into()));
    known.push(("countersign.request.revision", told.revision.to_string()));
    known.push(("countersign.workflow", told.workflow));
    if let Some((policy, rule)) = told.rule {
        known.extend([("countersign.policy", policy), ("countersign.rule", rule)]);
    }
    if let Some((kind, name, uid)) = told.target {
        known.extend(match kind {
            TargetKind::Job => [("k8s.job.name", name), ("k8s.job.uid", uid)],
            TargetKind::Pod => [("k8s.pod.name", name), ("k8s.pod.uid", uid)],
        });
    }
    Trace { id: told.uid, spans }
}

/// Sends to the collector at that address: its base, to which OTLP adds the path. The client is the one that speaks to the API
/// server, without an identity.
pub fn post_to(endpoint: &str) -> anyhow::Result<Post> {
    let place = || format!("--otlp-endpoint {endpoint}: not an address such as http://collector:4318");
    let base: axum::http::Uri = endpoint.parse().with_context(place)?;
    anyhow::ensure!(matches!(base.scheme_str(), Some("http" | "https")) && base.host().is_some(), place());
    let mut config = Config::new(base);
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = Client::try_from(config)?;
    Ok(Arc::new(move |body| {
        let request = axum::http::Request::post("/v1/traces").header("content-type", "application/json").body(body);
        let client = client.clone();
        Box::pin(async move {
            let request = request.map_err(|error| error.to_string())?;
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        })
    }))
}
