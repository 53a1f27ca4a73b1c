//! One member of a group: its queues, and what it has handed out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use tokio::{sync::Notify, time::Instant};

use super::{
    config::MemoryConfig,
    cursor::{CommittedOffset, Cursor, CursorKey},
    group::Leave,
    lock,
    topic::{Queue, Record},
};
use crate::backend::{AckToken, Subscription};

/// How far a member reads ahead of its first message that is not done (RocketMQ `consumeConcurrentlyMaxSpan`).
const MAX_SPAN: usize = 2000;
/// A queue's share of what may be outstanding is no less, however many queues there are.
const LEAST_SHARE: usize = 32;

#[derive(Debug)]
pub(super) struct Member {
    number: u64,
    client_id: String,
    topic: Arc<str>,
    /// `None`: all.
    tags: Option<BTreeSet<String>>,
    /// Reads in order: a queue stays locked until what was handed out of it has ended.
    ordered: bool,
    max_outstanding: usize,
    wake: Arc<Notify>,
    state: Mutex<MemberState>,
}

#[derive(Debug, Default)]
struct MemberState {
    /// Sorted by key.
    cursors: Vec<Cursor>,
    /// Which cursor is asked first: the one after the last that was.
    turn: usize,
    outstanding: HashMap<u64, (CursorKey, u64)>,
    tokens: u64,
    closed: bool,
}

impl MemberState {
    /// The place of an outstanding delivery's cursor, and its offset there.
    fn find(&self, token: AckToken) -> Option<(usize, u64)> {
        let (key, offset) = *self.outstanding.get(&token.0)?;
        let found = self.cursors.binary_search_by_key(&key, |cursor| cursor.key);
        Some((found.ok()?, offset))
    }

    fn end(&mut self, token: AckToken, index: usize) -> Ended {
        self.outstanding.remove(&token.0);
        let cursor = &mut self.cursors[index];
        cursor.outstanding -= 1;
        Ended {
            frees_queue: cursor.leaving && cursor.outstanding == 0,
        }
    }

    /// How much one queue may have outstanding, so that what waits there keeps no other queue from being read.
    fn share(&self, max_outstanding: usize) -> usize {
        let own = self.cursors.iter().filter(|cursor| cursor.is_assigned());
        let even = max_outstanding / own.count().max(1);
        LEAST_SHARE.max(even).min(max_outstanding)
    }
}

/// What the end of a delivery leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The queue can go to the member that it was promised to.
    pub(super) frees_queue: bool,
}

/// A record that was handed out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) record: Arc<Record>,
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) token: AckToken,
}

/// What one look at the queues gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) taken: Vec<Taken>,
    /// When the first delayed message comes due.
    pub(super) next_due: Option<Instant>,
    pub(super) closed: bool,
}

