//! A cluster to test on.

use std::time::Duration;

use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, Message, Producer, ProducerOptions,
    ReceivedMessage,
    admin::{TopicAccess, TopicConfig},
};
use tokio::time::Instant;

/// For what brokers answer at once.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
/// For a broker's next questions about transactions: once a minute on 4.9 unless `transactionCheckInterval` says otherwise.
pub(crate) const ROUND: Duration = Duration::from_secs(100);

pub(crate) struct Cluster {
    servers: Vec<String>,
}

pub(crate) fn live(variable: &str, case: &str) -> Option<Cluster> {
    let Ok(address) = std::env::var(variable) else {
        let must = std::env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
        assert!(
            !must,
            "{case}: no broker ({variable}) and nothing may be skipped"
        );
        println!("skipped: {case}: no broker ({variable})");
        return None;
    };
    let servers = address.trim_start_matches("rocketmq://").split(';');
    Some(Cluster {
        servers: servers.map(str::to_owned).collect(),
    })
}

pub(crate) fn unique(what: &str) -> String {
    format!("producing_{what}_{:016x}", rand::random::<u64>())
}

pub(crate) fn message(body: &str) -> Message {
    Message::new(body.to_owned().into())
}

impl Cluster {
    pub(crate) fn client(&self) -> Client {
        Client::new(ClientOptions::new(self.servers.clone(), unique("client"))).unwrap()
    }

    /// A new topic of four queues.
    pub(crate) async fn topic(&self, client: &Client) -> String {
        let topic = unique("topic");
        let admin = Admin::new(client);
        let config = TopicConfig::new(&topic, 4);
        admin.create_topic(&config).await.unwrap();
        let deadline = Instant::now() + WAIT;
        while client.route(&topic).await.is_err() {
            assert!(Instant::now() < deadline, "the topic has no route");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        topic
    }

    pub(crate) async fn seal(&self, client: &Client, topic: &str) {
        let admin = Admin::new(client);
        let configs = admin.topic_configs(topic).await.unwrap();
        admin
            .set_topic_access(&configs, TopicAccess::Sealed)
            .await
            .unwrap();
    }
}

pub(crate) async fn producer(client: &Client, topic: &str, group: &str) -> Producer {
    let mut options = ProducerOptions::default();
    options.group = group.to_owned();
    Producer::new(client, topic, options).await.unwrap()
}

pub(crate) async fn consumer(client: &Client, topic: &str) -> Consumer {
    let group = unique("group");
    let consumer = Consumer::new(client, topic, &group, ConsumerOptions::default());
    let consumer = consumer.await.unwrap();
    consumer.ready().await.unwrap();
    consumer
}

/// Acks what comes until there are `count`; panics when they do not come in time.
pub(crate) async fn receive(
    consumer: &Consumer,
    count: usize,
    within: Duration,
) -> Vec<ReceivedMessage> {
    let deadline = Instant::now() + within;
    let mut all = Vec::new();
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} came", all.len());
        for delivery in consumer.receive(32, Duration::from_secs(1)).await.unwrap() {
            consumer.ack(delivery.token).unwrap();
            all.push((*delivery.message).clone());
        }
    }
    all
}

/// Nothing more comes for a while.
pub(crate) async fn receive_nothing(consumer: &Consumer, during: Duration) {
    let more = consumer.receive(1, during).await.unwrap();
    assert!(more.is_empty(), "{more:?}");
}
