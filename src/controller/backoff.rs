//! How long to wait after a failure.

use std::time::Duration;

/// Twice as long after each failure, from the first wait to the longest. `failures` in a row count from zero.
pub fn backoff((first, longest): (Duration, Duration), failures: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failures)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_never_overflows() {
        let range = (Duration::from_millis(250), Duration::from_secs(15));
        let waits = [0, 1, 5, 6, 31, 32, u32::MAX].map(|failures| backoff(range, failures).as_millis());
        assert_eq!(waits, [250, 500, 8000, 15_000, 15_000, 15_000, 15_000]);
    }
}
