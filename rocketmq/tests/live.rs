//! On real clusters: `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET` name them as `rocketmq://host:port`.
//! Without them a test says that it is skipped; with `CROSSFADE_TEST_NO_SKIP=1` it fails instead.
#![allow(clippy::print_stdout)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Client, ClientOptions, Consumer, ConsumerOptions, DelayLevel, Delivery, ErrorKind, Message,
    Persisted, Producer, ProducerOptions, Request, codes,
};
use tokio::time::Instant;

const WAIT: Duration = Duration::from_secs(5);

/// Runs `test` on each of the two clusters.
async fn on_each<F: Future<Output = ()>>(name: &str, test: impl Fn(Cluster) -> F) {
    for variable in ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"] {
        let Ok(address) = std::env::var(variable) else {
            let must = std::env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
            assert!(
                !must,
                "{name}: no broker ({variable}) and nothing may be skipped"
            );
            println!("skipped: {name}: no broker ({variable})");
            continue;
        };
        let address = address.trim_start_matches("rocketmq://").to_owned();
        test(Cluster { address }).await;
    }
}

struct Cluster {
    address: String,
}

impl Cluster {
    fn client(&self) -> Client {
        let servers = self.address.split(';').map(str::to_owned);
        Client::new(ClientOptions::new(servers, unique("client"))).unwrap()
    }

    /// A client and a topic with four queues.
    async fn with_topic(&self) -> (Client, String) {
        let (client, topic) = (self.client(), unique("topic"));
        set_topic(&client, &topic, 4, 6).await;
        let deadline = Instant::now() + WAIT;
        while client.route(&topic).await.is_err() {
            assert!(Instant::now() < deadline, "the topic has no route");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (client, topic)
    }
}

fn unique(what: &str) -> String {
    format!("live_{what}_{:016x}", rand::random::<u64>())
}

async fn set_topic(client: &Client, topic: &str, queues: u32, permission: i32) {
    for (_, master) in client.cluster_info().await.unwrap().masters() {
        let request = Request::new(codes::request::UPDATE_AND_CREATE_TOPIC)
            .text("topic", topic)
            .text("defaultTopic", "TBW102")
            .field("readQueueNums", queues)
            .field("writeQueueNums", queues)
            .field("perm", permission)
            .text("topicFilterType", "SINGLE_TAG")
            .text("topicSysFlag", "0")
            .text("order", "false");
        client.call(master, "create topic", request).await.unwrap();
    }
}

async fn producer(client: &Client, topic: &str) -> Producer {
    Producer::new(client, topic, ProducerOptions::default())
        .await
        .unwrap()
}

async fn consumer(client: &Client, topic: &str, group: &str) -> Consumer {
    let consumer = Consumer::new(client, topic, group, ConsumerOptions::default())
        .await
        .unwrap();
    consumer.ready().await.unwrap();
    consumer
}

fn message(text: &str) -> Message {
    Message::new(Bytes::copy_from_slice(text.as_bytes()))
}

async fn send(producer: &Producer, range: std::ops::Range<u64>) {
    for number in range {
        producer
            .send(&message(&number.to_string()), number, WAIT)
            .await
            .unwrap();
    }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.message.body)
        .unwrap()
        .parse()
        .unwrap()
}

/// Receives and acks until `count` messages came or nothing comes for a while; the numbers as they came.
async fn drain(consumer: &Consumer, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let deliveries = consumer.receive(32, WAIT).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        for delivery in deliveries {
            consumer.ack(delivery.token).unwrap();
            numbers.push(number(&delivery));
        }
    }
    numbers
}

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

