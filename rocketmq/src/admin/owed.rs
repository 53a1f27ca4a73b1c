//! What a topic still owes to groups, wherever on the brokers it lies: in the topic, in a group's retry topic, among delayed messages, timers or
//! half messages.
//!
//! Messages move while they are looked at: a half message is committed into the topic or among the delayed ones, a delayed one falls due, a member
//! sends one back and it is delayed again. A look must never miss one that is between two places. It rests on one property of all the places,
//! topic and retry topic included: **a message leaves a place, so that the low end of the place passes it, only after its next copy is in the commit
//! log.** (A group commits past a message after it was handled or its send-back was answered; the delay service, the timer wheel and the
//! transaction check note their progress after the put.) So:
//!
//! 1. read every low end: committed offsets, delay and timer progress, the offset of the transaction check;
//! 2. wait until all that is in the commit log by now is dispatched;
//! 3. read every high end, and what waits between low and high.
//!
//! Take a message that is owed, and its last copy in the commit log at the moment of step 2. It has no later copy, so its place's low end had not
//! passed it when that was read in step 1; and it is dispatched, so it is below the high end read in step 3. So it is counted. One that moves
//! meanwhile may be counted in both places; the next look has it once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::{
    Admin, GroupBacklog, Master, QueueOffsets, TopicConfigs,
    offset::address_of,
    pending::{Log, Low},
    progress::{HALF_TOPIC, Progress},
};
use crate::{
    error::{ErrorKind, Result},
    message::RETRY_PREFIX,
    route::MessageQueue,
    together::together,
};

/// `TopicValidator.RMQ_SYS_SCHEDULE_TOPIC`: one queue for each delay level.
const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// `TimerMessageStore.TIMER_TOPIC` (5.x).
const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// `MixAll.DLQ_GROUP_TOPIC_PREFIX`.
pub(super) const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// Most messages of one queue of a retry topic that are looked at one by one.
const MOST_RETRIES: u64 = 10_000;

/// What a topic owes to one group: at least; see the module on messages that move.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owed {
    /// What waits in the topic and in the group's retry topic, which serves all topics that the group reads.
    pub offsets: GroupBacklog,
    /// Of what waits in the retry topic: messages that are retries of other topics. Where more than 10 000 wait in one of its queues they are not told
    /// apart, and all count as this topic's.
    pub retry_of_others: u64,
    /// Delayed messages that are not due yet, retries among them.
    pub delayed: u64,
    /// 5.x timers that are not due yet.
    pub timers: u64,
    /// Half (transaction) messages. Resolved ones are among them until the broker's next check round (`transactionCheckInterval`).
    pub half: u64,
    /// What the group's retries have brought to its dead-letter topic, of all topics that it reads. Not owed any more.
    pub dead_letters: u64,
}

impl Owed {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        let offsets = self.offsets.owed().saturating_sub(self.retry_of_others);
        [self.delayed, self.timers, self.half]
            .into_iter()
            .fold(offsets, u64::saturating_add)
    }
}

/// The groups' offsets in the low ends, by group and queue.
type Committed = BTreeMap<(Arc<str>, MessageQueue), Option<u64>>;

/// Waiting messages of one broker, by group.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    delayed: u64,
    timers: u64,
    half: u64,
}

