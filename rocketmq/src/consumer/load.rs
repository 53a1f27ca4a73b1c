//! How much is fetched and not acked, and how much more may be.

use super::{ConsumerOptions, held::Held};

/// Brokers give out no more at a time (`maxTransferCountOnMessageInMemory`'s default).
pub(super) const BATCH: usize = 32;

/// What a topic's inbox holds, of the topic's own messages or of its retries.
#[derive(Debug, Default)]
pub(super) struct Load {
    messages: usize,
    bytes: usize,
}

/// How many messages may be fetched now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Room {
    pub(super) free: usize,
    /// From so many on a fetch is worth its while.
    pub(super) enough: usize,
}

impl Room {
    pub(super) const FULL: Room = Room {
        free: 0,
        enough: BATCH,
    };
    pub(super) const EMPTY: Room = Room {
        free: BATCH,
        enough: BATCH,
    };
}

impl Load {
    pub(super) fn add(&mut self, held: &Held) {
        self.messages += 1;
        self.bytes += held.message.footprint_bytes();
        held.queue.holds_more();
    }

    pub(super) fn remove(&mut self, held: &Held) {
        self.messages -= 1;
        self.bytes -= held.message.footprint_bytes();
        held.queue.holds_less();
    }

    /// For a queue that holds `held` of what may be `share` of the topic's.
    pub(super) fn room(&self, options: &ConsumerOptions, held: usize, share: usize) -> Room {
        let share = share.min(options.max_outstanding);
        let free = match self.bytes < options.max_outstanding_bytes {
            true => options.max_outstanding.saturating_sub(self.messages),
            false => 0,
        };
        Room {
            free: free.min(share.saturating_sub(held)).min(BATCH),
            enough: (share / 2).clamp(1, BATCH),
        }
    }
}
