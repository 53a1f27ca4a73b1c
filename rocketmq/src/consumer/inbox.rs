//! One topic's messages between the fetch and the ack.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    ConsumerOptions, Delivery, Token, group::Signals, local::LocalOffsets, offset::ProcessQueue,
};
use crate::{
    client::TopicEntry,
    error::{Error, ErrorKind, Result},
    message::ReceivedMessage,
    subscription::SubscriptionData,
};

pub(super) struct Inbox {
    pub(super) entry: Arc<TopicEntry>,
    pub(super) subscription: SubscriptionData,
    options: ConsumerOptions,
    /// Of a broadcast.
    local: Option<Arc<LocalOffsets>>,
    state: Mutex<State>,
    arrived: Notify,
    /// The group's.
    signals: Arc<Signals>,
    assigned: watch::Sender<bool>,
    /// What stood in the way of the assignment last; none while it is in force.
    failure: Mutex<Option<(ErrorKind, String)>>,
    closed: AtomicBool,
    /// Queues whose last commit has not been made.
    uncommitted: Mutex<Vec<Arc<ProcessQueue>>>,
    tokens: AtomicU64,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Held>,
    /// Kept here because the broker did not take them back.
    later: BTreeMap<(Instant, u64), Held>,
    outstanding: HashMap<u64, Held>,
    bytes: usize,
}

/// A message, the queue that its ack goes to, and how often the group has had it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) queue: Arc<ProcessQueue>,
    pub(super) message: Arc<ReceivedMessage>,
    pub(super) attempt: u32,
}

impl State {
    fn count(&self) -> usize {
        self.ready.len() + self.later.len() + self.outstanding.len()
    }
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
            uncommitted: Mutex::default(),
            tokens: AtomicU64::new(1),
        }
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.entry.topic
    }

    fn state(&self) -> MutexGuard<'_, State> {
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

    pub(super) fn has_room(&self) -> bool {
        self.has_room_in(&self.state())
    }

    fn has_room_in(&self, state: &State) -> bool {
        state.count() < self.options.max_outstanding
            && state.bytes < self.options.max_outstanding_bytes
    }

    /// Takes a fetched message if there is room for it.
    pub(super) fn offer(&self, held: Held) -> bool {
        let mut state = self.state();
        if !self.has_room_in(&state) {
            return false;
        }
        // Noted before anybody can ack it. One that was fetched before is taken already.
        if held.queue.window().fetched(held.message.offset) {
            state.bytes += held.message.body.len();
            state.ready.push_back(held);
            drop(state);
            self.arrived.notify_one();
        }
        true
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
            if !held.queue.may_hand_out(now) {
                // The queue begins anew at its first message that is not acked, once it is locked again.
                state.bytes -= held.message.body.len();
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
        let held = self.remove(token).ok_or_else(stale)?;
        let acked = held.queue.ack(held.message.offset);
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
    fn remove(&self, token: Token) -> Option<Held> {
        let mut state = self.state();
        let held = state.outstanding.remove(&token.0)?;
        state.bytes -= held.message.body.len();
        let count = state.count();
        drop(state);
        if count < self.options.max_outstanding {
            self.signals.room.notify_waiters();
        }
        Some(held)
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
        held.is_ok_and(|held| !held.queue.is_ending() && held.queue.may_hand_out(Instant::now()))
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
        if !queue.may_hand_out(Instant::now()) {
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
        let mut state = self.state();
        let state = &mut *state;
        let mut freed = 0;
        let mut stays = |held: &Held| {
            let stays = !held.queue.is_ending();
            if !stays {
                freed += held.message.body.len();
            }
            stays
        };
        state.ready.retain(&mut stays);
        state.later.retain(|_, held| stays(held));
        state.outstanding.retain(|_, held| {
            let stays = !held.queue.is_revoked();
            if !stays {
                freed += held.message.body.len();
                held.queue.set_abandoned();
            }
            stays
        });
        state.bytes -= freed;
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
mod tests {
    use super::*;

    fn inbox(topic: &str) -> Inbox {
        let entry = Arc::new(TopicEntry::new(topic.into()));
        Inbox::new(entry, ConsumerOptions::default(), None, Arc::default())
    }

    #[test]
    fn failure_of_an_assignment_is_its_topics_own_and_forgotten_with_the_next_success() {
        let (orders, refunds) = (inbox("orders"), inbox("refunds"));
        orders.set_not_assigned(&Error::new(ErrorKind::PermissionDenied, "no right"));
        let (kind, _) = orders.last_failure().unwrap();
        assert_eq!(kind, ErrorKind::PermissionDenied);
        assert_eq!(refunds.last_failure(), None);
        orders.set_assigned();
        assert_eq!(orders.last_failure(), None);
    }
}
