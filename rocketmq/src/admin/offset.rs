//! Offsets: what a queue holds, and how far a group is. All of it works for a topic without queues too: the numbers of its queues are given.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;

use super::{Admin, Master, TopicConfigs};
use crate::{
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
    route::MessageQueue,
    together::together,
};

/// One queue, and how far one group is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueOffsets {
    /// The queue.
    pub queue: MessageQueue,
    /// The first offset kept.
    pub min: u64,
    /// One past the last message.
    pub max: u64,
    /// The group's offset; `None` when it never committed one. 4.9 brokers say 0 for that while the first message is still there.
    pub committed: Option<u64>,
}

/// What a topic owes to a group, as far as offsets tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupBacklog {
    /// Every queue of the topic.
    pub topic: Vec<QueueOffsets>,
    /// Every queue of the group's retry topic; empty before the group's first retry.
    pub retry: Vec<QueueOffsets>,
}

impl QueueOffsets {
    /// Messages that the group has not passed.
    #[must_use]
    pub fn owed(&self) -> u64 {
        let passed = self.committed.unwrap_or(self.min).max(self.min);
        self.max.saturating_sub(passed)
    }
}

impl GroupBacklog {
    /// Messages that the group has not passed, retries included.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.topic
            .iter()
            .chain(&self.retry)
            .map(QueueOffsets::owed)
            .sum()
    }
}

impl Admin {
    /// One past the last message of a queue. 0 for an unknown topic or queue. It can lag behind a send's answer:
    /// see [`Self::wait_for_dispatch`].
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn max_offset(&self, address: &Arc<str>, topic: &str, queue: u32) -> Result<u64> {
        self.end_of(address, request::GET_MAX_OFFSET, topic, queue)
            .await
    }

