//! Receiving: what is wanted, what is handed out.

use std::{fmt, sync::Arc, time::Duration};

use super::QueueId;
#[cfg(doc)]
use super::{Capability, KEY_PROPERTY, REVISION_PROPERTY};
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    message::Message,
    side::Revision,
};

/// What a consumer wants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Subscription {
    /// The topic.
    pub topic: Arc<str>,
    /// The consumer group.
    pub group: Arc<str>,
    /// Which messages.
    pub filter: Filter,
    /// Each queue's messages in order, by one member at a time: the broker locks the queue for it, and it goes to another member only once what was
    /// handed out of it is acked. For backends with [`Capability::ordered`].
    pub ordered: bool,
    /// Most messages fetched ahead and not yet acked; the fetch pauses above it. A queue has its share of them, or 32 where that is more, so that one that does
    /// not get on keeps no other from being read; [in order](Self::ordered) the shares are the only bound. `None`: what the client is configured for, else
    /// [`Self::MAX_OUTSTANDING`].
    pub max_outstanding: Option<usize>,
}

impl Subscription {
    /// What `max_outstanding` is where nobody says a number.
    pub const MAX_OUTSTANDING: usize = 1024;

    /// All messages of `topic`, for `group`.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, group: impl Into<Arc<str>>) -> Self {
        Subscription {
            topic: topic.into(),
            group: group.into(),
            filter: Filter::All,
            ordered: false,
            max_outstanding: None,
        }
    }

    /// `max_outstanding`, or the default.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.max_outstanding.unwrap_or(Self::MAX_OUTSTANDING)
    }

    /// Only messages with one of these tags, separated by `||`.
    #[must_use]
    pub fn with_tags(mut self, tags: impl Into<String>) -> Self {
        self.filter = Filter::Tags(tags.into());
        self
    }

    /// Only messages whose properties an SQL92 expression holds for, as `price > 10 AND region = 'north'`. For backends with
    /// [`Capability::sql_filter`].
    #[must_use]
    pub fn with_sql(mut self, expression: impl Into<String>) -> Self {
        self.filter = Filter::Sql(expression.into());
        self
    }
}

/// Which messages of a topic a group gets. Brokers keep one filter a group and topic: all members must have the same.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those with one of these tags, separated by `||`.
    Tags(String),
    /// Those for whose properties an SQL92 expression holds.
    Sql(String),
}

/// Names a delivery to the consumer that issued it, and to nobody else.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AckToken(pub u64);

/// A message as the broker hands it out.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message. `idempotency_key` comes from [`KEY_PROPERTY`], else it is the broker's own unique id; the two properties of the
    /// library are not among `properties`.
    pub message: Message,
    /// The broker's id.
    pub message_id: String,
    /// Where it lies.
    pub queue: QueueId,
    /// Its place there.
    pub offset: u64,
    /// 1 for the first delivery to the group.
    pub attempt: u32,
    /// From [`REVISION_PROPERTY`].
    pub revision: Option<Revision>,
    /// For `ack` and `nack`.
    pub token: AckToken,
}

/// A message that a consumer cannot read. Its queue stands there; nothing is skipped.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Unreadable {
    /// The queue, `broker:number`, after the name of the topic where that is another one: the group's retry topic.
    pub queue: String,
    /// The first offset that has not been read.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// One member of a group, reading one topic.
pub trait BackendConsumer: fmt::Debug + Send + Sync {
    /// At most `max` messages; an empty list when `wait` has passed.
    ///
    /// # Behavior
    /// A message is handed out once to this consumer until it is nacked or its queue was re-assigned and came back. A sealed topic gives nothing
    /// and is no error.
    ///
    /// # Errors
    /// `PermissionDenied`, `Closed`. A broker that cannot be reached is waited for, and reported through `tracing`.
    ///
    /// # Cancellation
    /// Nothing is lost: what was not returned is returned by the next call.
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>>;

    /// Marks a message as handled. The group's offset passes it once all before it in its queue are handled.
    ///
    /// # Behavior
    /// Returns once the ack is recorded in this process; the offset is committed within a second, on re-assignment, and on `close`.
    ///
    /// # Errors
    /// `StaleDelivery` when the token is not outstanding here.
    ///
    /// # Cancellation
    /// Recorded or not at all.
    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>>;

    /// Gives a message back, to be delivered to the group again after about `delay` with `attempt` one higher. The broker moves it to
    /// the dead-letter topic when its attempts are used up.
    ///
    /// # Behavior
    /// The message is never lost: when the broker cannot take it back, this consumer keeps it and hands it out again.
    ///
    /// # Errors
    /// `StaleDelivery` when the token is not outstanding here.
    ///
    /// # Cancellation
    /// Given back or still outstanding.
    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>>;

    /// Whether a message that this consumer [reads in order](Subscription::ordered) may still be given to the application: the delivery is outstanding here,
    /// and nobody else has its queue, may have it by now, or waits for it. Asked just before: a message may have waited for long, in a process that stood
    /// still.
    ///
    /// # Behavior
    /// No call to the cluster. Once it is false for a delivery, it stays so: the delivery is to be [let go](Self::let_go), and the message comes again, here
    /// or elsewhere.
    fn may_hand_out(&self, token: AckToken) -> bool {
        let _ = token;
        true
    }

    /// Gives up a delivery that [may not be handed out](Self::may_hand_out) any more, without having handled it: whoever has the queue next gets it. A consumer
    /// that [reads in order](Subscription::ordered) keeps such a queue from others until every delivery out of it is acked, nacked or let go.
    ///
    /// # Errors
    /// `StaleDelivery` when the token is not outstanding here, or may be handed out; `Unsupported` without [`Capability::ordered`].
    fn let_go(&self, token: AckToken) -> Result<()> {
        let _ = token;
        let why = "this backend cannot read in order";
        Err(Error::new(ErrorKind::Unsupported, "let go", why))
    }

    /// Waits until the member is subscribed and its first assignment is in force. A sealed topic: asked for and none assigned counts.
    ///
    /// # Errors
    /// `Unavailable`, `PermissionDenied`, `Closed`.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn ready(&self) -> BoxFuture<'_, Result<()>>;

    /// The queues assigned now, sorted.
    fn assigned(&self) -> Vec<QueueId>;

    /// Where queues assigned now stand at a message that cannot be read. Backends that can read whatever they store have none.
    fn unreadable(&self) -> Vec<Unreadable> {
        Vec::new()
    }

    /// Stops fetching, commits the offsets of what was acked, leaves the group. What was handed out and not acked is delivered again to others.
    ///
    /// # Behavior
    /// Another call after an error tries again what failed; it succeeds only once everything is committed.
    ///
    /// # Errors
    /// `Unavailable` when the last commit failed: what it would have covered is delivered again, unless another call commits it.
    ///
    /// # Cancellation
    /// As a crash.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}
