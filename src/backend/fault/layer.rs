//! Every call of a backend, passed on in one place: a wrapper names only what it changes.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use crate::{
    BoxFuture,
    backend::{
        AckToken, Backend, BackendAdmin, BackendConsumer, BackendProducer, Backlog, Capability,
        HalfMessage, Incoming, Outgoing, QueueId, Stored, Subscription, TopicDescription,
        TopicSettings, TransactionChecker, TransactionEnd, Unreadable,
    },
    error::Result,
    side::Access,
};

/// What a wrapper does with the calls of a backend. Without any method it changes nothing.
///
/// A call that is handed over has not begun: it does when its future is polled first.
pub trait Layer: fmt::Debug + Send + Sync + 'static {
    /// Around every call to the cluster for which no other method here is written anew. `operation` is its name, as errors have it.
    ///
    /// # Errors
    /// Those of the call, and the layer's own.
    ///
    /// # Cancellation
    /// As the call.
    fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        let _ = operation;
        call
    }

    /// [`BackendProducer::send`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn send<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        self.around("send", inner.send(outgoing, timeout))
    }

    /// [`BackendProducer::send_batch`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn send_batch<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        batch: &'a [Outgoing<'a>],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        self.around("send a batch", inner.send_batch(batch, timeout))
    }

    /// [`BackendProducer::send_half`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn send_half<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        let call = inner.send_half(outgoing, timeout);
        self.around("send a half message", call)
    }

    /// [`BackendProducer::ambiguity_bound`], where the backend's own is `inner`.
    fn ambiguity_bound(&self, inner: Duration) -> Duration {
        inner
    }

    /// [`BackendConsumer::receive`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there: nothing may be lost.
    fn receive<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Incoming>>> {
        self.around("receive", inner.receive(max, wait))
    }

    /// [`BackendConsumer::ack`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn ack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
    ) -> BoxFuture<'a, Result<()>> {
        self.around("ack", inner.ack(token))
    }

    /// [`BackendConsumer::nack`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn nack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
        delay: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.around("nack", inner.nack(token, delay))
    }

    /// What [`BackendConsumer::unreadable`] answers.
    fn unreadable(&self, inner: Vec<Unreadable>) -> Vec<Unreadable> {
        inner
    }

    /// [`BackendAdmin::set_access`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    fn set_access<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendAdmin>,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        self.around("set access", inner.set_access(topic, settings, access))
    }

    /// What [`BackendAdmin::topic`] answers.
    fn described(&self, topic: TopicDescription) -> TopicDescription {
        topic
    }

    /// What [`BackendAdmin::backlog`] and [`BackendAdmin::backlogs`] answer for a group.
    fn counted(&self, backlog: Backlog) -> Backlog {
        backlog
    }
}

/// A backend under a layer, and what it gives out: producers, consumers, the administrative calls.
#[derive(Debug)]
pub struct Layered<L, I: ?Sized = dyn Backend> {
    pub(super) inner: Arc<I>,
    pub(super) layer: Arc<L>,
}

impl<L: Layer> Layered<L> {
    /// Puts a layer over a backend; all that the backend gives out has the same one.
    #[must_use]
    pub fn over(inner: Arc<dyn Backend>, layer: L) -> Self {
        Layered {
            inner,
            layer: Arc::new(layer),
        }
    }
}

impl<L, I: ?Sized> Layered<L, I> {
    fn again<J: ?Sized>(&self, inner: Arc<J>) -> Layered<L, J> {
        Layered {
            inner,
            layer: Arc::clone(&self.layer),
        }
    }
}

impl<L: Layer> Backend for Layered<L> {
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
            let call = self.inner.producer(topic);
            let inner = self.layer.around("producer", call).await?;
            Ok(Arc::new(self.again(inner)) as Arc<dyn BackendProducer>)
        })
    }

    fn transactional_producer<'a>(
        &'a self,
        topic: &'a str,
        checker: Arc<dyn TransactionChecker>,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            let call = self.inner.transactional_producer(topic, checker);
            let inner = self
                .layer
                .around("open a transactional producer", call)
                .await?;
            Ok(Arc::new(self.again(inner)) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            let call = self.inner.consumer(subscription);
            let inner = self.layer.around("consumer", call).await?;
            Ok(Arc::new(self.again(inner)) as Arc<dyn BackendConsumer>)
        })
    }

    fn committed<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        queues: &'a [QueueId],
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, Option<u64>>>> {
        let call = self.inner.committed(topic, group, queues);
        self.layer.around("read committed offsets", call)
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(self.again(self.inner.admin()))
    }

    /// No call to the cluster.
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

impl<L: Layer> BackendProducer for Layered<L, dyn BackendProducer> {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        self.layer.send(&self.inner, outgoing, timeout)
    }

    fn send_batch<'a>(
        &'a self,
        batch: &'a [Outgoing<'a>],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        self.layer.send_batch(&self.inner, batch, timeout)
    }

    fn send_half<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        self.layer.send_half(&self.inner, outgoing, timeout)
    }

    fn end_transaction<'a>(
        &'a self,
        half: &'a HalfMessage,
        end: TransactionEnd,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        let call = self.inner.end_transaction(half, end, timeout);
        self.layer.around("end a transaction", call)
    }

    fn ambiguity_bound(&self) -> Duration {
        self.layer.ambiguity_bound(self.inner.ambiguity_bound())
    }
}

impl<L: Layer> BackendConsumer for Layered<L, dyn BackendConsumer> {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        self.layer.receive(&self.inner, max, wait)
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        self.layer.ack(&self.inner, token)
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        self.layer.nack(&self.inner, token, delay)
    }

    fn may_hand_out(&self, token: AckToken) -> bool {
        self.inner.may_hand_out(token)
    }

    /// No call to the cluster.
    fn let_go(&self, token: AckToken) -> Result<()> {
        self.inner.let_go(token)
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        self.layer.around("ready", self.inner.ready())
    }

    fn assigned(&self) -> Vec<QueueId> {
        self.inner.assigned()
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        self.layer.unreadable(self.inner.unreadable())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.layer.around("close", self.inner.close())
    }
}
