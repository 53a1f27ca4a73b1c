//! Receiving.

use std::time::Duration;

use crossfade_rocketmq::{
    Client, Consumer, ConsumerOptions, Delivery, Token,
    message::{is_reserved, property},
};

use super::{
    error::convert,
    producer::{ORDERING_KEY_PROPERTY, queue_id},
};
use crate::{
    BoxFuture,
    backend::{
        AckToken, BackendConsumer, Filter, Incoming, KEY_PROPERTY, QueueId, REVISION_PROPERTY,
        Subscription, Unreadable,
    },
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
    side::Revision,
};

#[derive(Debug)]
pub(super) struct RocketmqConsumer {
    consumer: Consumer,
}

impl RocketmqConsumer {
    pub(super) async fn new(client: &Client, subscription: &Subscription) -> Result<Self> {
        let mut options = ConsumerOptions::default();
        options.max_outstanding = subscription.outstanding();
        match &subscription.filter {
            Filter::All => {}
            Filter::Tags(tags) => options.tags.clone_from(tags),
            Filter::Sql(_) => return Err(unsupported("an SQL92 filter")),
        }
        options.ordered = subscription.ordered;
        let Subscription { topic, group, .. } = subscription;
        let consumer = Consumer::new(client, topic, group, options)
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

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "join a group", what)
}

fn incoming(delivery: Delivery) -> Incoming {
    let received = &*delivery.message;
    let mut message = Message::new(received.body.clone());
    let mut revision = None;
    let mut unique_id = None;
    for (name, value) in received.properties() {
        match name {
            KEY_PROPERTY => {
                if message.idempotency_key.is_none() {
                    message.idempotency_key = IdempotencyKey::new(value).ok();
                }
            }
            REVISION_PROPERTY => revision = revision.or(value.parse().ok().map(Revision)),
            ORDERING_KEY_PROPERTY => message.ordering_key = Some(value.to_owned()),
            property::KEYS => message.key = Some(value.to_owned()),
            property::TAGS => message.tag = Some(value.to_owned()),
            // A batch sent by a 5.x client to a 4.9 broker gives it twice: the first one is the message's own.
            property::UNIQ_KEY => unique_id = unique_id.or(Some(value)),
            name if is_reserved(name) => {}
            _ => message.properties.push((name.to_owned(), value.to_owned())),
        }
    }
    let message_id = unique_id.unwrap_or(&received.offset_message_id);
    if message.idempotency_key.is_none() {
        message.idempotency_key = IdempotencyKey::new(message_id).ok();
    }
    Incoming {
        message_id: message_id.to_owned(),
        queue: queue_id(&received.queue.broker, received.queue.queue),
        offset: received.offset,
        attempt: delivery.attempt,
        revision,
        token: AckToken(delivery.token.0),
        message,
    }
}
