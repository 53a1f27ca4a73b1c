//! The administrative calls, passed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::layer::{Layer, Layered};
use crate::{
    BoxFuture,
    backend::{
        BackendAdmin, Backlog, ConnectedClient, DelayLevels, GroupMembers, QueueId,
        TopicDescription, TopicSettings,
    },
    error::Result,
    side::Access,
};

impl<L: Layer> Layered<L, dyn BackendAdmin> {
    fn then<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: impl FnOnce(&'a dyn BackendAdmin) -> BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        self.layer.around(operation, call(&*self.inner))
    }
}

impl<L: Layer> BackendAdmin for Layered<L, dyn BackendAdmin> {
    fn brokers(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        self.then("brokers", |admin| admin.brokers())
    }

    fn delay_levels(&self) -> BoxFuture<'_, Result<BTreeMap<String, DelayLevels>>> {
        self.then("delay levels", |admin| admin.delay_levels())
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.then("topics", |admin| admin.topics())
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        Box::pin(async move {
            let described = self.then("topic", |admin| admin.topic(topic)).await?;
            Ok(described.map(|topic| self.layer.described(topic)))
        })
    }

    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>> {
        self.then("create topic", move |admin| {
            admin.create_topic(topic, queues)
        })
    }

    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>> {
        self.then("delete topic", move |admin| admin.delete_topic(topic))
    }

    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        self.then("create group", move |admin| admin.create_group(group))
    }

    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        self.then("delete group", move |admin| admin.delete_group(group))
    }

    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.then("group exists", move |admin| admin.group_exists(group))
    }

    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        self.then("groups", move |admin| admin.groups(topic))
    }

    /// No question to the cluster.
    fn grown(
        &self,
        topic: &str,
        saved: &TopicSettings,
        now: &TopicDescription,
    ) -> Result<Option<TopicSettings>> {
        self.inner.grown(topic, saved, now)
    }

    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        self.layer.set_access(&self.inner, topic, settings, access)
    }

    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>> {
        self.then("commit first offsets", move |admin| {
            admin.commit_first_offsets(topic, group, settings)
        })
    }

    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>> {
        Box::pin(async move {
            let counting = self.then("backlog", |admin| admin.backlog(topic, group, settings));
            Ok(self.layer.counted(counting.await?))
        })
    }

    fn backlogs<'a>(
        &'a self,
        topic: &'a str,
        groups: &'a [Arc<str>],
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<Arc<str>, Backlog>>> {
        Box::pin(async move {
            let counting = self.then("backlog", |admin| admin.backlogs(topic, groups, settings));
            let counted = counting.await?.into_iter();
            Ok(counted
                .map(|(group, backlog)| (group, self.layer.counted(backlog)))
                .collect())
        })
    }

    fn ends<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>> {
        self.then("ends", move |admin| admin.ends(topic, settings))
    }

    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>> {
        self.then("members", move |admin| admin.members(group))
    }

    fn pops<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.then("pops", move |admin| admin.pops(topic, group))
    }

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        self.then("producers", |admin| admin.producers())
    }
}
