//! The seam that a new broker implements: four object-safe traits.
//!
//! Rules for every implementation:
//! - every wait is bounded by the caller's duration or by the backend's own documented bound;
//! - an answer is exact or an error: what the broker cannot tell is never guessed;
//! - dropping a trait object ends its tasks and connections at once, as a crash would; `close` leaves in good order.

pub mod address;
mod capability;
pub mod fault;
#[cfg(feature = "memory")]
pub mod memory;
pub mod registry;
#[cfg(feature = "rocketmq")]
pub mod rocketmq;
pub mod security;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use capability::Capability;

use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
    side::{Access, Revision, Side},
};

/// The property that carries the idempotency key.
pub const KEY_PROPERTY: &str = "CROSSFADE_KEY";
/// The property that carries the revision under which a message was routed.
pub const REVISION_PROPERTY: &str = "CROSSFADE_REVISION";

/// Both clusters, as the data path sees them: connected on first use.
pub trait Backends: fmt::Debug + Send + Sync + 'static {
    /// The backend of a side.
    ///
    /// # Errors
    /// `InvalidConfig` while no address is known; what connecting gives.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn backend(&self, side: Side) -> BoxFuture<'_, Result<Arc<dyn Backend>>>;
}

/// One cluster, seen by one client.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// "memory", "rocketmq": also the scheme of its addresses.
    fn scheme(&self) -> &'static str;

    /// What it can do.
    fn capability(&self) -> Capability;

    /// The id under which the brokers list this client.
    fn client_id(&self) -> &str;

    /// A producer for one topic.
    ///
    /// # Behavior
    /// Succeeds without a topic that takes writes: the topic may be sealed now and opened later.
    ///
    /// # Errors
    /// `Unavailable` when the cluster cannot be reached, `PermissionDenied`, `NotFound` for an unknown topic.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>>;

    /// Joins a group.
    ///
    /// # Behavior
    /// A group without offsets starts at the first message of every queue. A sealed topic has no queues: joining succeeds, and
    /// the consumer looks for queues again by itself.
    ///
    /// # Errors
    /// As [`Self::producer`].
    ///
    /// # Cancellation
    /// The client has left the group again, as after a crash.
    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>>;

    /// The administrative calls.
    fn admin(&self) -> Arc<dyn BackendAdmin>;

    /// Closes the connections. Producers and consumers are closed before.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A message with all that the library adds to it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The caller's message. Its own `idempotency_key` is not looked at.
    pub message: &'a Message,
    /// Stored as [`KEY_PROPERTY`].
    pub idempotency_key: &'a IdempotencyKey,
    /// Stored as [`REVISION_PROPERTY`].
    pub revision: Revision,
    /// Picks the queue: while the topic's queues are the same, the same lane is the same queue. Messages with one ordering key
    /// have one lane; a retry of an ambiguous send keeps its lane.
    pub lane: u64,
}

/// What the broker said of a stored message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The broker's id of the message.
    pub message_id: String,
    /// Where it lies.
    pub queue: QueueId,
    /// Its place in the queue, where the broker tells.
    pub offset: Option<u64>,
}

/// One queue of a topic.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct QueueId {
    /// The broker that has it.
    pub broker: Arc<str>,
    /// Its number on that broker.
    pub queue: u32,
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.broker, self.queue)
    }
}

/// Sends to one topic.
pub trait BackendProducer: fmt::Debug + Send + Sync {
    /// Sends once; no retry of its own except one refresh of the topic's queues.
    ///
    /// # Behavior
    /// Returns once the broker has acknowledged.
    ///
    /// # Errors
    /// `Sealed` when the topic takes no sends here, `InvalidMessage` (too large, forbidden characters), `Throttled`,
    /// `PermissionDenied`, `NotFound`: all `Persisted::No`. `Timeout` and `Unavailable` are `Persisted::Maybe` once a byte may have
    /// been written, else `Persisted::No`.
    ///
    /// # Cancellation
    /// The message may or may not be stored.
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>>;

    /// How long after a send without an answer the broker may still store it: after that its end is definite.
    fn ambiguity_bound(&self) -> Duration;
}

