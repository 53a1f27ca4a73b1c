//! Moments between which a machine may have been suspended.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A moment by both clocks: one that does not jump, and the wall clock, which goes on while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// How long ago `earlier` was: what the clock says that has seen more. A wall clock that was set forward makes it too long, which costs a lock too early;
    /// one that was set back counts for nothing.
    pub(super) fn since(self, earlier: Moment) -> Duration {
        let steady = self.steady.saturating_duration_since(earlier.steady);
        let wall = self.wall.duration_since(earlier.wall);
        steady.max(wall.unwrap_or_default())
    }

    /// The later one.
    pub(super) fn max(self, other: Moment) -> Moment {
        match self.steady >= other.steady {
            true => self,
            false => other,
        }
    }
}

#[cfg(test)]
impl Moment {
    /// As much later by both clocks.
    pub(super) fn later(self, by: Duration) -> Moment {
        Moment {
            steady: self.steady + by,
            wall: self.wall + by,
        }
    }

    /// After the machine was suspended for so long.
    pub(super) fn suspended(self, by: Duration) -> Moment {
        Moment {
            wall: self.wall + by,
            ..self
        }
    }

    /// After the wall clock was set back.
    pub(super) fn set_back(self, by: Duration) -> Moment {
        Moment {
            wall: self.wall - by,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_machine_was_suspended_counts_and_a_clock_that_is_set_back_does_not() {
        let begun = Moment::now();
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert_eq!(begun.since(begun), Duration::ZERO);
        assert_eq!(begun.later(second).since(begun), second);
        assert_eq!(begun.suspended(hour).since(begun), hour);
        assert_eq!(begun.later(second).set_back(hour).since(begun), second);
    }
}
