//! How fast the demo's producers send: even through each stage, a trickle while a stage change takes its time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// While the quota of a stage is used up, one message goes out where ten went before.
const TRICKLE: u64 = 10;
const AT_THE_LIMIT: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    interval_us: u64,
    slot_us: AtomicU64,
    quota: AtomicU64,
    /// No further than this, however long a stage change takes: the stages after it want messages too.
    limit: AtomicU64,
}

impl Pace {
    pub(super) fn per_second(rate: u64) -> Self {
        Pace {
            started: Instant::now(),
            interval_us: (1_000_000 / rate.max(1)).max(1),
            slot_us: AtomicU64::new(0),
            quota: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        }
    }

    /// Full speed until `quota` messages were begun in all.
    pub(super) fn set_quota(&self, quota: u64) {
        self.quota.store(quota, Ordering::Release);
    }

    /// Nothing once `limit` messages were begun in all.
    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Release);
    }

    pub(super) fn quota(&self) -> u64 {
        self.quota.load(Ordering::Acquire)
    }

    /// Waits for the next place in the schedule; false when there is none for now, after a moment. Time that nobody used is not made up for. `begun` tells how
    /// many messages were begun in all.
    pub(super) async fn turn(&self, begun: impl Fn() -> u64) -> bool {
        let is_at_the_limit = || begun() >= self.limit.load(Ordering::Acquire);
        if is_at_the_limit() {
            tokio::time::sleep(AT_THE_LIMIT).await;
            return false;
        }
        let interval = if begun() < self.quota() {
            self.interval_us
        } else {
            self.interval_us * TRICKLE
        };
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let turn = |slot: u64| slot.max(now) + interval;
        let slot = self
            .slot_us
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |slot| Some(turn(slot)))
            .map_or(now, turn);
        tokio::time::sleep_until(self.started + Duration::from_micros(slot)).await;
        // Others had their turns meanwhile.
        !is_at_the_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_the_limit_who_waited_while_others_reached_it() {
        let pace = Pace::per_second(10);
        pace.set_quota(u64::MAX);
        pace.set_limit(100);
        let begun = AtomicU64::new(95);
        let turn = async || {
            let has_turn = pace.turn(|| begun.load(Ordering::Acquire)).await;
            begun.fetch_add(if has_turn { 10 } else { 0 }, Ordering::AcqRel);
        };
        tokio::join!(turn(), turn(), turn());
        assert_eq!(begun.load(Ordering::Acquire), 105);
    }
}
