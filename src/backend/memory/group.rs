//! Consumer groups: members, who reads which queue, committed offsets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::{
    cluster::Cluster,
    cursor::{CommittedOffset, Cursor, CursorKey},
    lock,
    member::Member,
    topic::{Queue, Topic},
};
use crate::queue::QueueId;

/// A group. Lock order: group, member, cluster, topic, queue or offset; nobody waits for anything else under one.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    /// `%RETRY%group`. One queue for each topic that the group reads, so that what a topic owes can be told exactly.
    pub(super) retry: Arc<Topic>,
    state: Mutex<GroupState>,
}

#[derive(Debug, Default)]
struct GroupState {
    /// Sorted by client id, then by number: every client of RocketMQ computes the same order.
    members: Vec<Arc<Member>>,
    offsets: HashMap<Arc<str>, Vec<Arc<CommittedOffset>>>,
    retries: HashMap<Arc<str>, RetryQueue>,
}

#[derive(Clone, Debug)]
pub(super) struct RetryQueue {
    pub(super) number: u32,
    pub(super) queue: Arc<Queue>,
    pub(super) committed: Arc<CommittedOffset>,
}

/// How a member leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leave {
    /// In good order: what was acked is committed.
    Close,
    /// Without a word: acks that were not committed are forgotten.
    Crash,
}

impl Group {
    pub(super) fn new(name: Arc<str>, retry: Arc<Topic>) -> Self {
        Group {
            name,
            retry,
            state: Mutex::default(),
        }
    }

    pub(super) fn join(&self, member: Arc<Member>, cluster: &Cluster) {
        let mut state = lock(&self.state);
        let place = state
            .members
            .partition_point(|other| other.order() < member.order());
        let topic = member.topic().clone();
        state.members.insert(place, member);
        self.assign(&mut state, &topic, cluster);
    }

    pub(super) fn leave(&self, member: &Member, how: Leave, cluster: &Cluster) {
        let mut state = lock(&self.state);
        state
            .members
            .retain(|other| other.number() != member.number());
        member.revoke_all(how);
        self.assign(&mut state, member.topic(), cluster);
    }

    /// Takes everything away from everybody.
    pub(super) fn disband(&self) {
        for member in lock(&self.state).members.drain(..) {
            member.revoke_all(Leave::Crash);
        }
    }

    /// Gives the topic's queues out again, after they have changed.
    pub(super) fn rebalance(&self, topic: &Arc<str>, cluster: &Cluster) {
        self.assign(&mut lock(&self.state), topic, cluster);
    }

    /// The queue of the retry topic for messages of `topic`; made at the first call.
    pub(super) fn retry_queue(&self, topic: &Arc<str>) -> RetryQueue {
        self.retry_queue_in(&mut lock(&self.state), topic)
    }

    /// As [`Self::retry_queue`], where there is one.
    pub(super) fn existing_retry_queue(&self, topic: &str) -> Option<RetryQueue> {
        lock(&self.state).retries.get(topic).cloned()
    }

    pub(super) fn client_ids(&self) -> BTreeSet<String> {
        let state = lock(&self.state);
        let ids = state.members.iter().map(|member| member.client_id());
        ids.map(str::to_owned).collect()
    }

    /// Whether a member reads the topic, or offsets were committed in it.
    pub(super) fn knows(&self, topic: &str, now: Instant) -> bool {
        let state = lock(&self.state);
        let reads = state
            .members
            .iter()
            .any(|member| &**member.topic() == topic);
        let offsets = state.offsets.get(topic).map(Vec::as_slice);
        reads
            || offsets
                .unwrap_or_default()
                .iter()
                .any(|offset| offset.get(now).is_some())
    }

    /// The committed offset of each of the topic's first `queues` queues.
    pub(super) fn offsets(&self, topic: &Arc<str>, queues: usize) -> Vec<Arc<CommittedOffset>> {
        lock(&self.state).offsets(topic, queues).to_vec()
    }

