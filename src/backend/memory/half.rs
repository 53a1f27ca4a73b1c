//! Half messages: stored, and read by nobody before their transactions are committed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{sync::Notify, time::Instant};

use super::{config::MemoryConfig, lock, topic::Record};

/// The half messages of one topic, by the id of their records.
#[derive(Debug, Default)]
pub(super) struct Halves {
    state: Mutex<State>,
    /// One more, or one less.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Half>,
    /// Asked about too often, and given up: not owed any more, and still there for who ends them after all.
    aside: BTreeMap<u64, Half>,
}

#[derive(Debug)]
pub(super) struct Half {
    pub(super) record: Arc<Record>,
    /// Where it goes once it is committed.
    pub(super) queue: u32,
    due: Instant,
    asked: u32,
}

impl Halves {
    /// Keeps a message; it is asked about once `transaction_timeout` is over.
    pub(super) fn put(&self, record: Arc<Record>, queue: u32, config: &MemoryConfig) {
        let half = Half {
            due: Instant::now() + config.transaction_timeout,
            asked: 0,
            queue,
            record,
        };
        lock(&self.state).waiting.insert(half.record.id, half);
        self.changed.notify_waiters();
    }

    /// Takes a message out; `then` runs before anybody can count without it.
    pub(super) fn take<T>(&self, id: u64, then: impl FnOnce(Half) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        let half = state.waiting.remove(&id);
        let half = half.or_else(|| state.aside.remove(&id))?;
        Some(then(half))
    }

    /// How many wait for an end.
    pub(super) fn count(&self) -> u64 {
        lock(&self.state).waiting.len() as u64
    }

    /// A message that is to be asked about now; nobody else is given it before `transaction_check_interval` is over.
    pub(super) fn ask(&self, now: Instant, config: &MemoryConfig) -> Option<Arc<Record>> {
        let state = &mut *lock(&self.state);
        loop {
            let mut waiting = state.waiting.iter_mut();
            let (id, half) = waiting.find(|(_, half)| half.due <= now)?;
            if half.asked < config.transaction_max_checks {
                half.asked += 1;
                half.due = now + config.transaction_check_interval;
                return Some(Arc::clone(&half.record));
            }
            let id = *id;
            tracing::warn!(
                id,
                "a half message was asked about too often, and is put aside"
            );
            let half = state.waiting.remove(&id);
            state.aside.extend(half.map(|half| (id, half)));
        }
    }

    /// When the next one is to be asked about.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.waiting.values().map(|half| half.due).min()
    }

    /// Forgets all; what they counted against the cluster's limit.
    pub(super) fn clear(&self) -> u64 {
        let State { waiting, aside } = std::mem::take(&mut *lock(&self.state));
        let all = waiting.values().chain(aside.values());
        all.map(|half| half.record.bytes).sum()
    }
}