/// What a consumer wants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Subscription {
    /// The topic.
    pub topic: Arc<str>,
    /// The consumer group.
    pub group: Arc<str>,
    /// Tags separated by `||`; `None` for all.
    pub tags: Option<String>,
    /// Most messages fetched ahead and not yet acked; the fetch pauses above it. `None`: what the client is configured for, else
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
            tags: None,
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
        self.tags = Some(tags.into());
        self
    }
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

/// A topic's own configuration, as it was before anything was closed or sealed: what [`BackendAdmin::set_access`] puts back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TopicSettings {
    /// Its queues, on all brokers together.
    pub queues: u32,
    /// The backend's own record of every field on every broker.
    pub saved: serde_json::Value,
}

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDescription {
    /// Its configuration. Worth saving only while `access` is `Open`.
    pub settings: TopicSettings,
    /// What writers may do. Where the brokers disagree: what the most open one lets them do.
    pub access: Access,
    /// Where the brokers disagree about the access: a sentence that names each with its own. [`BackendAdmin::set_access`] puts it right.
    pub disagreement: Option<String>,
    /// The queues that can be read now; none under a seal.
    pub queues: BTreeSet<QueueId>,
    /// RocketMQ 5.x `message.type`, where set.
    pub message_type: Option<String>,
}

/// Whether the next broker may still be changed: see [`BackendAdmin::set_access_while`].
pub type MayGoOn = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

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

/// A client that a broker lists.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ConnectedClient {
    /// The id it gave.
    pub client_id: String,
    /// Where it connects from.
    pub address: String,
    /// The consumer group or the producer group under which it is listed.
    #[serde(default)]
    pub group: String,
    /// `JAVA`, `GO`, `CPP`, ...; empty when the broker does not say.
    #[serde(default)]
    pub language: String,
    /// Of the client, as the broker says it; empty when it does not.
    #[serde(default)]
    pub version: String,
    /// How long ago the broker last heard of it, in milliseconds, where the broker says so.
    #[serde(default)]
    pub last_seen_ms: Option<u64>,
}

/// Who consumes in a group, and how.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GroupMembers {
    /// The consumers that the brokers list, sorted.
    pub clients: Vec<ConnectedClient>,
    /// Each member reads everything and keeps its offsets itself: the brokers cannot tell what is owed.
    #[serde(default)]
    pub broadcasting: bool,
    /// Members take messages by POP, whose offsets move before the ack: they prove nothing.
    #[serde(default)]
    pub pop: bool,
}

/// What the control plane needs of a cluster.
///
/// All calls: `Unavailable` when a broker that must be asked cannot be reached, `PermissionDenied`, `NotFound` for an unknown topic or group.
/// Dropping a future of a changing call leaves the change made, made on some brokers, or not made; repeating the call is safe.
pub trait BackendAdmin: fmt::Debug + Send + Sync {
    /// What tells this cluster from another: its brokers, by names that are the same to every client of it. Empty where the backend cannot tell.
    ///
    /// # Errors
    /// See the trait.
    fn brokers(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        Box::pin(std::future::ready(Ok(BTreeSet::new())))
    }

    /// The topics, without the broker's internal ones.
    ///
    /// # Errors
    /// See the trait.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// One topic; `None` when no broker has it.
    ///
    /// # Errors
    /// See the trait.
    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>>;

    /// Creates a topic with `queues` queues on every broker; one that exists is left as it is.
    ///
    /// # Errors
    /// See the trait.
    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>>;

