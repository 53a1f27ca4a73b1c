//! Sending to one topic.

mod batch;
mod outgoing;
mod refusal;
mod transaction;

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use self::outgoing::{Outgoing, SendRequest};
pub(crate) use self::refusal::is_illegal_queue;
use self::refusal::refusal;
pub use self::transaction::HalfMessage;
pub(crate) use self::transaction::Place;
use crate::{
    client::{Client, Routed, TopicEntry},
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Fields,
    message::{Message, OffsetMessageId},
    subscription::now_ms,
};

/// `Validators.TOPIC_MAX_LENGTH`: 4.9 brokers store the length in one signed byte.
const MAX_TOPIC_BYTES: usize = 127;
/// Properties longer than this are refused by every broker (`MessageStore`'s `Short.MAX_VALUE`).
const MAX_PROPERTIES_BYTES: usize = 32_767;

/// How a [`Producer`] behaves.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The producer group, as the brokers list it. Default `rocketmq-producer`.
    pub group: String,
    /// Larger bodies are refused here. Default 4 MiB, the brokers' own default.
    pub max_body_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            group: "rocketmq-producer".to_owned(),
            max_body_bytes: 4 << 20,
        }
    }
}

/// Sends to one topic.
pub struct Producer {
    client: Client,
    entry: Arc<TopicEntry>,
    group: Arc<str>,
    options: ProducerOptions,
}

/// How a stored message was kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreStatus {
    /// As the broker is configured to.
    Ok,
    /// Stored; the flush to disk was not confirmed in time.
    FlushDiskTimeout,
    /// Stored; the slave did not confirm in time.
    FlushSlaveTimeout,
    /// Stored; there is no slave.
    SlaveNotAvailable,
}

/// A broker that has stored what was sent, and its words.
struct Answer {
    status: StoreStatus,
    broker: Arc<str>,
    /// Of the broker.
    address: Arc<str>,
    queue: u32,
    offset: u64,
    fields: Fields,
}

/// What the broker said of a stored message, whose [unique id](Message::unique_id) was known before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SendResult {
    /// How it was kept.
    pub status: StoreStatus,
    /// The broker's own id.
    pub offset_message_id: OffsetMessageId,
    /// The broker that has it.
    pub broker: Arc<str>,
    /// The queue that has it.
    pub queue: u32,
    /// Its place there. A delayed message's place is the delay queue's.
    pub offset: u64,
}

