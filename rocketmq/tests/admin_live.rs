//! Administrative calls against real brokers: `scripts/rocketmq up`, then the environment from `.clusters/env`.
#![allow(clippy::print_stdout)]

use std::{
    env,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Command, DelayLevel, ErrorKind, Message, Persisted, Producer,
    ProducerOptions, Request,
    admin::{GroupConfig, Master, TopicAccess, TopicConfig},
    codes::{request, response},
};

const QUEUES: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(5);

/// One of the two clusters.
struct Cluster {
    client: Client,
    admin: Admin,
    master: Master,
    /// Different in every run.
    stamp: u128,
    servers: Vec<String>,
}

/// Both clusters, or none where there are none.
async fn clusters(test: &str) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for name in ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"] {
        let Ok(address) = env::var(name) else {
            let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
            assert!(
                !forbidden,
                "{test}: no broker ({name}), and nothing may be skipped"
            );
            println!("skipped: {test}: no broker ({name})");
            return Vec::new();
        };
        let address = address.strip_prefix("rocketmq://").expect("rocketmq://");
        let servers = address.split('?').next().unwrap_or_default();
        let servers: Vec<String> = servers.split(';').map(str::to_owned).collect();
        let stamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let options = ClientOptions::new(servers.clone(), format!("{test}-{stamp}"));
        let client = Client::new(options).unwrap();
        let admin = Admin::new(&client);
        let master = admin.masters().await.unwrap().remove(0);
        clusters.push(Cluster {
            client,
            admin,
            master,
            stamp,
            servers,
        });
    }
    clusters
}

impl Cluster {
    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.stamp)
    }

    /// Whether its brokers are of 5.x.
    async fn is_of_5(&self) -> bool {
        let info = self.admin.runtime_info(&self.master.address).await.unwrap();
        info["brokerVersionDesc"].starts_with("V5")
    }

    async fn topic(&self, what: &str) -> String {
        let topic = self.name(what);
        let config = TopicConfig::new(&topic, QUEUES);
        self.admin.create_topic(&config).await.unwrap();
        topic
    }

    async fn send(&self, topic: &str, count: u64) {
        let producer = Producer::new(&self.client, topic, ProducerOptions::default())
            .await
            .unwrap();
        for lane in 0..count {
            let message = Message::new(Bytes::from_static(b"x"));
            producer.send(&message, lane, TIMEOUT).await.unwrap();
        }
        self.admin.wait_for_dispatch(TIMEOUT).await.unwrap();
    }

    async fn pull(&self, topic: &str, group: &str) -> Command {
        let request = Request::new(request::PULL_MESSAGE)
            .text("consumerGroup", group)
            .text("topic", topic)
            .text("queueId", "0")
            .text("queueOffset", "0")
            .text("maxMsgNums", "32")
            .text("sysFlag", "4")
            .text("commitOffset", "0")
            .text("suspendTimeoutMillis", "0")
            .text("subscription", "*")
            .text("subVersion", "0")
            .text("expressionType", "TAG");
        let address = &self.master.address;
        self.client.invoke(address, request, TIMEOUT).await.unwrap()
    }

    async fn delete(&self, topic: &str, groups: &[&str]) {
        for group in groups {
            self.admin.delete_group(group).await.unwrap();
        }
        self.admin.delete_topic(topic).await.unwrap();
    }
}

#[tokio::test]
async fn a_created_topic_is_listed_described_and_deleted() {
    for cluster in clusters("a_created_topic_is_listed_described_and_deleted").await {
        let Cluster { admin, .. } = &cluster;
        let topic = cluster.name("described");
        assert!(admin.topic_configs(&topic).await.unwrap().is_empty());

        let mut config = TopicConfig::new(&topic, QUEUES);
        config.write_queues = 3;
        admin.create_topic(&config).await.unwrap();
        // The second call leaves the topic as it is.
        admin
            .create_topic(&TopicConfig::new(&topic, 9))
            .await
            .unwrap();

        let configs = admin.topic_configs(&topic).await.unwrap();
        assert_eq!(configs.get(&cluster.master.broker), Some(&config));
        let topics = admin.topics().await.unwrap();
        assert!(topics.contains(&topic));
        let internal = |topic: &&String| {
            topic.starts_with('%') || topic.contains("RMQ_SYS") || *topic == "TBW102"
        };
        assert_eq!(topics.iter().find(internal), None);

        admin.delete_topic(&topic).await.unwrap();
        admin.delete_topic(&topic).await.unwrap();
        assert!(admin.topic_configs(&topic).await.unwrap().is_empty());
        assert!(!admin.topics().await.unwrap().contains(&topic));
        let error = cluster.client.route(&topic).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TopicNotFound);
    }
}

