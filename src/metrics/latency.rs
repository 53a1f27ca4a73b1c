//! Latencies are counted into atomics, so that no sender waits for another, and read as an [`hdrhistogram`].

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use super::LONGEST_LATENCY;

/// Every power of two of microseconds is cut into so many places: a latency is known to 3 %.
const PLACES: u64 = 32;

/// 6 KiB once something was recorded.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    counts: OnceLock<Box<[AtomicU64]>>,
    sum_us: AtomicU64,
}

impl Latencies {
    /// No lock, and no allocation after the first.
    pub(super) fn record(&self, latency: Duration) {
        let us = micros(latency);
        self.counts()[place(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn move_into(&self, other: &Latencies) {
        let Some(counts) = self.counts.get() else {
            return;
        };
        for (count, to) in counts.iter().zip(other.counts()) {
            let moved = count.swap(0, Ordering::Relaxed);
            if moved > 0 {
                to.fetch_add(moved, Ordering::Relaxed);
            }
        }
        let sum = self.sum_us.swap(0, Ordering::Relaxed);
        other.sum_us.fetch_add(sum, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Snapshot {
        let longest = micros(LONGEST_LATENCY);
        // Finer than the places, so that reading loses nothing more.
        let mut histogram =
            Histogram::new_with_bounds(1, longest, 3).expect("the bounds are in order");
        for (place, count) in self
            .counts
            .get()
            .iter()
            .flat_map(|counts| counts.iter().enumerate())
        {
            histogram.saturating_record_n(highest(place), count.load(Ordering::Relaxed));
        }
        Snapshot {
            histogram,
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }

    fn counts(&self) -> &[AtomicU64] {
        self.counts.get_or_init(|| {
            let places = 0..=place(micros(LONGEST_LATENCY));
            places.map(|_| AtomicU64::new(0)).collect()
        })
    }
}

/// All latencies at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    histogram: Histogram<u64>,
    pub(super) sum_us: u64,
}

impl Snapshot {
    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The least latency that this share of all does not exceed, in microseconds, to 3 %; 0 when there is none.
    pub(super) fn quantile_us(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }
}

fn micros(latency: Duration) -> u64 {
    let latency = latency.min(LONGEST_LATENCY);
    u64::try_from(latency.as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Up to twice `PLACES` each number has its own place; above, each power of two has `PLACES`.
fn place(us: u64) -> usize {
    let power = us
        .checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(PLACES.ilog2());
    (u64::from(power) * PLACES + (us >> power)) as usize
}

/// The largest number of a place.
fn highest(place: usize) -> u64 {
    let place = place as u64;
    let power = (place / PLACES).saturating_sub(1);
    ((place - power * PLACES + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_that_is_right_to_3_percent() {
        let mut before = 0;
        for us in (1..100_000).chain((100_000..=60_000_000).step_by(9_973)) {
            let place = place(us);
            assert!(place >= before, "{us}");
            before = place;
            let highest = highest(place);
            assert!(
                us <= highest && (highest - us) * 100 <= us * 4,
                "{us} {highest}"
            );
        }
        assert_eq!(place(micros(Duration::MAX)), place(60_000_000));
    }

    #[test]
    fn quantiles_sum_and_count_are_those_of_what_was_recorded() {
        let latencies = Latencies::default();
        assert_eq!(latencies.read().quantile_us(0.99), 0);
        for us in 1..=1_000 {
            latencies.record(Duration::from_micros(us));
        }
        let other = Latencies::default();
        latencies.move_into(&other);
        assert_eq!(latencies.read().count(), 0);
        let read = other.read();
        assert_eq!((read.count(), read.sum_us), (1_000, 500_500));
        for (share, us) in [(0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let found = read.quantile_us(share);
            assert!((us..=us + us / 25).contains(&found), "{share}: {found}");
        }
    }
}
