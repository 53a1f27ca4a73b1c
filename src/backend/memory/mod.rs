#![doc = include_str!("docs.md")]

mod admin;
mod cluster;
mod config;
mod consumer;
mod cursor;
mod group;
mod half;
mod member;
mod producer;
mod topic;
mod transaction;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use self::{
    admin::MemoryAdmin, cluster::Cluster, consumer::MemoryConsumer, producer::MemoryProducer,
};
use super::{
    Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, QueueId, Stored,
    Subscription, TransactionChecker,
};
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    message::Message,
};

pub use config::MemoryConfig;

static NAMED: Mutex<Option<HashMap<String, MemoryCluster>>> = Mutex::new(None);

/// An embedded cluster. Clones are the same cluster.
#[derive(Clone, Debug)]
pub struct MemoryCluster {
    cluster: Arc<Cluster>,
}

impl Default for MemoryCluster {
    fn default() -> Self {
        MemoryCluster::new(MemoryConfig::default())
    }
}

impl MemoryCluster {
    /// A cluster of its own, under no name.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        MemoryCluster {
            cluster: Arc::new(Cluster::new(config)),
        }
    }

    /// The cluster that `memory://name` means in this process; made with the default configuration at the first call.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::named_or(name, MemoryConfig::default())
    }

    /// The cluster that `memory://name` means in this process; made with `config` at the first call.
    pub(super) fn named_or(name: &str, config: MemoryConfig) -> Self {
        let mut named = lock(&NAMED);
        let named = named.get_or_insert_default();
        named
            .entry(name.into())
            .or_insert_with(|| MemoryCluster::new(config))
            .clone()
    }

    /// Makes the cluster that `memory://name` will mean in this process.
    ///
    /// # Errors
    /// `InvalidConfig` when the name is taken.
    pub fn register(name: &str, config: MemoryConfig) -> Result<Self> {
        let mut named = lock(&NAMED);
        let named = named.get_or_insert_default();
        if named.contains_key(name) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "register a cluster",
                format!("memory://{name} exists already in this process"),
            ));
        }
        let cluster = MemoryCluster::new(config);
        named.insert(name.into(), cluster.clone());
        Ok(cluster)
    }

    /// Frees the name; the cluster lives on for those who use it.
    pub fn unregister(name: &str) {
        if let Some(named) = &mut *lock(&NAMED) {
            named.remove(name);
        }
    }

    /// This cluster as one client sees it. Several backends with one client id are the connections of one client.
    #[must_use]
    pub fn backend(&self, client_id: &str) -> Arc<dyn Backend> {
        Arc::new(MemoryBackend {
            cluster: self.cluster.clone(),
            client_id: client_id.into(),
            closed: Arc::default(),
        })
    }

    /// Sends as a writer that does not use this library: without idempotency key and revision, whatever the message says.
    ///
    /// # Errors
    /// As [`BackendProducer::send`].
    pub fn send_unmanaged(&self, topic: &str, message: &Message, lane: u64) -> Result<Stored> {
        let topic = self.cluster.topic_for_client(topic, "send")?;
        self.cluster.store(&topic, message, None, lane)
    }

    /// Sets a topic's message type, as RocketMQ 5.x has it in `message.type`.
    ///
    /// # Errors
    /// `NotFound` for an unknown topic.
    pub fn set_message_type(&self, topic: &str, message_type: Option<&str>) -> Result<()> {
        let Some(found) = self.cluster.topic(topic) else {
            return Err(cluster::unknown("topic", topic, "set a message type"));
        };
        found.set_message_type(message_type);
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryBackend {
    cluster: Arc<Cluster>,
    client_id: Arc<str>,
    closed: Arc<AtomicBool>,
}

impl MemoryBackend {
    fn check(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(operation));
        }
        Ok(())
    }
}

impl MemoryBackend {
    fn open_producer(&self, topic: &str) -> Result<MemoryProducer> {
        self.check("producer")?;
        let topic = self.cluster.topic_for_client(topic, "producer")?;
        Ok(MemoryProducer::new(
            self.cluster.clone(),
            topic,
            self.client_id.clone(),
            self.closed.clone(),
        ))
    }
}

impl Backend for MemoryBackend {
    fn scheme(&self) -> &'static str {
        "memory"
    }

    fn capability(&self) -> Capability {
        Capability {
            seal: true,
            delayed_send: true,
            tags: true,
            sql_filter: false,
            ordered: true,
            batch: true,
            transactions: true,
            counts_delayed: true,
            counts_half: true,
            max_body_bytes: Some(self.cluster.config.max_body_bytes),
            shortest_redelivery: self.cluster.config.retry_delay(std::time::Duration::ZERO),
        }
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let producer = self.open_producer(topic)?;
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    /// Its group is the topic's: any transactional producer of the topic may be asked.
    fn transactional_producer<'a>(
        &'a self,
        topic: &'a str,
        checker: Arc<dyn TransactionChecker>,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let producer = self.open_producer(topic)?.with_checker(checker);
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            self.check("consumer")?;
            let consumer = MemoryConsumer::join(&self.cluster, &self.client_id, subscription)?;
            Ok(Arc::new(consumer) as Arc<dyn BackendConsumer>)
        })
    }

    fn committed<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        queues: &'a [QueueId],
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, Option<u64>>>> {
        Box::pin(async move {
            self.check("read committed offsets")?;
            let topic = self.cluster.topic_for_client(topic, "committed")?;
            let group = self.cluster.group_for_client(group, "committed")?;
            Ok(group.committed(&topic.name, queues))
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(MemoryAdmin::new(self.cluster.clone()))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.closed.store(true, Ordering::Release) })
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "it was closed")
}

// No code panics under these locks on purpose; if one did, the state is still whole: every change is a single push, swap or insert.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(state: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(state: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}