#[tokio::test]
async fn attributes_survive_a_seal_on_brokers_that_have_them() {
    for cluster in clusters("attributes_survive_a_seal_on_brokers_that_have_them").await {
        let admin = &cluster.admin;
        let topic = cluster.name("typed");
        let mut config = TopicConfig::new(&topic, QUEUES);
        let attribute = ("message.type".to_owned(), "FIFO".to_owned());
        config.attributes.extend([attribute.clone()]);
        admin.create_topic(&config).await.unwrap();
        let saved = admin.topic_configs(&topic).await.unwrap();
        let stored = &saved[&cluster.master.broker].attributes;
        // 4.9 knows no attributes.
        let expected = cluster.is_of_5().await.then_some(attribute);
        assert_eq!(*stored, expected.into_iter().collect());

        admin
            .set_topic_access(&saved, TopicAccess::Sealed)
            .await
            .unwrap();
        admin
            .set_topic_access(&saved, TopicAccess::Open)
            .await
            .unwrap();
        assert_eq!(admin.topic_configs(&topic).await.unwrap(), saved);
        cluster.delete(&topic, &[]).await;
    }
}

#[tokio::test]
async fn a_sealed_topic_refuses_sends_and_pulls_and_keeps_its_offsets() {
    for cluster in clusters("a_sealed_topic_refuses_sends_and_pulls_and_keeps_its_offsets").await {
        let Cluster { admin, master, .. } = &cluster;
        let topic = cluster.topic("sealed").await;
        let group = cluster.name("sealed-group");
        admin.create_group(&GroupConfig::new(&group)).await.unwrap();
        let saved = admin.topic_configs(&topic).await.unwrap();
        cluster.send(&topic, 10).await;
        let address = &master.address;
        admin
            .commit_offset(address, &group, &topic, 0, 2)
            .await
            .unwrap();
        let before = admin.backlog(&group, &saved).await.unwrap();
        assert_eq!(before.owed(), 8);
        assert_eq!(cluster.pull(&topic, &group).await.code, response::SUCCESS);

        let producer = Producer::new(&cluster.client, &topic, ProducerOptions::default())
            .await
            .unwrap();
        admin
            .set_topic_access(&saved, TopicAccess::Sealed)
            .await
            .unwrap();
        let now = admin.topic_configs(&topic).await.unwrap();
        assert_eq!(now[&master.broker].access(), TopicAccess::Sealed);
        for lane in 0..u64::from(QUEUES) {
            let message = Message::new(Bytes::from_static(b"late"));
            let error = producer.send(&message, lane, TIMEOUT).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Sealed);
            assert_eq!(error.persisted(), Persisted::No);
        }
        assert_ne!(cluster.pull(&topic, &group).await.code, response::SUCCESS);
        assert_eq!(admin.backlog(&group, &saved).await.unwrap(), before);

        // Under the seal a group can still be moved on, and a new one begun.
        for queue in &before.topic {
            let number = queue.queue.queue;
            let commit = admin.commit_offset(address, &group, &topic, number, queue.max);
            commit.await.unwrap();
        }
        assert_eq!(admin.backlog(&group, &saved).await.unwrap().owed(), 0);
        let late = cluster.name("late-group");
        admin.create_group(&GroupConfig::new(&late)).await.unwrap();
        admin.commit_first_offsets(&late, &saved).await.unwrap();
        let backlog = admin.backlog(&late, &saved).await.unwrap();
        assert!(backlog.topic.iter().all(|queue| queue.committed == Some(0)));
        assert_eq!(backlog.owed(), 10);

        admin
            .set_topic_access(&saved, TopicAccess::Open)
            .await
            .unwrap();
        assert_eq!(admin.topic_configs(&topic).await.unwrap(), saved);
        assert_eq!(cluster.pull(&topic, &group).await.code, response::SUCCESS);
        cluster.send(&topic, 4).await;
        assert_eq!(admin.backlog(&group, &saved).await.unwrap().owed(), 4);
        cluster.delete(&topic, &[&group, &late]).await;
    }
}

