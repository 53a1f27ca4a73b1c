//! Acks and commits.

use crossfade::{ErrorKind, Message, backend::AckToken};

use crate::support::*;

pub(crate) async fn acks_out_of_order_commit_what_is_contiguous(cluster: Cluster) {
    let (topic, settings) = cluster.topic(1).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    for number in 0..5 {
        let message = Message::new(number.to_string());
        send(&producer, &message, 0).await.unwrap();
    }
    let mut all = receive(&consumer, 5).await;
    all.sort_by_key(|incoming| incoming.offset);
    for index in [1, 4, 0] {
        consumer.ack(all[index].token).await.unwrap();
    }
    let committed = async || {
        let backlog = cluster
            .admin
            .backlog(&topic, &group, &settings)
            .await
            .unwrap();
        backlog
            .queues
            .iter()
            .map(|queue| queue.committed.unwrap_or(0))
            .max()
    };
    eventually("two are committed", async || {
        (committed().await == Some(2)).then_some(())
    })
    .await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(committed().await, Some(2));
    for index in [2, 3] {
        consumer.ack(all[index].token).await.unwrap();
    }
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn an_unknown_token_is_a_stale_delivery(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let other = cluster.consumer(&topic, &unique("group")).await;
    send(&producer, &Message::new("x"), 0).await.unwrap();
    let got = receive(&consumer, 1).await;
    for token in [AckToken(u64::MAX), AckToken(u64::MAX - 1)] {
        let error = consumer.ack(token).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
        let error = consumer.nack(token, QUIET).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    }
    let error = other.ack(got[0].token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    consumer.ack(got[0].token).await.unwrap();
}

pub(crate) async fn a_second_ack_is_a_stale_delivery(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    send(&producer, &Message::new("x"), 0).await.unwrap();
    let got = receive(&consumer, 1).await.remove(0);
    consumer.ack(got.token).await.unwrap();
    let error = consumer.ack(got.token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    let error = consumer.nack(got.token, QUIET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
}

#[cfg(feature = "memory")]
pub(crate) async fn acks_are_committed_after_the_interval_and_forgotten_by_a_crash() {
    use std::time::Duration;
    let cluster = embedded_with(|config| config.commit_interval = Duration::from_millis(500));
    let (topic, settings) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    send_numbers(&producer, 4).await;
    let all = receive(&consumer, 4).await;
    ack_all(&consumer, &all[..2]).await;
    assert_eq!(cluster.total(&topic, "group", &settings).await, 4);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.total(&topic, "group", &settings).await, 2);
    ack_all(&consumer, &all[2..]).await;
    drop(consumer);
    assert_eq!(cluster.total(&topic, "group", &settings).await, 2);
    let heir = cluster.consumer(&topic, "group").await;
    let again = receive(&heir, 2).await;
    assert_eq!(numbers(&again), [2, 3]);
    // The broker does not know that they were handed out before.
    assert!(again.iter().all(|incoming| incoming.attempt == 1));
}
