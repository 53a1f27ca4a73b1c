//! Moves of ordering keys from one side to the other: the part of a plan that keeps ordered topics in order.

use serde::{Deserialize, Serialize};

use crate::side::{Revision, Side};

/// The buckets `from..to` of the ordering keys, 0 to 10 000.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Buckets {
    /// The first bucket.
    pub from: u16,
    /// One past the last bucket.
    pub to: u16,
}

/// Keys that change sides. While `barrier` is absent they are frozen: producers hold their sends.
#[non_exhaustive]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Move {
    /// The side they leave.
    pub from: Side,
    /// The keys.
    pub buckets: Buckets,
    /// The revision that published the move, once it has a barrier; until then the one that froze the keys.
    pub revision: Revision,
    /// The end offsets of the side being left: no message of these keys is above them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Vec<QueueBarrier>>,
}

/// One queue's part of a barrier.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QueueBarrier {
    /// The broker that has the queue.
    pub broker: String,
    /// The queue's number on that broker.
    pub queue: u32,
    /// The offset after the last message.
    pub end_offset: u64,
}
