//! Consuming a topic as a member of a group.

mod allocate;
mod by_broker;
mod commit;
mod committed;
mod give_back;
mod goodbye;
mod group;
mod handover;
mod held;
mod inbox;
mod load;
mod local;
mod lock;
mod members;
mod membership;
mod moment;
mod offset;
mod pull;
mod rebalance;
mod release;
mod reset;
mod room;
mod source;
mod start;
mod window;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    heartbeat,
    message::ReceivedMessage,
    producer::check_name,
    route::MessageQueue,
    subscription::{self, Filter, SubscriptionData},
};
pub(crate) use group::Group;
use group::GroupHandle;
use inbox::Inbox;
use local::LocalOffsets;

/// `%RETRY%` and the group make a topic name of at most 127 bytes.
const MAX_GROUP_BYTES: usize = 120;

/// How a [`Consumer`] behaves.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Which messages. Default all.
    pub filter: Filter,
    /// Fetching pauses while so many messages are fetched and not yet acked. The topic's queues share them evenly, so that one that does not get on leaves the
    /// others their part; none has less than 32. What the group gave back may be as many again, so that it is read however full the topic's own part is.
    /// In order the shares count alone: a message of one queue may wait for one of another. Default 1024.
    pub max_outstanding: usize,
    /// The same for the memory that they take: bodies, properties, and what goes with them. The last one may pass it. Default 64 MiB.
    pub max_outstanding_bytes: usize,
    /// A queue is fetched no further than this, in offsets, past its first message that is not acked: it would all be delivered again after a crash. Default
    /// 2000, as the Java client's `consumeConcurrentlyMaxSpan` (apache/rocketmq `DefaultMQPushConsumer.java`). What one fetch brings may pass it.
    pub max_span: u64,
    /// Each queue's messages in the order of their offsets, by one member at a time: this one reads a queue only while the broker has it locked for this
    /// client, and when the queue is to go to another member, the lock is kept until everything that was handed out is acked or given back. All members of
    /// the group must read the topic so. What the group gave back is read without locks. Default false.
    pub ordered: bool,
    /// Every member reads every queue, for itself. All members of the group must. Default none.
    pub broadcast: Option<Broadcast>,
}

/// How a member of a broadcast knows where it stopped: brokers keep no offsets of a broadcast. Nothing goes back to the group: a message that is given back
/// is kept by the consumer and handed out again.
#[derive(Clone, Debug, Default)]
pub struct Broadcast {
    /// Where this member's offsets are kept, for this consumer alone: written every 500 ms while they change and by [`Consumer::close`], and read by the next
    /// consumer that names it. The format is that of the Java client's `offsets.json`. `None`: they end with the consumer.
    ///
    /// A queue without an offset is read from its end on. So what is sent before the first assignment ([`Consumer::ready`]) may be missed.
    pub offsets_file: Option<PathBuf>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            filter: Filter::default(),
            max_outstanding: 1024,
            max_outstanding_bytes: 64 << 20,
            max_span: 2000,
            ordered: false,
            broadcast: None,
        }
    }
}

/// Names a delivery to the consumer that issued it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Token(pub u64);

/// A message handed out, to be acked or given back.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// For [`Consumer::ack`] and [`Consumer::nack`].
    pub token: Token,
    /// The message.
    pub message: Arc<ReceivedMessage>,
    /// 1 for the first delivery to the group.
    pub attempt: u32,
}

/// A message that this client cannot read: compressed in a way it does not know, damaged, or no message at all. Its queue stands there until
/// the message is gone or the group's offset has passed it; nothing is skipped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// The queue, of the topic or of the group's retry topic.
    pub queue: MessageQueue,
    /// The first offset that has not been read.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// Reads one topic, and what the group gave back of it, as a member of a group. A new group starts at the first message kept.
///
/// Dropping it ends its tasks at once; without [`Self::close`], what was acked since the last commit (500 ms at most) is delivered again.
pub struct Consumer {
    group: Arc<GroupHandle>,
    inbox: Arc<Inbox>,
}

impl Consumer {
    /// Joins the group. One client can read a topic once for each group.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for names that no broker takes, a second consumer of the same topic and group, an expression that a broker cannot read, a
    /// broadcast in order, or a file of offsets that cannot be read; [`ErrorKind::Unsupported`] for an SQL92 expression and a broker that filters by tags only;
    /// [`ErrorKind::TopicNotFound`]; [`ErrorKind::Unavailable`] or the refusal when no broker takes the heartbeat.
    ///
    /// # Cancellation
    /// The client has left the group again.
    pub async fn new(
        client: &Client,
        topic: &str,
        group: &str,
        options: ConsumerOptions,
    ) -> Result<Consumer> {
        check_name("topic", topic, 127)?;
        check_name("consumer group", group, MAX_GROUP_BYTES)?;
        if options.ordered && options.broadcast.is_some() {
            let why = "a broadcast is not read in order: no member locks a queue";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        let local = match &options.broadcast {
            Some(broadcast) => {
                let offsets = LocalOffsets::open(broadcast.offsets_file.clone()).await?;
                Some(Arc::new(offsets))
            }
            None => None,
        };
        let entry = client.topic(topic).await?;
        let data = SubscriptionData::new(&entry.topic, &options.filter);
        subscription::check(client, group, &entry, &data).await?;
        let handle = GroupHandle::join(client, group);
        let inbox = handle.add(entry, options, local)?;
        let consumer = Consumer {
            group: handle,
            inbox,
        };
        heartbeat::beat(client).await.any()?;
        consumer.group.changed();
        Ok(consumer)
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        self.inbox.topic()
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        self.group.name()
    }

    /// At most `max` messages; none when `wait` has passed. Several tasks may call it.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`]. Brokers that cannot be reached are waited for, and reported through `tracing`.
    ///
    /// # Cancellation
    /// Nothing is lost: what was not returned is returned by the next call.
    pub async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let until = Instant::now() + wait;
        self.inbox.receive(max, until).await
    }

