//! One topic's messages between the fetch and the ack.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    ConsumerOptions, Delivery, Token,
    group::Signals,
    held::{Contents, Held},
    load::{BATCH, Room},
    local::LocalOffsets,
    offset::ProcessQueue,
    window::Fetched,
};
use crate::{
    client::TopicEntry,
    error::{Error, ErrorKind, Result},
    subscription::SubscriptionData,
};

pub(super) struct Inbox {
    pub(super) entry: Arc<TopicEntry>,
    pub(super) subscription: SubscriptionData,
    options: ConsumerOptions,
    /// Of a broadcast.
    local: Option<Arc<LocalOffsets>>,
    state: Mutex<Contents>,
    arrived: Notify,
    /// The group's.
    signals: Arc<Signals>,
    assigned: watch::Sender<bool>,
    /// What stood in the way of the assignment last; none while it is in force.
    failure: Mutex<Option<(ErrorKind, String)>>,
    closed: AtomicBool,
    /// How many of the topic's queues are assigned to this member.
    queues: AtomicUsize,
    /// Queues whose last commit has not been made.
    uncommitted: Mutex<Vec<Arc<ProcessQueue>>>,
    tokens: AtomicU64,
}

/// What became of a fetched message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Offered {
    Taken,
    NoRoom,
    /// Fetching has stepped back.
    Behind,
}

impl Inbox {
    pub(super) fn new(
        entry: Arc<TopicEntry>,
        options: ConsumerOptions,
        local: Option<Arc<LocalOffsets>>,
        signals: Arc<Signals>,
    ) -> Inbox {
        Inbox {
            subscription: SubscriptionData::new(&entry.topic, &options.filter),
            entry,
            options,
            local,
            state: Mutex::default(),
            arrived: Notify::new(),
            signals,
            assigned: watch::Sender::new(false),
            failure: Mutex::default(),
            closed: AtomicBool::new(false),
            queues: AtomicUsize::new(0),
            uncommitted: Mutex::default(),
            tokens: AtomicU64::new(1),
        }
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.entry.topic
    }

