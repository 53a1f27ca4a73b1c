//! Sending to one topic, wherever its plan says.

mod active;
mod batch;
mod order;
mod parcel;
mod random;
pub mod rules;
mod sides;
mod ticket;
mod transaction;
mod tries;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

pub use self::transaction::{Transaction, TransactionalProducer};
use self::{
    parcel::One,
    random::Draws,
    sides::{Sides, Warmer},
    ticket::Holder,
};
use crate::{
    backend::{Backends, KEY_PROPERTY, MessageId, REVISION_PROPERTY, TransactionChecker},
    control::{Contact, InUse, ProducerRole},
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message, SendReceipt},
    metrics::TopicMetrics,
    side::{Revision, Side},
    stage::Route,
};

/// How a producer sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerOptions {
    /// From the call of `send` to its end, all tries together. Default 10 s.
    pub send_timeout: Duration,
    /// One try; in lease mode `stop` never longer than what is left of the lease. Default 3 s, as RocketMQ's own client.
    pub try_timeout: Duration,
    /// Most tries of one send, 1 and more; those that a broker's flow control turns away do not count, only `send_timeout` ends them. Default 4.
    pub max_tries: u32,
    /// Whether the other side may take a send that failed for certain, in `DualWrite` and without an ordering key. Default true.
    pub fail_over: bool,
    /// The largest body that the sides are opened for, in bytes. Default 4 MiB, the brokers' own default.
    pub max_body_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            send_timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(3),
            max_tries: 4,
            fail_over: true,
            max_body_bytes: 4 << 20,
        }
    }
}

/// What a producer is made of.
#[derive(Debug)]
pub struct ProducerParts {
    /// The registration.
    pub role: ProducerRole,
    /// Both clusters.
    pub backends: Arc<dyn Backends>,
    /// Whether sends may go on.
    pub contact: Arc<Contact>,
    /// The topic's metrics.
    pub metrics: Arc<TopicMetrics>,
    /// How to send.
    pub options: ProducerOptions,
    /// Of the draws between the sides.
    pub seed: u64,
    /// Begins every idempotency key made here; no other producer has it.
    pub key_prefix: String,
}

/// Sends to one topic. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

/// What every routing decision reads comes first, so that it lies in one cache line.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    role: ProducerRole,
    draws: Draws,
    contact: Arc<Contact>,
    metrics: Arc<TopicMetrics>,
    sides: Arc<Sides>,
    options: ProducerOptions,
    key_prefix: String,
    next_key: AtomicU64,
    holder: Holder,
    /// Ends with the last clone.
    _warmer: Warmer,
}

