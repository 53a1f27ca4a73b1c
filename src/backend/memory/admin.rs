//! The administrative calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, check_queues, unknown},
    group::Group,
    topic::Topic,
};
use crate::{
    BoxFuture,
    backend::{
        BackendAdmin, Backlog, ConnectedClient, DelayLevels, GroupMembers, QueueBacklog, QueueId,
        TopicDescription, TopicSettings,
    },
    error::{Error, ErrorKind, Result},
    side::Access,
};

#[derive(Debug)]
pub(super) struct MemoryAdmin {
    cluster: Arc<Cluster>,
}

/// The group under which producers are listed.
const PRODUCER_GROUP: &str = "producers";

/// What [`TopicSettings::saved`] holds.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    queues: u32,
    message_type: Option<String>,
}

impl MemoryAdmin {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        MemoryAdmin { cluster }
    }

    fn known_topic(&self, name: &str, operation: &'static str) -> Result<Arc<Topic>> {
        let topic = self.cluster.topic(name);
        topic.ok_or_else(|| unknown("topic", name, operation))
    }

    fn known_group(&self, name: &str, operation: &'static str) -> Result<Arc<Group>> {
        let group = self.cluster.group(name);
        group.ok_or_else(|| unknown("group", name, operation))
    }

    fn describe(&self, topic: &Topic) -> TopicDescription {
        let (access, queues, message_type) = topic.describe();
        TopicDescription {
            settings: TopicSettings {
                queues,
                saved: serde_json::json!({ "queues": queues, "message_type": &message_type }),
            },
            access,
            disagreement: None,
            queues: (0..queues)
                .map(|queue| self.cluster.queue_id(queue))
                .collect(),
            message_type,
        }
    }

    /// Committed offsets are read before the ends: a message that a nack moves meanwhile is then owed once or twice, never not at all.
    fn count(&self, topic: &Topic, group: &Group) -> Backlog {
        // Before the ends, for the same reason.
        let half = topic.halves.count();
        let queues = topic.all();
        let now = Instant::now();
        let committed: Vec<_> = group
            .offsets(&topic.name, queues.len())
            .iter()
            .map(|offset| offset.get(now))
            .collect();
        let mut delayed = 0;
        let mut lines = Vec::with_capacity(queues.len());
        for (number, (queue, committed)) in (0..).zip(queues.iter().zip(committed)) {
            let (end, waiting) = queue.end_and_delayed(now);
            delayed += waiting;
            lines.push(self.line(number, end, committed));
        }
        let mut retry = Vec::new();
        if let Some(queue) = group.existing_retry_queue(&topic.name) {
            let committed = queue.committed.get(now);
            let (end, waiting) = queue.queue.end_and_delayed(now);
            delayed += waiting;
            retry.push(self.line(queue.number, end, committed));
        }
        let dead = self.cluster.topic(&format!("%DLQ%{}", group.name));
        let dead = dead.map(|topic| topic.all()).unwrap_or_default();
        let dead_letters = dead.iter().map(|queue| queue.end_and_delayed(now).0).sum();
        Backlog {
            queues: lines,
            retry,
            // Each topic has a retry queue of its own.
            retry_of_others: 0,
            delayed: Some(delayed),
            half: Some(half),
            dead_letters: Some(dead_letters),
        }
    }

    fn line(&self, queue: u32, end: u64, committed: Option<u64>) -> QueueBacklog {
        QueueBacklog {
            queue: self.cluster.queue_id(queue),
            min: 0,
            end,
            committed,
        }
    }
}

impl BackendAdmin for MemoryAdmin {
    fn brokers(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        let name = self.cluster.own_name();
        Box::pin(std::future::ready(Ok([name].into())))
    }

    fn delay_levels(&self) -> BoxFuture<'_, Result<BTreeMap<String, DelayLevels>>> {
        let config = &self.cluster.config;
        let levels = DelayLevels(config.retry_delays.clone());
        let each = (!levels.0.is_empty()).then(|| (config.broker.to_string(), levels));
        Box::pin(std::future::ready(Ok(each.into_iter().collect())))
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async move { Ok(self.cluster.topic_names()) })
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        Box::pin(async move {
            let topic = self.cluster.topic(topic);
            Ok(topic.map(|topic| self.describe(&topic)))
        })
    }

    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.cluster.create_topic(topic, queues).map(drop) })
    }

    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.cluster.delete_topic(topic);
            Ok(())
        })
    }

    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.cluster.create_group(group).map(drop) })
    }

    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.cluster.delete_group(group);
            Ok(())
        })
    }

    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.cluster.group(group).is_some()) })
    }

    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            self.known_topic(topic, "groups")?;
            let now = Instant::now();
            let groups = self.cluster.groups().into_iter();
            let groups = groups.filter(|group| group.knows(topic, now));
            Ok(groups.map(|group| group.name.to_string()).collect())
        })
    }

    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let topic = self.known_topic(topic, "set access")?;
            let saved = Saved::deserialize(&settings.saved).map_err(|error| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "set access",
                    "the saved settings are not those of an embedded cluster's topic",
                )
                .with_source(error)
            })?;
            check_queues(saved.queues)?;
            topic.configure(access, saved.queues, saved.message_type);
            self.cluster.rebalance(&topic.name);
            Ok(())
        })
    }

    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let topic = self.known_topic(topic, "commit first offsets")?;
            let group = self.cluster.create_group(group)?;
            for offset in group.offsets(&topic.name, topic.all().len()) {
                offset.commit_first(0);
            }
            Ok(())
        })
    }

    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>> {
        Box::pin(async move {
            let topic = self.known_topic(topic, "backlog")?;
            let group = self.known_group(group, "backlog")?;
            Ok(self.count(&topic, &group))
        })
    }

    fn ends<'a>(
        &'a self,
        topic: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>> {
        Box::pin(async move {
            let topic = self.known_topic(topic, "ends")?;
            let now = Instant::now();
            let queues = (0..).zip(topic.all());
            let ends = queues.map(|(number, queue)| {
                (self.cluster.queue_id(number), queue.end_and_delayed(now).0)
            });
            Ok(ends.collect())
        })
    }

    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>> {
        Box::pin(async move {
            let Some(group) = self.cluster.group(group) else {
                return Ok(GroupMembers::default());
            };
            let clients = group.client_ids().into_iter();
            let connected = |client_id| connected(client_id, &group.name);
            Ok(GroupMembers {
                clients: clients.map(connected).collect(),
                ..GroupMembers::default()
            })
        })
    }

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        Box::pin(async move {
            let clients = self.cluster.producers().into_iter();
            let listed = clients.map(|client_id| connected(client_id, PRODUCER_GROUP));
            Ok(Some(listed.collect()))
        })
    }
}

fn connected(client_id: String, group: &str) -> ConnectedClient {
    ConnectedClient {
        client_id,
        address: "memory".into(),
        group: group.into(),
        language: "RUST".into(),
        ..ConnectedClient::default()
    }
}
