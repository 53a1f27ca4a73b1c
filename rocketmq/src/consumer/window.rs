//! Which offset of a queue may be committed: the first that is fetched and not acked.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Window {
    /// Fetched offsets from the first unacked one on, ascending, and whether each is acked. After a step back, some are at `next` or behind it.
    fetched: VecDeque<(u64, bool)>,
    /// The next offset to fetch.
    next: u64,
}

/// What became of a fetched message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fetched {
    New,
    /// It was fetched before.
    Known,
    /// Fetching has stepped back since it was asked for: what comes first is to be fetched first.
    Behind,
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

    /// Notes a message; `at` is where fetching stands for whoever fetched it.
    pub(super) fn fetched(&mut self, at: u64, offset: u64) -> Fetched {
        if at != self.next {
            return Fetched::Behind;
        }
        if offset < self.next {
            return Fetched::Known;
        }
        self.next = offset.saturating_add(1);
        match self.find(offset) {
            Ok(_) => {
                self.settle();
                Fetched::Known
            }
            Err(place) => {
                self.fetched.insert(place, (offset, false));
                Fetched::New
            }
        }
    }

    /// Fetching goes on at `next`: there is nothing wanted between it and `at`, where it stands for whoever says so.
    pub(super) fn skip_to(&mut self, at: u64, next: u64) {
        if at == self.next {
            self.next = next.max(at);
            self.settle();
        }
    }

    /// Steps back: a message that nobody is going to ack is to be fetched again. False where that is not so, because it is acked.
    pub(super) fn step_back(&mut self, offset: u64) -> bool {
        let Ok(index) = self.find(offset) else {
            return false;
        };
        if self.fetched[index].1 {
            return false;
        }
        self.fetched.remove(index);
        self.next = self.next.min(offset);
        true
    }

    /// False when the offset is not fetched or acked already.
    pub(super) fn ack(&mut self, offset: u64) -> bool {
        let Ok(index) = self.find(offset) else {
            return false;
        };
        if std::mem::replace(&mut self.fetched[index].1, true) {
            return false;
        }
        self.settle();
        true
    }

    /// Everything below is done.
    pub(super) fn committable(&self) -> u64 {
        let first = self.fetched.front();
        first.map_or(self.next, |&(offset, _)| offset.min(self.next))
    }

    /// From the first unacked message to the last fetched one.
    pub(super) fn span(&self) -> u64 {
        match (self.fetched.front(), self.fetched.back()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0,
        }
    }

    fn find(&self, offset: u64) -> Result<usize, usize> {
        let by = |&(offset, _): &(u64, bool)| offset;
        self.fetched.binary_search_by_key(&offset, by)
    }

    /// Forgets what is acked at the front. At `next` and behind it nothing is forgotten: it will be fetched once more, and is then to be known.
    fn settle(&mut self) {
        while let Some(&(offset, acked)) = self.fetched.front()
            && acked
            && offset < self.next
        {
            self.fetched.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(window: &mut Window, offset: u64) -> Fetched {
        window.fetched(window.next(), offset)
    }

    #[test]
    fn the_commit_never_passes_an_unacked_message() {
        let mut window = Window::new(10);
        assert_eq!(window.committable(), 10);
        for offset in [10, 11, 13, 14] {
            assert_eq!(fetch(&mut window, offset), Fetched::New);
        }
        window.skip_to(15, 20);
        assert!(window.ack(13));
        assert!(window.ack(11));
        assert_eq!((window.committable(), window.span()), (10, 4));
        assert!(window.ack(10));
        assert_eq!((window.committable(), window.span()), (14, 0));
        assert!(window.ack(14));
        assert_eq!(window.committable(), 20);
        assert_eq!(window.next(), 20);
    }

    #[test]
    fn repeats_and_strangers_are_refused() {
        let mut window = Window::new(0);
        assert_eq!(fetch(&mut window, 5), Fetched::New);
        assert_eq!(fetch(&mut window, 5), Fetched::Known);
        assert_eq!(fetch(&mut window, 3), Fetched::Known);
        assert!(!window.ack(4));
        assert!(window.ack(5));
        assert!(!window.ack(5));
    }

    #[test]
    fn after_a_step_back_only_what_was_given_up_is_new_and_the_commit_waits_for_it() {
        let mut window = Window::new(0);
        for offset in 0..6 {
            assert_eq!(fetch(&mut window, offset), Fetched::New);
        }
        assert!(window.ack(0));
        assert!(window.ack(2));
        assert!(window.step_back(3));
        assert!(window.step_back(1));
        assert!(!window.step_back(0) && !window.step_back(2) && !window.step_back(3));
        assert_eq!((window.next(), window.committable()), (1, 1));
        // An answer to a request from before.
        assert_eq!(window.fetched(6, 6), Fetched::Behind);
        window.skip_to(6, 9);
        assert_eq!(window.next(), 1);
        // One that was handed out all the time.
        assert!(window.ack(4));
        for (offset, expected) in [
            (1, Fetched::New),
            (2, Fetched::Known),
            (3, Fetched::New),
            (4, Fetched::Known),
            (5, Fetched::Known),
            (6, Fetched::New),
        ] {
            assert_eq!(fetch(&mut window, offset), expected, "{offset}");
        }
        for (acked, committable) in [(3, 1), (1, 5), (6, 5), (5, 7)] {
            assert!(window.ack(acked));
            assert_eq!(window.committable(), committable, "after {acked}");
        }
    }

    #[test]
    fn what_was_given_up_and_is_not_there_any_more_holds_nothing_up() {
        let mut window = Window::new(0);
        for offset in 0..4 {
            assert_eq!(fetch(&mut window, offset), Fetched::New);
        }
        assert!(window.ack(1));
        assert!(window.step_back(0));
        window.skip_to(0, 3);
        assert_eq!(window.committable(), 2);
        assert!(window.ack(2));
        assert_eq!((window.committable(), window.next()), (3, 3));
        assert_eq!(fetch(&mut window, 3), Fetched::Known);
        assert!(window.ack(3));
        assert_eq!(window.committable(), 4);
    }
}
