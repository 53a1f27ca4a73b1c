//! Sending: what goes out, what comes back.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::QueueId;
#[cfg(doc)]
use super::{Backend, Capability, KEY_PROPERTY, REVISION_PROPERTY};
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
    side::Revision,
};

/// A message with all that the library adds to it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The caller's message. Its own `idempotency_key` is not looked at.
    pub message: &'a Message,
    /// Stored as [`KEY_PROPERTY`].
    pub idempotency_key: &'a IdempotencyKey,
    /// The same in every try of one send.
    pub message_id: &'a MessageId,
    /// Stored as [`REVISION_PROPERTY`].
    pub revision: Revision,
    /// Picks the queue: while the topic's queues are the same, the same lane is the same queue. Messages with one ordering key
    /// have one lane; a retry of an ambiguous send keeps its lane.
    pub lane: u64,
}

/// The id that a backend gives a message when it is first sent, for the tries after it: whoever tells messages apart by the broker's ids and not by
/// idempotency keys sees one message then, too. Empty at first; backends whose brokers give the ids leave it so.
#[derive(Clone, Debug, Default)]
pub struct MessageId(OnceLock<String>);

impl MessageId {
    /// The id; made by `make` if there is none yet.
    pub fn get_or_make(&self, make: impl FnOnce() -> String) -> &str {
        self.0.get_or_init(make)
    }
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

/// A message that waits for the end of its transaction.
#[derive(Clone, Debug)]
pub struct HalfMessage {
    /// Where it lies.
    pub stored: Stored,
    /// The backend's own: what the broker needs to find it again.
    pub reference: Arc<dyn Any + Send + Sync>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransactionEnd {
    /// The message is to be delivered.
    Commit,
    /// The message is to be forgotten.
    Rollback,
    /// Not known yet: the broker asks again.
    Unknown,
}

/// Knows how transactions ended, also those of other processes and of a process before this one: a broker asks any client of the producer group.
///
/// ```
/// use crossfade::{BoxFuture, Message, backend::{TransactionChecker, TransactionEnd}};
///
/// #[derive(Debug)]
/// struct Orders;
///
/// impl TransactionChecker for Orders {
///     fn check<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, TransactionEnd> {
///         Box::pin(async move {
///             // What the application's own database says; a transaction that may still be under way is unknown.
///             match message.key.as_deref() {
///                 Some("paid") => TransactionEnd::Commit,
///                 Some("cancelled") => TransactionEnd::Rollback,
///                 _ => TransactionEnd::Unknown,
///             }
///         })
///     }
/// }
/// ```
pub trait TransactionChecker: fmt::Debug + Send + Sync + 'static {
    /// How the transaction of `message` ended. The message has its idempotency key. The backend bounds how long it waits, and takes silence for
    /// [`TransactionEnd::Unknown`]; so should a checker that finds nothing, unless it knows that nothing can come any more.
    fn check<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, TransactionEnd>;
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

    /// Sends several messages at once, all to the queue of the first one's lane: all are stored or none is.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::batch`]; `InvalidMessage` for messages that cannot go together (none at all, a delivery time), for what is
    /// too large together; as [`Self::send`].
    ///
    /// # Cancellation
    /// All may be stored or none.
    fn send_batch<'a>(
        &'a self,
        batch: &'a [Outgoing<'a>],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        let _ = (batch, timeout);
        unsupported("send a batch")
    }

    /// Stores a message that nobody reads before its transaction is [committed](Self::end_transaction). For producers of
    /// [`Backend::transactional_producer`].
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::transactions`] and for other producers; `InvalidMessage` for a message with a delivery time; as [`Self::send`].
    ///
    /// # Cancellation
    /// The half message may or may not be stored; the broker asks for its end.
    fn send_half<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        let _ = (outgoing, timeout);
        unsupported("send a half message")
    }

    /// Ends a transaction; also under a seal, where a committed message still lands. Brokers take a second commit for a second message: the consumers'
    /// deduplication drops it.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::transactions`] and for other producers; `InvalidMessage` for a half message of another backend; `Timeout` and `Unavailable` when the broker may not have heard it: it asks.
    ///
    /// # Cancellation
    /// Ended or not; the broker asks.
    fn end_transaction<'a>(
        &'a self,
        half: &'a HalfMessage,
        end: TransactionEnd,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        let _ = (half, end, timeout);
        unsupported("end a transaction")
    }

    /// How long after a send without an answer the broker may still store it: after that its end is definite.
    fn ambiguity_bound(&self) -> Duration;
}

fn unsupported<T: Send + 'static>(operation: &'static str) -> BoxFuture<'static, Result<T>> {
    let why = "this backend cannot do it";
    let error = Error::new(ErrorKind::Unsupported, operation, why);
    Box::pin(std::future::ready(Err(error)))
}