    /// Deletes a topic and its messages; one that does not exist is no error.
    ///
    /// # Errors
    /// See the trait.
    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Creates a consumer group; one that exists is left as it is.
    ///
    /// # Errors
    /// See the trait.
    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Deletes a consumer group with its offsets, its retry topic and its dead-letter topic, and what lies in those; one that does not exist is no error.
    ///
    /// # Behavior
    /// Meant for a group that everybody has left. Its brokers may make it again for a member that is still connected.
    ///
    /// # Errors
    /// See the trait.
    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Whether every broker knows the group.
    ///
    /// # Errors
    /// See the trait.
    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// The groups that read the topic or have offsets in it, sorted.
    ///
    /// # Errors
    /// See the trait.
    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Opens, closes or seals a topic on every broker. `Open` puts `settings` back exactly, and takes away nothing that the topic has got since.
    ///
    /// # Behavior
    /// Returns once every broker has confirmed and was read back. A broker that is not in `settings` and has the topic is changed with the others.
    /// A broker that fails does not keep the others from being changed.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::seal`]; `InvalidConfig` for a seal of a topic that has grown since `settings` was saved: under the seal
    /// nobody could tell by how much, so take [`Self::grown`] first; see the trait; the message names every broker that failed. After an error the access is unknown:
    /// read it with [`Self::topic`].
    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>>;

    /// As [`Self::set_access`], by somebody who may lose the right to it meanwhile, while this process stands still say.
    ///
    /// # Behavior
    /// `may_go_on` is asked before each broker is changed; once it says no, no further broker is. The default asks once, before the first.
    ///
    /// # Errors
    /// `Unavailable` when it said no; as [`Self::set_access`].
    fn set_access_while<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
        may_go_on: &'a MayGoOn,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if may_go_on().await {
                return self.set_access(topic, settings, access).await;
            }
            Err(Error::new(
                ErrorKind::Unavailable,
                "change a topic's access",
                "nothing was changed: whoever wanted it may not decide any more",
            ))
        })
    }

    /// A topic's own configuration with what it has got since `saved` was: queues that were added, brokers that joined with it. What was taken away since
    /// is still in it. `None` when that is nothing, or nothing can be told because the topic is sealed.
    ///
    /// # Errors
    /// `InvalidConfig` when `saved` is not this backend's.
    fn grown(
        &self,
        topic: &str,
        saved: &TopicSettings,
        now: &TopicDescription,
    ) -> Result<Option<TopicSettings>> {
        let _ = topic;
        Ok((now.settings.queues > saved.queues).then(|| now.settings.clone()))
    }

    /// Creates the group where needed and commits the first offset of every queue for which it has none, so that a group that
    /// connects later starts at the first message.
    ///
    /// # Errors
    /// See the trait.
    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>>;

    /// What the topic owes to a group, also under a seal, wherever on the brokers it lies.
    ///
    /// # Behavior
    /// All that the brokers had taken when the call was made is counted. A message that moves from one place to another meanwhile is
    /// counted once or twice, never not at all.
    ///
    /// # Errors
    /// `Timeout` when the dispatch does not catch up, or when so much waits that it takes another call to look at the rest; see the trait.
    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>>;

    /// The same for several groups. Backends override it where one look can serve all.
    ///
    /// # Errors
    /// As [`Self::backlog`].
    fn backlogs<'a>(
        &'a self,
        topic: &'a str,
        groups: &'a [Arc<str>],
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<Arc<str>, Backlog>>> {
        Box::pin(async move {
            let mut all = BTreeMap::new();
            for group in groups {
                all.insert(
                    Arc::clone(group),
                    self.backlog(topic, group, settings).await?,
                );
            }
            Ok(all)
        })
    }

    /// One past the last message of every queue that the topic has when it is open, also under a seal.
    ///
    /// # Behavior
    /// The answer is begun after the broker has dispatched all that it had taken when the call was made.
    ///
    /// # Errors
    /// As [`Self::backlog`].
    fn ends<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>>;

    /// The consumers that the brokers list for a group; nobody is no error.
    ///
    /// # Errors
    /// See the trait.
    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>>;

    /// Whether a trace on the brokers says that the group takes messages of the topic in a way whose offsets prove nothing: see [`GroupMembers::pop`].
    /// Backends without such a way say no.
    ///
    /// # Errors
    /// See the trait.
    fn pops<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        let _ = (topic, group);
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Every producer that the brokers list, sorted; all of this library's are among them. They do not tell which topics it sends to. `None`
    /// when the brokers keep no such list: then its silence about a client proves nothing.
    ///
    /// # Errors
    /// See the trait.
    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>>;
}
