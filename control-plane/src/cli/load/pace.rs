//! So many turns a second, for all who ask together.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// What was not used of a time longer ago than this is not made up for.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Gives out turns.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    interval_ns: u64,
    /// When the next turn is, counted from the start.
    next_ns: AtomicU64,
}

impl Pace {
    /// `rate` turns a second, 1 and more.
    pub(super) fn per_second(rate: u64) -> Self {
        Pace {
            started: Instant::now(),
            interval_ns: (1_000_000_000 / rate.max(1)).max(1),
            next_ns: AtomicU64::new(0),
        }
    }

    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let earliest = now.saturating_sub(CATCH_UP.as_nanos() as u64);
        let after = |turn: u64| turn.max(earliest).saturating_add(self.interval_ns);
        let taken = self
            .next_ns
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |turn| {
                Some(after(turn))
            })
            .map_or(now, |turn| turn.max(earliest));
        if taken > now {
            tokio::time::sleep_until(self.started + Duration::from_nanos(taken)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rate_is_kept_and_a_long_pause_is_made_up_for_by_a_second_at_most() {
        let pace = Pace::per_second(1_000);
        let started = Instant::now();
        for _ in 0..2_000 {
            pace.turn().await;
        }
        let took = started.elapsed();
        assert!((1_990..=2_010).contains(&took.as_millis()), "{took:?}");

        tokio::time::advance(Duration::from_secs(60)).await;
        let started = Instant::now();
        for _ in 0..2_000 {
            pace.turn().await;
        }
        let took = started.elapsed();
        assert!((980..=1_010).contains(&took.as_millis()), "{took:?}");
    }
}
