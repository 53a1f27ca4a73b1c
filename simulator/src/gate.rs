//! A process that is frozen stops at its next call to the outside, and goes on from there when it wakes.

use std::{sync::Arc, time::Duration};

use crossfade::{
    BoxFuture, Result,
    backend::{
        AckToken, Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, Incoming,
        Outgoing, QueueId, Stored, Subscription, Unreadable,
    },
};
use tokio::sync::watch;

use crate::effect::{Effects, FaultSet};

/// Closed while its process is frozen. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    frozen: Arc<watch::Sender<Option<FaultSet>>>,
    effects: Effects,
}

impl Gate {
    pub(crate) fn new(effects: Effects) -> Self {
        Gate {
            frozen: Arc::new(watch::Sender::new(None)),
            effects,
        }
    }

    /// Closes the gate; a call that meets it is an effect of these faults.
    pub(crate) fn freeze(&self, because: FaultSet) {
        self.frozen.send_replace(Some(because));
    }

    pub(crate) fn wake(&self) {
        self.frozen.send_replace(None);
    }

    /// Passes when the process is awake.
    pub(crate) async fn pass(&self) {
        let frozen = *self.frozen.borrow();
        let Some(because) = frozen else { return };
        self.effects.touch_all(because);
        let mut frozen = self.frozen.subscribe();
        // The sender lives in `self`.
        let _ = frozen.wait_for(Option::is_none).await;
    }

    /// What a process that may be frozen before and after the call sees of it.
    pub(crate) async fn through<T>(&self, call: impl Future<Output = T>) -> T {
        self.pass().await;
        let answer = call.await;
        self.pass().await;
        answer
    }
}

/// A cluster as one process sees it.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) inner: Arc<dyn Backend>,
    pub(crate) gate: Gate,
}

#[derive(Debug)]
struct GatedProducer {
    inner: Arc<dyn BackendProducer>,
    gate: Gate,
}

#[derive(Debug)]
struct GatedConsumer {
    inner: Arc<dyn BackendConsumer>,
    gate: Gate,
}

impl Backend for Gated {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    fn client_id(&self) -> &str {
        self.inner.client_id()
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let inner = self.gate.through(self.inner.producer(topic)).await?;
            let gate = self.gate.clone();
            Ok(Arc::new(GatedProducer { inner, gate }) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            let inner = self.gate.through(self.inner.consumer(subscription)).await?;
            let gate = self.gate.clone();
            Ok(Arc::new(GatedConsumer { inner, gate }) as Arc<dyn BackendConsumer>)
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        self.inner.admin()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.gate.through(self.inner.close()))
    }
}

impl BackendProducer for GatedProducer {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(self.gate.through(self.inner.send(outgoing, timeout)))
    }

    fn ambiguity_bound(&self) -> Duration {
        self.inner.ambiguity_bound()
    }
}

impl BackendConsumer for GatedConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            self.gate.pass().await;
            // Not after the call: what it took would be lost if this future were dropped at the gate.
            self.inner.receive(max, wait).await
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.gate.through(self.inner.ack(token)))
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.gate.through(self.inner.nack(token, delay)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.gate.through(self.inner.ready()))
    }

    fn assigned(&self) -> Vec<QueueId> {
        self.inner.assigned()
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        self.inner.unreadable()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.gate.through(self.inner.close()))
    }
}
