//! Nacks and retries.

use std::time::Duration;

use crossfade::Message;
use tokio::time::Instant;

use crate::support::*;

pub(crate) async fn a_nacked_message_comes_again_with_the_next_attempt(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let message = Message::new("x").with_key("k").with_property("p", "v");
    send(&producer, &message, 1).await.unwrap();
    let first = receive(&consumer, 1).await.remove(0);
    let delay = cluster.capability.shortest_redelivery;
    let mut before = first.clone();
    for attempt in 2..4 {
        let start = Instant::now();
        consumer.nack(before.token, delay).await.unwrap();
        let again = receive(&consumer, 1).await.remove(0);
        // Brokers look for what is due a few times a second.
        assert!(start.elapsed() + Duration::from_millis(200) >= delay);
        assert_eq!(again.attempt, attempt);
        assert_eq!(again.message_id, first.message_id);
        assert_eq!(again.message.body, first.message.body);
        assert_eq!(again.message.key, first.message.key);
        assert_eq!(again.message.properties, first.message.properties);
        assert_eq!(again.message.idempotency_key, first.message.idempotency_key);
        assert_eq!(again.revision, first.revision);
        assert_ne!(again.token, before.token);
        before = again;
    }
    consumer.ack(before.token).await.unwrap();
    receive_nothing(&consumer).await;
}

pub(crate) async fn a_nacked_message_is_owed_until_its_retry_is_acked(cluster: Cluster) {
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    send_numbers(&producer, 3).await;
    let all = receive(&consumer, 3).await;
    ack_all(&consumer, &all[1..]).await;
    consumer
        .nack(all[0].token, cluster.capability.shortest_redelivery)
        .await
        .unwrap();
    eventually("only the retry is owed", async || {
        let backlog = cluster
            .admin
            .backlog(&topic, &group, &settings)
            .await
            .unwrap();
        assert!(backlog.total() >= 1, "{backlog:?}");
        (backlog.waiting() == 0).then_some(())
    })
    .await;
    let again = receive(&consumer, 1).await;
    assert_eq!(body(&again[0]), body(&all[0]));
    assert!(cluster.total(&topic, &group, &settings).await >= 1);
    ack_all(&consumer, &again).await;
    cluster.drained(&topic, &group, &settings).await;
}

#[cfg(feature = "memory")]
pub(crate) async fn delays_are_rounded_up_to_a_level() {
    let seconds = Duration::from_secs;
    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    send_numbers(&producer, 1).await;
    for (wanted, given) in [(0, 1), (1, 1), (2, 5), (31, 60)] {
        let got = receive(&consumer, 1).await.remove(0);
        let start = Instant::now();
        consumer.nack(got.token, seconds(wanted)).await.unwrap();
        let again = consumer.receive(1, seconds(100)).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), given);
        // The millisecond is the resolution of tokio's timer.
        assert!(start.elapsed() <= seconds(given) + Duration::from_millis(1));
        consumer.nack(again[0].token, Duration::ZERO).await.unwrap();
    }
}

#[cfg(feature = "memory")]
pub(crate) async fn retries_of_two_topics_of_one_group_stay_apart() {
    let cluster = embedded();
    let (first, first_settings) = cluster.topic(1).await;
    let (second, second_settings) = cluster.topic(1).await;
    let readers = [
        cluster.consumer(&first, "group").await,
        cluster.consumer(&second, "group").await,
    ];
    for (topic, reader) in [&first, &second].into_iter().zip(&readers) {
        let producer = cluster.producer(topic).await;
        send(&producer, &Message::new(topic.clone()), 0)
            .await
            .unwrap();
        let got = receive(reader, 1).await.remove(0);
        reader.nack(got.token, Duration::ZERO).await.unwrap();
    }
    let got = receive(&readers[0], 1).await;
    assert_eq!(body(&got[0]), first);
    ack_all(&readers[0], &got).await;
    cluster.drained(&first, "group", &first_settings).await;
    assert_eq!(cluster.total(&second, "group", &second_settings).await, 1);
    let got = receive(&readers[1], 1).await;
    assert_eq!(body(&got[0]), second);
}
