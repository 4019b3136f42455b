//! What each kind of input may cost, and how large one may be. The table in the documentation is this one.

use proptest::test_runner::{Config, RngSeed};
use std::time::Duration;

/// Of one kind of input.
pub struct Limit {
    /// What it is.
    pub name: &'static str,
    /// What is refused before it is understood, in words.
    pub refused: &'static str,
    /// Bytes of memory for any input.
    pub memory: usize,
    /// And for each byte of it.
    pub times: usize,
    /// Processor time for one input.
    pub time: Duration,
}

impl Limit {
    /// None at all.
    pub const NONE: Self = Self { name: "", refused: "", memory: 0, times: 0, time: Duration::ZERO };

    /// Bytes of memory for an input of that size.
    pub fn bytes(&self, input: usize) -> usize {
        self.memory + self.times * input
    }

    fn row(&self) -> String {
        let Self { name, refused, memory, times, time } = self;
        let each = if *times == 0 { String::new() } else { format!(" + {times} × its size") };
        format!("| {name} | {refused} | {} MiB{each} | {} s |", memory >> 20, time.as_secs())
    }
}

/// So many cases, the same in each run. `PROPTEST_CASES` asks for another number, and for others in each run unless
/// `PROPTEST_RNG_SEED` says which.
pub fn config(cases: u32) -> Config {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.max_shrink_iters = 500;
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
        config.rng_seed = RngSeed::Fixed(1);
    }
    config
}

const fn limit(name: &'static str, refused: &'static str, memory_mib: usize, times: usize) -> Limit {
    Limit { name, refused, memory: memory_mib << 20, times, time: Duration::from_secs(2) }
}

/// AdmissionReviews, by the router that answers them.
pub const REVIEW: Limit = limit("AdmissionReview", "above 8 MiB, or some 70000 maps", 64, 4);
/// Objects that are watched, from their text to what is planned.
pub const STORED: Limit = limit("stored object", "what etcd does not take", 8, 60);
/// Policies, from their text to what they say of a request.
pub const POLICY: Limit = limit("policy", "what etcd does not take", 16, 16);
/// Expressions.
pub const EXPRESSION: Limit = limit("expression", "above 1024 characters", 16, 0);
/// What `countersign request` reads.
pub const REQUEST: Limit = limit(
    "request, compact or whole",
    "above 256 KiB, aliases that mean more than the text, above 20000 brackets",
    16,
    300,
);
/// The Secret of the certificate.
pub const CERTIFICATE: Limit = limit("certificate, key, authority", "what a Secret does not take", 8, 30);
/// Receipts, envelopes.
pub const RECEIPT: Limit = limit("receipt", "nothing", 4, 30);
/// Exports of the audit trail, and checkpoints.
pub const TRAIL: Limit = limit("audit trail, checkpoint", "nothing", 16, 350);

#[test]
fn the_documentation_has_the_limits_that_are_held_to() {
    let text = include_str!("../../docs/proof.md");
    for limit in [REVIEW, STORED, POLICY, EXPRESSION, REQUEST, CERTIFICATE, RECEIPT, TRAIL] {
        assert!(text.contains(&limit.row()), "docs/proof.md lacks the line {}", limit.row());
    }
}
