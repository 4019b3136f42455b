//! Every metric there is, by its handle.

mod labels;
mod requests;
mod work;

use labels::WarnedLabels;
pub use labels::{Answered, Asked, Failed, Stands, Warned};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
pub use requests::{RequestMetrics, Rule};
use std::sync::Arc;
pub use work::WorkMetrics;

/// The metrics. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while everything that holds the gate is as expected; 0 otherwise, and until everything was seen.
    pub gate_intact: Gauge,
    /// How much is wrong with what holds the gate.
    pub gate_findings: Gauge,
    /// How often something was found wrong with it: tells also of what lasts shorter than the time between two scrapes.
    pub gate_broken: Counter,
    /// Jobs that somebody other than the operator started.
    pub foreign_unsuspends: Counter,
    /// 1 while this operator decides and writes.
    pub leader: Gauge,
    /// When the certificate ends under which admission is served, in seconds since 1970; 0 where none is served.
    pub admission_certificate: Gauge,
    /// 1 while the audit trail can be gone on with; 0 where it is not whole, and until it was read.
    pub audit_trail_intact: Gauge,
    /// Entries of the audit trail that could not be written yet.
    pub audit_entries_waiting: Gauge,
    /// Entries of the audit trail that are kept in the cluster.
    pub audit_entries_kept: Gauge,
    /// Requests, waiting and ended.
    pub requests: RequestMetrics,
    /// The operator's own work.
    pub work: WorkMetrics,
    warned_jobs: Family<WarnedLabels, Counter>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut all = Registry::with_prefix("countersign");
        let registry = &mut all;
        let (requests, work) = (RequestMetrics::new(registry), WorkMetrics::new(registry));
        let warned = "Jobs that a gate which only warns let through, by what would have become of them";
        let warned_jobs = registered::<Family<WarnedLabels, Counter>>(registry, "warned_jobs", warned);
        // Every series is there from the start, so that a first increment shows as one.
        for outcome in Warned::ALL {
            drop(warned_jobs.get_or_create(&WarnedLabels { outcome: *outcome }));
        }
        let intact = "1 while every object that holds the gate is as expected, 0 otherwise or while not seen";
        let findings = "Differences between the objects that hold the gate and what is expected";
        let broken = "Differences found so far, those that are mended included";
        let foreign = "Jobs started by somebody other than the operator, overrides aside";
        let leader = "1 while this operator decides and writes, 0 while it only watches";
        let ends = "When the certificate for admission ends, in seconds since 1970, 0 where none is served";
        let trail = "1 while the audit trail can be gone on with, 0 where it is not whole, or not read yet";
        let waiting = "Entries of the audit trail that could not be written yet";
        let kept = "Entries of the audit trail that are kept in the cluster";
        Self {
            gate_intact: registered(registry, "gate_intact", intact),
            gate_findings: registered(registry, "gate_findings", findings),
            gate_broken: registered(registry, "gate_broken", broken),
            foreign_unsuspends: registered(registry, "foreign_unsuspends", foreign),
            leader: registered(registry, "leader", leader),
            admission_certificate: registered(registry, "admission_certificate_expiry_timestamp_seconds", ends),
            audit_trail_intact: registered(registry, "audit_trail_intact", trail),
            audit_entries_waiting: registered(registry, "audit_entries_waiting", waiting),
            audit_entries_kept: registered(registry, "audit_entries_kept", kept),
            requests,
            work,
            warned_jobs,
            registry: Arc::new(all),
        }
    }

    /// Counts a Job that a gate which only warns let through.
    pub fn warned(&self, outcome: Warned) {
        self.warned_jobs.get_or_create(&WarnedLabels { outcome }).inc();
    }

    /// All of them, as OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A metric at zero, told under that name.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_from_the_start_and_counts() {
        let metrics = Metrics::new();
        let before = metrics.render().unwrap();
        for line in [
            "countersign_gate_intact 0",
            "countersign_leader 0",
            "countersign_admission_certificate_expiry_timestamp_seconds 0",
            "countersign_audit_trail_intact 0",
            "countersign_audit_entries_waiting 0",
            "countersign_gate_findings 0",
            "countersign_gate_broken_total 0",
            "countersign_foreign_unsuspends_total 0",
            r#"countersign_warned_jobs_total{outcome="no_matching_policy"} 0"#,
            r#"countersign_requests_open{state="Pending",policy="",rule=""} 0"#,
            r#"countersign_requests_ended_total{state="Denied",policy="",rule=""} 0"#,
            r#"countersign_request_duration_seconds_count{state="Released"} 0"#,
            r#"countersign_reconcile_errors_total{class="refused"} 0"#,
            "countersign_oldest_pending_request_age_seconds 0",
            "countersign_release_duration_seconds_count 0",
            "countersign_traces_dropped_total 0",
        ] {
            assert!(before.lines().any(|l| l == line), "{line} in {before}");
        }
        assert!(before.ends_with("# EOF\n"));
        let clone = metrics.clone();
        clone.warned(Warned::Deny);
        clone.foreign_unsuspends.inc();
        let after = metrics.render().unwrap();
        assert!(after.contains(r#"countersign_warned_jobs_total{outcome="deny"} 1"#), "{after}");
        assert!(after.contains("countersign_foreign_unsuspends_total 1"), "{after}");
        assert_eq!(before.lines().count(), after.lines().count());
    }

    #[test]
    fn requests_are_told_apart_by_what_governs_them() {
        let metrics = Metrics::new();
        let rule = Some(("prod".to_owned(), "write".to_owned()));
        let open = || [((Stands::Pending, rule.clone()), 3), ((Stands::Approved, None), 1)];
        metrics.requests.set_open(open(), std::time::Duration::from_millis(61_900));
        let (took, release) = (std::time::Duration::from_secs(40), std::time::Duration::from_millis(7));
        metrics.requests.ended(Stands::Released, rule.clone(), took, Some(release));
        metrics.requests.ended(Stands::Expired, None, took, None);
        let told = metrics.render().unwrap();
        for line in [
            r#"countersign_requests_open{state="Pending",policy="prod",rule="write"} 3"#,
            r#"countersign_requests_open{state="Approved",policy="",rule=""} 1"#,
            "countersign_oldest_pending_request_age_seconds 61",
            r#"countersign_requests_ended_total{state="Released",policy="prod",rule="write"} 1"#,
            r#"countersign_requests_ended_total{state="Expired",policy="",rule=""} 1"#,
            r#"countersign_request_duration_seconds_bucket{le="15.0",state="Released"} 0"#,
            r#"countersign_request_duration_seconds_bucket{le="60.0",state="Released"} 1"#,
            r#"countersign_release_duration_seconds_bucket{le="0.01"} 1"#,
            "countersign_release_duration_seconds_count 1",
        ] {
            assert!(told.lines().any(|l| l == line), "{line} in {told}");
        }
        // What has ended is not open any more.
        metrics.requests.set_open([], std::time::Duration::ZERO);
        assert!(!metrics.render().unwrap().contains(r#"open{state="Pending",policy="prod""#));
    }

    #[test]
    fn the_operator_s_own_work_is_told() {
        let metrics = Metrics::new();
        metrics.work.answered(Asked::Admit, Answered::Refused, std::time::Duration::from_micros(200));
        metrics.work.failed(Failed::Conflict);
        metrics.work.set_watch_age("Job", std::time::Duration::from_millis(1500));
        let told = metrics.render().unwrap();
        for line in [
            r#"countersign_admission_duration_seconds_count{asked="admit",answered="refused"} 1"#,
            r#"countersign_reconcile_errors_total{class="conflict"} 1"#,
            r#"countersign_watch_age_seconds{kind="Job"} 1.5"#,
        ] {
            assert!(told.lines().any(|l| l == line), "{line} in {told}");
        }
    }
}
