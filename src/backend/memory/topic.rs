//! Topics, their queues, and the messages in them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{config::MemoryConfig, half::Halves, lock, read, write};
use crate::{
    message::Message,
    side::{Access, Revision},
};

/// The longest delay of a message: RocketMQ 5.x `timerMaxDelaySec`.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// The most queues of a topic.
pub(super) const MAX_QUEUES: u32 = 1024;

/// A message as it is stored. A retry is a record of its own.
#[derive(Debug)]
pub(super) struct Record {
    /// The same for a message and its retries.
    pub(super) id: u64,
    /// Without `deliver_after`; without an idempotency key when the sender gave none.
    pub(super) message: Message,
    pub(super) revision: Option<Revision>,
    /// How often it was nacked.
    pub(super) retries: u32,
    /// What it counts against the cluster's limit.
    pub(super) bytes: u64,
}

/// A queue: an append-only log and the messages that will be appended when they are due.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    log: Vec<Arc<Record>>,
    /// By due time, then by arrival.
    delayed: BTreeMap<(Instant, u64), Arc<Record>>,
    arrivals: u64,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    member: u64,
    wake: Arc<Notify>,
}

impl QueueState {
    /// Appends what is due. Every look at a queue starts with it, so nobody can tell that no task does it at the moment itself.
    fn settle(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            self.log.push(entry.remove());
        }
    }

    fn wake(&self) {
        for reader in &self.readers {
            reader.wake.notify_one();
        }
    }
}

impl Queue {
    /// Appends a message, now or when it is due. Returns its offset, where it has one already.
    pub(super) fn append(&self, record: Arc<Record>, due: Option<Instant>) -> Option<u64> {
        let mut state = lock(&self.state);
        let offset = match due {
            Some(due) => {
                let arrival = state.arrivals;
                state.arrivals += 1;
                state.delayed.insert((due, arrival), record);
                None
            }
            None => {
                if !state.delayed.is_empty() {
                    state.settle(Instant::now());
                }
                state.log.push(record);
                Some(state.log.len() as u64 - 1)
            }
        };
        // Also for a delayed one: who waits may have to wake up earlier than it meant to.
        state.wake();
        offset
    }

    /// Appends messages one after the other, now. Returns the first one's offset.
    fn append_all(&self, records: impl IntoIterator<Item = Arc<Record>>) -> u64 {
        let mut state = lock(&self.state);
        if !state.delayed.is_empty() {
            state.settle(Instant::now());
        }
        let first = state.log.len() as u64;
        state.log.extend(records);
        state.wake();
        first
    }

    /// Copies at most `max` records from `offset` on into `out`; says when the next delayed one is due.
    pub(super) fn read(
        &self,
        offset: u64,
        max: usize,
        now: Instant,
        out: &mut Vec<Arc<Record>>,
    ) -> Option<Instant> {
        let mut state = lock(&self.state);
        state.settle(now);
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(state.log.len());
        out.extend(state.log[start..].iter().take(max).cloned());
        state.delayed.keys().next().map(|(due, _)| *due)
    }

    /// One record.
    pub(super) fn get(&self, offset: u64) -> Option<Arc<Record>> {
        let state = lock(&self.state);
        state.log.get(usize::try_from(offset).ok()?).cloned()
    }

    /// What its messages count against the cluster's limit.
    fn bytes(&self) -> u64 {
        let state = lock(&self.state);
        let records = state.log.iter().chain(state.delayed.values());
        records.map(|record| record.bytes).sum()
    }

    /// One past the last message, and how many are not yet due.
    pub(super) fn end_and_delayed(&self, now: Instant) -> (u64, u64) {
        let mut state = lock(&self.state);
        state.settle(now);
        (state.log.len() as u64, state.delayed.len() as u64)
    }

    pub(super) fn add_reader(&self, member: u64, wake: &Arc<Notify>) {
        lock(&self.state).readers.push(Reader {
            member,
            wake: wake.clone(),
        });
    }

    pub(super) fn remove_reader(&self, member: u64) {
        lock(&self.state)
            .readers
            .retain(|reader| reader.member != member);
    }
}

/// A topic. Its queues stay when a seal takes their number to 0.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    state: RwLock<TopicState>,
    pub(super) halves: Halves,
}

#[derive(Debug)]
struct TopicState {
    access: Access,
    message_type: Option<String>,
    /// How many of `queues` can be written and read.
    in_use: usize,
    queues: Vec<Arc<Queue>>,
    deleted: bool,
}

/// Why a topic took no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    Sealed,
    Deleted,
}

