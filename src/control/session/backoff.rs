//! How long to wait after a failure: exponential, with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    rng: SmallRng,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Backoff {
            min,
            max: max.max(min),
            failures: 0,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure; any pause from nothing to the bound is as likely as any other.
    pub(super) fn failed(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(self.max)
            .mul_f64(self.rng.random_range(0.0..=1.0))
    }

    pub(super) fn min(&self) -> Duration {
        self.min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_bound_and_begin_anew_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..500 {
            let mut backoff = Backoff::new(min, max, seed);
            for longest in &mut longest {
                *longest = backoff.failed().max(*longest);
            }
            backoff.succeeded();
            assert!(backoff.failed() <= min);
        }
        for (failures, longest) in longest.iter().enumerate() {
            let bound = min.saturating_mul(1 << failures).min(max);
            assert!(*longest <= bound && *longest > bound.mul_f64(0.9));
        }
    }
}
