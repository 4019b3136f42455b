//! Metrics of the operator's own work: what it answers, what it fails at, and how old its view is.

use crate::telemetry::metrics::labels::{AdmissionLabels, Answered, Asked, Failed, FailedLabels, KindLabels};
use crate::telemetry::metrics::registered;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Verdicts take microseconds; those that ask the authorizer, milliseconds.
const ANSWER: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0];

/// What there is to measure of the work. Clones count together.
#[derive(Clone, Debug)]
pub struct WorkMetrics {
    admission: Family<AdmissionLabels, Histogram, fn() -> Histogram>,
    failed: Family<FailedLabels, Counter>,
    watches: Family<KindLabels, Gauge<f64, AtomicU64>>,
    /// Finished traces that were not sent.
    pub traces_dropped: Counter,
}

impl WorkMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let failed = "Looks at an object that came to nothing and were repeated, by class of the error";
        let watches =
            "How long ago a watch last spoke, by kind; at 90 seconds one counts as dead and nothing is released";
        let dropped = "Finished traces that were not sent, since the endpoint does not take them";
        let metrics = Self {
            admission: Family::new_with_constructor(|| Histogram::new(ANSWER)),
            failed: registered(registry, "reconcile_errors", failed),
            watches: registered(registry, "watch_age_seconds", watches),
            traces_dropped: registered(registry, "traces_dropped", dropped),
        };
        for asked in Asked::ALL {
            for answered in Answered::ALL {
                drop(metrics.admission.get_or_create(&AdmissionLabels { asked: *asked, answered: *answered }));
            }
        }
        for class in Failed::ALL {
            drop(metrics.failed.get_or_create(&FailedLabels { class: *class }));
        }
        let admission = "How long admission took to answer, by what was asked and answered";
        registry.register("admission_duration_seconds", admission, metrics.admission.clone());
        metrics
    }

    /// Admission answered.
    pub fn answered(&self, asked: Asked, answered: Answered, took: Duration) {
        self.admission.get_or_create(&AdmissionLabels { asked, answered }).observe(took.as_secs_f64());
    }

    /// A look at an object came to nothing.
    pub fn failed(&self, class: Failed) {
        self.failed.get_or_create(&FailedLabels { class }).inc();
    }

    /// A watch on that kind spoke so long ago.
    pub fn set_watch_age(&self, kind: &'static str, age: Duration) {
        self.watches.get_or_create(&KindLabels { kind }).set(age.as_secs_f64());
    }
}
