#![doc = include_str!("docs.md")]

mod admin;
mod config;
mod consumer;
mod error;
mod message;
mod producer;
mod transaction;

use std::{collections::BTreeMap, sync::Arc};

use crossfade_rocketmq::{Admin, Client, MessageQueue, Namespace};

use self::{
    admin::RocketmqAdmin, consumer::RocketmqConsumer, error::convert, producer::RocketmqProducer,
};
use super::{
    Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, QueueId, Subscription,
    TransactionChecker, address::RocketmqAddress, registry::OpenOptions,
};
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
};

/// One RocketMQ cluster, seen by one client.
#[derive(Debug)]
pub struct RocketmqBackend {
    client: Client,
    /// One for all: it remembers what waits on the brokers.
    admin: Admin,
    max_body_bytes: usize,
    transaction_group: Option<String>,
    /// Names are wrapped and unwrapped here: the client has the brokers' own.
    namespace: Namespace,
}

impl RocketmqBackend {
    /// Connects to the first name server that answers, and signs in as `options` say. Larger bodies than they allow are refused here; the brokers' own limit
    /// (`maxMessageSize`, 4 MiB unless it is changed) holds besides.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when none answers, `InvalidConfig` when one is no RocketMQ name server or credentials cannot be used,
    /// `PermissionDenied` when they are refused, `Unsupported` for TLS in a build without it.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn connect(
        address: &RocketmqAddress,
        client_id: &str,
        options: &OpenOptions,
    ) -> Result<Arc<dyn Backend>> {
        const OPERATION: &str = "open a cluster";
        let failed = |error| convert(OPERATION, ErrorKind::InvalidConfig, error);
        let namespace = address.namespace.clone().map(Namespace::new).transpose();
        let namespace = namespace.map_err(failed)?.unwrap_or_default();
        let client = config::options(address, client_id, &options.security)?;
        let client = Client::new(client).map_err(failed)?;
        client.cluster_info().await.map_err(failed)?;
        let admin = Admin::new(&client);
        Ok(Arc::new(RocketmqBackend {
            client,
            admin,
            max_body_bytes: options.max_body_bytes,
            transaction_group: options.transaction_group.clone(),
            namespace,
        }))
    }
}

impl Backend for RocketmqBackend {
    fn scheme(&self) -> &'static str {
        "rocketmq"
    }

    fn capability(&self) -> Capability {
        Capability {
            seal: true,
            delayed_send: true,
            tags: true,
            sql_filter: true,
            ordered: true,
            batch: true,
            transactions: true,
            counts_delayed: true,
            counts_half: true,
            max_body_bytes: Some(self.max_body_bytes),
            shortest_redelivery: config::SHORTEST_REDELIVERY,
        }
    }

    fn client_id(&self) -> &str {
        self.client.client_id()
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let topic = self.namespace.wrap(topic);
            let group = self.namespace.wrap(config::PRODUCER_GROUP);
            let (client, limit) = (&self.client, self.max_body_bytes);
            let producer = RocketmqProducer::new(client, &topic, &group, limit).await?;
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn transactional_producer<'a>(
        &'a self,
        topic: &'a str,
        checker: Arc<dyn TransactionChecker>,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let group = self.transaction_group.as_deref().ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "open a transactional producer",
                    "producer.transaction_group is not set: a broker asks any client of that group how a transaction ended, so it names this application, and no other one has it",
                )
            })?;
            let (topic, group) = (self.namespace.wrap(topic), self.namespace.wrap(group));
            let (client, limit) = (&self.client, self.max_body_bytes);
            let producer =
                RocketmqProducer::transactional(client, &topic, &group, limit, checker).await?;
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            let consumer = RocketmqConsumer::new(&self.client, subscription, &self.namespace);
            let consumer = consumer.await?;
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
            let topic: Arc<str> = self.namespace.wrap(topic).into();
            let group = self.namespace.wrap(group);
            let asked: Vec<_> = queues
                .iter()
                .map(|queue| MessageQueue {
                    topic: Arc::clone(&topic),
                    broker: Arc::clone(&queue.broker),
                    queue: queue.queue,
                })
                .collect();
            let committed = self.client.committed(&group, &asked).await;
            let committed = committed.map_err(|error| {
                convert("read committed offsets", ErrorKind::InvalidConfig, error)
            })?;
            Ok(queues.iter().cloned().zip(committed).collect())
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(RocketmqAdmin::new(&self.admin, &self.namespace))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.client.close() })
    }
}
