//! What the numbered delays of a broker mean.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// The delays that a broker gives messages by number, the first one first: RocketMQ's `messageDelayLevel`. Retries go by them too.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DelayLevels(pub Vec<Duration>);

impl fmt::Display for DelayLevels {
    /// As RocketMQ writes them: `1s 5s 10s 30s 1m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 4] = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
        ];
        for (index, delay) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let millis = delay.as_millis();
            let whole = |unit: &&(u128, &str)| millis > 0 && millis.is_multiple_of(unit.0);
            match UNITS.iter().find(whole) {
                Some((unit, name)) => write!(f, "{}{name}", millis / unit)?,
                None => write!(f, "{millis}ms")?,
            }
        }
        Ok(())
    }
}

impl Serialize for DelayLevels {
    /// As it is displayed.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_in_the_largest_whole_unit() {
        let millis = [0, 250, 1_000, 90_000, 120_000, 3_600_000, 172_800_000];
        let levels = DelayLevels(millis.map(Duration::from_millis).to_vec());
        assert_eq!(levels.to_string(), "0ms 250ms 1s 90s 2m 1h 2d");
        let json = serde_json::to_string(&levels).unwrap();
        assert_eq!(json, "\"0ms 250ms 1s 90s 2m 1h 2d\"");
        assert_eq!(DelayLevels::default().to_string(), "");
    }
}