impl Producer {
    /// A producer. The topic must exist; it need not take sends yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a name that no broker takes, [`ErrorKind::TopicNotFound`]; as [`Client::call_name_server`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn new(client: &Client, topic: &str, options: ProducerOptions) -> Result<Producer> {
        check_name("topic", topic, MAX_TOPIC_BYTES)?;
        check_name("producer group", &options.group, 255)?;
        let entry = client.topic(topic).await?;
        let group: Arc<str> = options.group.as_str().into();
        client.registry().add_producer(&group, &entry);
        Ok(Producer {
            client: client.clone(),
            entry,
            group,
            options,
        })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.entry.topic
    }

    /// Sends a message to the queue that `lane` picks: while the topic's queues are the same, the same lane is the same queue.
    ///
    /// One refusal because of the queue itself (the topic was sealed or has fewer queues now) is followed by a look at the route and
    /// one more try; nothing else is tried again.
    ///
    /// # Errors
    /// [`ErrorKind::Sealed`] without a queue that takes sends, [`ErrorKind::TooLarge`], [`ErrorKind::InvalidInput`], [`ErrorKind::Throttled`] and
    /// other refusals: [`Persisted::No`](crate::Persisted::No). [`ErrorKind::Timeout`] and [`ErrorKind::Unavailable`]: [`Persisted::Maybe`](crate::Persisted::Maybe) once the message may
    /// have been written to the connection.
    ///
    /// # Cancellation
    /// The message may or may not be stored.
    pub async fn send(
        &self,
        message: &Message,
        lane: u64,
        timeout: Duration,
    ) -> Result<SendResult> {
        self.check(message)?;
        let outgoing = Outgoing {
            code: request::SEND_MESSAGE_V2,
            sys_flag: 0,
            properties: &message.properties,
            body: &message.body,
        };
        let answer = self.deliver(&outgoing, lane, timeout).await?;
        Ok(answer.into_result())
    }

    /// Sends to the queue that `lane` picks, and to the one that it picks after a look at the route where a queue is not there any more.
    async fn deliver(
        &self,
        outgoing: &Outgoing<'_>,
        lane: u64,
        timeout: Duration,
    ) -> Result<Answer> {
        let deadline = Instant::now() + timeout;
        let mut routed = self.entry.routed();
        if routed.writable.is_empty() {
            routed = self.reroute(deadline).await?;
        }
        let begun = Instant::now();
        let refused = match self.deliver_once(&routed, outgoing, lane, deadline).await {
            Err(error) if error.kind() == ErrorKind::Sealed => error,
            result => return result,
        };
        let routed = self.refresh(begun, deadline).await?;
        if routed.writable.is_empty() {
            return Err(refused);
        }
        self.deliver_once(&routed, outgoing, lane, deadline).await
    }

    fn check(&self, message: &Message) -> Result<()> {
        let (body, limit) = (message.body.len(), self.options.max_body_bytes);
        if body > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the body has {body} bytes; at most {limit} are allowed"),
            ));
        }
        if body == 0 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the body is empty: RocketMQ 5 refuses such messages",
            ));
        }
        let properties = message.properties.len();
        if properties > MAX_PROPERTIES_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the properties have {properties} bytes together; at most {MAX_PROPERTIES_BYTES} are allowed"
                ),
            ));
        }
        Ok(())
    }

    async fn refresh(&self, since: Instant, deadline: Instant) -> Result<Arc<Routed>> {
        let refreshed = self.client.refresh(&self.entry, since);
        tokio::time::timeout_at(deadline, refreshed)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "the route did not come in time"))?
    }

    async fn reroute(&self, deadline: Instant) -> Result<Arc<Routed>> {
        let routed = self.refresh(Instant::now(), deadline).await?;
        if routed.writable.is_empty() {
            return Err(Error::new(
                ErrorKind::Sealed,
                format!("topic {} has no queue that takes sends", self.entry.topic),
            ));
        }
        Ok(routed)
    }

    async fn deliver_once(
        &self,
        routed: &Routed,
        outgoing: &Outgoing<'_>,
        lane: u64,
        deadline: Instant,
    ) -> Result<Answer> {
        let index = (lane % routed.writable.len() as u64) as usize;
        let (broker, queue, address) = &routed.writable[index];
        let request = SendRequest {
            outgoing,
            group: &self.group,
            topic: &self.entry.topic,
            broker,
            queue: *queue,
            born_ms: now_ms().cast_signed(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let command = self.client.exchange(address, request, left).await?;
        let status = match command.code {
            response::SUCCESS => StoreStatus::Ok,
            response::FLUSH_DISK_TIMEOUT => StoreStatus::FlushDiskTimeout,
            response::FLUSH_SLAVE_TIMEOUT => StoreStatus::FlushSlaveTimeout,
            response::SLAVE_NOT_AVAILABLE => StoreStatus::SlaveNotAvailable,
            code => {
                return Err(refusal(&self.entry.topic, code, command.remark.as_deref())
                    .with_address(address));
            }
        };
        // Stored, whatever is missing in the rest of the answer.
        let fields = command.fields;
        Ok(Answer {
            status,
            broker: Arc::clone(broker),
            address: Arc::clone(address),
            queue: fields.number("queueId").unwrap_or(*queue),
            offset: fields.offset("queueOffset").unwrap_or(0),
            fields,
        })
    }
}

impl Answer {
    /// The broker's own ids, separated by commas.
    fn ids(&self) -> &str {
        self.fields.get("msgId").unwrap_or_default()
    }

    /// Of a single message.
    fn into_result(self) -> SendResult {
        SendResult {
            status: self.status,
            offset_message_id: OffsetMessageId::new(self.ids()),
            broker: self.broker,
            queue: self.queue,
            offset: self.offset,
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.client
            .registry()
            .remove_producer(&self.group, &self.entry.topic);
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("topic", &self.entry.topic)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// `Validators.checkTopic` and `checkGroup`: letters, digits and `% | - _`.
pub(crate) fn check_name(what: &str, name: &str, longest: usize) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"%|-_".contains(&byte);
    if name.is_empty() || name.len() > longest || !name.bytes().all(allowed) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the {what} {name:?} should have 1 to {longest} letters, digits or the characters % | - _"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_brokers_refuse_are_refused_here() {
        for name in ["", "a b", "a.b", "中文", &"a".repeat(128)] {
            assert!(
                check_name("topic", name, MAX_TOPIC_BYTES).is_err(),
                "{name}"
            );
        }
        assert!(check_name("topic", "%RETRY%a_b-c", MAX_TOPIC_BYTES).is_ok());
    }
}
