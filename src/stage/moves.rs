//! Moves of ordering keys from one side to the other: the part of a plan that keeps ordered topics in order.
//!
//! A move is published twice. First its keys are *frozen*: producers hold their sends, finish those under way, and ack. With all acks in, nothing
//! of these keys is on its way any more; the end offsets of the side being left are the *barrier*. The second revision carries it and says
//! the new share: producers send the held messages to the new side. A consumer hands a message out only when its group has passed the barrier of every
//! move that brought its key to this side under the message's own revision or an earlier one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    queue::QueueId,
    side::{Revision, Side},
    stage::{BUCKETS, Weight},
};

/// The buckets `from..to` of the ordering keys, 0 to 10 000.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Buckets {
    /// The first bucket.
    pub from: u16,
    /// One past the last bucket.
    pub to: u16,
}

impl Buckets {
    /// The keys that change sides when the target's share goes from one weight to the other, and the side that they leave; `None` when none does.
    #[must_use]
    pub fn between(now: Weight, next: Weight) -> Option<(Buckets, Side)> {
        let (now, next) = (now.basis_points(), next.basis_points());
        let buckets = Buckets {
            from: now.min(next),
            to: now.max(next),
        };
        match now.cmp(&next) {
            std::cmp::Ordering::Less => Some((buckets, Side::Source)),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some((buckets, Side::Target)),
        }
    }

    /// Whether a key's bucket is one of them.
    #[must_use]
    pub fn contains(self, bucket: u16) -> bool {
        (self.from..self.to).contains(&bucket)
    }

    /// Whether there are any, and none beyond the last.
    pub(super) fn is_sound(self) -> bool {
        self.from < self.to && self.to <= BUCKETS
    }
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
    /// The end offsets of the side being left, of every queue: no message of these keys is above them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Vec<QueueBarrier>>,
}

impl Move {
    /// Keys that are frozen from `revision` on.
    #[must_use]
    pub fn freeze(from: Side, buckets: Buckets, revision: Revision) -> Move {
        Move {
            from,
            buckets,
            revision,
            barrier: None,
        }
    }

    /// The same keys, moved under `revision`.
    #[must_use]
    pub fn released(&self, revision: Revision, barrier: Vec<QueueBarrier>) -> Move {
        Move {
            from: self.from,
            buckets: self.buckets,
            revision,
            barrier: Some(barrier),
        }
    }

    /// Whether producers hold these keys.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.barrier.is_none()
    }

    /// Whether a message of `bucket` that `side` has under `routed` was sent there because of this move or after it: then it waits for the barrier.
    #[must_use]
    pub fn holds(&self, side: Side, bucket: u16, routed: Revision) -> bool {
        !self.is_frozen()
            && self.from == side.other()
            && self.revision <= routed
            && self.buckets.contains(bucket)
    }

    /// Whether a group whose committed offsets `committed` tells has passed the barrier. A queue in which nothing lay is passed by whoever
    /// never committed.
    #[must_use]
    pub fn is_passed(&self, committed: impl Fn(&QueueBarrier) -> Option<u64>) -> bool {
        let Some(barrier) = &self.barrier else {
            return false;
        };
        let passed = |queue: &QueueBarrier| {
            queue.end_offset == 0 || committed(queue) >= Some(queue.end_offset)
        };
        barrier.iter().all(passed)
    }

    /// The queues of the barrier.
    #[must_use]
    pub fn queues(&self) -> BTreeSet<QueueId> {
        let barrier = self.barrier.iter().flatten();
        barrier.map(QueueBarrier::id).collect()
    }
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

impl QueueBarrier {
    /// The queue.
    #[must_use]
    pub fn id(&self) -> QueueId {
        QueueId {
            broker: self.broker.as_str().into(),
            queue: self.queue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(queue: u32, end_offset: u64) -> QueueBarrier {
        QueueBarrier {
            broker: "b".into(),
            queue,
            end_offset,
        }
    }

    #[test]
    fn change_of_weight_moves_the_buckets_between() {
        let weight = |basis_points| Weight::from_basis_points(basis_points).unwrap();
        let forward = Buckets::between(weight(1_000), weight(3_000));
        let (from, to) = (1_000, 3_000);
        assert_eq!(forward, Some((Buckets { from, to }, Side::Source)));
        let back = Buckets::between(weight(3_000), weight(1_000));
        assert_eq!(back, Some((Buckets { from, to }, Side::Target)));
        assert_eq!(Buckets::between(weight(7), weight(7)), None);
    }

    #[test]
    fn barrier_is_passed_once_every_queue_with_messages_is() {
        let frozen = Move::freeze(Side::Source, Buckets { from: 0, to: 10 }, Revision(3));
        assert!(!frozen.is_passed(|_| Some(u64::MAX)));
        let moved = frozen.released(Revision(4), vec![barrier(0, 0), barrier(1, 5)]);
        assert!(!moved.is_passed(|_| None));
        assert!(!moved.is_passed(|_| Some(4)));
        assert!(moved.is_passed(|queue| (queue.queue == 1).then_some(5)));
    }

    #[test]
    fn message_is_held_on_the_new_side_from_the_move_on() {
        let moved = Move::freeze(Side::Source, Buckets { from: 0, to: 10 }, Revision(3))
            .released(Revision(4), vec![barrier(0, 5)]);
        assert!(moved.holds(Side::Target, 9, Revision(4)));
        assert!(moved.holds(Side::Target, 9, Revision(7)));
        assert!(
            !moved.holds(Side::Target, 9, Revision(2)),
            "sent before, when the key was there already"
        );
        assert!(!moved.holds(Side::Source, 9, Revision(4)));
        assert!(!moved.holds(Side::Target, 10, Revision(4)));
    }
}