    /// Marks a message as handled. Offsets are committed every 500 ms (in order: 100 ms after an ack), when the queue goes to another member, and by [`Self::close`].
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when the token is not outstanding here: acked before, or its queue went to another member.
    pub fn ack(&self, token: Token) -> Result<()> {
        self.inbox.ack(token)
    }

    /// Gives a message back, to be delivered to the group again after about `delay`: the nearest of the brokers' [delays](crate::DelayLevel).
    /// The broker moves it to the group's dead-letter topic when its attempts are used up. When the broker cannot take it, and in a broadcast, this
    /// consumer keeps it and hands it out again.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] as for [`Self::ack`].
    ///
    /// # Cancellation
    /// Given back or still outstanding.
    pub async fn nack(&self, token: Token, delay: Duration) -> Result<()> {
        give_back::nack(self.group.group(), &self.inbox, token, delay).await
    }

    /// Whether a message that was received may still be handled: the delivery is outstanding here, and its queue neither goes to another member nor has a lock that
    /// is too old to be trusted. Once it is false for a delivery, it stays so. For messages that wait between [`Self::receive`] and their handler, as
    /// apache/rocketmq `ConsumeMessageOrderlyService.java` looks at the lock before each of them.
    #[must_use]
    pub fn may_hand_out(&self, token: Token) -> bool {
        self.inbox.may_hand_out(token)
    }

    /// Ends a delivery without handling it, because it [may not be handed out](Self::may_hand_out) any more: whoever has the queue next gets the message.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when the token is not outstanding here, or may be handed out.
    pub fn let_go(&self, token: Token) -> Result<()> {
        self.inbox.let_go(token)
    }

    /// Waits until the first assignment is in force: every queue's first offset is known, and fetching goes on. A topic without queues
    /// (sealed) has nothing to assign. Queues that another member still holds locked are not waited for. At most 30 s.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or what stood in the way last; [`ErrorKind::Closed`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn ready(&self) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(30);
        match tokio::time::timeout(LONGEST, self.inbox.ready()).await {
            Ok(ready) => ready,
            Err(_) => {
                let failure = self.inbox.last_failure();
                // What others than access control say may pass.
                let denied = ErrorKind::PermissionDenied;
                let (kind, why) = match failure {
                    Some((kind, why)) if kind == denied => (kind, why),
                    Some((_, why)) => (ErrorKind::Unavailable, why),
                    None => (ErrorKind::Unavailable, "no broker has said why".to_owned()),
                };
                Err(Error::new(
                    kind,
                    format!(
                        "no assignment of topic {} in group {} within {LONGEST:?}: {why}",
                        self.topic(),
                        self.group(),
                    ),
                ))
            }
        }
    }

    /// The topic's queues that are assigned to this member now, sorted.
    #[must_use]
    pub fn assigned(&self) -> Vec<MessageQueue> {
        self.group.group().assigned(self.topic())
    }

    /// Where this member's queues stand at a message that cannot be read now, sorted by queue; those of the group's retry topic among them.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.group.group().unreadable(self.topic())
    }

    /// Stops fetching, commits what was acked, and leaves the group. What was handed out and not acked is delivered again to others: in order, and out of a
    /// queue that is locked, once the lock has run out (a minute); queues of which nothing is outstanding are unlocked.
    /// What the group gave back is fetched again while this client reads other topics of the group: for the next consumer of the topic, if there is one
    /// within 10 s, else it goes back to the group.
    /// The next call commits what this one could not, and nothing else.
    ///
    /// # Errors
    /// The failure of the last commit: what it would have covered is delivered again, unless another call commits it.
    ///
    /// # Cancellation
    /// Nothing is committed any more; brokers that were not told yet hear that the member is gone, if that takes no waiting. The next call commits what
    /// was not. A call that is dropped while queues are being assigned may have done nothing.
    pub async fn close(&self) -> Result<()> {
        self.group.leave(&self.inbox).await
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.group.abandon(&self.inbox);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", self.topic())
            .field("group", self.group())
            .field("assigned", &self.assigned().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
