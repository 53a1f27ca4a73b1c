//! The facade: one client of both clusters.

mod builder;
mod shutdown;
mod sides;

#[cfg(all(test, feature = "memory"))]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

pub use builder::ClientBuilder;

use self::sides::Sides;
use crate::{
    backend::{Subscription, TransactionChecker},
    config::Config,
    consumer::{Consumer, ConsumerCloser, ConsumerParts},
    control::{Contact, ContactState, PlanTable, Session},
    dedup::DedupStore,
    error::{Error, ErrorKind, Result},
    metrics::Registry,
    producer::{Producer, ProducerCloser, ProducerParts, TransactionalProducer},
    stage::TopicPlan,
};

/// Producers and consumers of topics that move from one cluster to another. Cheap to clone; clones are the same client.
///
/// [`shutdown`](Self::shutdown) ends it in good order. Dropping it and all its producers and consumers without that is what a crash is: all
/// tasks end at once, and nobody is told.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    instance: String,
    incarnation: String,
    config: Config,
    table: Arc<PlanTable>,
    contact: Arc<Contact>,
    metrics: Arc<Registry>,
    dedup: Arc<dyn DedupStore>,
    session: Arc<Session>,
    sides: Arc<Sides>,
    seed: u64,
    made: AtomicU64,
    closed: AtomicBool,
    handles: Mutex<Handles>,
}

/// What a shutdown closes; the applications own the rest.
#[derive(Debug, Default)]
struct Handles {
    producers: Vec<ProducerCloser>,
    consumers: Vec<ConsumerCloser>,
}

impl Client {
    /// Begins a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A producer of `topic`. Returns once the control plane knows of it and the topic's plan is here; bounded by
    /// `control.start_timeout_ms`. While the control plane is away, the last plan will do once the lease is over: until then stages may move
    /// on without those who are not registered.
    ///
    /// # Errors
    /// `StageUnknown` for a topic that is not managed (the message says how to add it); `InvalidConfig` for a name that no broker takes;
    /// `Unavailable`, `Timeout` and the like when no control plane answers; `Superseded`; `Closed`.
    ///
    /// # Cancellation
    /// The control plane may hear of the role, and then that it is gone.
    pub async fn producer(&self, topic: &str) -> Result<Producer> {
        let made = self.make_producer(topic, |parts| {
            let producer = Producer::start(parts);
            let closer = producer.closer();
            (producer, closer)
        });
        made.await
    }

    /// A producer of messages whose delivery hangs on a transaction of the application's. `checker` says how one ended when a broker asks: because
    /// its process has crashed, or the end was lost. Returns as [`Self::producer`] does.
    ///
    /// # Errors
    /// As [`Self::producer`]; what only a cluster can tell (RocketMQ needs the key `producer.transaction_group`) comes with
    /// [`TransactionalProducer::begin`].
    ///
    /// # Cancellation
    /// As [`Self::producer`].
    pub async fn transactional_producer(
        &self,
        topic: &str,
        checker: Arc<dyn TransactionChecker>,
    ) -> Result<TransactionalProducer> {
        let made = self.make_producer(topic, |parts| {
            let producer = TransactionalProducer::start(parts, checker);
            let closer = producer.closer();
            (producer, closer)
        });
        made.await
    }

    /// A consumer. Returns as [`Self::producer`] does; [`Consumer::ready`] waits until it is subscribed.
    ///
    /// # Errors
    /// As [`Self::producer`].
    ///
    /// # Cancellation
    /// As [`Self::producer`].
    pub async fn consumer(&self, mut subscription: Subscription) -> Result<Consumer> {
        let shared = &*self.shared;
        shared.check("consumer")?;
        check_name("topic", &subscription.topic)?;
        check_name("group", &subscription.group)?;
        subscription
            .max_outstanding
            .get_or_insert(shared.config.consumer.max_outstanding);
        let cell = shared.table.cell(&subscription.topic);
        let role = cell.add_consumer(Arc::clone(&subscription.group));
        shared.session.join(&cell).await?;
        let (number, _) = shared.number();
        let mut handles = shared.handles();
        shared.check("consumer")?;
        let consumer = Consumer::start(ConsumerParts {
            role,
            backends: Arc::clone(&shared.sides) as _,
            contact: Arc::clone(&shared.contact),
            metrics: shared.metrics.topic(cell.topic()),
            dedup: Arc::clone(&shared.dedup),
            owner: format!("{}-{number:x}", shared.incarnation).into(),
            subscription,
            options: shared.config.consumer.options,
        });
        handles.consumers.retain(ConsumerCloser::is_needed);
        handles.consumers.push(consumer.closer());
        Ok(consumer)
    }

