//! The administrative calls.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade_rocketmq::{
    Admin, Error as ClientError, Namespace,
    admin::{
        GroupConfig, Owed, QueueOffsets, TopicAccess, TopicConfig, TopicConfigs, grown, widened,
    },
};

use super::{error::convert, producer::queue_id};
use crate::{
    BoxFuture,
    backend::{
        BackendAdmin, Backlog, ConnectedClient, DelayLevels, GroupMembers, MayGoOn, QueueBacklog,
        QueueId, TopicDescription, TopicSettings,
    },
    error::{Error, ErrorKind, Result},
    side::Access,
};

/// RocketMQ 5's attribute for what a topic is for.
const MESSAGE_TYPE: &str = "message.type";
/// What a topic takes that declares nothing (apache/rocketmq `TopicAttributes.java`).
const UNDECLARED: &str = "NORMAL";
/// The attribute of a 5.x topic, and its value, by which a batch is kept as one message: those are not read.
const QUEUE_TYPE: &str = "queue.type";
const BATCH_QUEUES: &str = "BatchCQ";
/// How long a backlog waits for the brokers' dispatch.
const DISPATCH_TIMEOUT: Duration = Duration::from_secs(10);
const BACKLOG: &str = "read a backlog";

#[derive(Debug)]
pub(super) struct RocketmqAdmin {
    admin: Admin,
    namespace: Namespace,
}

impl RocketmqAdmin {
    pub(super) fn new(admin: &Admin, namespace: &Namespace) -> Self {
        RocketmqAdmin {
            admin: admin.clone(),
            namespace: namespace.clone(),
        }
    }
}

impl RocketmqAdmin {
    /// The queues in which the topic, by the brokers' name, may have messages now.
    async fn queues(
        &self,
        operation: &'static str,
        topic: &str,
        settings: &TopicSettings,
    ) -> Result<TopicConfigs> {
        let saved = saved(operation, topic, settings)?;
        let now = self.admin.topic_configs(topic).await;
        Ok(widened(&saved, &now.map_err(failed(operation))?))
    }
}

impl BackendAdmin for RocketmqAdmin {
    fn brokers(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        Box::pin(async {
            let masters = self.admin.masters().await;
            let masters = masters.map_err(failed("list the brokers"))?.into_iter();
            Ok(masters
                .map(|master| format!("{} {}", master.broker, master.address))
                .collect())
        })
    }

