//! Metrics of requests: those that wait, and how those ended that did.

use crate::telemetry::metrics::labels::{RequestLabels, Stands, StateLabels};
use crate::telemetry::metrics::registered;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// People decide in seconds, or after a night.
const DECISION: [f64; 10] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0];
/// The operator releases in milliseconds.
const RELEASE: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Names of the policy and of the rule that govern a request; none where no rule matched.
pub type Rule = Option<(String, String)>;

/// What there is to measure of requests. Clones count together.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    open: Family<RequestLabels, Gauge>,
    oldest: Gauge,
    ended: Family<RequestLabels, Counter>,
    decision: Family<StateLabels, Histogram, fn() -> Histogram>,
    release: Histogram,
}

fn labels(state: Stands, rule: Rule) -> RequestLabels {
    let (policy, rule) = rule.unwrap_or_default();
    RequestLabels { state, policy, rule }
}

impl RequestMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let open = "Requests that have not ended, by state and by the policy and rule that govern them, as seen now";
        let oldest = "Age of the oldest request that waits for policy or reviewers, 0 where none does";
        let ended = "Requests that this operator ended, by state and by the policy and rule that governed them";
        let metrics = Self {
            open: registered(registry, "requests_open", open),
            oldest: registered(registry, "oldest_pending_request_age_seconds", oldest),
            ended: registered(registry, "requests_ended", ended),
            decision: Family::new_with_constructor(|| Histogram::new(DECISION)),
            release: Histogram::new(RELEASE),
        };
        for state in Stands::ALL.iter().copied().filter(|state| state.is_final()) {
            drop(metrics.ended.get_or_create(&labels(state, None)));
            drop(metrics.decision.get_or_create(&StateLabels { state }));
        }
        metrics.set_open([], Duration::ZERO);
        let decision = "From the creation of a request to its end, by how it ended";
        registry.register("request_duration_seconds", decision, metrics.decision.clone());
        let release = "From the last approval, or the time that was waited for, to the release";
        registry.register("release_duration_seconds", release, metrics.release.clone());
        metrics
    }

    /// Takes what is open now: how many of each, and how long the oldest that is pending has waited.
    pub fn set_open(&self, counts: impl IntoIterator<Item = ((Stands, Rule), i64)>, oldest: Duration) {
        self.open.clear();
        for state in Stands::ALL.iter().copied().filter(|state| !state.is_final()) {
            drop(self.open.get_or_create(&labels(state, None)));
        }
        for ((state, rule), count) in counts {
            self.open.get_or_create(&labels(state, rule)).set(count);
        }
        self.oldest.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// One has ended: how, how long after it was asked, and how long its release took, where it was approved.
    pub fn ended(&self, state: Stands, rule: Rule, took: Duration, release: Option<Duration>) {
        self.ended.get_or_create(&labels(state, rule)).inc();
        self.decision.get_or_create(&StateLabels { state }).observe(took.as_secs_f64());
        if let Some(release) = release {
            self.release.observe(release.as_secs_f64());
        }
    }
}
