//! The state that all clients of an embedded cluster share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    config::MemoryConfig,
    group::Group,
    lock, read,
    topic::{MAX_DELAY, MAX_QUEUES, Record, Refused, Topic},
    write,
};
use crate::{
    backend::{KEY_PROPERTY, QueueId, REVISION_PROPERTY, Stored},
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
    side::Revision,
};

/// RocketMQ keeps the length of a message's properties in a signed 16-bit number.
const MAX_PROPERTY_BYTES: usize = i16::MAX as usize;
/// What a stored message takes besides its own bytes, about.
const RECORD_OVERHEAD_BYTES: usize = 256;

static CLUSTERS: AtomicU64 = AtomicU64::new(1);

pub(super) struct Cluster {
    pub(super) config: MemoryConfig,
    /// Part of every message id, so that two clusters of one process never give the same.
    number: u64,
    topics: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    groups: RwLock<BTreeMap<Arc<str>, Arc<Group>>>,
    /// Client ids with the number of their producers.
    producers: Mutex<BTreeMap<Arc<str>, usize>>,
    stored_bytes: AtomicU64,
    records: AtomicU64,
    members: AtomicU64,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("number", &self.number)
            .field("broker", &self.config.broker)
            .finish_non_exhaustive()
    }
}

/// The library's own part of a message; absent from those of other writers.
pub(super) type Stamp<'a> = Option<(&'a IdempotencyKey, Revision)>;

impl Cluster {
    pub(super) fn new(config: MemoryConfig) -> Self {
        Cluster {
            config,
            number: CLUSTERS.fetch_add(1, Ordering::Relaxed),
            topics: RwLock::default(),
            groups: RwLock::default(),
            producers: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
            members: AtomicU64::new(1),
        }
    }