    fn delay_levels(&self) -> BoxFuture<'_, Result<BTreeMap<String, DelayLevels>>> {
        Box::pin(async {
            let levels = self.admin.delay_levels().await;
            let levels = levels.map_err(failed("read the delay levels"))?.into_iter();
            Ok(levels
                .map(|(master, delays)| (master.broker.to_string(), DelayLevels(delays)))
                .collect())
        })
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async {
            let topics = self.admin.topics().await.map_err(failed("list topics"))?;
            let inside = topics
                .iter()
                .filter_map(|topic| self.namespace.unwrap(topic));
            Ok(inside.map(Cow::into_owned).collect())
        })
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        Box::pin(async move {
            let configs = self.admin.topic_configs(&self.namespace.wrap(topic)).await;
            let configs = configs.map_err(failed("describe a topic"))?;
            if configs.is_empty() {
                return Ok(None);
            }
            describe(topic, &configs).map(Some)
        })
    }

    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let config = TopicConfig::new(&self.namespace.wrap(topic), queues);
            self.admin
                .create_topic(&config)
                .await
                .map_err(failed("create a topic"))
        })
    }

    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.admin
                .delete_topic(&self.namespace.wrap(topic))
                .await
                .map_err(failed("delete a topic"))
        })
    }

    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let config = GroupConfig::new(&self.namespace.wrap(group));
            self.admin
                .create_group(&config)
                .await
                .map_err(failed("create a group"))
        })
    }

    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.admin
                .delete_group(&self.namespace.wrap(group))
                .await
                .map_err(failed("delete a group"))
        })
    }

    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.admin
                .group_exists(&self.namespace.wrap(group))
                .await
                .map_err(failed("find a group"))
        })
    }

    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            const OPERATION: &str = "list groups";
            let groups = self
                .admin
                .groups_of_topic(&self.namespace.wrap(topic))
                .await;
            let groups = groups.map_err(failed(OPERATION))?;
            let inside = groups.iter().map(|group| {
                // No name would stand for it: what is owed to it could not be asked for.
                self.namespace.unwrap(group).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unsupported,
                        OPERATION,
                        format!(
                            "group {group} reads topic {topic} from outside the namespace: let its members leave and delete it, or give it the namespace"
                        ),
                    )
                })
            });
            inside.map(|group| group.map(Cow::into_owned)).collect()
        })
    }

    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        self.set_access_while(topic, settings, access, &always)
    }

    fn set_access_while<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
        may_go_on: &'a MayGoOn,
    ) -> BoxFuture<'a, Result<()>> {
        const OPERATION: &str = "change a topic's access";
        Box::pin(async move {
            let configs = saved(OPERATION, &self.namespace.wrap(topic), settings)?;
            let access = match access {
                Access::Open => TopicAccess::Open,
                Access::Closed => TopicAccess::Closed,
                Access::Sealed => TopicAccess::Sealed,
            };
            self.admin
                .set_topic_access_while(&configs, access, may_go_on)
                .await
                .map_err(failed(OPERATION))
        })
    }

    fn grown(
        &self,
        topic: &str,
        before: &TopicSettings,
        now: &TopicDescription,
    ) -> Result<Option<TopicSettings>> {
        const OPERATION: &str = "compare a topic's settings";
        let topic = self.namespace.wrap(topic);
        let before = saved(OPERATION, &topic, before)?;
        let own = grown(&before, &saved(OPERATION, &topic, &now.settings)?);
        if own == before {
            return Ok(None);
        }
        settings(OPERATION, &own).map(Some)
    }

    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>> {
        const OPERATION: &str = "commit first offsets";
        Box::pin(async move {
            let configs = saved(OPERATION, &self.namespace.wrap(topic), settings)?;
            self.create_group(group).await?;
            self.admin
                .commit_first_offsets(&self.namespace.wrap(group), &configs)
                .await
                .map_err(failed(OPERATION))
        })
    }

    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>> {
        Box::pin(async move {
            let groups = [Arc::from(group)];
            let mut backlogs = self.backlogs(topic, &groups, settings).await?;
            backlogs.remove(group).ok_or_else(|| {
                Error::new(
                    ErrorKind::Unexpected,
                    BACKLOG,
                    "the group was not asked for",
                )
            })
        })
    }

    /// One look for all groups: what waits on the brokers is read once.
    fn backlogs<'a>(
        &'a self,
        topic: &'a str,
        groups: &'a [Arc<str>],
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<Arc<str>, Backlog>>> {
        Box::pin(async move {
            let topic = self.namespace.wrap(topic);
            let wrapped = groups.iter().map(|group| self.namespace.wrap(group).into());
            let wrapped: Vec<Arc<str>> = wrapped.collect();
            let configs = self.queues(BACKLOG, &topic, settings).await?;
            let owed = self
                .admin
                .owed(&topic, &wrapped, &configs, DISPATCH_TIMEOUT)
                .await
                .map_err(failed(BACKLOG))?;
            let each = groups.iter().zip(&wrapped);
            Ok(each
                .filter_map(|(group, wrapped)| {
                    Some((Arc::clone(group), backlog(owed.get(wrapped)?)))
                })
                .collect())
        })
    }

    fn ends<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>> {
        const OPERATION: &str = "read the ends of a topic";
        Box::pin(async move {
            let topic = self.namespace.wrap(topic);
            let configs = self.queues(OPERATION, &topic, settings).await?;
            let reading = async {
                self.admin.wait_for_dispatch(DISPATCH_TIMEOUT).await?;
                self.admin.ends(&configs).await
            };
            let ends = reading.await.map_err(failed(OPERATION))?;
            let ends = ends.into_iter();
            Ok(ends
                .map(|(queue, end)| (queue_id(&queue.broker, queue.queue), end))
                .collect())
        })
    }

    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>> {
        Box::pin(async move {
            let consumers = self.admin.consumers(&self.namespace.wrap(group)).await;
            let consumers = consumers.map_err(failed("list a group's clients"))?;
            let clients = consumers.members.into_iter().map(|member| ConnectedClient {
                version: version_name(member.version),
                client_id: member.client_id,
                address: member.address,
                group: group.to_owned(),
                language: member.language,
                last_seen_ms: None,
            });
            Ok(GroupMembers {
                clients: clients.collect(),
                broadcasting: consumers.broadcasting,
                pop: consumers.pop,
            })
        })
    }

    fn pops<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let (topic, group) = (self.namespace.wrap(topic), self.namespace.wrap(group));
            let pops = self.admin.pops(&topic, &group).await;
            pops.map_err(failed("find out how a group takes messages"))
        })
    }

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        Box::pin(async move {
            let producers = self.admin.all_producers().await;
            let producers = producers.map_err(failed("list producers"))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_millis());
            let members = producers
                .into_iter()
                .flat_map(|(group, members)| members.into_iter().map(move |m| (group.clone(), m)));
            let mut clients: Vec<_> = members
                .map(|(group, member)| ConnectedClient {
                    client_id: member.client_id,
                    address: member.address,
                    group: self
                        .namespace
                        .unwrap(&group)
                        .map_or_else(|| group.clone(), Cow::into_owned),
                    last_seen_ms: u128::try_from(member.last_update_ms)
                        .ok()
                        .and_then(|seen| u64::try_from(now.saturating_sub(seen)).ok()),
                    ..ConnectedClient::default()
                })
                .collect();
            clients.sort();
            Ok(Some(clients))
        })
    }
}