impl Admin {
    /// What a topic owes to each of `groups`. `configs` is the topic's configuration from when it was open, see [`super::widened`]. Works under a seal.
    /// Everything that any broker had taken when this was called is counted; `dispatch` is how long the brokers may take to show it in their queues.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when a broker in `configs` is not known now;
    /// [`ErrorKind::Timeout`] and [`ErrorKind::TooLarge`] when too much waits to be looked at now;
    /// [`ErrorKind::Unsupported`] when a broker keeps what waits where it cannot be read; as
    /// [`Self::wait_for_dispatch`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn owed(
        &self,
        topic: &str,
        groups: &[Arc<str>],
        configs: &TopicConfigs,
        dispatch: Duration,
    ) -> Result<BTreeMap<Arc<str>, Owed>> {
        let masters = self.masters().await?;
        // Step 1.
        let retries = self.configs_by_prefix(RETRY_PREFIX, groups).await?;
        let committed = self
            .committed_offsets(&masters, groups, configs, &retries)
            .await?;
        let questions = masters.iter().map(|master| {
            let (admin, master) = (self.clone(), master.clone());
            async move { admin.progress(&master).await }
        });
        let progress = together(questions.collect()).await?;
        // Step 2.
        self.wait_for_dispatch(dispatch).await?;
        // Step 3. Retry topics anew: a first retry makes them.
        let retries = self.configs_by_prefix(RETRY_PREFIX, groups).await?;
        let dead = self.configs_by_prefix(DEAD_LETTER_PREFIX, groups).await?;
        let mut wanted: BTreeSet<MessageQueue> = queues(configs).collect();
        wanted.extend(retries.values().flat_map(queues));
        wanted.extend(dead.values().flat_map(queues));
        let ranges = self.ranges(&masters, wanted).await?;
        let counts = self.waiting_of(topic, groups, &progress).await?;
        let others = self
            .retries_of_others(topic, &committed, &ranges, &progress)
            .await?;

        let mut all = BTreeMap::new();
        for (group, counts) in groups.iter().zip(counts) {
            let offsets = |configs: &TopicConfigs| -> Vec<QueueOffsets> {
                let of = |queue: MessageQueue| {
                    let (min, max) = ranges.get(&queue).copied().unwrap_or_default();
                    let key = (Arc::clone(group), queue.clone());
                    QueueOffsets {
                        queue,
                        min,
                        max,
                        committed: committed.get(&key).copied().flatten(),
                    }
                };
                queues(configs).map(of).collect()
            };
            let dead_letters = dead.get(group).map_or(0, |configs| {
                let kept = |queue: MessageQueue| {
                    let (min, max) = ranges.get(&queue).copied().unwrap_or_default();
                    max.saturating_sub(min)
                };
                queues(configs).map(kept).sum()
            });
            let owed = Owed {
                offsets: GroupBacklog {
                    topic: offsets(configs),
                    retry: retries.get(group).map(offsets).unwrap_or_default(),
                },
                retry_of_others: others.get(group).copied().unwrap_or(0),
                delayed: counts.delayed,
                timers: counts.timers,
                half: counts.half,
                dead_letters,
            };
            all.insert(Arc::clone(group), owed);
        }
        Ok(all)
    }

    /// The configurations of every group's topic of that prefix.
    async fn configs_by_prefix(
        &self,
        prefix: &str,
        groups: &[Arc<str>],
    ) -> Result<BTreeMap<Arc<str>, TopicConfigs>> {
        let names: Vec<Arc<str>> = groups
            .iter()
            .map(|group| format!("{prefix}{group}").into())
            .collect();
        let mut configs = self.configs_of(&names).await?;
        Ok(groups
            .iter()
            .zip(&names)
            .map(|(group, name)| (Arc::clone(group), configs.remove(name).unwrap_or_default()))
            .collect())
    }

    async fn committed_offsets(
        &self,
        masters: &[Master],
        groups: &[Arc<str>],
        configs: &TopicConfigs,
        retries: &BTreeMap<Arc<str>, TopicConfigs>,
    ) -> Result<Committed> {
        let mut questions = Vec::new();
        for group in groups {
            let retry = retries.get(group).into_iter().flat_map(queues);
            for queue in queues(configs).chain(retry) {
                let address = Arc::clone(address_of(masters, &queue.broker)?);
                let (admin, group) = (self.clone(), Arc::clone(group));
                questions.push(async move {
                    let committed = admin
                        .committed_offset(&address, &group, &queue.topic, queue.queue)
                        .await?;
                    Ok(((group, queue), committed))
                });
            }
        }
        Ok(together(questions).await?.into_iter().collect())
    }

    /// The first offset kept and one past the last message, by queue.
    async fn ranges(
        &self,
        masters: &[Master],
        wanted: BTreeSet<MessageQueue>,
    ) -> Result<BTreeMap<MessageQueue, (u64, u64)>> {
        let mut questions = Vec::new();
        for queue in wanted {
            let address = Arc::clone(address_of(masters, &queue.broker)?);
            let admin = self.clone();
            questions.push(async move {
                let (topic, number) = (&queue.topic, queue.queue);
                let min = admin.min_offset(&address, topic, number).await?;
                let max = admin.max_offset(&address, topic, number).await?;
                Ok((queue, (min, max)))
            });
        }
        Ok(together(questions).await?.into_iter().collect())
    }

    /// What waits on all brokers, in the order of `groups`.
    async fn waiting_of(
        &self,
        topic: &str,
        groups: &[Arc<str>],
        progress: &[Progress],
    ) -> Result<Vec<Counts>> {
        let topic: Arc<str> = topic.into();
        let retries: Arc<[String]> = groups
            .iter()
            .map(|group| format!("{RETRY_PREFIX}{group}"))
            .collect();
        let mut questions = Vec::new();
        for progress in progress {
            let progress = Arc::new(progress.clone());
            for place in places(&progress) {
                let (admin, progress) = (self.clone(), Arc::clone(&progress));
                let (topic, retries) = (Arc::clone(&topic), Arc::clone(&retries));
                questions.push(async move {
                    let mut counts = vec![0_u64; retries.len()];
                    let (log, low) = admin.read_place(&progress, place).await?;
                    for waiting in log.waiting(low) {
                        for (count, retry) in counts.iter_mut().zip(&*retries) {
                            *count += u64::from(waiting.concerns(&topic, retry));
                        }
                    }
                    Ok((place, counts))
                });
            }
        }
        let mut all = vec![Counts::default(); groups.len()];
        for (place, counts) in together(questions).await? {
            for (all, count) in all.iter_mut().zip(counts) {
                match place {
                    Place::Level(_) => all.delayed += count,
                    Place::Timers => all.timers += count,
                    Place::Half => all.half += count,
                }
            }
        }
        Ok(all)
    }

    async fn read_place(
        &self,
        progress: &Progress,
        place: Place,
    ) -> Result<(OwnedMutexGuard<Log>, Low)> {
        let level = |level: u32| progress.delivered.get(level as usize).copied();
        let (topic, number, offset) = match place {
            Place::Level(number) => (SCHEDULE_TOPIC, number, level(number).unwrap_or(0)),
            Place::Timers => (TIMER_TOPIC, 0, 0),
            Place::Half => (HALF_TOPIC, 0, progress.resolved),
        };
        let timers = progress.timers.filter(|_| matches!(place, Place::Timers));
        let low = Low { offset, timers };
        let queue = MessageQueue {
            topic: topic.into(),
            broker: Arc::clone(&progress.master.broker),
            queue: number,
        };
        let (master, boot) = (&progress.master, &progress.boot);
        let log = self.read_waiting(master, boot, queue, &low).await?;
        Ok((log, low))
    }

    /// By group: what waits in its retry topic and is a retry of another topic than this one. What cannot be read within bounds is not told apart.
    async fn retries_of_others(
        &self,
        topic: &str,
        committed: &Committed,
        ranges: &BTreeMap<MessageQueue, (u64, u64)>,
        progress: &[Progress],
    ) -> Result<BTreeMap<Arc<str>, u64>> {
        let mut questions = Vec::new();
        for ((group, queue), committed) in committed {
            let (min, max) = ranges.get(queue).copied().unwrap_or_default();
            let low = committed.unwrap_or(min).max(min);
            let readable = low < max && max - low <= MOST_RETRIES;
            let broker = progress
                .iter()
                .find(|progress| progress.master.broker == queue.broker);
            let Some(broker) = broker.filter(|_| readable && queue.topic.starts_with(RETRY_PREFIX))
            else {
                continue;
            };
            let (admin, topic) = (self.clone(), topic.to_owned());
            let (group, queue) = (Arc::clone(group), queue.clone());
            let (master, boot) = (broker.master.clone(), broker.boot.clone());
            questions.push(async move {
                let from = Low {
                    offset: low,
                    timers: None,
                };
                match admin.read_waiting(&master, &boot, queue, &from).await {
                    Ok(log) => Ok((group, log.retries_of_others(low..max, &topic))),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::TooLarge) =>
                    {
                        Ok((group, 0))
                    }
                    Err(error) => Err(error),
                }
            });
        }
        let mut all = BTreeMap::new();
        for (group, count) in together(questions).await? {
            *all.entry(group).or_insert(0) += count;
        }
        Ok(all)
    }
}

/// Where messages wait on a broker.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// From 0.
    Level(u32),
    Timers,
    Half,
}

fn places(progress: &Progress) -> Vec<Place> {
    let levels = 0..u32::try_from(progress.delivered.len()).unwrap_or(u32::MAX);
    // Also where no checkpoint was to be had: a queue that is not empty then says that something is pending.
    levels
        .map(Place::Level)
        .chain([Place::Timers, Place::Half])
        .collect()
}

fn queues(configs: &TopicConfigs) -> impl Iterator<Item = MessageQueue> {
    configs.iter().flat_map(|(broker, config)| {
        let topic: Arc<str> = config.topic_name.as_str().into();
        (0..config.queues()).map(move |queue| MessageQueue {
            topic: Arc::clone(&topic),
            broker: Arc::clone(broker),
            queue,
        })
    })
}
