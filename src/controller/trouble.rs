//! What went wrong with one object so far, and for how long it is tried again. Pure: the time is an argument.

use crate::controller::error::{Class, Error};
use std::time::{Duration, Instant};

/// For so long, and at least so often in a row, a Job must refuse the note that its request has ended before that counts. An API
/// server that has just started refuses what it will allow once it knows its roles.
const INSISTS: (Duration, u32) = (Duration::from_secs(10), 3);

/// Failures of one key, so far.
#[derive(Default)]
pub(super) struct Trouble {
    /// How many in a row.
    failures: u32,
    /// What the API server said to the release.
    pub(super) refused: Option<String>,
    /// Until when the API server asked to be left alone, whatever news there is.
    rests_until: Option<Instant>,
    /// Since when and how often in a row the note on the Job was refused.
    unnoted: Option<(Instant, u32)>,
}

impl Trouble {
    /// Counts a failure. Returns how many there were in a row.
    pub(super) fn failed(&mut self, error: &Error, now: Instant) -> u32 {
        self.failures = self.failures.saturating_add(1);
        let asked = error.wait(Duration::ZERO);
        self.rests_until = (!asked.is_zero()).then(|| now + asked);
        if error.class() == Class::Unavailable {
            self.unnoted = None;
        }
        self.failures
    }

    /// How long the API server asked to be left alone yet.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        self.rests_until?.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// Counts that a Job refused the note that its request has ended. Returns whether it did so for long enough to go on without.
    pub(super) fn count_unnoted(&mut self, now: Instant) -> bool {
        let (since, times) = self.unnoted.get_or_insert((now, 0));
        *times = times.saturating_add(1);
        now.duration_since(*since) >= INSISTS.0 && *times >= INSISTS.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answered(code: u16, retry_after: u32) -> Error {
        let status = json!({"code": code, "details": {"retryAfterSeconds": retry_after}});
        Error::Api { operation: "try", source: kube::Error::Api(serde_json::from_value(status).unwrap()) }
    }

    #[test]
    fn a_note_that_is_refused_counts_as_refused_after_some_seconds_and_attempts() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert!([0, 1, 9].iter().all(|seconds| !trouble.count_unnoted(at(*seconds))));
        trouble.failed(&answered(403, 0), at(9));
        assert!(trouble.count_unnoted(at(10)));
        // Two attempts are few, however long there was between them.
        let mut rare = Trouble::default();
        assert!(![0, 60].iter().any(|seconds| rare.count_unnoted(at(*seconds))));
        assert!(rare.count_unnoted(at(120)));
    }

    #[test]
    fn an_api_server_that_cannot_be_reached_refuses_nothing() {
        let began = Instant::now();
        let mut trouble = Trouble::default();
        for seconds in 0..=9 {
            assert!(!trouble.count_unnoted(began + Duration::from_secs(seconds)));
        }
        trouble.failed(&answered(503, 0), began + Duration::from_secs(10));
        assert!(!trouble.count_unnoted(began + Duration::from_secs(11)), "it is counted anew");
    }

    #[test]
    fn it_rests_for_as_long_as_it_is_asked_to() {
        let began = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.failed(&answered(429, 7), began), 1);
        assert_eq!(trouble.rest(began + Duration::from_secs(3)), Some(Duration::from_secs(4)));
        assert_eq!(trouble.rest(began + Duration::from_secs(7)), None);
        assert_eq!(trouble.failed(&answered(409, 0), began), 2);
        assert_eq!(trouble.rest(began), None);
    }
}