fn always() -> BoxFuture<'static, bool> {
    Box::pin(ready(true))
}

fn failed(operation: &'static str) -> impl Fn(ClientError) -> Error {
    move |error| convert(operation, ErrorKind::InvalidConfig, error)
}

fn describe(topic: &str, configs: &TopicConfigs) -> Result<TopicDescription> {
    const OPERATION: &str = "describe a topic";
    let each: BTreeMap<&str, Access> = configs
        .iter()
        .map(|(broker, config)| (&**broker, access(config)))
        .collect();
    let distinct: BTreeSet<Access> = each.values().copied().collect();
    let disagreement = (distinct.len() > 1).then(|| {
        let each = each
            .iter()
            .map(|(broker, access)| format!("{broker}: {access}"));
        format!(
            "the brokers disagree about what topic {topic} lets clients do: {}",
            each.collect::<Vec<_>>().join(", ")
        )
    });
    let queues = configs
        .iter()
        .flat_map(|(broker, config)| {
            (0..config.read_queues).map(move |queue| queue_id(broker, queue))
        })
        .collect();
    Ok(TopicDescription {
        settings: settings(OPERATION, configs)?,
        // `Open` is the first: a topic is as open as its most open broker.
        access: distinct.into_iter().next().unwrap_or(Access::Open),
        disagreement,
        queues,
        message_type: message_type(configs),
    })
}

/// What its brokers say that the topic takes; where they say several things, all of them.
fn message_type(configs: &TopicConfigs) -> Option<String> {
    let declared = |config: &TopicConfig| {
        let attribute = |name| config.attributes.get(name).map(String::as_str);
        match attribute(QUEUE_TYPE) {
            Some(BATCH_QUEUES) => Some(BATCH_QUEUES),
            _ => attribute(MESSAGE_TYPE),
        }
        .map(str::to_owned)
    };
    let mut kinds: BTreeSet<Option<String>> = configs.values().map(declared).collect();
    if kinds.len() > 1 && kinds.remove(&None) {
        kinds.insert(Some(UNDECLARED.to_owned()));
    }
    let kinds: Vec<String> = kinds.into_iter().flatten().collect();
    (!kinds.is_empty()).then(|| kinds.join(" and "))
}

fn settings(operation: &'static str, configs: &TopicConfigs) -> Result<TopicSettings> {
    let saved = serde_json::to_value(configs).map_err(|source| {
        Error::new(ErrorKind::Unexpected, operation, source.to_string()).with_source(source)
    })?;
    Ok(TopicSettings {
        queues: configs.values().map(TopicConfig::queues).sum(),
        saved,
    })
}

fn access(config: &TopicConfig) -> Access {
    match config.access() {
        TopicAccess::Open => Access::Open,
        TopicAccess::Closed => Access::Closed,
        TopicAccess::Sealed => Access::Sealed,
    }
}

/// Ordinals of apache/rocketmq `MQVersion.java`: from 4.0.0 on each version has two, the first for its snapshots.
fn version_name(ordinal: i32) -> String {
    const FOUR: i32 = 212;
    const LAST: i32 = FOUR + 2 * 200;
    if !(FOUR..LAST).contains(&ordinal) {
        return format!("ordinal {ordinal}");
    }
    let (number, released) = ((ordinal - FOUR) / 2, (ordinal - FOUR) % 2 == 1);
    let version = format!("{}.{}.{}", 4 + number / 100, number / 10 % 10, number % 10);
    if released {
        version
    } else {
        format!("{version}-SNAPSHOT")
    }
}

fn saved(operation: &'static str, topic: &str, settings: &TopicSettings) -> Result<TopicConfigs> {
    let wrong = |why: String| {
        Error::new(
            ErrorKind::InvalidConfig,
            operation,
            format!("the saved settings of topic {topic} {why}"),
        )
    };
    let configs: TopicConfigs = serde_json::from_value(settings.saved.clone())
        .map_err(|source| wrong(format!("are not RocketMQ's: {source}")).with_source(source))?;
    match configs.values().find(|config| config.topic_name != topic) {
        Some(other) => Err(wrong(format!("are those of topic {}", other.topic_name))),
        None => Ok(configs),
    }
}

