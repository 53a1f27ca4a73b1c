//! Sending.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossfade_rocketmq::{Client, Producer, ProducerOptions, SendResult, StoreStatus};

use super::{
    config::AMBIGUITY_BOUND,
    error::convert,
    message::{encode, level},
    transaction,
};
use crate::{
    BoxFuture,
    backend::{
        BackendProducer, HalfMessage, Outgoing, QueueId, Stored, TransactionChecker, TransactionEnd,
    },
    error::{ErrorKind, Result},
};

#[derive(Debug)]
pub(super) struct RocketmqProducer {
    producer: Producer,
    transactional: bool,
    /// The last message was kept less safely than the broker is configured to.
    unsafely: AtomicBool,
}

impl RocketmqProducer {
    /// Names are the brokers'.
    pub(super) async fn new(
        client: &Client,
        topic: &str,
        group: &str,
        max_body_bytes: usize,
    ) -> Result<Self> {
        Ok(RocketmqProducer {
            producer: open(client, topic, group, max_body_bytes).await?,
            transactional: false,
            unsafely: AtomicBool::new(false),
        })
    }

    pub(super) async fn transactional(
        client: &Client,
        topic: &str,
        group: &str,
        max_body_bytes: usize,
        checker: Arc<dyn TransactionChecker>,
    ) -> Result<Self> {
        let producer = open(client, topic, group, max_body_bytes).await?;
        producer.set_checker(transaction::checker(checker));
        Ok(RocketmqProducer {
            producer,
            transactional: true,
            unsafely: AtomicBool::new(false),
        })
    }
}

impl RocketmqProducer {
    /// Stored is stored, as with Java's client; that the flush or the replica is missing is told when it begins and when it ends.
    fn note(&self, sent: &SendResult) {
        let unsafely = sent.status != StoreStatus::Ok;
        if self.unsafely.load(Ordering::Relaxed) == unsafely
            || self.unsafely.swap(unsafely, Ordering::Relaxed) == unsafely
        {
            return;
        }
        let (topic, broker) = (self.producer.topic(), &sent.broker);
        match unsafely {
            true => {
                tracing::warn!(%topic, %broker, status = ?sent.status, "messages are stored less safely than the broker is configured to");
            }
            false => {
                tracing::info!(%topic, %broker, "messages are stored as the broker is configured to again");
            }
        }
    }
}

async fn open(
    client: &Client,
    topic: &str,
    group: &str,
    max_body_bytes: usize,
) -> Result<Producer> {
    let mut options = ProducerOptions::default();
    options.group = group.to_owned();
    options.max_body_bytes = max_body_bytes;
    let opened = Producer::new(client, topic, options).await;
    opened.map_err(|error| convert("open a producer", ErrorKind::InvalidConfig, error))
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
            self.note(&sent);
            // A delayed message's place is not the one it will be delivered from.
            let offset = delay.is_none().then_some(sent.offset);
            Ok(stored(message.unique_id(), sent, offset))
        })
    }

    fn send_batch<'a>(
        &'a self,
        batch: &'a [Outgoing<'a>],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        Box::pin(async move {
            let failed = |error| convert("send a batch", ErrorKind::InvalidMessage, error);
            let lane = batch.first().map_or(0, |outgoing| outgoing.lane);
            let mut messages = Vec::with_capacity(batch.len());
            for outgoing in batch {
                let delay = outgoing.message.deliver_after.map(level).transpose()?;
                messages.push(encode(outgoing, delay).map_err(failed)?);
            }
            let sent = self.producer.send_batch(&messages, lane, timeout).await;
            let sent = sent.map_err(failed)?;
            sent.iter().for_each(|sent| self.note(sent));
            let stored = messages.iter().zip(sent).map(|(message, sent)| {
                let offset = Some(sent.offset);
                stored(message.unique_id(), sent, offset)
            });
            Ok(stored.collect())
        })
    }

    fn send_half<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        Box::pin(async move {
            transaction::check(self.transactional)?;
            let failed = |error| convert("send a half message", ErrorKind::InvalidMessage, error);
            let delay = outgoing.message.deliver_after.map(level).transpose()?;
            let message = encode(&outgoing, delay).map_err(failed)?;
            let half = self.producer.send_half(&message, outgoing.lane, timeout);
            let half = half.await.map_err(failed)?;
            Ok(HalfMessage {
                // Its place in the topic is known only once it is committed.
                stored: stored(half.message_id(), half.sent.clone(), None),
                reference: Arc::new(half),
            })
        })
    }

    fn end_transaction<'a>(
        &'a self,
        half: &'a HalfMessage,
        end: TransactionEnd,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            transaction::check(self.transactional)?;
            let half = transaction::half(half)?;
            let end = transaction::end(end);
            let ended = self.producer.end_transaction(half, end, timeout).await;
            ended.map_err(|error| convert("end a transaction", ErrorKind::Unexpected, error))
        })
    }

    fn ambiguity_bound(&self) -> Duration {
        AMBIGUITY_BOUND
    }
}

fn stored(message_id: &str, sent: SendResult, offset: Option<u64>) -> Stored {
    Stored {
        message_id: message_id.to_owned(),
        queue: QueueId {
            broker: sent.broker,
            queue: sent.queue,
        },
        offset,
    }
}

/// Queues of both crates are the same thing.
pub(super) fn queue_id(broker: &Arc<str>, queue: u32) -> QueueId {
    QueueId {
        broker: Arc::clone(broker),
        queue,
    }
}
