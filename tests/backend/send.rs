//! Sending.

use bytes::Bytes;
use crossfade::{
    ErrorKind, IdempotencyKey, Message, Persisted, Revision,
    backend::{MessageId, Outgoing, QueueId},
};

use crate::support::*;

pub(crate) async fn a_sent_message_arrives_whole(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let message = Message::new("hello")
        .with_key("order-1")
        .with_tag("created")
        .with_property("b", "1")
        .with_property("a", "2 \u{fc}")
        .with_ordering_key("customer-1");
    let key = IdempotencyKey::new("key-1").unwrap();
    let outgoing = Outgoing {
        message: &message,
        idempotency_key: &key,
        message_id: &MessageId::default(),
        revision: Revision(42),
        lane: 3,
    };
    let stored = producer.send(outgoing, TIMEOUT).await.unwrap();

    let got = receive(&consumer, 1).await.remove(0);
    assert_eq!(got.message.body, "hello");
    assert_eq!(got.message.key, message.key);
    assert_eq!(got.message.tag, message.tag);
    assert_eq!(got.message.ordering_key, message.ordering_key);
    let mut properties = got.message.properties.clone();
    properties.sort();
    let expected = [("a", "2 \u{fc}"), ("b", "1")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(properties, expected);
    assert_eq!(got.message.idempotency_key, Some(key));
    assert_eq!(got.revision, Some(Revision(42)));
    assert_eq!(got.attempt, 1);
    assert_eq!(got.message_id, stored.message_id);
    assert_eq!(got.queue, stored.queue);
    if let Some(offset) = stored.offset {
        assert_eq!(got.offset, offset);
    }
}

pub(crate) async fn one_lane_is_one_queue_in_order(cluster: Cluster) {
    let (topic, _) = cluster.topic(4).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    for number in 0..20 {
        let message = Message::new(number.to_string());
        send(&producer, &message, 6).await.unwrap();
    }
    let all = receive(&consumer, 20).await;
    let bodies: Vec<_> = all.iter().map(body).collect();
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
    assert!(all.iter().all(|incoming| incoming.queue == all[0].queue));
}

pub(crate) async fn lanes_spread_over_all_queues(cluster: Cluster) {
    let (topic, _) = cluster.topic(4).await;
    let producer = cluster.producer(&topic).await;
    let mut queues: Vec<QueueId> = Vec::new();
    for lane in 0..4 {
        let stored = send(&producer, &Message::new("x"), lane).await.unwrap();
        queues.push(stored.queue);
    }
    queues.sort();
    queues.dedup();
    assert_eq!(queues.len(), 4);
}

pub(crate) async fn a_body_above_the_limit_is_an_invalid_message(cluster: Cluster) {
    let Some(limit) = cluster.capability.max_body_bytes else {
        return;
    };
    let (topic, settings) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let group = unique("group");
    cluster.admin.create_group(&group).await.unwrap();
    let message = Message::new(Bytes::from(vec![b'x'; limit + 1]));
    let error = send(&producer, &message, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    assert_eq!(error.persisted(), Persisted::No);
    assert_eq!(cluster.total(&topic, &group, &settings).await, 0);
    // The producer is as good as before.
    send(&producer, &Message::new("x"), 0).await.unwrap();
}

pub(crate) async fn a_property_with_a_separator_is_an_invalid_message(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    for message in [
        Message::new("x").with_property("a", "b\u{1}c"),
        Message::new("x").with_property("a\u{2}", "b"),
        Message::new("x").with_key("a\u{1}b"),
        Message::new("x").with_tag("a\u{2}b"),
        Message::new("x").with_ordering_key("a\u{2}b"),
    ] {
        let error = send(&producer, &message, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage);
        assert_eq!(error.persisted(), Persisted::No);
    }
}

pub(crate) async fn an_unknown_topic_is_not_found(cluster: Cluster) {
    let client = cluster.client(&unique("client")).await;
    let error = client.producer(&unique("nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[cfg(feature = "memory")]
pub(crate) async fn a_full_cluster_throttles_and_recovers_with_a_deleted_topic() {
    let cluster = embedded_with(|config| config.max_stored_bytes = 10_000);
    let (first, _) = cluster.topic(1).await;
    let (second, _) = cluster.topic(1).await;
    let producer = cluster.producer(&first).await;
    let message = Message::new(vec![b'x'; 1000]);
    let error = loop {
        if let Err(error) = send(&producer, &message, 0).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(error.persisted(), Persisted::No);
    cluster.admin.delete_topic(&first).await.unwrap();
    let error = send(&producer, &message, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let producer = cluster.producer(&second).await;
    send(&producer, &message, 0).await.unwrap();
}

#[cfg(feature = "memory")]
pub(crate) async fn unmanaged_messages_have_their_id_as_key() {
    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let stored = cluster
        .memory()
        .send_unmanaged(&topic, &Message::new("x"), 0)
        .unwrap();
    let consumer = cluster.consumer(&topic, "group").await;
    let got = receive(&consumer, 1).await.remove(0);
    assert_eq!(got.revision, None);
    assert_eq!(got.message_id, stored.message_id);
    assert_eq!(
        got.message.idempotency_key.unwrap().as_str(),
        stored.message_id
    );
}

#[cfg(feature = "memory")]
pub(crate) async fn topics_are_made_by_a_send_only_where_that_is_allowed() {
    let message = Message::new("x");
    let strict = embedded();
    let error = strict
        .memory()
        .send_unmanaged("new", &message, 0)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let generous = embedded_with(|config| config.auto_create_topics = true);
    generous
        .memory()
        .send_unmanaged("new", &message, 0)
        .unwrap();
    assert_eq!(generous.admin.topics().await.unwrap(), ["new"]);
}