/// The committed offsets and the ends, summed over the queues.
async fn offsets(client: &Client, topic: &str, group: &str) -> (u64, u64) {
    let route = client.route(topic).await.unwrap();
    let topic: Arc<str> = topic.into();
    let (mut committed, mut end) = (0, 0);
    for queue in route.readable(&topic) {
        let master = route.master(&queue.broker).unwrap();
        let ask = |code| {
            Request::new(code)
                .text("consumerGroup", group)
                .text("topic", &topic)
                .field("queueId", queue.queue)
        };
        for (code, sum) in [
            (codes::request::QUERY_CONSUMER_OFFSET, &mut committed),
            (codes::request::GET_MAX_OFFSET, &mut end),
        ] {
            let answer = client.call(master, "offsets", ask(code)).await.unwrap();
            *sum += answer.fields.number::<u64>("offset").unwrap();
        }
    }
    (committed, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_received_once_with_all_it_carries() {
    on_each(
        "what_was_sent_is_received_once_with_all_it_carries",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            let group = unique("group");
            let producer = producer(&client, &topic).await;
            let rich = message("1000")
                .tag("tag")
                .and_then(|m| m.keys("k1 k2"))
                .and_then(|m| m.property("name", "value \"=\\ 中文"))
                .unwrap();
            let stored = producer.send(&rich, 0, WAIT).await.unwrap();
            send(&producer, 0..200).await;
            let consumer = consumer(&client, &topic, &group).await;
            assert_eq!(consumer.assigned().len(), 4);
            let mut numbers = Vec::new();
            while numbers.len() < 201 {
                let deliveries = consumer.receive(32, WAIT).await.unwrap();
                assert!(!deliveries.is_empty(), "only {} came", numbers.len());
                for delivery in deliveries {
                    assert_eq!(delivery.attempt, 1);
                    assert_eq!(*delivery.message.topic, *topic);
                    let n = number(&delivery);
                    if n == 1000 {
                        let got = &delivery.message;
                        assert_eq!(got.message_id(), rich.unique_id());
                        assert_eq!(got.offset_message_id, stored.offset_message_id);
                        assert_eq!((got.queue.queue, got.offset), (stored.queue, stored.offset));
                        assert_eq!(got.property("TAGS"), Some("tag"));
                        assert_eq!(got.property("KEYS"), Some("k1 k2"));
                        assert_eq!(got.property("name"), Some("value \"=\\ 中文"));
                    }
                    consumer.ack(delivery.token).unwrap();
                    assert_eq!(
                        consumer.ack(delivery.token).unwrap_err().kind(),
                        ErrorKind::Stale
                    );
                    numbers.push(n);
                }
            }
            assert_eq!(sorted(numbers), (0..200).chain([1000]).collect::<Vec<_>>());
            assert!(
                consumer
                    .receive(1, Duration::from_millis(300))
                    .await
                    .unwrap()
                    .is_empty()
            );
            consumer.close().await.unwrap();
            let (committed, end) = offsets(&client, &topic, &group).await;
            assert_eq!((committed, end), (201, 201));
            assert_eq!(
                consumer.receive(1, WAIT).await.unwrap_err().kind(),
                ErrorKind::Closed
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_keeps_its_queue_and_its_order() {
    on_each("a_lane_keeps_its_queue_and_its_order", async |cluster| {
        let (client, topic) = cluster.with_topic().await;
        let producer = producer(&client, &topic).await;
        let mut queues: BTreeMap<u64, HashSet<u32>> = BTreeMap::new();
        for n in 0..40 {
            let lane = n % 8;
            let stored = producer
                .send(&message(&n.to_string()), lane, WAIT)
                .await
                .unwrap();
            queues.entry(lane).or_default().insert(stored.queue);
        }
        assert!(queues.values().all(|queues| queues.len() == 1));
        assert_eq!(queues.values().flatten().collect::<HashSet<_>>().len(), 4);
        let consumer = consumer(&client, &topic, &unique("group")).await;
        let numbers = drain(&consumer, 40).await;
        for lane in 0..8 {
            let of_lane: Vec<_> = numbers.iter().filter(|n| *n % 8 == lane).collect();
            assert!(of_lane.is_sorted(), "lane {lane}: {of_lane:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again_with_a_higher_attempt() {
    on_each(
        "what_is_given_back_comes_again_with_a_higher_attempt",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            let group = unique("group");
            let producer = producer(&client, &topic).await;
            let consumer = consumer(&client, &topic, &group).await;
            let sent = message("7");
            producer.send(&sent, 0, WAIT).await.unwrap();
            for attempt in 1..=2 {
                let deliveries = consumer.receive(1, Duration::from_secs(20)).await.unwrap();
                let delivery = deliveries.first().expect("the message comes again");
                assert_eq!((delivery.attempt, number(delivery)), (attempt, 7));
                assert_eq!(*delivery.message.topic, *topic);
                assert_eq!(delivery.message.message_id(), sent.unique_id());
                consumer
                    .nack(delivery.token, Duration::from_secs(1))
                    .await
                    .unwrap();
                assert_eq!(
                    consumer.ack(delivery.token).unwrap_err().kind(),
                    ErrorKind::Stale
                );
            }
            let third = consumer.receive(1, Duration::from_secs(20)).await.unwrap();
            assert_eq!(third[0].attempt, 3);
            consumer.ack(third[0].token).unwrap();
            consumer.close().await.unwrap();
            assert_eq!(offsets(&client, &topic, &group).await, (1, 1));
            let retry = format!("%RETRY%{group}");
            assert_eq!(offsets(&client, &retry, &group).await, (2, 2));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_the_queues_and_take_over() {
    on_each("members_share_the_queues_and_take_over", async |cluster| {
        let (client, topic) = cluster.with_topic().await;
        let (second_client, third_client) = (cluster.client(), cluster.client());
        let group = unique("group");
        let first = consumer(&client, &topic, &group).await;
        let second = consumer(&second_client, &topic, &group).await;
        let third = consumer(&third_client, &topic, &group).await;
        let shared = async |consumers: &[&Consumer]| {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let parts: Vec<_> = consumers.iter().map(|c| c.assigned()).collect();
                let all: BTreeSet<_> = parts.iter().flatten().collect();
                if all.len() == 4 && parts.iter().map(Vec::len).sum::<usize>() == 4 {
                    return;
                }
                assert!(Instant::now() < deadline, "{parts:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        shared(&[&first, &second, &third]).await;
        let producer = producer(&client, &topic).await;
        send(&producer, 0..80).await;
        let mut seen = Vec::new();
        for consumer in [&first, &second, &third] {
            let part = 20 * consumer.assigned().len();
            seen.extend(drain(consumer, part).await);
        }
        assert_eq!(sorted(seen), (0..80).collect::<Vec<_>>());
        // One leaves in good order, one dies with its connections.
        second.close().await.unwrap();
        shared(&[&first, &third]).await;
        drop((third, third_client));
        shared(&[&first]).await;
        send(&producer, 80..120).await;
        // What the dead one had acked and not committed may come again.
        let mut rest = BTreeSet::new();
        while rest.len() < 40 {
            let numbers = drain(&first, 1).await;
            assert!(!numbers.is_empty(), "only {} of 40 came", rest.len());
            rest.extend(numbers.into_iter().filter(|n| *n >= 80));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acked_comes_to_the_next_member() {
    on_each(
        "what_was_not_acked_comes_to_the_next_member",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            let group = unique("group");
            send(&producer(&client, &topic).await, 0..20).await;
            let first = consumer(&client, &topic, &group).await;
            let mut acked = BTreeSet::new();
            let mut seen = 0;
            while seen < 20 {
                for delivery in first.receive(32, WAIT).await.unwrap() {
                    seen += 1;
                    // The first of each queue stays open, so nothing behind it may be committed.
                    if delivery.message.offset > 0 {
                        first.ack(delivery.token).unwrap();
                        acked.insert(number(&delivery));
                    }
                }
            }
            first.close().await.unwrap();
            assert_eq!(acked.len(), 16);
            let second = consumer(&client, &topic, &group).await;
            assert_eq!(
                sorted(drain(&second, 20).await),
                (0..20).collect::<Vec<_>>()
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_topic_refuses_sends_and_comes_back_by_itself() {
    on_each(
        "a_sealed_topic_refuses_sends_and_comes_back_by_itself",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            let reader = cluster.client();
            let producer = producer(&client, &topic).await;
            let before = consumer(&client, &topic, &unique("group")).await;
            send(&producer, 0..4).await;
            assert_eq!(drain(&before, 4).await.len(), 4);
            set_topic(&client, &topic, 0, 4).await;
            // The producer's route is old: the broker itself must refuse.
            let error = producer.send(&message("9"), 0, WAIT).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.persisted()),
                (ErrorKind::Sealed, Persisted::No)
            );
            let during = consumer(&reader, &topic, &unique("group")).await;
            assert!(during.assigned().is_empty());
            let deadline = Instant::now() + Duration::from_secs(15);
            while !before.assigned().is_empty() {
                assert!(
                    Instant::now() < deadline,
                    "queues of a sealed topic stay assigned"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let error = producer.send(&message("9"), 0, WAIT).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.persisted()),
                (ErrorKind::Sealed, Persisted::No)
            );
            set_topic(&client, &topic, 4, 6).await;
            let deadline = Instant::now() + WAIT;
            while let Err(error) = producer.send(&message("10"), 0, WAIT).await {
                assert_eq!(error.kind(), ErrorKind::Sealed);
                assert!(
                    Instant::now() < deadline,
                    "no send goes through after the unseal"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(drain(&before, 1).await, [10]);
            assert_eq!(sorted(drain(&during, 5).await), [0, 1, 2, 3, 10]);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_receive_loses_nothing() {
    on_each("a_dropped_receive_loses_nothing", async |cluster| {
        let (client, topic) = cluster.with_topic().await;
        let consumer = consumer(&client, &topic, &unique("group")).await;
        let producer = producer(&client, &topic).await;
        let sending = tokio::spawn(async move { send(&producer, 0..300).await });
        let mut numbers = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while numbers.len() < 300 && Instant::now() < deadline {
            let receive = consumer.receive(7, WAIT);
            let Ok(deliveries) = tokio::time::timeout(Duration::from_micros(300), receive).await
            else {
                continue;
            };
            for delivery in deliveries.unwrap() {
                consumer.ack(delivery.token).unwrap();
                numbers.push(number(&delivery));
            }
        }
        sending.await.unwrap();
        assert_eq!(sorted(numbers), (0..300).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_get_their_tags_only() {
    on_each("subscriptions_get_their_tags_only", async |cluster| {
        let (client, topic) = cluster.with_topic().await;
        let group = unique("group");
        let producer = producer(&client, &topic).await;
        for (n, tag) in ["a", "b", "c", "a"].into_iter().enumerate() {
            let message = message(&n.to_string()).tag(tag).unwrap();
            producer.send(&message, n as u64, WAIT).await.unwrap();
        }
        producer.send(&message("4"), 0, WAIT).await.unwrap();
        let mut options = ConsumerOptions::default();
        options.filter = crossfade_rocketmq::Filter::Tags("a || b".to_owned());
        let consumer = Consumer::new(&client, &topic, &group, options)
            .await
            .unwrap();
        assert_eq!(sorted(drain(&consumer, 3).await), [0, 1, 3]);
        assert!(
            consumer
                .receive(1, Duration::from_millis(300))
                .await
                .unwrap()
                .is_empty()
        );
        consumer.close().await.unwrap();
        // What is not wanted is passed.
        assert_eq!(offsets(&client, &topic, &group).await, (5, 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_come_later() {
    on_each("delayed_messages_come_later", async |cluster| {
        let (client, topic) = cluster.with_topic().await;
        let consumer = consumer(&client, &topic, &unique("group")).await;
        let producer = producer(&client, &topic).await;
        let sent = Instant::now();
        let delayed = message("1").delay(DelayLevel::SHORTEST);
        producer.send(&delayed, 0, WAIT).await.unwrap();
        assert_eq!(drain(&consumer, 1).await, [1]);
        assert!(
            sent.elapsed() >= Duration::from_millis(900),
            "{:?}",
            sent.elapsed()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_limit_pauses_the_fetch_and_loses_nothing() {
    on_each(
        "a_small_limit_pauses_the_fetch_and_loses_nothing",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            send(&producer(&client, &topic).await, 0..400).await;
            let mut options = ConsumerOptions::default();
            options.max_outstanding = 10;
            let consumer = Consumer::new(&client, &topic, &unique("group"), options)
                .await
                .unwrap();
            consumer.ready().await.unwrap();
            let mut held = Vec::new();
            loop {
                let more = consumer
                    .receive(500, Duration::from_millis(500))
                    .await
                    .unwrap();
                if more.is_empty() {
                    break;
                }
                held.extend(more);
            }
            // One batch of 32 for each queue may be under way when the limit is met.
            assert!((10..=10 + 4 * 32).contains(&held.len()), "{}", held.len());
            let mut numbers: Vec<_> = held.iter().map(number).collect();
            for delivery in held {
                consumer.ack(delivery.token).unwrap();
            }
            numbers.extend(drain(&consumer, 400 - numbers.len()).await);
            assert_eq!(sorted(numbers), (0..400).collect::<Vec<_>>());
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_definite_error_of_its_kind() {
    on_each(
        "bad_input_gets_a_definite_error_of_its_kind",
        async |cluster| {
            let (client, topic) = cluster.with_topic().await;
            let missing =
                Producer::new(&client, &unique("missing"), ProducerOptions::default()).await;
            assert_eq!(missing.unwrap_err().kind(), ErrorKind::TopicNotFound);
            let name = Producer::new(&client, "a b", ProducerOptions::default()).await;
            assert_eq!(name.unwrap_err().kind(), ErrorKind::InvalidInput);
            let mut options = ProducerOptions::default();
            options.max_body_bytes = 8 << 20;
            let producer = Producer::new(&client, &topic, options).await.unwrap();
            for (bytes, kind) in [
                (0, ErrorKind::InvalidInput),
                // Above the broker's limit, below this client's.
                (5 << 20, ErrorKind::TooLarge),
                // Above this client's.
                (9 << 20, ErrorKind::TooLarge),
            ] {
                let large = Message::new(vec![b'x'; bytes].into());
                let error = producer.send(&large, 0, WAIT).await.unwrap_err();
                assert_eq!(
                    (error.kind(), error.persisted()),
                    (kind, Persisted::No),
                    "{error}"
                );
            }
            // The connection outlives the refusals.
            producer.send(&message("1"), 0, WAIT).await.unwrap();
            let _first = consumer(&client, &topic, "live_twice").await;
            let twice =
                Consumer::new(&client, &topic, "live_twice", ConsumerOptions::default()).await;
            assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
            // A broker is no name server.
            let info = client.cluster_info().await.unwrap();
            let broker = info.masters().next().unwrap().1.to_string();
            let stranger = Client::new(ClientOptions::new([broker], "x")).unwrap();
            assert_eq!(
                stranger.route(&topic).await.unwrap_err().kind(),
                ErrorKind::NotNameServer
            );
            // With one name server down the other answers.
            let servers = ["127.0.0.1:1".to_owned(), cluster.address.clone()];
            let client = Client::new(ClientOptions::new(servers, unique("client"))).unwrap();
            assert!(client.route(&topic).await.is_ok());
        },
    )
    .await;
}
