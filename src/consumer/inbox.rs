//! Where both sides' claimed messages wait for `receive`: fair, bounded, and safe to cancel.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::{
    backend::{BackendConsumer, Incoming},
    message::IdempotencyKey,
    side::Side,
};

/// A message whose key this consumer has claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) side: Side,
    pub(super) backend: Arc<dyn BackendConsumer>,
    pub(super) key: IdempotencyKey,
    /// In an ordered topic: the generation of the lanes that it is out of.
    pub(super) lanes: Option<u64>,
    pub(super) incoming: Incoming,
}

impl Claimed {
    /// A message of an ordered topic may be another member's by now.
    pub(super) fn may_be_handed_out(&self) -> bool {
        self.lanes.is_none() || self.backend.may_hand_out(self.incoming.token)
    }
}

#[derive(Debug)]
pub(super) struct Inbox {
    queues: Mutex<Queues>,
    /// Free places, a side.
    space: [Semaphore; 2],
    arrived: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    ready: [VecDeque<Claimed>; 2],
    /// Those that were not handed out when it was their turn: they wait for the next purge, and take no place.
    refused: [Vec<Claimed>; 2],
    /// Whose turn it is.
    turn: usize,
}

impl Inbox {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        Inbox {
            queues: Mutex::default(),
            space: [Semaphore::new(capacity), Semaphore::new(capacity)],
            arrived: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Waits for at least one free place of a side, and holds as many as are free.
    pub(super) async fn places(&self, side: Side) -> Places<'_> {
        let space = &self.space[side.index()];
        // The inbox lives as long as its users, so its semaphores are never closed.
        let mut held = space.acquire().await.expect("never closed");
        let more = u32::try_from(space.available_permits()).unwrap_or(u32::MAX);
        if let Ok(rest) = space.try_acquire_many(more) {
            held.merge(rest);
        }
        Places {
            inbox: self,
            side,
            held,
        }
    }

    /// Resolves after the next `put` or `wake` that follows this call.
    pub(super) fn arrived(&self) -> impl Future<Output = ()> + '_ {
        let mut arrived = Box::pin(self.arrived.notified());
        arrived.as_mut().enable();
        arrived
    }

    /// Lets every waiting `receive` look again.
    pub(super) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    /// Up to `max` messages that may be handed out, one from each side in turn as long as both have some. Each goes through `hand_out` before [`Self::emptied`]
    /// can see that it is gone, so that a side that stops knows of it one way or the other.
    pub(super) fn take<T>(&self, max: usize, mut hand_out: impl FnMut(Claimed) -> T) -> Vec<T> {
        let mut queues = self.lock();
        let mut taken = Vec::new();
        while taken.len() < max {
            let turn = queues.turn;
            let Some(claimed) = queues.ready[turn]
                .pop_front()
                .or_else(|| queues.ready[1 - turn].pop_front())
            else {
                break;
            };
            let side = claimed.side.index();
            queues.turn = 1 - side;
            self.space[side].add_permits(1);
            match claimed.may_be_handed_out() {
                true => taken.push(hand_out(claimed)),
                false => queues.refused[side].push(claimed),
            }
        }
        drop(queues);
        self.taken.notify_waiters();
        taken
    }

    /// Takes back what `receive` has not handed out of a side.
    pub(super) fn purge(&self, side: Side) -> Vec<Claimed> {
        self.purge_where(side, |_| true)
    }

    /// Whether there is something for the next purge already.
    pub(super) fn has_refused(&self, side: Side) -> bool {
        !self.lock().refused[side.index()].is_empty()
    }

    /// Takes back those for which `purges` is true, and what was refused.
    pub(super) fn purge_where(
        &self,
        side: Side,
        purges: impl Fn(&Claimed) -> bool,
    ) -> Vec<Claimed> {
        let mut queues = self.lock();
        let refused = mem::take(&mut queues.refused[side.index()]);
        let ready = &mut queues.ready[side.index()];
        let (mut purged, kept): (Vec<_>, Vec<_>) = mem::take(ready).into_iter().partition(purges);
        *ready = kept.into();
        drop(queues);
        self.space[side.index()].add_permits(purged.len());
        self.taken.notify_waiters();
        purged.extend(refused);
        purged
    }

    /// Waits until nothing of a side is left to hand out.
    pub(super) async fn emptied(&self, side: Side) {
        loop {
            let taken = self.taken.notified();
            if self.lock().ready[side.index()].is_empty() {
                return;
            }
            taken.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Free places held by a side task.
#[derive(Debug)]
pub(super) struct Places<'a> {
    inbox: &'a Inbox,
    side: Side,
    held: SemaphorePermit<'a>,
}

impl Places<'_> {
    pub(super) fn len(&self) -> usize {
        self.held.num_permits()
    }

    /// Uses up one place.
    pub(super) fn put(&mut self, claimed: Claimed) {
        debug_assert_eq!(claimed.side, self.side);
        if let Some(place) = self.held.split(1) {
            place.forget();
        }
        self.inbox.lock().ready[self.side.index()].push_back(claimed);
        self.inbox.arrived.notify_waiters();
    }
}