impl Producer {
    /// Starts a producer. Both sides are connected when the plan first needs them, or is one step away from it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(parts: ProducerParts) -> Producer {
        Producer::start_with(parts, None)
    }

    fn start_with(parts: ProducerParts, checker: Option<Arc<dyn TransactionChecker>>) -> Producer {
        let cell = Arc::clone(parts.role.cell());
        let topic = Arc::clone(cell.topic());
        let sides = Arc::new(Sides::new(topic, parts.backends, checker));
        let warmer = Warmer::start(Arc::clone(&cell), &sides);
        Producer {
            shared: Arc::new(Shared {
                role: parts.role,
                contact: parts.contact,
                metrics: parts.metrics,
                options: parts.options,
                sides,
                _warmer: warmer,
                draws: Draws::new(parts.seed),
                key_prefix: parts.key_prefix,
                next_key: AtomicU64::new(0),
                holder: Holder {
                    runtime: Handle::current(),
                    active: Arc::default(),
                    cell,
                },
            }),
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        self.shared.role.cell().topic()
    }

    /// Where a send that begins now would go, and under which revision. Weighted messages without an ordering key are drawn anew at each call.
    ///
    /// # Errors
    /// `StageUnknown` when there is no plan for the topic; `Timeout` while the ordering key is changing sides: a send waits for the end of that.
    pub fn route(&self, ordering_key: Option<&str>) -> Result<(Side, Revision)> {
        let shared = &*self.shared;
        let decided = shared.role.cell().decide(|plan| {
            let route = shared.route(plan, ordering_key.map(str::as_bytes));
            (route, plan.plan().revision)
        });
        match decided.ok_or_else(|| shared.no_plan())? {
            (Route::To(side), revision) => Ok((side, revision)),
            (Route::Held, revision) => Err(order::held(self.topic(), revision)),
        }
    }

    /// Sends a message once, to one side, and returns when its broker has stored it.
    ///
    /// # Errors
    /// `InvalidMessage` before anything is sent; `Closed`, `StageUnknown`, `LeaseOver`, `Superseded`; else what the broker said last, with
    /// `persisted` telling whether some try may have been stored. A caller that sends again after `Persisted::Maybe` uses the same
    /// idempotency key. In an ordered topic, a message whose key is changing sides waits, and ends with `Timeout` and `Persisted::No` when that takes longer
    /// than the send timeout.
    ///
    /// # Cancellation
    /// The message may or may not be stored, as after `Persisted::Maybe`. The plan that routed it counts as in use until the broker's bound has
    /// passed.
    pub async fn send(&self, message: Message) -> Result<SendReceipt> {
        let shared = &*self.shared;
        check_properties(&message)?;
        shared.contact.check("send")?;
        let _active = shared.holder.active.enter()?;
        let key = shared.key_of(&message)?;
        let one = One {
            message: &message,
            key: &key,
            id: &MessageId::default(),
        };
        let stored = shared.store(&one).await?;
        Ok(stored.receipt(key))
    }

    /// Refuses new sends and waits until those under way have ended, and until the broker's bound has passed for those whose answer never
    /// came: after it, no message of this producer is stored any more.
    ///
    /// # Errors
    /// None; the result leaves room for backends that have something to flush.
    ///
    /// # Cancellation
    /// New sends stay refused; those under way go on.
    pub async fn close(&self) -> Result<()> {
        self.shared.holder.active.close().await;
        Ok(())
    }
}

/// Closes a producer without keeping it alive.
#[derive(Debug)]
pub(crate) struct ProducerCloser(Arc<active::Active>);

impl Producer {
    pub(crate) fn closer(&self) -> ProducerCloser {
        ProducerCloser(Arc::clone(&self.shared.holder.active))
    }
}

impl ProducerCloser {
    /// Whether there is a clone of the producer, or a send without a definite end.
    pub(crate) fn is_needed(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// As [`Producer::close`]; also waits for what a dropped producer has left behind.
    pub(crate) async fn close(self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl Shared {
    fn plan(&self) -> Result<Arc<InUse>> {
        self.role.cell().load().ok_or_else(|| self.no_plan())
    }

    fn no_plan(&self) -> Error {
        Error::new(
            ErrorKind::StageUnknown,
            "send",
            format!(
                "no plan for topic {}: the control plane does not manage it (`crossfade topic add {0} --group ...`)",
                self.role.cell().topic()
            ),
        )
    }

    fn route(&self, plan: &InUse, ordering_key: Option<&[u8]>) -> Route {
        plan.route(ordering_key, || (self.draws.next() >> 32) as u32)
    }

    /// The caller's, else a new one.
    fn key_of(&self, message: &Message) -> Result<IdempotencyKey> {
        match &message.idempotency_key {
            Some(key) => Ok(key.clone()),
            None => self.new_key(),
        }
    }

    fn new_key(&self) -> Result<IdempotencyKey> {
        let number = self.next_key.fetch_add(1, Ordering::Relaxed);
        IdempotencyKey::new(format!("{}-{number:x}", self.key_prefix))
    }
}

fn check_properties(message: &Message) -> Result<()> {
    let reserved = [KEY_PROPERTY, REVISION_PROPERTY];
    match message
        .properties
        .iter()
        .find(|(name, _)| reserved.contains(&name.as_str()))
    {
        Some((name, _)) => Err(Error::new(
            ErrorKind::InvalidMessage,
            "send",
            format!("the property {name} is the library's own: rename yours"),
        )),
        None => Ok(()),
    }
}

#[cfg(all(test, feature = "memory"))]
mod batch_tests;
#[cfg(all(test, feature = "memory"))]
mod order_tests;
#[cfg(all(test, feature = "memory"))]
mod tests;
#[cfg(all(test, feature = "memory"))]
mod transaction_tests;
