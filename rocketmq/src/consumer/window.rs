//! Which offset of a queue may be committed: the first that is fetched and not acked.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Window {
    /// Fetched offsets from the first unacked one on, ascending, and whether each is acked.
    fetched: VecDeque<(u64, bool)>,
    /// The next offset to fetch.
    next: u64,
}

impl Window {
    pub(super) fn new(start: u64) -> Window {
        Window {
            fetched: VecDeque::new(),
            next: start,
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Notes a fetched message; false for one that was fetched before.
    pub(super) fn fetched(&mut self, offset: u64) -> bool {
        let new = offset >= self.next;
        if new {
            self.fetched.push_back((offset, false));
            self.next = offset + 1;
        }
        new
    }

    /// Fetching goes on at `next`: there is nothing wanted before it.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// False when the offset is not fetched or acked already.
    pub(super) fn ack(&mut self, offset: u64) -> bool {
        let Ok(index) = self
            .fetched
            .binary_search_by_key(&offset, |&(offset, _)| offset)
        else {
            return false;
        };
        if std::mem::replace(&mut self.fetched[index].1, true) {
            return false;
        }
        while self.fetched.front().is_some_and(|&(_, acked)| acked) {
            self.fetched.pop_front();
        }
        true
    }

    /// Everything below is done.
    pub(super) fn committable(&self) -> u64 {
        self.fetched
            .front()
            .map_or(self.next, |&(offset, _)| offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_never_passes_an_unacked_message() {
        let mut window = Window::new(10);
        assert_eq!(window.committable(), 10);
        for offset in [10, 11, 13, 14] {
            assert!(window.fetched(offset));
        }
        window.skip_to(20);
        assert!(window.ack(13));
        assert!(window.ack(11));
        assert_eq!(window.committable(), 10);
        assert!(window.ack(10));
        assert_eq!(window.committable(), 14);
        assert!(window.ack(14));
        assert_eq!(window.committable(), 20);
        assert_eq!(window.next(), 20);
    }

    #[test]
    fn repeats_and_strangers_are_refused() {
        let mut window = Window::new(0);
        assert!(window.fetched(5));
        assert!(!window.fetched(5));
        assert!(!window.fetched(3));
        assert!(!window.ack(4));
        assert!(window.ack(5));
        assert!(!window.ack(5));
    }
}
