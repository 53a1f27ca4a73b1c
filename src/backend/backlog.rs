//! What a side still owes to a group.

use serde::{Deserialize, Serialize};

use super::QueueId;

/// What a side still owes to one group.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Backlog {
    /// Every queue of the topic.
    pub queues: Vec<QueueBacklog>,
    /// Every queue of the group's retry topic.
    pub retry: Vec<QueueBacklog>,
    /// Messages waiting in the retry topic that are retries of other topics of the group: they are not owed by this one. 0 where the backend cannot tell
    /// them apart: then they count.
    #[serde(default)]
    pub retry_of_others: u64,
    /// Delayed messages not yet due, the group's retries among them; `None` when the backend cannot tell.
    pub delayed: Option<u64>,
    /// Transactional messages without an end; `None` when the backend cannot tell.
    pub half: Option<u64>,
    /// Messages that the group's own retries have brought to its dead-letter topic, of all topics that it reads. They are not owed any
    /// more, and not counted in [`Self::total`]. `None` when the backend cannot tell.
    #[serde(default)]
    pub dead_letters: Option<u64>,
}

/// One queue's offsets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QueueBacklog {
    /// The queue.
    pub queue: QueueId,
    /// The first offset kept.
    pub min: u64,
    /// One past the last message.
    pub end: u64,
    /// The group's committed offset; `None` when it never committed one.
    pub committed: Option<u64>,
}

impl QueueBacklog {
    /// Messages below the end that the group has not passed.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.end
            .saturating_sub(self.committed.unwrap_or(self.min).max(self.min))
    }
}

impl Backlog {
    /// Messages waiting in the topic.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        total(&self.queues)
    }

    /// Messages of this topic waiting in the retry topic.
    #[must_use]
    pub fn retrying(&self) -> u64 {
        total(&self.retry).saturating_sub(self.retry_of_others)
    }

    /// What the backend cannot tell. A backlog of which something is unknown proves nothing.
    #[must_use]
    pub fn unknown(&self) -> Vec<&'static str> {
        let mut unknown = Vec::new();
        if self.delayed.is_none() {
            unknown.push("delayed messages");
        }
        if self.half.is_none() {
            unknown.push("half (transaction) messages");
        }
        let mut queues = self.queues.iter().chain(&self.retry);
        if queues.any(|queue| queue.committed > Some(queue.end)) {
            // Messages were lost, or the topic was made anew: a group does not go on where its offset says.
            unknown.push("what lies before an offset beyond the end of its queue");
        }
        unknown
    }

    /// All that is owed, as far as the backend can tell.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.waiting()
            .saturating_add(self.retrying())
            .saturating_add(self.delayed.unwrap_or(0))
            .saturating_add(self.half.unwrap_or(0))
    }
}

/// Offsets come from outside: a sum that wraps around could read as nothing owed.
fn total(queues: &[QueueBacklog]) -> u64 {
    let owed = queues.iter().map(QueueBacklog::owed);
    owed.fold(0, u64::saturating_add)
}