impl TopicState {
    /// The queue of a lane that takes a message now.
    fn pick(&self, lane: u64) -> Result<usize, Refused> {
        if self.deleted {
            return Err(Refused::Deleted);
        }
        if self.in_use == 0 {
            return Err(Refused::Sealed);
        }
        Ok((lane % self.in_use as u64) as usize)
    }
}

impl Topic {
    pub(super) fn new(name: Arc<str>, queues: u32) -> Self {
        Topic {
            name,
            halves: Halves::default(),
            state: RwLock::new(TopicState {
                access: Access::Open,
                message_type: None,
                in_use: queues as usize,
                queues: (0..queues).map(|_| Arc::default()).collect(),
                deleted: false,
            }),
        }
    }

    /// Stores a message in the queue of its lane. The topic's lock is held throughout: once a seal has returned, nothing gets in.
    pub(super) fn append(
        &self,
        lane: u64,
        record: Arc<Record>,
        due: Option<Instant>,
    ) -> Result<(u32, Option<u64>), Refused> {
        let state = read(&self.state);
        let queue = state.pick(lane)?;
        let offset = state.queues[queue].append(record, due);
        Ok((queue as u32, offset))
    }

    /// Stores messages one after the other in the queue of their lane; all or none. Returns the queue and the first one's offset.
    pub(super) fn append_all(
        &self,
        lane: u64,
        records: &[Arc<Record>],
    ) -> Result<(u32, u64), Refused> {
        let state = read(&self.state);
        let queue = state.pick(lane)?;
        let first = state.queues[queue].append_all(records.iter().cloned());
        Ok((queue as u32, first))
    }

    /// Keeps a half message for the queue of its lane.
    pub(super) fn append_half(
        &self,
        lane: u64,
        record: Arc<Record>,
        config: &MemoryConfig,
    ) -> Result<u32, Refused> {
        let state = read(&self.state);
        let queue = state.pick(lane)? as u32;
        self.halves.put(record, queue, config);
        Ok(queue)
    }

    /// Moves a half message to its queue, also under a seal. Whether it was still there.
    pub(super) fn commit_half(&self, id: u64) -> Result<bool, Refused> {
        let state = read(&self.state);
        if state.deleted {
            return Err(Refused::Deleted);
        }
        let committed = self.halves.take(id, |half| {
            // Queues are never taken away.
            let queue = &state.queues[half.queue as usize];
            queue.append(half.record, None);
        });
        Ok(committed.is_some())
    }

    /// The queues that can be read now.
    pub(super) fn readable(&self) -> Vec<Arc<Queue>> {
        let state = read(&self.state);
        state.queues[..state.in_use].to_vec()
    }

    /// Every queue that there ever was, also under a seal.
    pub(super) fn all(&self) -> Vec<Arc<Queue>> {
        read(&self.state).queues.clone()
    }

    /// Adds a queue; for retry topics, which have one for each topic that the group reads.
    pub(super) fn add_queue(&self) -> (u32, Arc<Queue>) {
        let mut state = write(&self.state);
        let queue = Arc::<Queue>::default();
        state.queues.push(queue.clone());
        state.in_use = state.queues.len();
        (state.queues.len() as u32 - 1, queue)
    }

    /// Access, queues in use, message type.
    pub(super) fn describe(&self) -> (Access, u32, Option<String>) {
        let state = read(&self.state);
        (
            state.access,
            state.in_use as u32,
            state.message_type.clone(),
        )
    }

    /// Puts the configuration in force. `queues` is what the topic has while it is not sealed.
    pub(super) fn configure(&self, access: Access, queues: u32, message_type: Option<String>) {
        let mut state = write(&self.state);
        if state.deleted {
            return;
        }
        state.access = access;
        state.message_type = message_type;
        state.in_use = match access {
            Access::Sealed => 0,
            Access::Open | Access::Closed => queues as usize,
        };
        while state.queues.len() < queues as usize {
            state.queues.push(Arc::default());
        }
    }

    pub(super) fn set_message_type(&self, message_type: Option<&str>) {
        write(&self.state).message_type = message_type.map(str::to_owned);
    }

    /// Takes no message from now on; returns how many bytes its messages had.
    pub(super) fn delete(&self) -> u64 {
        let mut state = write(&self.state);
        state.deleted = true;
        state.in_use = 0;
        let queues = std::mem::take(&mut state.queues);
        let half = self.halves.clear();
        queues.iter().map(|queue| queue.bytes()).sum::<u64>() + half
    }
}
