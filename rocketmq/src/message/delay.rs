//! The brokers' fixed delays (`MessageStoreConfig.messageDelayLevel`'s default).

use std::time::Duration;

/// One of 18 delays, from 1 s to 2 h.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DelayLevel(u8);

const SECONDS: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

impl DelayLevel {
    /// The shortest: 1 s.
    pub const SHORTEST: DelayLevel = DelayLevel(1);
    /// The longest: 2 h.
    pub const LONGEST: DelayLevel = DelayLevel(18);

    /// Every one, the shortest first.
    pub fn all() -> impl Iterator<Item = DelayLevel> {
        (1..=18).map(DelayLevel)
    }

    /// The first that is not shorter than `delay`; the longest when none is.
    #[must_use]
    pub fn at_least(delay: Duration) -> DelayLevel {
        let index = SECONDS
            .iter()
            .position(|&s| Duration::from_secs(s) >= delay);
        DelayLevel(index.map_or(18, |index| index as u8 + 1))
    }

    /// The one closest to `delay`, the shorter one between two.
    #[must_use]
    pub fn nearest(delay: Duration) -> DelayLevel {
        let above = DelayLevel::at_least(delay);
        if above.0 == 1 {
            return above;
        }
        let below = DelayLevel(above.0 - 1);
        if above.duration().abs_diff(delay) < delay.abs_diff(below.duration()) {
            above
        } else {
            below
        }
    }

    /// How long it is.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(SECONDS[usize::from(self.0) - 1])
    }

    /// Its number, from 1.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_chosen_by_distance() {
        for (ms, at_least, nearest) in [
            (0, 1, 1),
            (1_000, 1, 1),
            (1_001, 2, 1),
            (3_000, 2, 1),
            (3_001, 2, 2),
            (8_000, 3, 3),
            (7_200_000, 18, 18),
            (90_000_000, 18, 18),
        ] {
            let delay = Duration::from_millis(ms);
            assert_eq!(DelayLevel::at_least(delay).get(), at_least, "{delay:?}");
            assert_eq!(DelayLevel::nearest(delay).get(), nearest, "{delay:?}");
        }
    }
}
