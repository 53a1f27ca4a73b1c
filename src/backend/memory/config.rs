//! What an embedded cluster can be told.

use std::{sync::Arc, time::Duration};

/// RocketMQ's `messageDelayLevel`: 1 s to 2 h.
const ROCKETMQ_DELAY_LEVELS: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

/// The settings of an embedded cluster. The defaults are RocketMQ's, as a careful operator runs it.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemoryConfig {
    /// The name of its one broker. Default: `memory`.
    pub broker: Arc<str>,
    /// A larger body is refused with `InvalidMessage`. Default: 4 MiB.
    pub max_body_bytes: usize,
    /// What all stored messages may take together; above it sends end with `Throttled` until a topic is deleted. Messages are kept for
    /// as long as their topic lives. Default: 1 GiB.
    pub max_stored_bytes: u64,
    /// A send or a subscription makes the topic it names. Default: false.
    pub auto_create_topics: bool,
    /// How many queues such a topic gets, 1 to 1024. Default: 4.
    pub auto_create_queues: u32,
    /// A subscription makes the group it names. Default: true.
    pub auto_create_groups: bool,
    /// The delays that a nack can have: it is rounded up to the next one, and down to the last. Empty: any delay, exactly. Default:
    /// RocketMQ's 18 levels, 1 s to 2 h.
    pub retry_delays: Vec<Duration>,
    /// How often a message is delivered again before it goes to the dead-letter topic. Default: 16.
    pub max_retries: u32,
    /// How long an acked offset waits before it is committed; a crash forgets what has not been. Default: 200 ms.
    pub commit_interval: Duration,
    /// How long a half message waits before its producers are asked how the transaction ended. Default: 6 s.
    pub transaction_timeout: Duration,
    /// How long until they are asked again. Default: 30 s.
    pub transaction_check_interval: Duration,
    /// How often they are asked before the message is put aside: it is not counted as owed any more, and nobody reads it unless its transaction is
    /// committed after all. Default: 15.
    pub transaction_max_checks: u32,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            broker: "memory".into(),
            max_body_bytes: 4 * 1024 * 1024,
            max_stored_bytes: 1024 * 1024 * 1024,
            auto_create_topics: false,
            auto_create_queues: 4,
            auto_create_groups: true,
            retry_delays: ROCKETMQ_DELAY_LEVELS.map(Duration::from_secs).into(),
            max_retries: 16,
            commit_interval: Duration::from_millis(200),
            transaction_timeout: Duration::from_secs(6),
            transaction_check_interval: Duration::from_secs(30),
            transaction_max_checks: 15,
        }
    }
}

impl MemoryConfig {
    /// The delay that a nack with `wanted` gets.
    pub(super) fn retry_delay(&self, wanted: Duration) -> Duration {
        let fitting = self.retry_delays.iter().filter(|level| **level >= wanted);
        fitting
            .min()
            .or(self.retry_delays.iter().max())
            .copied()
            // Without levels only the type's own range is left to keep.
            .unwrap_or(wanted.min(super::topic::MAX_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nack_delays_are_rounded_to_the_levels() {
        let seconds = Duration::from_secs;
        let rocketmq = MemoryConfig::default();
        assert_eq!(rocketmq.retry_delay(Duration::ZERO), seconds(1));
        assert_eq!(rocketmq.retry_delay(seconds(1)), seconds(1));
        assert_eq!(rocketmq.retry_delay(seconds(11)), seconds(30));
        assert_eq!(rocketmq.retry_delay(seconds(100_000)), seconds(7200));
        let exact = MemoryConfig {
            retry_delays: Vec::new(),
            ..MemoryConfig::default()
        };
        assert_eq!(exact.retry_delay(Duration::ZERO), Duration::ZERO);
        assert_eq!(exact.retry_delay(seconds(11)), seconds(11));
        assert_eq!(
            exact.retry_delay(Duration::MAX),
            super::super::topic::MAX_DELAY
        );
    }
}
