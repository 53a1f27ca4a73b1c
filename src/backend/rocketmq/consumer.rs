//! Receiving.

use std::time::Duration;

use crossfade_rocketmq::{
    Client, Consumer, ConsumerOptions, Delivery, Filter as ClientFilter, Namespace, Token,
};

use super::{error::convert, message::decode, producer::queue_id};
use crate::{
    BoxFuture,
    backend::{AckToken, BackendConsumer, Filter, Incoming, QueueId, Subscription, Unreadable},
    error::{ErrorKind, Result},
};

#[derive(Debug)]
pub(super) struct RocketmqConsumer {
    consumer: Consumer,
}

impl RocketmqConsumer {
    pub(super) async fn new(
        client: &Client,
        subscription: &Subscription,
        namespace: &Namespace,
    ) -> Result<Self> {
        let mut options = ConsumerOptions::default();
        options.max_outstanding = subscription.outstanding();
        // Whoever wants more at a time wants to get so far, as on the embedded cluster.
        options.max_span = options.max_span.max(options.max_outstanding as u64);
        match &subscription.filter {
            Filter::All => {}
            Filter::Tags(tags) => options.filter = ClientFilter::Tags(tags.clone()),
            Filter::Sql(expression) => options.filter = ClientFilter::Sql(expression.clone()),
        }
        options.ordered = subscription.ordered;
        let topic = namespace.wrap(&subscription.topic);
        let group = namespace.wrap(&subscription.group);
        let consumer = Consumer::new(client, &topic, &group, options)
            .await
            .map_err(|error| convert("join a group", ErrorKind::InvalidConfig, error))?;
        Ok(RocketmqConsumer { consumer })
    }
}

impl BackendConsumer for RocketmqConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let deliveries = self.consumer.receive(max, wait).await;
            let deliveries =
                deliveries.map_err(|error| convert("receive", ErrorKind::Unexpected, error))?;
            Ok(deliveries.into_iter().map(incoming).collect())
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        let acked = self.consumer.ack(Token(token.0));
        let acked = acked.map_err(|error| convert("ack", ErrorKind::Unexpected, error));
        Box::pin(std::future::ready(acked))
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let nacked = self.consumer.nack(Token(token.0), delay).await;
            nacked.map_err(|error| convert("nack", ErrorKind::Unexpected, error))
        })
    }

    fn may_hand_out(&self, token: AckToken) -> bool {
        self.consumer.may_hand_out(Token(token.0))
    }

    fn let_go(&self, token: AckToken) -> Result<()> {
        let let_go = self.consumer.let_go(Token(token.0));
        let_go.map_err(|error| convert("let go", ErrorKind::Unexpected, error))
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let ready = self.consumer.ready().await;
            ready.map_err(|error| convert("join a group", ErrorKind::Unexpected, error))
        })
    }

    fn assigned(&self) -> Vec<QueueId> {
        let assigned = self.consumer.assigned();
        assigned
            .iter()
            .map(|queue| queue_id(&queue.broker, queue.queue))
            .collect()
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let topic = self.consumer.topic();
        let told = self.consumer.unreadable().into_iter();
        told.map(|stands| Unreadable {
            queue: if stands.queue.topic == *topic {
                queue_id(&stands.queue.broker, stands.queue.queue).to_string()
            } else {
                stands.queue.to_string()
            },
            offset: stands.offset,
            reason: stands.reason,
        })
        .collect()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let closed = self.consumer.close().await;
            closed.map_err(|error| convert("leave a group", ErrorKind::Unexpected, error))
        })
    }
}

fn incoming(delivery: Delivery) -> Incoming {
    let received = &*delivery.message;
    let decoded = decode(received);
    Incoming {
        message: decoded.message,
        message_id: decoded.message_id,
        queue: queue_id(&received.queue.broker, received.queue.queue),
        offset: received.offset,
        attempt: delivery.attempt,
        revision: decoded.revision,
        token: AckToken(delivery.token.0),
    }
}