    fn state(&self) -> MutexGuard<'_, Contents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.options.ordered
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.local.is_some()
    }

    pub(super) fn local(&self) -> Option<&Arc<LocalOffsets>> {
        self.local.as_ref()
    }

    /// Writes the offsets of a broadcast that has a file.
    ///
    /// # Errors
    /// As [`LocalOffsets::save`].
    pub(super) async fn save(&self) -> Result<()> {
        match &self.local {
            Some(local) => local.save().await,
            None => Ok(()),
        }
    }

    pub(super) fn set_queues(&self, count: usize) {
        self.queues.store(count, Ordering::Relaxed);
    }

    pub(super) fn max_span(&self) -> u64 {
        self.options.max_span
    }

    /// How many messages of the queue may be fetched. Those of the topic share its limit evenly, but none gets less than what one fetch brings; retries have
    /// as much again for themselves.
    pub(super) fn room(&self, queue: &ProcessQueue) -> Room {
        self.room_in(&mut self.state(), queue)
    }

    fn room_in(&self, state: &mut Contents, queue: &ProcessQueue) -> Room {
        let load = state.load(queue);
        if queue.is_retry() {
            return load.room(&self.options, 0, usize::MAX);
        }
        let queues = self.queues.load(Ordering::Relaxed).max(1);
        let share = BATCH.max(self.options.max_outstanding / queues);
        load.room(&self.options, queue.held(), share)
    }

    /// Takes a fetched message if there is room for it; `at` is where fetching stands for whoever fetched it.
    pub(super) fn offer(&self, held: Held, at: u64) -> Offered {
        let mut state = self.state();
        if self.room_in(&mut state, &held.queue).free == 0 {
            return Offered::NoRoom;
        }
        // Noted before anybody can ack it.
        let fetched = held.queue.window().fetched(at, held.message.offset);
        match fetched {
            Fetched::New => {
                state.load(&held.queue).add(&held);
                state.ready.push_back(held);
                drop(state);
                self.arrived.notify_one();
                Offered::Taken
            }
            Fetched::Known => Offered::Taken,
            Fetched::Behind => Offered::Behind,
        }
    }

    pub(super) async fn receive(&self, max: usize, until: Instant) -> Result<Vec<Delivery>> {
        loop {
            if self.is_closed() {
                // Whoever else waits.
                self.arrived.notify_one();
                return Err(Error::new(ErrorKind::Closed, "the consumer is closed"));
            }
            // No await between taking and returning: a dropped call has taken nothing.
            let (deliveries, next) = self.take(max);
            let now = Instant::now();
            if !deliveries.is_empty() || now >= until || max == 0 {
                return Ok(deliveries);
            }
            let wake = next.map_or(until, |next| next.min(until));
            // The outcome is looked at by the next round.
            let _ = tokio::time::timeout_at(wake, self.arrived.notified()).await;
        }
    }

    /// What is there, and when the next message kept for later is due.
    fn take(&self, max: usize) -> (Vec<Delivery>, Option<Instant>) {
        let mut state = self.state();
        let state = &mut *state;
        let now = Instant::now();
        if !state.later.is_empty() {
            while let Some(first) = state.later.first_entry()
                && first.key().0 <= now
            {
                state.ready.push_back(first.remove());
            }
        }
        let mut deliveries = Vec::with_capacity(max.min(state.ready.len()));
        while deliveries.len() < max
            && let Some(held) = state.ready.pop_front()
        {
            if !held.queue.may_hand_out() {
                // The queue begins anew at its first message that is not acked, once it is locked again.
                state.load(&held.queue).remove(&held);
                self.signals.lost.notify_one();
                continue;
            }
            let token = self.tokens.fetch_add(1, Ordering::Relaxed);
            deliveries.push(Delivery {
                token: Token(token),
                message: Arc::clone(&held.message),
                attempt: held.attempt,
            });
            state.outstanding.insert(token, held);
        }
        if !state.ready.is_empty() {
            // Another caller may have what is left.
            self.arrived.notify_one();
        }
        (deliveries, state.later.keys().next().map(|&(due, _)| due))
    }

    pub(super) fn ack(&self, token: Token) -> Result<()> {
        let held = self.outstanding(token)?;
        // The window first: a queue of which nothing is outstanding may be committed and let go at once.
        let acked = held.queue.ack(held.message.offset);
        self.remove(token);
        if self.is_ordered() {
            self.signals.acked.notify_one();
        }
        if acked { Ok(()) } else { Err(stale()) }
    }

    pub(super) fn outstanding(&self, token: Token) -> Result<Held> {
        self.state()
            .outstanding
            .get(&token.0)
            .cloned()
            .ok_or_else(stale)
    }

    /// Takes a delivery out, which makes room.
    fn remove(&self, token: Token) {
        let mut state = self.state();
        if let Some(held) = state.outstanding.remove(&token.0) {
            state.load(&held.queue).remove(&held);
        }
        drop(state);
        self.signals.room.notify_waiters();
    }

    /// Hands a delivery out again when it is `due`; if its queue is to go to another member, that one does.
    pub(super) fn keep(&self, token: Token, due: Instant) {
        let mut state = self.state();
        let held = state.outstanding.get(&token.0);
        if held.is_some_and(|held| held.queue.is_leaving()) {
            drop(state);
            self.remove(token);
            self.signals.acked.notify_one();
            return;
        }
        if let Some(mut held) = state.outstanding.remove(&token.0) {
            held.attempt = held.attempt.saturating_add(1);
            state.later.insert((due, token.0), held);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Whether the queue of an outstanding delivery is this member's still, for certain.
    pub(super) fn may_hand_out(&self, token: Token) -> bool {
        let held = self.outstanding(token);
        held.is_ok_and(|held| !held.queue.is_ending() && held.queue.may_hand_out())
    }

    /// Ends a delivery that nobody here is going to handle: whoever has its queue next gets it.
    pub(super) fn let_go(&self, token: Token) -> Result<()> {
        let queue = self.outstanding(token)?.queue;
        if self.may_hand_out(token) {
            return Err(Error::new(
                ErrorKind::Stale,
                "the queue of the delivery is this member's: it is to be acked or given back",
            ));
        }
        self.remove(token);
        self.signals.acked.notify_one();
        if !queue.may_hand_out() {
            // It begins anew, once it is locked again.
            self.signals.lost.notify_one();
        }
        Ok(())
    }

    /// Whether messages of the queue are handed out and not acked.
    pub(super) fn has_outstanding(&self, queue: &Arc<ProcessQueue>) -> bool {
        let state = self.state();
        let mut outstanding = state.outstanding.values();
        outstanding.any(|held| Arc::ptr_eq(&held.queue, queue))
    }

    /// Forgets what came from queues that are not this member's any more. Of those that it is still to hand over, what was handed out stays.
    pub(super) fn forget_ending(&self) {
        self.state().drop_held(|held, handed_out| {
            if !handed_out {
                return held.queue.is_ending();
            }
            let goes = held.queue.is_revoked();
            if goes {
                held.queue.set_abandoned();
            }
            goes
        });
        self.signals.room.notify_waiters();
    }

    /// Gives up what came from queues of the group's retry topic, which outlive this one topic: it is to be fetched again.
    pub(super) fn give_up_retries(&self) {
        let mut given_up = Vec::new();
        self.state().drop_held(|held, _| {
            let goes = held.queue.is_retry() && !held.queue.is_revoked();
            if goes {
                given_up.push((Arc::clone(&held.queue), held.message.offset));
            }
            goes
        });
        for (queue, offset) in given_up {
            queue.step_back(offset);
        }
        self.signals.room.notify_waiters();
    }

    pub(super) fn set_assigned(&self) {
        *self.failure() = None;
        self.assigned.send_replace(true);
    }

    pub(super) fn set_not_assigned(&self, error: &Error) {
        *self.failure() = Some((error.kind(), error.to_string()));
    }

    pub(super) fn last_failure(&self) -> Option<(ErrorKind, String)> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<(ErrorKind, String)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn ready(&self) -> Result<()> {
        let mut assigned = self.assigned.subscribe();
        // Closing counts as a change too.
        let waited = assigned
            .wait_for(|&assigned| assigned || self.is_closed())
            .await;
        if waited.is_err() || self.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the consumer is closed"));
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn uncommitted(&self) -> Vec<Arc<ProcessQueue>> {
        self.left().clone()
    }

    pub(super) fn set_uncommitted(&self, queues: Vec<Arc<ProcessQueue>>) {
        *self.left() = queues;
    }

    fn left(&self) -> MutexGuard<'_, Vec<Arc<ProcessQueue>>> {
        self.uncommitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// False when it was closed before.
    pub(super) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.assigned.send_modify(|_| {});
        self.arrived.notify_waiters();
        self.arrived.notify_one();
        first
    }
}

fn stale() -> Error {
    Error::new(
        ErrorKind::Stale,
        "the delivery is not outstanding here: acked before, or its queue went to another member",
    )
}

#[cfg(test)]
mod hand_out_tests;
#[cfg(test)]
mod tests;