    /// The plan in force; `None` for a topic that is not managed, as far as this client knows.
    #[must_use]
    pub fn plan(&self, topic: &str) -> Option<TopicPlan> {
        let cell = self.shared.table.find(topic)?;
        Some(cell.load()?.plan().clone())
    }

    /// All counters and latencies, in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let fill = self.shared.dedup.fill();
        let gauges = fill.map(|fill| {
            [
                (
                    "crossfade_dedup_keys",
                    "Keys in the deduplication store; clients may share it.",
                    fill.keys,
                ),
                (
                    "crossfade_dedup_keys_limit",
                    "The most keys that the deduplication store takes.",
                    fill.limit,
                ),
            ]
        });
        self.shared
            .metrics
            .prometheus(gauges.as_ref().map_or(&[], |gauges| gauges))
    }

    /// Whether the plans are backed by the control plane now.
    #[must_use]
    pub fn contact(&self) -> ContactState {
        self.shared.contact.state()
    }

    /// The instance's name.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.shared.instance
    }

    /// The id of this process life: 32 hexadecimal digits.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.shared.incarnation
    }

    /// Ends in good order: consumers stop and commit, sends end, the control plane hears that this instance leaves, the plans on disk are
    /// written, the connections close. Everything is tried even when something before it has failed, all together within `deadline`.
    ///
    /// A control plane that cannot be told is no failure: it is logged, and the instance counts as lost there. So does one whose handlers or sends
    /// have not ended within four fifths of `deadline`: the farewell would say that they have. An ambiguous send ends when its broker's
    /// bound has passed (RocketMQ: 5 s).
    ///
    /// # Errors
    /// The first failure; `Timeout` when the deadline ended it; `Closed` when it was shut down before.
    ///
    /// # Cancellation
    /// What has not ended ends as in a crash, once the client, its producers and its consumers are dropped.
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        shutdown::run(&self.shared, deadline).await
    }
}

impl Client {
    /// Registers the role, and starts a producer of one kind.
    async fn make_producer<T>(
        &self,
        topic: &str,
        start: impl FnOnce(ProducerParts) -> (T, ProducerCloser),
    ) -> Result<T> {
        let shared = &*self.shared;
        shared.check("producer")?;
        check_name("topic", topic)?;
        let cell = shared.table.cell(topic);
        let role = cell.add_producer();
        shared.session.join(&cell).await?;
        let (number, seed) = shared.number();
        let mut handles = shared.handles();
        shared.check("producer")?;
        let (producer, closer) = start(ProducerParts {
            role,
            backends: Arc::clone(&shared.sides) as _,
            contact: Arc::clone(&shared.contact),
            metrics: shared.metrics.topic(cell.topic()),
            options: shared.config.producer,
            seed,
            key_prefix: format!("{}-{number:x}", shared.incarnation),
        });
        handles.producers.retain(ProducerCloser::is_needed);
        handles.producers.push(closer);
        Ok(producer)
    }
}

impl Shared {
    fn check(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Closed,
                operation,
                "the client was shut down",
            ));
        }
        self.contact.check_superseded(operation)
    }

    /// A number of its own, and a seed, for each producer and consumer.
    fn number(&self) -> (u64, u64) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        (number, self.seed.wrapping_add(number))
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "client",
            format!("the {what} must be 1 to 255 bytes of text without control characters"),
        ));
    }
    Ok(())
}
