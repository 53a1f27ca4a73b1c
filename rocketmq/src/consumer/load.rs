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
    ///
    /// In order, a message may wait for what another queue has not brought yet: there the shares count alone, and above the bytes a queue that holds nothing
    /// still gets one message at a time. No queue ever waits for what another one holds.
    pub(super) fn room(&self, options: &ConsumerOptions, held: usize, share: usize) -> Room {
        let share = share.min(options.max_outstanding);
        let free = match self.bytes < options.max_outstanding_bytes {
            true if options.ordered => share,
            true => options.max_outstanding.saturating_sub(self.messages),
            false => usize::from(options.ordered && held == 0),
        };
        Room {
            free: free.min(share.saturating_sub(held)).min(BATCH),
            enough: (share / 2).clamp(1, BATCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(ordered: bool, messages: usize, bytes: usize, held: usize) -> usize {
        let options = ConsumerOptions {
            ordered,
            max_outstanding: 100,
            max_outstanding_bytes: 1000,
            ..ConsumerOptions::default()
        };
        Load { messages, bytes }.room(&options, held, 50).free
    }

    #[test]
    fn queues_share_the_limits_of_their_topic() {
        assert_eq!(free(false, 0, 0, 0), BATCH);
        assert_eq!(free(false, 90, 0, 0), 10);
        assert_eq!(free(false, 90, 0, 45), 5);
        assert_eq!(free(false, 10, 1000, 0), 0);
    }

    #[test]
    fn no_queue_that_is_read_in_order_waits_for_what_another_one_holds() {
        assert_eq!(free(true, 100, 0, 0), BATCH);
        assert_eq!(free(true, 100, 0, 45), 5);
        assert_eq!(free(true, 100, 0, 50), 0);
        assert_eq!(free(true, 100, 1000, 0), 1);
        assert_eq!(free(true, 100, 1000, 1), 0);
    }
}
