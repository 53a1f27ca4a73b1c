//! Sending.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{closed, cluster::Cluster, topic::Topic, transaction::Answering};
use crate::{
    BoxFuture,
    backend::{BackendProducer, HalfMessage, Outgoing, Stored, TransactionChecker, TransactionEnd},
    error::{Error, ErrorKind, Result},
};

#[derive(Debug)]
pub(super) struct MemoryProducer {
    cluster: Arc<Cluster>,
    topic: Arc<Topic>,
    client_id: Arc<str>,
    closed: Arc<AtomicBool>,
    /// Of a transactional one.
    answering: Option<Answering>,
}

impl MemoryProducer {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        topic: Arc<Topic>,
        client_id: Arc<str>,
        closed: Arc<AtomicBool>,
    ) -> Self {
        cluster.add_producer(&client_id);
        MemoryProducer {
            cluster,
            topic,
            client_id,
            closed,
            answering: None,
        }
    }

    /// From now on it answers what the cluster asks about the topic's half messages.
    pub(super) fn with_checker(mut self, checker: Arc<dyn TransactionChecker>) -> Self {
        let (cluster, topic) = (Arc::clone(&self.cluster), Arc::clone(&self.topic));
        self.answering = Some(Answering::start(cluster, topic, checker));
        self
    }

    async fn begin(&self, operation: &'static str) -> Result<()> {
        // A call never has to wait, so without this a loop of them would keep its thread for itself.
        tokio::task::coop::consume_budget().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(operation));
        }
        Ok(())
    }

    async fn begin_transactional(&self, operation: &'static str) -> Result<()> {
        if self.answering.is_none() {
            let why = "this producer has no checker for transactions";
            return Err(Error::new(ErrorKind::Unsupported, operation, why));
        }
        self.begin(operation).await
    }
}

impl Drop for MemoryProducer {
    fn drop(&mut self) {
        self.cluster.remove_producer(&self.client_id);
    }
}

impl BackendProducer for MemoryProducer {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            self.begin("send").await?;
            let stamp = Some((outgoing.idempotency_key, outgoing.revision));
            self.cluster
                .store(&self.topic, outgoing.message, stamp, outgoing.lane)
        })
    }

    fn send_batch<'a>(
        &'a self,
        batch: &'a [Outgoing<'a>],
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        Box::pin(async move {
            self.begin("send a batch").await?;
            let lane = batch.first().map_or(0, |outgoing| outgoing.lane);
            let stamped = batch.iter().map(|outgoing| {
                let stamp = Some((outgoing.idempotency_key, outgoing.revision));
                (outgoing.message, stamp)
            });
            let stamped: Vec<_> = stamped.collect();
            self.cluster.store_batch(&self.topic, &stamped, lane)
        })
    }

    fn send_half<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        Box::pin(async move {
            self.begin_transactional("send a half message").await?;
            let stamp = Some((outgoing.idempotency_key, outgoing.revision));
            let (message, lane) = (outgoing.message, outgoing.lane);
            self.cluster.store_half(&self.topic, message, stamp, lane)
        })
    }

    fn end_transaction<'a>(
        &'a self,
        half: &'a HalfMessage,
        end: TransactionEnd,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.begin_transactional("end a transaction").await?;
            self.cluster.end_half(half, end)
        })
    }

    /// A send that was given up is stored or not, there and then.
    fn ambiguity_bound(&self) -> Duration {
        Duration::ZERO
    }
}
