//! Receiving, acks and nacks.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    closed,
    cluster::Cluster,
    group::{Group, Leave, RetryQueue},
    member::{Ended, Member, Taken},
    topic::Record,
};
use crate::{
    BoxFuture,
    backend::{AckToken, BackendConsumer, Filter, Incoming, QueueId, Subscription},
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
};

/// A longer wait is cut to this; the caller sees an empty list.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(super) struct MemoryConsumer {
    cluster: Arc<Cluster>,
    group: Arc<Group>,
    member: Arc<Member>,
    retry: RetryQueue,
}

impl MemoryConsumer {
    pub(super) fn join(
        cluster: &Arc<Cluster>,
        client_id: &str,
        subscription: &Subscription,
    ) -> Result<Self> {
        let topic = cluster.topic_for_client(&subscription.topic, "consumer")?;
        let group = cluster.group_for_client(&subscription.group, "consumer")?;
        let tags = match &subscription.filter {
            Filter::All => None,
            Filter::Tags(tags) => Some(tags.as_str()),
            Filter::Sql(_) => {
                let why = "this backend filters by tags only";
                return Err(Error::new(ErrorKind::Unsupported, "join a group", why));
            }
        };
        let member = Arc::new(Member::new(
            cluster.next_member(),
            client_id,
            topic.name.clone(),
            tags,
            subscription,
        ));
        let retry = group.retry_queue(&topic.name);
        group.join(member.clone(), cluster);
        Ok(MemoryConsumer {
            cluster: cluster.clone(),
            group,
            member,
            retry,
        })
    }

    fn leave(&self, how: Leave) {
        if !self.member.close() {
            self.group.leave(&self.member, how, &self.cluster);
        }
    }

    fn incoming(&self, taken: Taken) -> Incoming {
        let Record {
            id,
            message,
            revision,
            retries,
            ..
        } = &*taken.record;
        let message_id = self.cluster.message_id(*id);
        let key = message.idempotency_key.clone();
        Incoming {
            message: Message {
                // An id is always a valid key.
                idempotency_key: key.or_else(|| IdempotencyKey::new(&message_id).ok()),
                ..message.clone()
            },
            message_id,
            queue: self.cluster.queue_id(taken.queue),
            offset: taken.offset,
            attempt: retries + 1,
            revision: *revision,
            token: taken.token,
        }
    }

    /// Puts a message back for its group.
    fn give_back(&self, record: &Record, delay: Duration) {
        let again = Record {
            id: record.id,
            message: record.message.clone(),
            revision: record.revision,
            retries: record.retries + 1,
            bytes: record.bytes,
        };
        if record.retries >= self.cluster.config.max_retries {
            self.cluster.dead_letter(&self.group.name, again);
            return;
        }
        let delay = self.cluster.config.retry_delay(delay);
        let due = (!delay.is_zero()).then(|| Instant::now() + delay);
        self.cluster.add_bytes(again.bytes);
        self.retry.queue.append(Arc::new(again), due);
    }

    fn end(
        &self,
        token: AckToken,
        operation: &'static str,
        before: impl FnOnce(&Arc<Record>),
    ) -> Result<()> {
        let config = &self.cluster.config;
        let ended = self.member.finish(token, config, before);
        self.ended(ended, operation)
    }

    fn ended(&self, ended: Option<Ended>, operation: &'static str) -> Result<()> {
        match ended {
            Some(ended) => {
                if ended.frees_queue {
                    self.group.rebalance(self.member.topic(), &self.cluster);
                }
                Ok(())
            }
            None if self.member.is_closed() => Err(closed(operation)),
            None => Err(Error::new(
                ErrorKind::StaleDelivery,
                operation,
                "this consumer does not hold the delivery any more",
            )),
        }
    }
}

impl BackendConsumer for MemoryConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            // Messages that are there are given without a wait: a loop of receives must let others run all the same.
            tokio::task::coop::consume_budget().await;
            let deadline = Instant::now() + wait.min(MAX_WAIT);
            loop {
                let look = self.member.take(max, &self.cluster.config);
                if look.closed {
                    return Err(closed("receive"));
                }
                if !look.taken.is_empty() || max == 0 || deadline <= Instant::now() {
                    let taken = look.taken.into_iter();
                    return Ok(taken.map(|taken| self.incoming(taken)).collect());
                }
                let until = look.next_due.map_or(deadline, |due| due.min(deadline));
                tokio::select! {
                    biased;
                    () = self.member.woken() => {}
                    () = sleep_until(until) => {}
                }
            }
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.end(token, "ack", |_| {}) })
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.end(token, "nack", |record| self.give_back(record, delay)) })
    }

    fn may_hand_out(&self, token: AckToken) -> bool {
        self.member.may_hand_out(token)
    }

    fn let_go(&self, token: AckToken) -> Result<()> {
        self.ended(self.member.let_go(token), "let go")
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        // The queues were assigned while joining.
        Box::pin(async move {
            match self.member.is_closed() {
                true => Err(closed("ready")),
                false => Ok(()),
            }
        })
    }

    fn assigned(&self) -> Vec<QueueId> {
        let queues = self.member.assigned().into_iter();
        queues.map(|queue| self.cluster.queue_id(queue)).collect()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.leave(Leave::Close);
            Ok(())
        })
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.leave(Leave::Crash);
    }
}