impl Member {
    pub(super) fn new(
        number: u64,
        client_id: &str,
        topic: Arc<str>,
        tags: Option<&str>,
        subscription: &Subscription,
    ) -> Self {
        Member {
            number,
            client_id: client_id.into(),
            topic,
            tags: tags.and_then(parse_tags),
            ordered: subscription.ordered,
            max_outstanding: subscription.outstanding().max(1),
            wake: Arc::default(),
            state: Mutex::default(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(super) fn order(&self) -> (&str, u64) {
        (&self.client_id, self.number)
    }

    /// Resolves after the next [`Self::wake`], at once if there was one since the last call.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The numbers of the topic's queues that it reads.
    pub(super) fn assigned(&self) -> Vec<u32> {
        let state = lock(&self.state);
        let cursors = state.cursors.iter().filter(|cursor| cursor.is_assigned());
        cursors.map(|cursor| cursor.key.queue).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Refuses everything from now on; says whether it did so before.
    pub(super) fn close(&self) -> bool {
        let closed = std::mem::replace(&mut lock(&self.state).closed, true);
        self.wake();
        closed
    }

    /// Takes away the queues for which `stays` is false. What they had handed out is stale from now on; a member that reads in order keeps such a queue
    /// until it has ended. A queue that is kept so and stays after all is taken away as well, to be given again: what was let go of it comes again then.
    pub(super) fn revoke(&self, stays: impl Fn(&Cursor) -> bool) {
        let keeps = |cursor: &mut Cursor| {
            if !cursor.leaving && stays(cursor) {
                return true;
            }
            cursor.leaving = self.ordered && !cursor.key.retry && cursor.outstanding > 0;
            cursor.leaving
        };
        self.drop_queues(&mut lock(&self.state), keeps, Leave::Close);
    }

    /// Takes away all queues at once.
    pub(super) fn revoke_all(&self, how: Leave) {
        self.drop_queues(&mut lock(&self.state), |_| false, how);
    }

    fn drop_queues(
        &self,
        state: &mut MemberState,
        mut keeps: impl FnMut(&mut Cursor) -> bool,
        how: Leave,
    ) {
        let MemberState {
            cursors,
            outstanding,
            ..
        } = state;
        cursors.retain_mut(|cursor| {
            let keeps = keeps(cursor);
            if !keeps {
                cursor.queue.remove_reader(self.number);
                outstanding.retain(|_, (key, _)| *key != cursor.key);
                match how {
                    Leave::Close => cursor.committed.flush(),
                    Leave::Crash => cursor.committed.forget(Instant::now()),
                }
            }
            keeps
        });
    }

    /// Whether it has the queue, also one that is leaving.
    pub(super) fn has(&self, key: CursorKey) -> bool {
        let state = lock(&self.state);
        let found = state
            .cursors
            .binary_search_by_key(&key, |cursor| cursor.key);
        found.is_ok()
    }

    /// Gives a queue, to be read from the committed offset on, or from the first message; one that it has is left alone.
    pub(super) fn give(
        &self,
        key: CursorKey,
        queue: &Arc<Queue>,
        committed: &Arc<CommittedOffset>,
        now: Instant,
    ) {
        let mut state = lock(&self.state);
        if let Err(place) = state
            .cursors
            .binary_search_by_key(&key, |cursor| cursor.key)
        {
            let start = committed.get(now).unwrap_or(0);
            let cursor = Cursor::new(key, queue.clone(), committed.clone(), start);
            queue.add_reader(self.number, &self.wake);
            state.cursors.insert(place, cursor);
        }
    }

    /// Hands out at most `max` messages, a part from each queue in turn.
    pub(super) fn take(&self, max: usize, config: &MemoryConfig) -> Look {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let mut look = Look {
            closed: state.closed,
            ..Look::default()
        };
        if state.closed {
            // One permit wakes one task: pass it on to the next.
            self.wake();
            return look;
        }
        let share = state.share(self.max_outstanding);
        let turns = state.cursors.len();
        let part = max.div_ceil(turns.max(1));
        let mut without = 0;
        while without < turns && look.taken.len() < max {
            let index = state.turn % turns;
            state.turn = index + 1;
            let part = part.min(max - look.taken.len());
            let before = look.taken.len();
            self.take_of(state, index, part, share, config, &mut look);
            match look.taken.len() > before {
                true => without = 0,
                false => without += 1,
            }
        }
        if look.taken.len() == max {
            // There may be more, and one permit has woken one task only.
            self.wake();
        }
        look
    }

    /// Hands out at most `max` messages of one queue.
    fn take_of(
        &self,
        state: &mut MemberState,
        index: usize,
        max: usize,
        share: usize,
        config: &MemoryConfig,
        look: &mut Look,
    ) {
        let MemberState {
            cursors,
            outstanding,
            tokens,
            ..
        } = state;
        let now = Instant::now();
        let cursor = &mut cursors[index];
        let end = look.taken.len() + max;
        let mut records = Vec::new();
        while !cursor.leaving {
            let room = self.room(outstanding.len(), cursor, share);
            let room = room.min(end - look.taken.len());
            if room == 0 {
                return;
            }
            let due = cursor.queue.read(cursor.next(), room, now, &mut records);
            if records.is_empty() {
                look.next_due = look.next_due.into_iter().chain(due).min();
                return;
            }
            for record in records.drain(..) {
                let offset = cursor.hand_out();
                if !cursor.key.retry && !self.wants(&record) {
                    if let Some(end) = cursor.finish(offset) {
                        cursor.committed.stage(end, now, config.commit_interval);
                    }
                    continue;
                }
                // Other members' tokens differ in the upper half.
                let token = self.number << 40 | *tokens;
                *tokens += 1;
                outstanding.insert(token, (cursor.key, offset));
                cursor.outstanding += 1;
                look.taken.push(Taken {
                    record,
                    queue: cursor.key.queue,
                    offset,
                    token: AckToken(token),
                });
            }
        }
    }

    /// How many more messages of a queue can be handed out. In order, only what waits in the queue itself counts: a message may wait for one of another
    /// queue.
    fn room(&self, outstanding: usize, cursor: &Cursor, share: usize) -> usize {
        let all = match self.ordered {
            true => usize::MAX,
            false => self.max_outstanding.saturating_sub(outstanding),
        };
        all.min(share.saturating_sub(cursor.outstanding))
            .min(MAX_SPAN.max(share).saturating_sub(cursor.span()))
    }

    /// Ends an outstanding delivery; `before` runs first, under the lock, so that no rebalance comes in between. `None` when the token
    /// is not outstanding here.
    pub(super) fn finish(
        &self,
        token: AckToken,
        config: &MemoryConfig,
        before: impl FnOnce(&Arc<Record>),
    ) -> Option<Ended> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let (index, offset) = state.find(token)?;
        let share = state.share(self.max_outstanding);
        let cursor = &mut state.cursors[index];
        let was_full = self.room(state.outstanding.len(), cursor, share) == 0;
        before(&cursor.queue.get(offset)?);
        if let Some(end) = cursor.finish(offset) {
            cursor
                .committed
                .stage(end, Instant::now(), config.commit_interval);
        }
        if was_full {
            self.wake();
        }
        Some(state.end(token, index))
    }

    /// Whether a delivery is outstanding here, and its queue not to go to another member.
    pub(super) fn may_hand_out(&self, token: AckToken) -> bool {
        let state = lock(&self.state);
        let found = state.find(token);
        found.is_some_and(|(index, _)| !state.cursors[index].leaving)
    }

    /// Forgets an outstanding delivery of a queue that is leaving: whoever has the queue next gets it. `None` for any other token.
    pub(super) fn let_go(&self, token: AckToken) -> Option<Ended> {
        let mut guard = lock(&self.state);
        let (index, _) = guard.find(token)?;
        let leaving = guard.cursors[index].leaving;
        leaving.then(|| guard.end(token, index))
    }

    fn wants(&self, record: &Record) -> bool {
        let Some(tags) = &self.tags else { return true };
        let tag = record.message.tag.as_deref();
        tag.is_some_and(|tag| tags.contains(tag))
    }
}

/// RocketMQ's tag expression: `a || b`; nothing or `*` is everything.
fn parse_tags(expression: &str) -> Option<BTreeSet<String>> {
    let tags: BTreeSet<_> = expression
        .split("||")
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect();
    (!tags.is_empty() && !tags.contains("*")).then_some(tags)
}
