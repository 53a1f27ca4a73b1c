//! Messages that are delivered only once a transaction of the application's has succeeded.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Producer, ProducerCloser, ProducerParts,
    active::ActiveGuard,
    check_properties,
    parcel::{One, Parcel, Stamp},
};
use crate::{
    BoxFuture,
    backend::{BackendProducer, HalfMessage, MessageId, TransactionChecker, TransactionEnd},
    error::{Error, ErrorKind, Persisted, Result},
    message::{Message, SendReceipt},
    side::Side,
};

/// Between two tries of an end that no broker has heard.
const END_PAUSE: Duration = Duration::from_millis(100);

/// Sends messages whose delivery hangs on a transaction. Cheap to clone; clones share everything.
///
/// While one of the clones, or a transaction begun by one, lives, its checker answers when a broker asks how a transaction ended, on either
/// side: also after the stage has moved on.
#[derive(Clone, Debug)]
pub struct TransactionalProducer {
    producer: Producer,
}

impl TransactionalProducer {
    /// Starts a producer; as [`Producer::start`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(parts: ProducerParts, checker: Arc<dyn TransactionChecker>) -> Self {
        TransactionalProducer {
            producer: Producer::start_with(parts, Some(checker)),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        self.producer.topic()
    }

    /// Stores a message, on one side, that nobody reads yet. The application then does its own transaction, and [commits](Transaction::commit) or
    /// [rolls back](Transaction::rollback) what this returns.
    ///
    /// The plan counts as in use until the message is stored or known not to be, not until the transaction's end: the stage may move on meanwhile. A side
    /// with a message that waits for its end is not drained, so it is not sealed or left before.
    ///
    /// # Errors
    /// `InvalidMessage` for a delayed message, and in an ordered topic: no broker keeps transactions in order. `Unsupported` where the side's backend has no
    /// transactions, `InvalidConfig` where it needs `producer.transaction_group`; as [`Producer::send`]. After `Persisted::Maybe` a copy may wait for an end,
    /// and the checker is asked about it.
    ///
    /// # Cancellation
    /// As [`Producer::send`]; the checker is asked about what was stored.
    pub async fn begin(&self, message: Message) -> Result<Transaction> {
        let shared = &*self.producer.shared;
        check_properties(&message)?;
        if message.deliver_after.is_some() {
            return Err(invalid(
                "the message of a transaction is delivered once it is committed: it cannot be delayed",
            ));
        }
        shared.contact.check("begin a transaction")?;
        let active = shared.holder.active.enter()?;
        let key = shared.key_of(&message)?;
        let half = Half(One {
            message: &message,
            key: &key,
            id: &MessageId::default(),
        });
        let kept = shared.store(&half).await?;
        Ok(Transaction {
            receipt: SendReceipt {
                message_id: kept.what.stored.message_id.clone(),
                side: kept.side,
                revision: kept.revision,
                idempotency_key: key,
            },
            half: kept.what,
            producer: self.producer.clone(),
            _active: active,
        })
    }

    /// Refuses new transactions, and waits until those that were begun have ended or were dropped; as [`Producer::close`]. Questions are answered until the last clone is dropped.
    ///
    /// # Errors
    /// As [`Producer::close`].
    ///
    /// # Cancellation
    /// As [`Producer::close`].
    pub async fn close(&self) -> Result<()> {
        self.producer.close().await
    }

    pub(crate) fn closer(&self) -> ProducerCloser {
        self.producer.closer()
    }
}

/// A transaction that was begun: its message is stored and waits. Dropped without an end, it ends as the checker says once the broker asks.
#[must_use = "the message is not delivered before the transaction is committed"]
pub struct Transaction {
    receipt: SendReceipt,
    half: HalfMessage,
    producer: Producer,
    _active: ActiveGuard,
}

impl Transaction {
    /// The side that keeps the message, its key, and the broker's id of it.
    #[must_use]
    pub fn receipt(&self) -> &SendReceipt {
        &self.receipt
    }

    /// Lets the message be delivered. Goes to the side that keeps it, also when the stage has moved on.
    ///
    /// # Errors
    /// `Persisted::Maybe` when the broker may not have heard: it asks the checker, so the application's own transaction decides and nothing is to be done
    /// again. `NotFound` when the broker has asked and the checker has answered before. `Closed` once the client is shut down.
    ///
    /// # Cancellation
    /// Committed, or the broker asks the checker.
    pub async fn commit(self) -> Result<SendReceipt> {
        self.end(TransactionEnd::Commit).await?;
        Ok(self.receipt)
    }

    /// Lets the message be forgotten.
    ///
    /// # Errors
    /// As [`Self::commit`].
    ///
    /// # Cancellation
    /// Rolled back, or the broker asks the checker.
    pub async fn rollback(self) -> Result<()> {
        self.end(TransactionEnd::Rollback).await
    }

    /// Within the send timeout. Tried again only while no broker can have heard of it: a second commit would be a second message. No lease is asked: the
    /// message that waits keeps its side from being left, and somebody must end it.
    async fn end(&self, end: TransactionEnd) -> Result<()> {
        let shared = &*self.producer.shared;
        let side = self.receipt.side;
        let deadline = Instant::now() + shared.options.send_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = shared.options.try_timeout.min(left);
            // Connected: it took the message.
            let producer = shared.sides.connect(side).await?;
            let ended = producer.end_transaction(&self.half, end, timeout).await;
            let Err(error) = ended else {
                return Ok(());
            };
            let unheard = error.persisted() == Persisted::No && is_passing(error.kind());
            if !unheard || left <= END_PAUSE {
                return Err(error.with_side(side));
            }
            tokio::time::sleep(END_PAUSE).await;
        }
    }

    /// The side that keeps the message.
    #[must_use]
    pub fn side(&self) -> Side {
        self.receipt.side
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("topic", self.producer.topic())
            .field("receipt", &self.receipt)
            .finish_non_exhaustive()
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Throttled
    )
}

struct Half<'a>(One<'a>);

impl Parcel for Half<'_> {
    type Stored = HalfMessage;

    fn ordering_key(&self) -> Option<&[u8]> {
        self.0.ordering_key()
    }

    fn check_ordered(&self) -> Result<()> {
        Err(invalid(
            "an ordered topic carries no transactions: a committed message lies behind what was sent after it. Send it to another topic",
        ))
    }

    fn hand_over<'a>(
        &'a self,
        producer: &'a Arc<dyn BackendProducer>,
        stamp: Stamp,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        producer.send_half(self.0.outgoing(stamp), timeout)
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidMessage, "begin a transaction", why)
}