    /// No other cluster of this process has it.
    pub(super) fn own_name(&self) -> String {
        format!("{} {}", self.config.broker, self.number)
    }

    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.topics).get(name).cloned()
    }

    pub(super) fn topic_names(&self) -> Vec<String> {
        let topics = read(&self.topics);
        let own = topics.keys().filter(|name| !is_internal(name));
        own.map(|name| name.to_string()).collect()
    }

    /// The topic that a client names, made where the configuration says so.
    pub(super) fn topic_for_client(
        &self,
        name: &str,
        operation: &'static str,
    ) -> Result<Arc<Topic>> {
        match self.topic(name) {
            Some(topic) => Ok(topic),
            None if self.config.auto_create_topics => {
                let queues = self.config.auto_create_queues.clamp(1, MAX_QUEUES);
                self.create_topic(name, queues)
            }
            None => Err(unknown("topic", name, operation)),
        }
    }

    /// One that exists is left as it is.
    pub(super) fn create_topic(&self, name: &str, queues: u32) -> Result<Arc<Topic>> {
        check_name("topic", name, 127)?;
        check_queues(queues)?;
        let topic = self.topic_or_new(name, queues);
        self.rebalance(&topic.name);
        Ok(topic)
    }

    pub(super) fn delete_topic(&self, name: &str) {
        let Some(topic) = write(&self.topics).remove(name) else {
            return;
        };
        let bytes = topic.delete();
        self.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.rebalance(&topic.name);
        for group in self.groups() {
            group.forget_topic(name);
        }
    }

    pub(super) fn group(&self, name: &str) -> Option<Arc<Group>> {
        read(&self.groups).get(name).cloned()
    }

    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        read(&self.groups).values().cloned().collect()
    }

    /// The group that a client names, made where the configuration says so.
    pub(super) fn group_for_client(
        &self,
        name: &str,
        operation: &'static str,
    ) -> Result<Arc<Group>> {
        match self.group(name) {
            Some(group) => Ok(group),
            None if self.config.auto_create_groups => self.create_group(name),
            None => Err(unknown("group", name, operation)),
        }
    }

    /// One that exists is left as it is.
    pub(super) fn create_group(&self, name: &str) -> Result<Arc<Group>> {
        // Leaves room for the prefix of the retry topic.
        check_name("group", name, 120)?;
        let retry = self.topic_or_new(&format!("%RETRY%{name}"), 0);
        let mut groups = write(&self.groups);
        let group = groups
            .entry(name.into())
            .or_insert_with_key(|name| Arc::new(Group::new(name.clone(), retry)));
        Ok(group.clone())
    }

    /// Its members are given nothing any more.
    pub(super) fn delete_group(&self, name: &str) {
        let Some(group) = write(&self.groups).remove(name) else {
            return;
        };
        group.disband();
        self.delete_topic(&group.retry.name);
        self.delete_topic(&format!("%DLQ%{name}"));
    }

    /// Gives the topic's queues out again in every group.
    pub(super) fn rebalance(&self, topic: &Arc<str>) {
        for group in self.groups() {
            group.rebalance(topic, self);
        }
    }

    /// Checks a message and stores it.
    pub(super) fn store(
        &self,
        topic: &Topic,
        message: &Message,
        stamp: Stamp<'_>,
        lane: u64,
    ) -> Result<Stored> {
        let record = Arc::new(self.record(message, stamp)?);
        let due = match message.deliver_after {
            None => None,
            Some(delay) if delay.is_zero() => None,
            Some(delay) => Some(Instant::now() + delay),
        };
        let (id, bytes) = (record.id, record.bytes);
        let mut stored = topic.append(lane, record.clone(), due);
        if stored == Err(Refused::Deleted)
            && let Some(again) = self.topic(&topic.name)
        {
            stored = again.append(lane, record, due);
        }
        let (queue, offset) = stored.map_err(|refused| self.refused(topic, refused, bytes))?;
        Ok(Stored {
            message_id: self.message_id(id),
            queue: self.queue_id(queue),
            offset,
        })
    }

    /// Checks messages and stores all or none of them, in the queue of the lane.
    pub(super) fn store_batch(
        &self,
        topic: &Topic,
        batch: &[(&Message, Stamp<'_>)],
        lane: u64,
    ) -> Result<Vec<Stored>> {
        let wrong = |text: &str| Err(Error::new(ErrorKind::InvalidMessage, "send a batch", text));
        if batch.is_empty() {
            return wrong("a batch without a message cannot be sent");
        }
        let delayed = |(message, _): &(&Message, Stamp<'_>)| message.deliver_after.is_some();
        if batch.iter().any(delayed) {
            return wrong("a delayed message cannot be part of a batch: send it by itself");
        }
        let bytes = batch.iter().map(|(message, _)| message.body.len());
        if bytes.sum::<usize>() > self.config.max_body_bytes {
            return wrong("the bodies of the batch are above max_body_bytes together");
        }
        let mut records: Vec<Arc<Record>> = Vec::with_capacity(batch.len());
        for (message, stamp) in batch {
            match self.record(message, *stamp) {
                Ok(record) => records.push(Arc::new(record)),
                Err(error) => {
                    self.remove_bytes(records.iter().map(|record| record.bytes).sum());
                    return Err(error);
                }
            }
        }
        let mut stored = topic.append_all(lane, &records);
        if stored == Err(Refused::Deleted)
            && let Some(again) = self.topic(&topic.name)
        {
            stored = again.append_all(lane, &records);
        }
        let (queue, first) = stored.map_err(|refused| {
            let bytes = records.iter().map(|record| record.bytes).sum();
            self.refused(topic, refused, bytes)
        })?;
        let stored = (first..).zip(&records).map(|(offset, record)| Stored {
            message_id: self.message_id(record.id),
            queue: self.queue_id(queue),
            offset: Some(offset),
        });
        Ok(stored.collect())
    }

    /// Checks a message and counts it against the limit.
    pub(super) fn record(&self, message: &Message, stamp: Stamp<'_>) -> Result<Record> {
        let bytes = self.check_message(message)?;
        self.reserve(bytes)?;
        Ok(Record {
            id: self.records.fetch_add(1, Ordering::Relaxed),
            message: Message {
                deliver_after: None,
                idempotency_key: stamp.map(|(key, _)| key.clone()),
                ..message.clone()
            },
            revision: stamp.map(|(_, revision)| revision),
            retries: 0,
            bytes,
        })
    }

    /// The error of a topic that took nothing; `bytes` were counted before.
    pub(super) fn refused(&self, topic: &Topic, refused: Refused, bytes: u64) -> Error {
        self.remove_bytes(bytes);
        match refused {
            Refused::Deleted => unknown("topic", &topic.name, "send"),
            Refused::Sealed => Error::new(
                ErrorKind::Sealed,
                "send",
                format!("topic {:?} has no queues that take writes", topic.name),
            ),
        }
    }

    pub(super) fn remove_bytes(&self, bytes: u64) {
        self.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Stores what the cluster itself moves; never refused, so that nothing is lost in between.
    pub(super) fn dead_letter(&self, group: &str, record: Record) {
        let topic = self.topic_or_new(&format!("%DLQ%{group}"), 1);
        self.stored_bytes.fetch_add(record.bytes, Ordering::Relaxed);
        // Refused only when somebody deletes the topic just now, with all that is in it.
        let _ = topic.append(0, Arc::new(record), None);
    }

    /// Counts bytes that are stored without being refused.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn message_id(&self, id: u64) -> String {
        format!("{:08X}{id:016X}", self.number)
    }

    pub(super) fn queue_id(&self, queue: u32) -> QueueId {
        QueueId {
            broker: self.config.broker.clone(),
            queue,
        }
    }

    pub(super) fn add_producer(&self, client_id: &Arc<str>) {
        *lock(&self.producers).entry(client_id.clone()).or_default() += 1;
    }

    pub(super) fn remove_producer(&self, client_id: &str) {
        let mut producers = lock(&self.producers);
        if let Some(count) = producers.get_mut(client_id) {
            *count -= 1;
            if *count == 0 {
                producers.remove(client_id);
            }
        }
    }

    /// The client ids of those that have a producer, sorted.
    pub(super) fn producers(&self) -> Vec<String> {
        let producers = lock(&self.producers);
        producers.keys().map(|id| id.to_string()).collect()
    }

    pub(super) fn next_member(&self) -> u64 {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    fn topic_or_new(&self, name: &str, queues: u32) -> Arc<Topic> {
        let mut topics = write(&self.topics);
        let topic = topics
            .entry(name.into())
            .or_insert_with_key(|name| Arc::new(Topic::new(name.clone(), queues)));
        topic.clone()
    }

    fn reserve(&self, bytes: u64) -> Result<()> {
        let before = self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.config.max_stored_bytes {
            self.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::new(
                ErrorKind::Throttled,
                "send",
                format!(
                    "the embedded cluster holds {before} of at most {} bytes; raise max_stored_bytes or delete topics",
                    self.config.max_stored_bytes
                ),
            ));
        }
        Ok(())
    }

    /// What no broker may be given; returns the bytes that the message takes.
    fn check_message(&self, message: &Message) -> Result<u64> {
        let wrong = |text: String| Err(Error::new(ErrorKind::InvalidMessage, "send", text));
        let body = message.body.len();
        if body > self.config.max_body_bytes {
            return wrong(format!(
                "the body has {body} bytes; at most {} are allowed",
                self.config.max_body_bytes
            ));
        }
        if message.deliver_after.is_some_and(|delay| delay > MAX_DELAY) {
            return wrong(format!(
                "the delay is longer than {} s",
                MAX_DELAY.as_secs()
            ));
        }
        let named = message.properties.iter();
        for (name, _) in named {
            if name.is_empty() || name == KEY_PROPERTY || name == REVISION_PROPERTY {
                return wrong(format!("a property cannot be named {name:?}"));
            }
        }
        let mut properties = 0;
        let fields = [&message.key, &message.tag, &message.ordering_key];
        let fields = fields.into_iter().flatten();
        let pairs = message.properties.iter();
        for text in fields.chain(pairs.flat_map(|(name, value)| [name, value])) {
            // They separate the properties on RocketMQ's wire.
            if text.bytes().any(|byte| byte == 1 || byte == 2) {
                return wrong("a key, tag or property has a \\u{1} or \\u{2} in it".into());
            }
            properties += text.len() + 1;
        }
        if properties > MAX_PROPERTY_BYTES {
            return wrong(format!(
                "key, tag and properties have {properties} bytes; at most {MAX_PROPERTY_BYTES} are allowed"
            ));
        }
        Ok((body + properties + RECORD_OVERHEAD_BYTES) as u64)
    }
}

pub(super) fn unknown(what: &str, name: &str, operation: &'static str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        operation,
        format!("the embedded cluster has no {what} {name:?}; create it first"),
    )
}

pub(super) fn check_queues(queues: u32) -> Result<()> {
    if (1..=MAX_QUEUES).contains(&queues) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidConfig,
        "configure a topic",
        format!("a topic has 1 to {MAX_QUEUES} queues, not {queues}"),
    ))
}

/// RocketMQ's rule for names (apache/rocketmq TopicValidator).
fn check_name(what: &str, name: &str, most: usize) -> Result<()> {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-');
    if !name.is_empty() && name.len() <= most && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidConfig,
        "create",
        format!(
            "the name of a {what} is 1 to {most} letters, digits, '%', '|', '_' or '-'; {:?} is not",
            name.chars().take(most).collect::<String>()
        ),
    ))
}

fn is_internal(topic: &str) -> bool {
    topic.starts_with("%RETRY%") || topic.starts_with("%DLQ%")
}
