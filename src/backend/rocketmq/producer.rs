//! Sending.

use std::{sync::Arc, time::Duration};

use crossfade_rocketmq::{
    Client, DelayLevel, Message as ClientMessage, Producer, ProducerOptions, Result as ClientResult,
};

use super::{
    config::{AMBIGUITY_BOUND, PRODUCER_GROUP},
    error::convert,
};
use crate::{
    BoxFuture,
    backend::{BackendProducer, KEY_PROPERTY, Outgoing, QueueId, REVISION_PROPERTY, Stored},
    error::{Error, ErrorKind, Result},
};

/// RocketMQ 5's own name for the key that keeps messages in order (`MessageConst.PROPERTY_SHARDING_KEY`).
pub(super) const ORDERING_KEY_PROPERTY: &str = "__SHARDINGKEY";

#[derive(Debug)]
pub(super) struct RocketmqProducer {
    producer: Producer,
}

impl RocketmqProducer {
    pub(super) async fn new(client: &Client, topic: &str, max_body_bytes: usize) -> Result<Self> {
        let mut options = ProducerOptions::default();
        options.group = PRODUCER_GROUP.to_owned();
        options.max_body_bytes = max_body_bytes;
        let producer = Producer::new(client, topic, options)
            .await
            .map_err(|error| convert("open a producer", ErrorKind::InvalidConfig, error))?;
        Ok(RocketmqProducer { producer })
    }
}

impl BackendProducer for RocketmqProducer {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let failed = |error| convert("send", ErrorKind::InvalidMessage, error);
            let delay = outgoing.message.deliver_after.map(level).transpose()?;
            let message = encode(&outgoing, delay).map_err(failed)?;
            let sent = self.producer.send(&message, outgoing.lane, timeout).await;
            let sent = sent.map_err(failed)?;
            Ok(Stored {
                message_id: sent.message_id,
                queue: QueueId {
                    broker: sent.broker,
                    queue: sent.queue,
                },
                // A delayed message's place is not the one it will be delivered from.
                offset: delay.is_none().then_some(sent.offset),
            })
        })
    }

    fn ambiguity_bound(&self) -> Duration {
        AMBIGUITY_BOUND
    }
}

fn level(delay: Duration) -> Result<DelayLevel> {
    let longest = DelayLevel::LONGEST.duration();
    if delay > longest {
        return Err(Error::new(
            ErrorKind::InvalidMessage,
            "send",
            format!("a delay of {delay:?} is longer than the longest, {longest:?}"),
        ));
    }
    Ok(DelayLevel::at_least(delay))
}

fn encode(outgoing: &Outgoing<'_>, delay: Option<DelayLevel>) -> ClientResult<ClientMessage> {
    let message = outgoing.message;
    let mut encoded = ClientMessage::new(message.body.clone())
        .property(KEY_PROPERTY, outgoing.idempotency_key.as_str())?
        .property(REVISION_PROPERTY, &outgoing.revision.to_string())?;
    if let Some(key) = &message.key {
        encoded = encoded.keys(key)?;
    }
    if let Some(tag) = &message.tag {
        encoded = encoded.tag(tag)?;
    }
    if let Some(key) = &message.ordering_key {
        encoded = encoded.property(ORDERING_KEY_PROPERTY, key)?;
    }
    for (name, value) in &message.properties {
        encoded = encoded.property(name, value)?;
    }
    Ok(match delay {
        Some(level) => encoded.delay(level),
        None => encoded,
    })
}

/// Queues of both crates are the same thing.
pub(super) fn queue_id(broker: &Arc<str>, queue: u32) -> QueueId {
    QueueId {
        broker: Arc::clone(broker),
        queue,
    }
}
