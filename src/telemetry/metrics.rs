//! Every metric there is, by its handle. A label takes one of few values, all named here: what a tenant writes never
//! becomes one.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt::Write;
use std::sync::Arc;

/// What would have become of a Job that a gate which only warns let through.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Warned {
    /// A policy allows it.
    Allow,
    /// It would wait for approval.
    RequireApproval,
    /// A policy denies it.
    Deny,
    /// No rule matches: it would be held.
    NoMatchingPolicy,
}

impl Warned {
    const ALL: [Self; 4] = [Self::Allow, Self::RequireApproval, Self::Deny, Self::NoMatchingPolicy];
}

impl EncodeLabelValue for Warned {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Allow => "allow",
            Self::RequireApproval => "require_approval",
            Self::Deny => "deny",
            Self::NoMatchingPolicy => "no_matching_policy",
        })
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WarnedLabels {
    outcome: Warned,
}

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
    warned_jobs: Family<WarnedLabels, Counter>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let metrics = Self {
            gate_intact: Gauge::default(),
            gate_findings: Gauge::default(),
            gate_broken: Counter::default(),
            foreign_unsuspends: Counter::default(),
            leader: Gauge::default(),
            admission_certificate: Gauge::default(),
            audit_trail_intact: Gauge::default(),
            audit_entries_waiting: Gauge::default(),
            audit_entries_kept: Gauge::default(),
            warned_jobs: Family::default(),
            registry: Arc::default(),
        };
        // Every series is there from the start, so that a first increment shows as one.
        for outcome in Warned::ALL {
            drop(metrics.warned_jobs.get_or_create(&WarnedLabels { outcome }));
        }
        let intact = "1 while every object that holds the gate is as expected, 0 otherwise or while not seen";
        registry.register("gate_intact", intact, metrics.gate_intact.clone());
        let findings = "Differences between the objects that hold the gate and what is expected";
        registry.register("gate_findings", findings, metrics.gate_findings.clone());
        let broken = "Differences found so far, those that are mended included";
        registry.register("gate_broken", broken, metrics.gate_broken.clone());
        let foreign = "Jobs started by somebody other than the operator, overrides aside";
        registry.register("foreign_unsuspends", foreign, metrics.foreign_unsuspends.clone());
        let leader = "1 while this operator decides and writes, 0 while it only watches";
        registry.register("leader", leader, metrics.leader.clone());
        let ends = "When the certificate for admission ends, in seconds since 1970, 0 where none is served";
        let name = "admission_certificate_expiry_timestamp_seconds";
        registry.register(name, ends, metrics.admission_certificate.clone());
        let intact = "1 while the audit trail can be gone on with, 0 where it is not whole, or not read yet";
        registry.register("audit_trail_intact", intact, metrics.audit_trail_intact.clone());
        let waiting = "Entries of the audit trail that could not be written yet";
        registry.register("audit_entries_waiting", waiting, metrics.audit_entries_waiting.clone());
        let kept = "Entries of the audit trail that are kept in the cluster";
        registry.register("audit_entries_kept", kept, metrics.audit_entries_kept.clone());
        let warned = "Jobs that a gate which only warns let through, by what would have become of them";
        registry.register("warned_jobs", warned, metrics.warned_jobs.clone());
        Self { registry: Arc::new(registry), ..metrics }
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
}