fn backlog(owed: &Owed) -> Backlog {
    Backlog {
        queues: owed.offsets.topic.iter().map(queue).collect(),
        retry: owed.offsets.retry.iter().map(queue).collect(),
        retry_of_others: owed.retry_of_others,
        delayed: Some(owed.delayed.saturating_add(owed.timers)),
        half: Some(owed.half),
        dead_letters: Some(owed.dead_letters),
    }
}

fn queue(offsets: &QueueOffsets) -> QueueBacklog {
    QueueBacklog {
        queue: queue_id(&offsets.queue.broker, offsets.queue.queue),
        min: offsets.min,
        end: offsets.max,
        committed: offsets.committed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_their_names() {
        for (ordinal, name) in [
            (213, "4.0.0"),
            (407, "4.9.7"),
            (406, "4.9.7-SNAPSHOT"),
            (413, "5.0.0"),
            (513, "5.5.0"),
            (15, "ordinal 15"),
            (612, "ordinal 612"),
        ] {
            assert_eq!(version_name(ordinal), name);
        }
    }

    #[test]
    fn what_a_topic_takes_is_what_all_its_brokers_say() {
        type Attributes<'a> = &'a [(&'a str, &'a str)];
        type Row<'a> = (&'a [Attributes<'a>], Option<&'a str>);
        let (fifo, normal, batch) = (
            &[(MESSAGE_TYPE, "FIFO")][..],
            &[(MESSAGE_TYPE, "NORMAL")][..],
            &[(QUEUE_TYPE, BATCH_QUEUES), (MESSAGE_TYPE, "NORMAL")][..],
        );
        let simple = &[(QUEUE_TYPE, "SimpleCQ")][..];
        let rows: [Row<'_>; 8] = [
            (&[], None),
            (&[&[], simple], None),
            (&[fifo, fifo], Some("FIFO")),
            (&[normal, &[]], Some("NORMAL")),
            (&[normal, fifo], Some("FIFO and NORMAL")),
            (&[&[], fifo], Some("FIFO and NORMAL")),
            (&[batch, batch], Some("BatchCQ")),
            (&[batch, normal], Some("BatchCQ and NORMAL")),
        ];
        for (brokers, says) in rows {
            let configs: TopicConfigs = (0..)
                .zip(brokers)
                .map(|(number, attributes)| {
                    let mut config = TopicConfig::new("t", 1);
                    let each = attributes.iter();
                    let each = each.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                    config.attributes.extend(each);
                    (format!("b{number}").into(), config)
                })
                .collect();
            assert_eq!(message_type(&configs).as_deref(), says, "{brokers:?}");
        }
    }

    #[tokio::test]
    async fn what_a_topic_has_got_since_it_was_saved_is_told() {
        let client = crossfade_rocketmq::Client::new(crossfade_rocketmq::ClientOptions::new(
            ["127.0.0.1:1"],
            "test",
        ));
        let admin = RocketmqAdmin::new(&Admin::new(&client.unwrap()), &Namespace::default());
        let on = |brokers: &[(&str, u32)]| {
            let each = brokers.iter();
            let configs: TopicConfigs = each
                .map(|(broker, queues)| ((*broker).into(), TopicConfig::new("t", *queues)))
                .collect();
            describe("t", &configs).unwrap()
        };
        let saved = on(&[("a", 4)]).settings;
        for now in [on(&[("a", 4)]), on(&[("a", 2)]), on(&[])] {
            assert_eq!(admin.grown("t", &saved, &now).unwrap(), None);
        }
        let now = on(&[("a", 6), ("b", 3)]);
        let grown = admin.grown("t", &saved, &now).unwrap();
        assert_eq!(grown, Some(now.settings));
    }

    #[test]
    fn a_topic_is_as_open_as_its_most_open_broker_and_says_who_disagrees() {
        let open = TopicConfig::new("t", 4);
        let configs: TopicConfigs = [
            ("a".into(), open.with_access(TopicAccess::Sealed)),
            ("b".into(), open.with_access(TopicAccess::Closed)),
        ]
        .into();
        let described = describe("t", &configs).unwrap();
        assert_eq!(described.access, Access::Closed);
        assert!(described.disagreement.unwrap().contains("a: sealed"));
        let one: TopicConfigs = [("a".into(), open)].into();
        let described = describe("t", &one).unwrap();
        assert_eq!(
            (described.access, described.disagreement),
            (Access::Open, None)
        );
    }
}
