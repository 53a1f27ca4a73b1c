//! Sending.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{closed, cluster::Cluster, topic::Topic};
use crate::{
    BoxFuture,
    backend::{BackendProducer, Outgoing, Stored},
    error::Result,
};

#[derive(Debug)]
pub(super) struct MemoryProducer {
    cluster: Arc<Cluster>,
    topic: Arc<Topic>,
    client_id: Arc<str>,
    closed: Arc<AtomicBool>,
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
        }
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
            // A send never has to wait, so without this a loop of sends would keep its thread for itself.
            tokio::task::coop::consume_budget().await;
            if self.closed.load(Ordering::Acquire) {
                return Err(closed("send"));
            }
            let stamp = Some((outgoing.idempotency_key, outgoing.revision));
            self.cluster
                .store(&self.topic, outgoing.message, stamp, outgoing.lane)
        })
    }

    /// A send that was given up is stored or not, there and then.
    fn ambiguity_bound(&self) -> Duration {
        Duration::ZERO
    }
}