    /// What is committed in some queues; nothing in one that the topic never had.
    pub(super) fn committed(
        &self,
        topic: &str,
        queues: &[QueueId],
    ) -> BTreeMap<QueueId, Option<u64>> {
        let now = Instant::now();
        let state = lock(&self.state);
        let offsets = state.offsets.get(topic).map(Vec::as_slice);
        let of = |queue: &QueueId| offsets?.get(queue.queue as usize)?.get(now);
        let queues = queues.iter();
        queues.map(|queue| (queue.clone(), of(queue))).collect()
    }

    pub(super) fn forget_topic(&self, topic: &str) {
        lock(&self.state).offsets.remove(topic);
    }

    fn retry_queue_in(&self, state: &mut GroupState, topic: &Arc<str>) -> RetryQueue {
        let entry = state.retries.entry(topic.clone());
        let made = entry.or_insert_with(|| {
            let (number, queue) = self.retry.add_queue();
            RetryQueue {
                number,
                queue,
                committed: Arc::default(),
            }
        });
        made.clone()
    }

    /// Takes away first and gives afterwards, so that the new reader starts where the old one committed.
    fn assign(&self, state: &mut GroupState, topic: &Arc<str>, cluster: &Cluster) {
        let reads = |member: &&Arc<Member>| member.topic() == topic;
        let members: Vec<_> = state.members.iter().filter(reads).cloned().collect();
        if members.is_empty() {
            return;
        }
        // Looked up under the group's lock: of two changes at once, the later assignment sees both.
        let queues = cluster.topic(topic).map(|topic| topic.readable());
        let queues = queues.unwrap_or_default();
        let retry = self.retry_queue_in(state, topic);
        let offsets = state.offsets(topic, queues.len());
        let share = |index: usize| allocate(queues.len(), members.len(), index);
        for (index, member) in members.iter().enumerate() {
            let share = share(index);
            let stays = |cursor: &Cursor| match cursor.key.retry {
                // The retry topic's one queue falls to the first member, as the same rule has it.
                true => index == 0,
                false => {
                    let number = cursor.key.queue as usize;
                    // A topic that was deleted and made again has other queues under the same numbers.
                    share.contains(&number) && Arc::ptr_eq(&cursor.queue, &queues[number])
                }
            };
            member.revoke(stays);
        }
        let now = Instant::now();
        for (index, member) in members.iter().enumerate() {
            for number in share(index) {
                let key = CursorKey {
                    retry: false,
                    queue: number as u32,
                };
                // One that reads in order keeps its queue until what it has handed out has ended.
                let mut others = members.iter().filter(|other| !Arc::ptr_eq(other, member));
                if !others.any(|other| other.has(key)) {
                    member.give(key, &queues[number], &offsets[number], now);
                }
            }
            if index == 0 {
                let key = CursorKey {
                    retry: true,
                    queue: retry.number,
                };
                member.give(key, &retry.queue, &retry.committed, now);
            }
            member.wake();
        }
    }
}

impl GroupState {
    fn offsets(&mut self, topic: &Arc<str>, queues: usize) -> &[Arc<CommittedOffset>] {
        let offsets = self.offsets.entry(topic.clone()).or_default();
        while offsets.len() < queues {
            offsets.push(Arc::default());
        }
        &offsets[..queues]
    }
}

/// The queues of one member: equal, contiguous shares, the first members get one more where it does not divide
/// (apache/rocketmq AllocateMessageQueueAveragely).
fn allocate(queues: usize, members: usize, member: usize) -> Range<usize> {
    let (share, rest) = (queues / members, queues % members);
    let start = member * share + member.min(rest);
    start..start + share + usize::from(member < rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_one_reader_and_shares_differ_by_at_most_one() {
        for queues in 0..20 {
            for members in 1..20 {
                let shares: Vec<_> = (0..members).map(|m| allocate(queues, members, m)).collect();
                let all: Vec<_> = shares.iter().cloned().flatten().collect();
                assert_eq!(all, (0..queues).collect::<Vec<_>>());
                let sizes = || shares.iter().map(|share| share.len());
                assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            }
        }
    }
}
