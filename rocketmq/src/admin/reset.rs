//! Setting a group to another place of a topic, as `mqadmin resetOffsetByTime` does (apache/rocketmq `ResetOffsetByTimeCommand.java`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Admin, TopicConfig, offset::address_of};
use crate::{
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
    offset_table,
    route::MessageQueue,
};

/// Where a group is set in every queue of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reset {
    /// The first message that is kept.
    Earliest,
    /// Behind the last message.
    Latest,
    /// The first message that was stored at that time or later, to the millisecond. Brokers of 4.9 take the nearest one, which may be the one before, and any of those
    /// that were stored in the same millisecond (`ConsumeQueue.java`).
    At(SystemTime),
}

impl Reset {
    /// As brokers take it: milliseconds since 1970; below 0 is the end.
    fn timestamp(self) -> i64 {
        match self {
            Reset::Earliest => 0,
            Reset::Latest => -1,
            Reset::At(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
        }
    }
}

/// One group and topic on one broker.
struct Place<'a> {
    address: &'a Arc<str>,
    broker: &'a Arc<str>,
    config: &'a TopicConfig,
    group: &'a str,
    topic: Arc<str>,
}

impl Admin {
    /// Sets a group to another place in every queue of a topic, forwards or backwards, and answers where that is. Its retries and other groups stay as they are.
    ///
    /// What brokers do (`AdminBrokerProcessor.java`, `Broker2Client.java`):
    /// - 5.x by default, and any broker while no member is online: the offset is committed at once. On 5.x members that are online hear of it with their next
    ///   pull, which a broker may hold for 20 s while nothing new comes.
    /// - 4.9, and 5.x with `useServerSideResetOffset=false`, while members are online: the broker tells the members, and each begins its queues anew and commits;
    ///   a Java client within about 10 s. A member that does not know how, and a queue that changes hands at that moment, stay as they are: look at what is
    ///   committed afterwards, and repeat the call.
    ///
    /// What members have been handed and not acked may be handled as well as handed out again.
    ///
    /// # Errors
    /// [`ErrorKind::TopicNotFound`]; [`ErrorKind::Sealed`] for a topic without queues; [`ErrorKind::Broker`] with
    /// [`response::SUBSCRIPTION_GROUP_NOT_EXIST`] for a group that a 5.x broker does not know; as [`Self::masters`] and
    /// [`Client::call`](crate::Client::call). Brokers before the one that failed are set.
    ///
    /// # Cancellation
    /// Some queues may be set. Repeating the call is safe.
    pub async fn reset_offsets(
        &self,
        group: &str,
        topic: &str,
        to: Reset,
    ) -> Result<BTreeMap<MessageQueue, u64>> {
        let masters = self.masters().await?;
        let configs = self.topic_configs(topic).await?;
        if configs.is_empty() {
            let why = format!("no broker has topic {topic}");
            return Err(Error::new(ErrorKind::TopicNotFound, why));
        }
        if configs.values().all(|config| config.queues() == 0) {
            let why = format!("topic {topic} has no queues now: it is sealed, and no group is set");
            return Err(Error::new(ErrorKind::Sealed, why));
        }
        let mut set = BTreeMap::new();
        for (broker, config) in &configs {
            // What brokers say to that is no more than that there is nothing to set.
            if config.queues() == 0 {
                continue;
            }
            let place = Place {
                address: address_of(&masters, broker)?,
                broker,
                config,
                group,
                topic: topic.into(),
            };
            set.extend(self.reset_at(&place, to).await?);
        }
        Ok(set)
    }

    async fn reset_at(&self, place: &Place<'_>, to: Reset) -> Result<BTreeMap<MessageQueue, u64>> {
        let mut told = self.tell_broker(place, to).await;
        if told.as_ref().is_err_and(lacks_an_offset) {
            let Place {
                address,
                group,
                topic,
                ..
            } = place;
            let committed = self.committed_in(address, group, topic).await?;
            self.commit_reset(place, to, &committed).await?;
            told = self.tell_broker(place, to).await;
        }
        match told {
            Err(error) if error.code() == Some(response::CONSUMER_NOT_ONLINE) => {
                self.commit_reset(place, to, &BTreeSet::new()).await
            }
            told => told,
        }
    }

    /// `ResetOffsetRequestHeader.java`.
    async fn tell_broker(
        &self,
        place: &Place<'_>,
        to: Reset,
    ) -> Result<BTreeMap<MessageQueue, u64>> {
        let request = Request::new(request::INVOKE_BROKER_TO_RESET_OFFSET)
            .text("topic", &place.topic)
            .text("group", place.group)
            .field("timestamp", to.timestamp())
            // Forwards, too.
            .text("isForce", "true");
        let call = self.client.call(place.address, "reset of offsets", request);
        offset_table::parse(&call.await?.body).map_err(|error| error.with_address(place.address))
    }

    /// Commits in every queue `but` some.
    async fn commit_reset(
        &self,
        place: &Place<'_>,
        to: Reset,
        but: &BTreeSet<u32>,
    ) -> Result<BTreeMap<MessageQueue, u64>> {
        let Place {
            address,
            broker,
            config,
            group,
            topic,
        } = place;
        let mut set = BTreeMap::new();
        for queue in (0..config.queues()).filter(|queue| !but.contains(queue)) {
            let offset = match to {
                Reset::Earliest => self.min_offset(address, topic, queue).await?,
                Reset::Latest => self.max_offset(address, topic, queue).await?,
                Reset::At(_) => self.offset_at(address, topic, queue, to).await?,
            };
            self.commit_offset(address, group, topic, queue, offset)
                .await?;
            let queue = MessageQueue {
                topic: Arc::clone(topic),
                broker: Arc::clone(broker),
                queue,
            };
            set.insert(queue, offset);
        }
        Ok(set)
    }

    /// Where a queue was at that time, as the broker tells it, within what the queue holds: for an empty queue brokers may say 0.
    async fn offset_at(
        &self,
        address: &Arc<str>,
        topic: &str,
        queue: u32,
        to: Reset,
    ) -> Result<u64> {
        let request = Request::new(request::SEARCH_OFFSET_BY_TIMESTAMP)
            .text("topic", topic)
            .field("queueId", queue)
            .field("timestamp", to.timestamp());
        let operation = "search of an offset by time";
        let answer = self.client.call(address, operation, request).await?;
        let offset: i64 = answer.fields.number("offset")?;
        let min = self.min_offset(address, topic, queue).await?;
        let max = self.max_offset(address, topic, queue).await?;
        Ok(u64::try_from(offset).unwrap_or(0).min(max).max(min))
    }
}

/// `Broker2Client.resetOffset` gives up at the first queue in which the group has never committed, though the group be online.
fn lacks_an_offset(error: &Error) -> bool {
    error.code() == Some(response::SYSTEM_ERROR)
        && error.message().contains("consumer group <")
        && error.message().contains("not exist")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_told_by_time_and_the_end_by_a_time_that_was_never() {
        for (to, timestamp) in [
            (Reset::Earliest, 0),
            (Reset::Latest, -1),
            (Reset::At(UNIX_EPOCH + Duration::from_millis(1_700)), 1_700),
            (Reset::At(UNIX_EPOCH - Duration::from_secs(1)), 0),
        ] {
            assert_eq!(to.timestamp(), timestamp, "{to:?}");
        }
    }
}
