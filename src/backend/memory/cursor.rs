//! Where a member stands in one queue, and what its group has committed there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{lock, topic::Queue};

/// Names one queue of a subscription. Topic queues sort before the retry queue.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CursorKey {
    pub(super) retry: bool,
    pub(super) queue: u32,
}

/// The offset that a group has committed in one queue. Acks reach it with a delay, as from a RocketMQ client that commits now and then.
#[derive(Debug, Default)]
pub(super) struct CommittedOffset {
    state: Mutex<OffsetState>,
}

#[derive(Debug, Default)]
struct OffsetState {
    committed: Option<u64>,
    staged: Option<(u64, Instant)>,
}

impl OffsetState {
    fn settle(&mut self, now: Instant) {
        if let Some((offset, due)) = self.staged
            && due <= now
        {
            self.committed = Some(offset);
            self.staged = None;
        }
    }
}

impl CommittedOffset {
    pub(super) fn get(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        state.settle(now);
        state.committed
    }

    /// Commits `offset` once `interval` has passed since the first ack that is still waiting.
    pub(super) fn stage(&self, offset: u64, now: Instant, interval: Duration) {
        let mut state = lock(&self.state);
        state.settle(now);
        if interval.is_zero() {
            state.committed = Some(offset);
        } else {
            let due = state.staged.map_or_else(|| now + interval, |(_, due)| due);
            state.staged = Some((offset, due));
        }
    }

    /// Commits what waits.
    pub(super) fn flush(&self) {
        let mut state = lock(&self.state);
        if let Some((offset, _)) = state.staged.take() {
            state.committed = Some(offset);
        }
    }

    /// Forgets what waits, as a crash does.
    pub(super) fn forget(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.settle(now);
        state.staged = None;
    }

    /// Commits `offset` where nothing was committed yet.
    pub(super) fn commit_first(&self, offset: u64) {
        lock(&self.state).committed.get_or_insert(offset);
    }
}

/// A member's place in one queue: all below `base` is done; of the rest, `done` says which.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) key: CursorKey,
    pub(super) queue: Arc<Queue>,
    pub(super) committed: Arc<CommittedOffset>,
    /// Goes to another member once what was handed out has ended; nothing more is handed out.
    pub(super) leaving: bool,
    /// How many deliveries of it have not ended.
    pub(super) outstanding: usize,
    base: u64,
    done: VecDeque<bool>,
}

impl Cursor {
    pub(super) fn new(
        key: CursorKey,
        queue: Arc<Queue>,
        committed: Arc<CommittedOffset>,
        start: u64,
    ) -> Self {
        Cursor {
            key,
            queue,
            committed,
            leaving: false,
            outstanding: 0,
            base: start,
            done: VecDeque::new(),
        }
    }

    /// Whether it is one of the topic's own queues, to be read here.
    pub(super) fn is_assigned(&self) -> bool {
        !self.key.retry && !self.leaving
    }

    /// The next offset to hand out.
    pub(super) fn next(&self) -> u64 {
        self.base + self.done.len() as u64
    }

    /// How far the handing out is ahead of the contiguous part.
    pub(super) fn span(&self) -> usize {
        self.done.len()
    }

    /// Counts [`Self::next`] as handed out.
    pub(super) fn hand_out(&mut self) -> u64 {
        let offset = self.next();
        self.done.push_back(false);
        offset
    }

    /// Marks an offset; returns the new contiguous end when it moved.
    pub(super) fn finish(&mut self, offset: u64) -> Option<u64> {
        let index = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        *self.done.get_mut(index)? = true;
        let before = self.base;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.base += 1;
        }
        (self.base != before).then_some(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_passes_only_what_is_contiguous() {
        let key = CursorKey {
            retry: false,
            queue: 0,
        };
        let mut cursor = Cursor::new(key, Arc::default(), Arc::default(), 10);
        for offset in 10..14 {
            assert_eq!(cursor.hand_out(), offset);
        }
        assert_eq!(cursor.finish(11), None);
        assert_eq!(cursor.finish(9), None);
        assert_eq!(cursor.finish(99), None);
        assert_eq!(cursor.finish(10), Some(12));
        assert_eq!(cursor.finish(13), None);
        assert_eq!(cursor.finish(12), Some(14));
        assert_eq!((cursor.next(), cursor.span()), (14, 0));
    }

    #[test]
    fn staged_offsets_are_committed_in_time_flushed_or_forgotten() {
        let interval = Duration::from_millis(200);
        let start = Instant::now();
        let offset = CommittedOffset::default();
        offset.stage(3, start, interval);
        assert_eq!(offset.get(start), None);
        // A later ack rides along; it does not push the commit back.
        offset.stage(5, start + interval / 2, interval);
        assert_eq!(offset.get(start + interval), Some(5));
        offset.stage(7, start + interval, interval);
        offset.forget(start + interval);
        assert_eq!(offset.get(start + interval * 9), Some(5));
        offset.stage(8, start + interval, interval);
        offset.flush();
        assert_eq!(offset.get(start), Some(8));
        offset.commit_first(0);
        assert_eq!(offset.get(start), Some(8));
    }
}
