#![doc = include_str!("docs.md")]

mod admin;
mod config;
mod consumer;
mod error;
mod producer;

use std::{collections::BTreeMap, sync::Arc};

use crossfade_rocketmq::{Admin, Client, MessageQueue};

use self::{
    admin::RocketmqAdmin, consumer::RocketmqConsumer, error::convert, producer::RocketmqProducer,
};
use super::{
    Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, QueueId, Subscription,
    address::RocketmqAddress, security::Security,
};
use crate::{
    BoxFuture,
    error::{ErrorKind, Result},
};

/// One RocketMQ cluster, seen by one client.
#[derive(Debug)]
pub struct RocketmqBackend {
    client: Client,
    /// One for all: it remembers what waits on the brokers.
    admin: Admin,
    max_body_bytes: usize,
}

impl RocketmqBackend {
    /// Connects to the first name server that answers, and signs in as `security` says. Bodies above `max_body_bytes` are refused here; the brokers' own limit (`maxMessageSize`,
    /// 4 MiB unless it is changed) holds besides.
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
        max_body_bytes: usize,
        security: &Security,
    ) -> Result<Arc<dyn Backend>> {
        const OPERATION: &str = "open a cluster";
        let failed = |error| convert(OPERATION, ErrorKind::InvalidConfig, error);
        let options = config::options(address, client_id, security)?;
        let client = Client::new(options).map_err(failed)?;
        client.cluster_info().await.map_err(failed)?;
        let admin = Admin::new(&client);
        Ok(Arc::new(RocketmqBackend {
            client,
            admin,
            max_body_bytes,
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
            sql_filter: false,
            ordered: true,
            batch: false,
            transactions: false,
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
            let producer = RocketmqProducer::new(&self.client, topic, self.max_body_bytes).await?;
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            let consumer = RocketmqConsumer::new(&self.client, subscription).await?;
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
            let topic: Arc<str> = topic.into();
            let asked: Vec<_> = queues
                .iter()
                .map(|queue| MessageQueue {
                    topic: Arc::clone(&topic),
                    broker: Arc::clone(&queue.broker),
                    queue: queue.queue,
                })
                .collect();
            let committed = self.client.committed(group, &asked).await;
            let committed = committed.map_err(|error| {
                convert("read committed offsets", ErrorKind::InvalidConfig, error)
            })?;
            Ok(queues.iter().cloned().zip(committed).collect())
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(RocketmqAdmin::new(&self.admin))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.client.close() })
    }
}
