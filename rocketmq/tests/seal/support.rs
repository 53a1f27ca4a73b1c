//! A cluster, and what its topics and groups are asked.

use std::{
    env,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, ErrorKind, Message, Producer,
    ProducerOptions,
    admin::{GroupConfig, Master, Owed, TopicConfig, TopicConfigs},
};
use tokio::time::{Instant, sleep};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// One of the two clusters.
pub(crate) struct Cluster {
    /// For people.
    pub(crate) name: String,
    pub(crate) servers: Vec<String>,
    pub(crate) client: Client,
    pub(crate) admin: Admin,
}

/// Says what is missing; fails where nothing may be.
pub(crate) fn skip(test: &str, why: &str) {
    let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
    assert!(!forbidden, "{test}: {why}, and nothing may be skipped");
    println!("skipped: {test}: {why}");
}

/// Whether what takes minutes is to run as well.
pub(crate) fn rehearsals() -> bool {
    env::var("CROSSFADE_TEST_REHEARSALS").is_ok_and(|value| value == "1")
}

impl Cluster {
    pub(crate) async fn at(address: &str) -> Cluster {
        let address = address.strip_prefix("rocketmq://").expect("rocketmq://");
        let servers = address.split('?').next().unwrap_or_default();
        let servers: Vec<String> = servers.split(';').map(str::to_owned).collect();
        let client = client(&servers);
        let admin = Admin::new(&client);
        let master = admin.masters().await.unwrap().remove(0);
        let info = admin.runtime_info(&master.address).await.unwrap();
        let version = info["brokerVersionDesc"].trim_start_matches('V').to_owned();
        Cluster {
            name: version.replace('_', "."),
            servers,
            client,
            admin,
        }
    }

    /// Another client, with connections of its own.
    pub(crate) fn client(&self) -> Client {
        client(&self.servers)
    }

    /// A new topic with so many queues on every broker, and its configuration.
    pub(crate) async fn topic(&self, queues: u32) -> (String, TopicConfigs) {
        let topic = unique("seal");
        let config = TopicConfig::new(&topic, queues);
        self.admin.create_topic(&config).await.unwrap();
        let saved = self.admin.topic_configs(&topic).await.unwrap();
        until("the route is there", async || {
            let route = self.client.route(&topic).await.ok()?;
            (route.queues.len() == saved.len()).then_some(())
        })
        .await;
        (topic, saved)
    }

    pub(crate) async fn group(&self, retries: i32) -> Arc<str> {
        let group = unique("seal-group");
        let mut config = GroupConfig::new(&group);
        config.retry_max_times = retries;
        self.admin.create_group(&config).await.unwrap();
        group.into()
    }

    pub(crate) async fn producer(&self, topic: &str) -> Producer {
        let options = ProducerOptions::default();
        Producer::new(&self.client, topic, options).await.unwrap()
    }

    /// A member with a client of its own, which has to be kept.
    pub(crate) async fn consumer(&self, topic: &str, group: &str) -> (Client, Consumer) {
        let client = self.client();
        let consumer = Consumer::new(&client, topic, group, ConsumerOptions::default())
            .await
            .unwrap();
        consumer.ready().await.unwrap();
        (client, consumer)
    }

    pub(crate) async fn owed(&self, topic: &str, group: &Arc<str>, saved: &TopicConfigs) -> Owed {
        let groups = [Arc::clone(group)];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.admin.owed(topic, &groups, saved, TIMEOUT).await {
                Ok(mut owed) => return owed.remove(group).unwrap(),
                // A new broker, see `Admin::owed`, or a machine that is too busy.
                Err(error)
                    if [ErrorKind::Unavailable, ErrorKind::Timeout].contains(&error.kind())
                        && Instant::now() < deadline =>
                {
                    sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Waits until nothing is owed.
    pub(crate) async fn drained(&self, topic: &str, group: &Arc<str>, saved: &TopicConfigs) {
        until("nothing is owed", async || {
            (self.owed(topic, group, saved).await.total() == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn masters(&self) -> Vec<Master> {
        self.admin.masters().await.unwrap()
    }

    pub(crate) async fn delete(&self, topic: &str, groups: &[&str]) {
        for group in groups {
            self.admin.delete_group(group).await.unwrap();
        }
        self.admin.delete_topic(topic).await.unwrap();
    }
}

fn client(servers: &[String]) -> Client {
    let mut options = ClientOptions::new(servers.iter().cloned(), unique("seal-client"));
    options.request_timeout = TIMEOUT;
    Client::new(options).unwrap()
}

pub(crate) fn unique(what: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!(
        "{what}-{:x}-{:04x}",
        since.as_millis(),
        rand::random::<u16>()
    )
}

pub(crate) fn message(number: u64) -> Message {
    Message::new(Bytes::from(number.to_string()))
}

/// Receives and acks until nothing comes for so long or `count` came; the numbers.
pub(crate) async fn take(consumer: &Consumer, count: usize, wait: Duration) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let deliveries = consumer.receive(32, wait).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        for delivery in deliveries {
            let body = std::str::from_utf8(&delivery.message.body).unwrap();
            numbers.push(body.parse().unwrap());
            consumer.ack(delivery.token).unwrap();
        }
    }
    numbers
}

/// Asks until there is an answer; how long that took.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Duration {
    let begun = Instant::now();
    while ask().await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
