//! Flags of the operator that say how long the audit trail is kept in the cluster.

use crate::audit::Retention;
use jiff::SignedDuration;

const HOURS_OF_A_DAY: i64 = 24;

/// Where neither days nor entries are given, everything is kept.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct RetentionArgs {
    /// Days that records of the audit trail are kept in the cluster; default: for ever. What is older is deleted, once
    /// `countersign audit export --acknowledge` has it, a checkpoint covers it, and nothing is open that it is about.
    #[arg(long, env = "COUNTERSIGN_AUDIT_KEEP_DAYS", value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    audit_keep_days: Option<u16>,

    /// Entries of the audit trail that are kept in the cluster; default: all. The oldest beyond it go on the same terms.
    #[arg(long, env = "COUNTERSIGN_AUDIT_KEEP_ENTRIES", value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(1..))]
    audit_keep_entries: Option<u32>,

    /// Seconds between two steps of deleting records. Records younger than this stay in any case.
    #[arg(long, env = "COUNTERSIGN_AUDIT_PRUNE_EVERY", default_value = "600", value_name = "SECONDS",
        value_parser = clap::value_parser!(u16).range(1..))]
    audit_prune_every: u16,
}

impl RetentionArgs {
    /// How long records are kept; none: for ever.
    pub fn of_records(self) -> Option<Retention> {
        let age = self.audit_keep_days.map(|days| SignedDuration::from_hours(i64::from(days) * HOURS_OF_A_DAY));
        let entries = self.audit_keep_entries.map(i64::from);
        let settles = SignedDuration::from_secs(self.audit_prune_every.into());
        (age.is_some() || entries.is_some()).then_some(Retention { age, entries, settles })
    }
}