    /// The first offset that a queue keeps. 0 for an unknown topic or queue.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn min_offset(&self, address: &Arc<str>, topic: &str, queue: u32) -> Result<u64> {
        self.end_of(address, request::GET_MIN_OFFSET, topic, queue)
            .await
    }

    async fn end_of(&self, address: &Arc<str>, code: i32, topic: &str, queue: u32) -> Result<u64> {
        let request = Request::new(code)
            .text("topic", topic)
            .field("queueId", queue);
        let answer = self
            .client
            .call(address, "offset of a queue", request)
            .await?;
        // An empty queue of 4.9 can say -1.
        let offset: i64 = answer.fields.number("offset")?;
        Ok(u64::try_from(offset).unwrap_or(0))
    }

    /// The offset that a group has committed; `None` when it has none. See [`QueueOffsets::committed`].
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn committed_offset(
        &self,
        address: &Arc<str>,
        group: &str,
        topic: &str,
        queue: u32,
    ) -> Result<Option<u64>> {
        let request = Request::new(request::QUERY_CONSUMER_OFFSET)
            .text("consumerGroup", group)
            .text("topic", topic)
            .field("queueId", queue)
            .text("setZeroIfNotFound", "false");
        let answer = self.client.call(address, "committed offset", request).await;
        match answer {
            // Some versions say -1 for "none".
            Ok(answer) => Ok(u64::try_from(answer.fields.number::<i64>("offset")?).ok()),
            Err(error) if error.code() == Some(response::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Commits an offset for a group, over any that it has.
    ///
    /// # Errors
    /// [`ErrorKind::Broker`] with [`response::SUBSCRIPTION_GROUP_NOT_EXIST`] for a group that a 5.x broker does not know;
    /// as [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// The offset may or may not be committed.
    pub async fn commit_offset(
        &self,
        address: &Arc<str>,
        group: &str,
        topic: &str,
        queue: u32,
        offset: u64,
    ) -> Result<()> {
        let request = Request::new(request::UPDATE_CONSUMER_OFFSET)
            .text("consumerGroup", group)
            .text("topic", topic)
            .field("queueId", queue)
            .field("commitOffset", offset);
        self.client
            .call(address, "commit of an offset", request)
            .await
            .map(drop)
    }

    /// Commits the first offset of every queue in which a group has none, so that it starts at the first message.
    /// `configs` is the topic's configuration from when it was open. The group must exist.
    ///
    /// # Errors
    /// As [`Self::backlog`] and [`Self::commit_offset`].
    ///
    /// # Cancellation
    /// Some queues may have their offset. Repeating the call is safe.
    pub async fn commit_first_offsets(&self, group: &str, configs: &TopicConfigs) -> Result<()> {
        let masters = self.masters().await?;
        for offsets in self.offsets(&masters, group, configs).await? {
            let MessageQueue {
                topic,
                broker,
                queue,
            } = &offsets.queue;
            let address = address_of(&masters, broker)?;
            let missing = match offsets.committed {
                None => true,
                // 4.9 brokers say 0 for "none".
                Some(0) => !self
                    .committed_in(address, group, topic)
                    .await?
                    .contains(queue),
                Some(_) => false,
            };
            if missing {
                self.commit_offset(address, group, topic, *queue, offsets.min)
                    .await?;
            }
        }
        Ok(())
    }

    /// In which of a broker's queues a group has an offset, by the broker's own table of all groups: 4.9 says 0 for "none" when it is asked for one.
    pub(super) async fn committed_in(
        &self,
        address: &Arc<str>,
        group: &str,
        topic: &str,
    ) -> Result<BTreeSet<u32>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            offset_table: BTreeMap<String, BTreeMap<u32, i64>>,
        }
        let request = Request::new(request::GET_ALL_CONSUMER_OFFSET);
        let mut body: Body = self.read(address, "committed offsets", request).await?;
        let queues = body.offset_table.remove(&format!("{topic}@{group}"));
        Ok(queues.unwrap_or_default().into_keys().collect())
    }

    /// What a topic owes to a group as far as offsets tell; [`Self::owed`] tells all. `configs` is the topic's configuration from when it was open.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when one of the brokers in `configs` is not known now; as [`Self::masters`] and
    /// [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn backlog(&self, group: &str, configs: &TopicConfigs) -> Result<GroupBacklog> {
        let masters = self.masters().await?;
        let retry = self.topic_configs(&format!("%RETRY%{group}")).await?;
        Ok(GroupBacklog {
            topic: self.offsets(&masters, group, configs).await?,
            retry: self.offsets(&masters, group, &retry).await?,
        })
    }

    /// One past the last message of every queue of a topic. It can lag behind sends: see [`Self::wait_for_dispatch`].
    ///
    /// # Errors
    /// As [`Self::backlog`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn ends(&self, configs: &TopicConfigs) -> Result<Vec<(MessageQueue, u64)>> {
        let masters = self.masters().await?;
        let mut questions = Vec::new();
        for (broker, config) in configs {
            let address = address_of(&masters, broker)?;
            let topic: Arc<str> = config.topic_name.as_str().into();
            for queue in 0..config.queues() {
                let queue = MessageQueue {
                    topic: Arc::clone(&topic),
                    broker: Arc::clone(broker),
                    queue,
                };
                let (admin, address) = (self.clone(), Arc::clone(address));
                questions.push(async move {
                    let end = admin
                        .max_offset(&address, &queue.topic, queue.queue)
                        .await?;
                    Ok((queue, end))
                });
            }
        }
        together(questions).await
    }

    async fn offsets(
        &self,
        masters: &[Master],
        group: &str,
        configs: &TopicConfigs,
    ) -> Result<Vec<QueueOffsets>> {
        let group: Arc<str> = group.into();
        let mut questions = Vec::new();
        for (broker, config) in configs {
            let address = address_of(masters, broker)?;
            let topic: Arc<str> = config.topic_name.as_str().into();
            for queue in 0..config.queues() {
                let queue = MessageQueue {
                    topic: Arc::clone(&topic),
                    broker: Arc::clone(broker),
                    queue,
                };
                let (admin, address, group) =
                    (self.clone(), Arc::clone(address), Arc::clone(&group));
                questions
                    .push(async move { admin.offsets_of_queue(&address, &group, queue).await });
            }
        }
        together(questions).await
    }

    async fn offsets_of_queue(
        &self,
        address: &Arc<str>,
        group: &str,
        queue: MessageQueue,
    ) -> Result<QueueOffsets> {
        let (topic, number) = (&queue.topic, queue.queue);
        // The committed offset first: what is handled in between makes the backlog look larger, never smaller.
        let committed = self.committed_offset(address, group, topic, number).await?;
        let min = self.min_offset(address, topic, number).await?;
        let max = self.max_offset(address, topic, number).await?;
        Ok(QueueOffsets {
            queue,
            min,
            max,
            committed,
        })
    }
}

pub(super) fn address_of<'a>(masters: &'a [Master], broker: &str) -> Result<&'a Arc<str>> {
    masters
        .iter()
        .find(|master| &*master.broker == broker)
        .map(|master| &master.address)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("broker {broker} is not known to the name server now"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owed_counts_from_the_committed_offset_or_the_first_kept() {
        let owed = |min, max, committed| {
            QueueOffsets {
                queue: MessageQueue {
                    topic: "t".into(),
                    broker: "b".into(),
                    queue: 0,
                },
                min,
                max,
                committed,
            }
            .owed()
        };
        assert_eq!(owed(0, 10, None), 10);
        assert_eq!(owed(4, 10, None), 6);
        assert_eq!(owed(4, 10, Some(2)), 6);
        assert_eq!(owed(4, 10, Some(7)), 3);
        assert_eq!(owed(4, 10, Some(10)), 0);
        assert_eq!(owed(4, 10, Some(12)), 0);
    }
}
