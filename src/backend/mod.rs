//! The seam that a new broker implements: four object-safe traits.
//!
//! Rules for every implementation:
//! - every wait is bounded by the caller's duration or by the backend's own documented bound;
//! - an answer is exact or an error: what the broker cannot tell is never guessed;
//! - dropping a trait object ends its tasks and connections at once, as a crash would; `close` leaves in good order.

pub mod address;
mod admin;
mod backlog;
mod capability;
mod consumer;
mod delay_levels;
pub mod fault;
#[cfg(feature = "memory")]
pub mod memory;
mod producer;
pub mod registry;
#[cfg(feature = "rocketmq")]
pub mod rocketmq;
pub mod security;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use admin::{
    BackendAdmin, ConnectedClient, GroupMembers, MayGoOn, TopicDescription, TopicSettings,
};
pub use backlog::{Backlog, QueueBacklog};
pub use capability::Capability;
pub use consumer::{AckToken, BackendConsumer, Filter, Incoming, Subscription, Unreadable};
pub use delay_levels::DelayLevels;
pub use producer::{
    BackendProducer, HalfMessage, MessageId, Outgoing, Stored, TransactionChecker, TransactionEnd,
};

pub use crate::queue::QueueId;
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    side::Side,
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

    /// A producer of half messages to one topic, of the application's own producer group. While it lives, `checker` answers when the broker asks how a
    /// transaction of the topic ended: of this producer, or of another one of the group, also one that is gone.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::transactions`]; `InvalidConfig` where the backend needs the name of the group, and has none; as [`Self::producer`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn transactional_producer<'a>(
        &'a self,
        topic: &'a str,
        checker: Arc<dyn TransactionChecker>,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        let _ = (topic, checker);
        let why = "this backend has no transactions";
        let error = Error::new(ErrorKind::Unsupported, "open a transactional producer", why);
        Box::pin(std::future::ready(Err(error)))
    }

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

    /// What a group has committed in some queues of a topic, asked with the rights of a member of the group: `None` where it never committed.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::ordered`]; `Unavailable`, `PermissionDenied`.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn committed<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        queues: &'a [QueueId],
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, Option<u64>>>> {
        let _ = (topic, group, queues);
        let why = "this backend cannot tell a group's offsets to its members";
        let error = Error::new(ErrorKind::Unsupported, "read committed offsets", why);
        Box::pin(std::future::ready(Err(error)))
    }

    /// The administrative calls.
    fn admin(&self) -> Arc<dyn BackendAdmin>;

    /// Closes the connections. Producers and consumers are closed before.
    fn close(&self) -> BoxFuture<'_, ()>;
}
