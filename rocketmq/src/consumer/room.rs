//! Between the fetch and the inboxes: waiting for room, and handing out what was fetched.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Group, held::Held, inbox::Offered, load::Room, offset::ProcessQueue, window::Fetched};

/// How long a queue that could fetch a few messages waits for room for more.
const FEW: Duration = Duration::from_millis(20);
/// How long a retry of a topic that nobody here reads waits for somebody who does: topics of a group are opened, and opened again, one after the other.
const STRANGER: Duration = Duration::from_secs(10);

/// What became of a batch.
pub(super) struct Delivered {
    /// Nothing is left to be fetched again.
    pub(super) all: bool,
    /// Where fetching stands now.
    pub(super) at: u64,
    /// The topic of the retry that has to wait, and those behind it with it.
    pub(super) waits_for: Option<Arc<str>>,
    /// Retries of topics that nobody here reads.
    pub(super) strangers: Vec<Held>,
}

impl Group {
    /// Hands messages of one queue to the consumers of their topics, in order, until one has no room. `at` is where fetching stood before.
    pub(super) fn deliver(&self, batch: Vec<Held>, at: u64) -> Delivered {
        let mut delivered = Delivered {
            all: true,
            at,
            waits_for: None,
            strangers: Vec::new(),
        };
        let state = self.state();
        for held in batch {
            let at = delivered.at;
            let next = at.max(held.message.offset.saturating_add(1));
            // Under the lock, a revoked queue's messages cannot slip in after they were forgotten.
            let taken = !held.queue.is_ending()
                && match state.inboxes.get(&held.message.topic) {
                    Some(inbox) => {
                        let topic = Arc::clone(&held.message.topic);
                        let retry = held.queue.is_retry();
                        let offered = inbox.offer(held, at);
                        if retry && offered == Offered::NoRoom {
                            delivered.waits_for = Some(topic);
                        }
                        offered == Offered::Taken
                    }
                    // The consumer was just dropped; its queues are about to be revoked.
                    None if !held.queue.is_retry() => false,
                    None if Instant::now() < held.queue.since() + STRANGER => {
                        delivered.waits_for = Some(Arc::clone(&held.message.topic));
                        false
                    }
                    None => {
                        let fetched = held.queue.window().fetched(at, held.message.offset);
                        if fetched == Fetched::New {
                            delivered.strangers.push(held);
                        }
                        fetched != Fetched::Behind
                    }
                };
            if !taken {
                delivered.all = false;
                break;
            }
            delivered.at = next;
        }
        delivered
    }

    /// Waits until there is room for messages of the queue, and says for how many. A queue of the retry topic waits only for the topic of the retry that it
    /// stands at. None when the queue ends.
    pub(super) async fn room(&self, queue: &ProcessQueue, waits_for: Option<&Arc<str>>) -> usize {
        let mut few_since = None;
        loop {
            let changed = self.signals.room.notified();
            tokio::pin!(changed);
            // From here on no notification is missed.
            changed.as_mut().enable();
            if queue.is_ending() {
                return 0;
            }
            let now = Instant::now();
            let (room, mut until) = self.look(queue, waits_for, now);
            if room.free >= room.enough {
                return room.free;
            }
            if room.free > 0 {
                let due = *few_since.get_or_insert(now) + FEW;
                if now >= due {
                    return room.free;
                }
                until = Some(due);
            } else {
                few_since = None;
            }
            match until {
                // Whichever it is, the next look tells.
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    /// The room for a queue, and when it may be another without anybody saying so.
    fn look(
        &self,
        queue: &ProcessQueue,
        waits_for: Option<&Arc<str>>,
        now: Instant,
    ) -> (Room, Option<Instant>) {
        let state = self.state();
        let span = queue.window().span();
        if !queue.is_retry() {
            let inbox = state.inboxes.get(&queue.queue.topic);
            let room = match inbox {
                Some(inbox) if span < inbox.max_span() => inbox.room(queue),
                // Nobody reads it any more: it is about to be revoked.
                _ => Room::FULL,
            };
            return (room, None);
        }
        let spans = state.inboxes.values().map(|inbox| inbox.max_span());
        if span >= spans.max().unwrap_or(0) {
            return (Room::FULL, None);
        }
        let Some(topic) = waits_for else {
            return (Room::EMPTY, None);
        };
        match state.inboxes.get(topic) {
            Some(inbox) => (inbox.room(queue), None),
            None => {
                let until = queue.since() + STRANGER;
                match now < until {
                    true => (Room::FULL, Some(until)),
                    false => (Room::EMPTY, None),
                }
            }
        }
    }
}
