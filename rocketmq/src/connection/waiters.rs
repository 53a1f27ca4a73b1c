//! Requests that wait for their answers. Their places are used again: in a steady state none is allocated.

use std::{
    collections::HashMap,
    task::{Poll, Waker},
};

use crate::frame::Command;

/// A table that grew above this is given back once nobody waits.
const KEPT_PLACES: usize = 1024;

/// By opaque number.
#[derive(Default)]
pub(super) struct Waiters(HashMap<i32, Waiter>);

#[allow(
    clippy::large_enum_variant,
    reason = "an answer in a box would be an allocation for each request"
)]
enum Waiter {
    /// Has a waker once it was polled.
    Waiting(Option<Waker>),
    Answered(Command),
}

impl Waiters {
    pub(super) fn add(&mut self, opaque: i32) {
        self.0.insert(opaque, Waiter::Waiting(None));
    }

    /// Keeps an answer for the one who waits for it, who is to be woken once no lock is held; false when nobody does.
    #[must_use]
    pub(super) fn answer(&mut self, command: Command) -> (bool, Option<Waker>) {
        match self.0.get_mut(&command.opaque) {
            Some(waiter @ Waiter::Waiting(_)) => {
                match std::mem::replace(waiter, Waiter::Answered(command)) {
                    Waiter::Waiting(waker) => (true, waker),
                    Waiter::Answered(_) => (true, None),
                }
            }
            // A second answer to one request, or one that came too late.
            Some(Waiter::Answered(_)) | None => (false, None),
        }
    }

    /// The answer; none when there will be none.
    pub(super) fn poll(&mut self, opaque: i32, waker: &Waker) -> Poll<Option<Command>> {
        match self.0.get_mut(&opaque) {
            Some(Waiter::Waiting(known)) => {
                match known {
                    Some(known) => known.clone_from(waker),
                    None => *known = Some(waker.clone()),
                }
                Poll::Pending
            }
            Some(Waiter::Answered(command)) => {
                let command = std::mem::take(command);
                self.forget(opaque);
                Poll::Ready(Some(command))
            }
            None => Poll::Ready(None),
        }
    }

    pub(super) fn forget(&mut self, opaque: i32) {
        self.0.remove(&opaque);
        if self.0.is_empty() && self.0.capacity() > KEPT_PLACES {
            self.0 = HashMap::new();
        }
    }

    /// Nobody is answered any more; those who still wait are to be woken once no lock is held.
    #[must_use]
    pub(super) fn end(&mut self) -> Vec<Waker> {
        let waiting = self
            .0
            .extract_if(|_, waiter| matches!(waiter, Waiter::Waiting(_)));
        let wakers = waiting.filter_map(|(_, waiter)| match waiter {
            Waiter::Waiting(waker) => waker,
            Waiter::Answered(_) => None,
        });
        wakers.collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