#[tokio::test]
async fn a_closed_topic_says_so_in_its_route_and_can_be_read() {
    for cluster in clusters("a_closed_topic_says_so_in_its_route_and_can_be_read").await {
        let admin = &cluster.admin;
        let topic = cluster.topic("closed").await;
        let name: Arc<str> = topic.as_str().into();
        cluster.send(&topic, 4).await;
        let saved = admin.topic_configs(&topic).await.unwrap();
        admin
            .set_topic_access(&saved, TopicAccess::Closed)
            .await
            .unwrap();
        let now = admin.topic_configs(&topic).await.unwrap();
        assert_eq!(now[&cluster.master.broker].access(), TopicAccess::Closed);
        // The broker tells the name server after it answered.
        tokio::time::timeout(TIMEOUT, async {
            loop {
                let route = cluster.client.route(&topic).await.unwrap();
                if route.writable(&name).is_empty() {
                    assert_eq!(route.readable(&name).len(), QUEUES as usize);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the route becomes read-only");
        let group = cluster.name("closed-group");
        assert_eq!(cluster.pull(&topic, &group).await.code, response::SUCCESS);
        admin
            .set_topic_access(&saved, TopicAccess::Open)
            .await
            .unwrap();
        assert_eq!(admin.topic_configs(&topic).await.unwrap(), saved);
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test]
async fn settings_saved_under_a_seal_are_refused() {
    for cluster in clusters("settings_saved_under_a_seal_are_refused").await {
        let admin = &cluster.admin;
        let topic = cluster.topic("double").await;
        let saved = admin.topic_configs(&topic).await.unwrap();
        admin
            .set_topic_access(&saved, TopicAccess::Sealed)
            .await
            .unwrap();
        let sealed = admin.topic_configs(&topic).await.unwrap();
        let error = admin
            .set_topic_access(&sealed, TopicAccess::Open)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        cluster.delete(&topic, &[]).await;
    }
}

#[tokio::test]
async fn groups_are_created_once_found_by_topic_and_deleted() {
    for cluster in clusters("groups_are_created_once_found_by_topic_and_deleted").await {
        let Cluster { admin, master, .. } = &cluster;
        let topic = cluster.topic("grouped").await;
        let group = cluster.name("grouped-group");
        assert!(!admin.group_exists(&group).await.unwrap());
        let mut config = GroupConfig::new(&group);
        config.retry_max_times = 3;
        let in_order = ("consumeMessageOrderly".to_owned(), true.into());
        config.others.extend([in_order.clone()]);
        admin.create_group(&config).await.unwrap();
        admin.create_group(&GroupConfig::new(&group)).await.unwrap();
        assert!(admin.group_exists(&group).await.unwrap());
        let mut groups = admin.groups(&master.address).await.unwrap();
        let mut found = groups.remove(&group).expect("the group");
        let others = std::mem::take(&mut found.others);
        if cluster.is_of_5().await {
            assert_eq!(others.get(&in_order.0), Some(&in_order.1), "{others:?}");
            assert!(others.contains_key("groupRetryPolicy"), "{others:?}");
        } else {
            assert!(others.is_empty(), "{others:?}");
        }
        config.others.clear();
        assert_eq!(found, config);

        assert!(admin.groups_of_topic(&topic).await.unwrap().is_empty());
        let saved = admin.topic_configs(&topic).await.unwrap();
        cluster.send(&topic, 8).await;
        let address = &master.address;
        admin
            .commit_offset(address, &group, &topic, 1, 1)
            .await
            .unwrap();
        let groups = admin.groups_of_topic(&topic).await.unwrap();
        assert_eq!(groups, [group.as_str()]);
        let committed = admin.committed_offset(address, &group, &topic, 1).await;
        assert_eq!(committed.unwrap(), Some(1));
        assert_eq!(admin.backlog(&group, &saved).await.unwrap().owed(), 7);

        let retry = format!("%RETRY%{group}");
        let config = TopicConfig::new(&retry, 1);
        admin.create_topic(&config).await.unwrap();
        admin.delete_group(&group).await.unwrap();
        assert!(!admin.group_exists(&group).await.unwrap());
        assert!(admin.topic_configs(&retry).await.unwrap().is_empty());
        let committed = admin.committed_offset(address, &group, &topic, 1).await;
        assert!(matches!(committed, Ok(None | Some(0))), "{committed:?}");
        cluster.delete(&topic, &[]).await;
    }
}

#[tokio::test]
async fn first_offsets_leave_committed_ones_alone() {
    for cluster in clusters("first_offsets_leave_committed_ones_alone").await {
        let Cluster { admin, master, .. } = &cluster;
        let topic = cluster.topic("first").await;
        let group = cluster.name("first-group");
        admin.create_group(&GroupConfig::new(&group)).await.unwrap();
        cluster.send(&topic, 8).await;
        let saved = admin.topic_configs(&topic).await.unwrap();
        let address = &master.address;
        admin
            .commit_offset(address, &group, &topic, 2, 2)
            .await
            .unwrap();
        admin.commit_first_offsets(&group, &saved).await.unwrap();
        let backlog = admin.backlog(&group, &saved).await.unwrap();
        let committed: Vec<_> = backlog.topic.iter().map(|queue| queue.committed).collect();
        assert_eq!(committed, [Some(0), Some(0), Some(2), Some(0)]);
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test]
async fn a_producer_is_listed_while_it_is_connected() {
    for cluster in clusters("a_producer_is_listed_while_it_is_connected").await {
        let admin = &cluster.admin;
        let topic = cluster.topic("listed").await;
        let group = cluster.name("listed-group");
        assert!(admin.producers(&group).await.unwrap().is_empty());
        assert!(admin.consumers(&group).await.unwrap().members.is_empty());

        let mut options = ProducerOptions::default();
        options.group.clone_from(&group);
        let client = Client::new(ClientOptions::new(cluster.servers.clone(), "listed")).unwrap();
        let producer = Producer::new(&client, &topic, options).await.unwrap();
        let members = until(|| async {
            let members = admin.producers(&group).await.unwrap();
            (!members.is_empty()).then_some(members)
        })
        .await;
        assert_eq!(members[0].client_id, "listed");
        let all = admin.all_producers().await.unwrap();
        assert_eq!(all[&group][0].client_id, "listed");

        client.close();
        drop((producer, client));
        until(|| async {
            admin
                .producers(&group)
                .await
                .unwrap()
                .is_empty()
                .then_some(())
        })
        .await;
        cluster.delete(&topic, &[]).await;
    }
}

/// Asks until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    tokio::time::timeout(TIMEOUT, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("an answer in time")
}

#[tokio::test]
async fn delayed_messages_are_counted_for_their_topic_until_they_are_due() {
    for cluster in clusters("delayed_messages_are_counted_for_their_topic_until_they_are_due").await
    {
        let admin = &cluster.admin;
        let (topic, other) = (cluster.topic("delayed").await, cluster.topic("other").await);
        let group = cluster.name("delayed-group");
        admin.create_group(&GroupConfig::new(&group)).await.unwrap();
        let producer = Producer::new(&cluster.client, &topic, ProducerOptions::default())
            .await
            .unwrap();
        for lane in 0..40 {
            let message = Message::new(Bytes::from_static(b"later"));
            let level = DelayLevel::at_least(Duration::from_secs(5));
            producer
                .send(&message.delay(level), lane, TIMEOUT)
                .await
                .unwrap();
        }
        admin.wait_for_dispatch(TIMEOUT).await.unwrap();
        let owed = async |topic: &str| {
            let configs = admin.topic_configs(topic).await.unwrap();
            let groups = [group.as_str().into()];
            let owed = admin.owed(topic, &groups, &configs, TIMEOUT).await;
            owed.unwrap().remove(group.as_str()).unwrap()
        };
        assert_eq!(owed(&topic).await.total(), 40);
        assert_eq!(owed(&other).await.total(), 0);
        let due = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let now = owed(&topic).await;
            // One that falls due while it is looked at may count twice.
            assert!(now.total() >= 40, "{now:?}");
            if now.delayed == 0 && now.total() == 40 {
                assert_eq!(now.offsets.owed(), 40);
                break;
            }
            assert!(tokio::time::Instant::now() < due, "still delayed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cluster.delete(&topic, &[&group]).await;
        cluster.delete(&other, &[]).await;
    }
}
