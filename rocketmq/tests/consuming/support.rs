//! The clusters, and what every test needs of them.

use std::{env, sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, Delivery, ErrorKind, Message,
    MessageQueue, Producer, ProducerOptions, admin::TopicConfig,
};
use tokio::time::{Instant, sleep};

pub(crate) const WAIT: Duration = Duration::from_secs(10);
/// How long a test looks for what must not come.
pub(crate) const QUIET: Duration = Duration::from_millis(700);
/// Longer than anything here takes; only a failing test waits for so long.
const PATIENCE: Duration = Duration::from_secs(150);

/// Runs `test` on both clusters at the same time.
pub(crate) async fn on_each<F: Future<Output = ()>>(name: &str, test: impl Fn(Cluster) -> F) {
    let side = async |variable: &str| match env::var(variable) {
        Ok(address) => test(Cluster::at(&address)).await,
        Err(_) => skip(name, &format!("no broker ({variable})")),
    };
    tokio::join!(side("CROSSFADE_TEST_SOURCE"), side("CROSSFADE_TEST_TARGET"));
}

/// Says what is missing; fails where nothing may be.
pub(crate) fn skip(test: &str, why: &str) {
    let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
    assert!(!forbidden, "{test}: {why}, and nothing may be skipped");
    println!("skipped: {test}: {why}");
}

/// Whether a test that takes minutes is to run as well; says so if not. That is no skip: CONTRIBUTING.md lists them.
pub(crate) fn rehearsals(test: &str) -> bool {
    let wanted = env::var("CROSSFADE_TEST_REHEARSALS").is_ok_and(|value| value == "1");
    if !wanted {
        println!("rehearsal: {test}: CROSSFADE_TEST_REHEARSALS=1 runs it");
    }
    wanted
}

pub(crate) struct Cluster {
    servers: Vec<String>,
    pub(crate) client: Client,
}

impl Cluster {
    pub(crate) fn at(address: &str) -> Cluster {
        let address = address.trim_start_matches("rocketmq://");
        let servers: Vec<String> = address.split(';').map(str::to_owned).collect();
        let client = client(&servers);
        Cluster { servers, client }
    }

    /// Another client, with connections of its own.
    pub(crate) fn client(&self) -> Client {
        client(&self.servers)
    }

    /// A new topic.
    pub(crate) async fn topic(&self, queues: u32) -> Arc<str> {
        let topic = unique("topic");
        let admin = Admin::new(&self.client);
        let config = TopicConfig::new(&topic, queues);
        admin.create_topic(&config).await.unwrap();
        until("the topic has a route", async || {
            self.client.route(&topic).await.ok().map(drop)
        })
        .await;
        topic.into()
    }

    pub(crate) async fn producer(&self, topic: &str) -> Producer {
        let options = ProducerOptions::default();
        Producer::new(&self.client, topic, options).await.unwrap()
    }

    /// A member with a client of its own, which has to be kept.
    pub(crate) async fn member(
        &self,
        topic: &str,
        group: &str,
        options: &ConsumerOptions,
    ) -> (Client, Consumer) {
        let client = self.client();
        let consumer = Consumer::new(&client, topic, group, options.clone());
        let consumer = consumer.await.unwrap();
        consumer.ready().await.unwrap();
        (client, consumer)
    }

    /// The topic's queues and what the group has committed in them.
    pub(crate) async fn committed(&self, topic: &Arc<str>, group: &str) -> Vec<Option<u64>> {
        let queues: Vec<MessageQueue> = self.client.route(topic).await.unwrap().readable(topic);
        self.client.committed(group, &queues).await.unwrap()
    }
}

fn client(servers: &[String]) -> Client {
    Client::new(ClientOptions::new(
        servers.iter().cloned(),
        unique("client"),
    ))
    .unwrap()
}

pub(crate) fn unique(what: &str) -> String {
    format!("consuming_{what}_{:016x}", rand::random::<u64>())
}

pub(crate) fn message(number: u64) -> Message {
    Message::new(Bytes::from(number.to_string()))
}

/// Sends, each on the lane of its place; a broker that is busy is asked again.
pub(crate) async fn send(producer: &Producer, messages: impl IntoIterator<Item = Message>) {
    for (message, lane) in messages.into_iter().zip(0..) {
        until("the broker takes a message", async || {
            match producer.send(&message, lane, WAIT).await {
                Err(error) if error.kind() == ErrorKind::Throttled => None,
                sent => {
                    sent.unwrap();
                    Some(())
                }
            }
        })
        .await;
    }
}

pub(crate) fn number(delivery: &Delivery) -> u64 {
    let body = std::str::from_utf8(&delivery.message.body).unwrap();
    body.parse().unwrap()
}

/// Receives and acks until `count` came; their numbers, sorted.
pub(crate) async fn take(consumer: &Consumer, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    until(&format!("{count} messages"), async || {
        let max = count - numbers.len();
        for delivery in consumer.receive(max, QUIET).await.unwrap() {
            consumer.ack(delivery.token).unwrap();
            numbers.push(number(&delivery));
        }
        (numbers.len() == count).then_some(())
    })
    .await;
    numbers.sort_unstable();
    numbers
}

pub(crate) async fn nothing_comes(consumer: &Consumer) {
    let more = consumer.receive(10, QUIET).await.unwrap();
    assert!(more.is_empty(), "{more:?}");
}

/// Asks until there is an answer; how long that took.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Duration {
    let begun = Instant::now();
    while ask().await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}
