//! Names inside a namespace.

use std::time::Duration;

use crossfade::{Access, ErrorKind, Message};

use crate::support::*;

pub(crate) async fn names_in_a_namespace_are_bare_for_clients_and_prefixed_on_the_brokers(
    cluster: Cluster,
) {
    let namespace = unique("NS");
    let Some(inside) = cluster.in_namespace(&namespace).await else {
        return;
    };
    let (topic, settings) = inside.topic(2).await;
    let group = unique("group");
    let prefixed = |name: &str| format!("{namespace}%{name}");
    let described = cluster.admin.topic(&prefixed(&topic)).await.unwrap();
    assert!(described.is_some());
    assert!(cluster.admin.topic(&topic).await.unwrap().is_none());
    assert_eq!(
        inside.admin.topics().await.unwrap(),
        std::slice::from_ref(&topic)
    );
    let all = cluster.admin.topics().await.unwrap();
    assert!(all.contains(&prefixed(&topic)), "{all:?}");

    let producer = inside.producer(&topic).await;
    let consumer = inside.consumer(&topic, &group).await;
    send(&producer, &Message::new("a"), 1).await.unwrap();
    let first = receive(&consumer, 1).await.remove(0);
    consumer.nack(first.token, Duration::ZERO).await.unwrap();
    let again = receive(&consumer, 1).await;
    assert_eq!((body(&again[0]), again[0].attempt), ("a".to_owned(), 2));
    ack_all(&consumer, &again).await;
    inside.drained(&topic, &group, &settings).await;

    assert!(inside.admin.group_exists(&group).await.unwrap());
    let exists = cluster.admin.group_exists(&prefixed(&group)).await;
    assert!(exists.unwrap());
    assert_eq!(
        inside.admin.groups(&topic).await.unwrap(),
        std::slice::from_ref(&group)
    );
    let members = inside.admin.members(&group).await.unwrap();
    assert_eq!(members.clients.len(), 1);

    let sealed = inside.admin.set_access(&topic, &settings, Access::Sealed);
    sealed.await.unwrap();
    let error = send(&producer, &Message::new("b"), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sealed);
    assert_eq!(inside.total(&topic, &group, &settings).await, 0);
    let opened = inside.admin.set_access(&topic, &settings, Access::Open);
    opened.await.unwrap();

    // A group from outside has no name inside: it is named, and not left out.
    let stranger = unique("stranger");
    let other = cluster.consumer(&prefixed(&topic), &stranger).await;
    assert_eq!(body(&receive(&other, 1).await[0]), "a");
    let error = eventually("the brokers list the stranger", async || {
        inside.admin.groups(&topic).await.err()
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains(&stranger), "{error}");
}

pub(crate) async fn one_topic_name_in_two_namespaces_is_two_topics(cluster: Cluster) {
    let (Some(one), Some(other)) = (
        cluster.in_namespace(&unique("NS")).await,
        cluster.in_namespace(&unique("NS")).await,
    ) else {
        return;
    };
    let (topic, _) = one.topic(1).await;
    other.admin.create_topic(&topic, 1).await.unwrap();
    eventually("the topic is there", async || {
        other.admin.topic(&topic).await.unwrap()
    })
    .await;
    let group = unique("group");
    let (reads_one, reads_other) = (
        one.consumer(&topic, &group).await,
        other.consumer(&topic, &group).await,
    );
    let producer = one.producer(&topic).await;
    send(&producer, &Message::new("a"), 0).await.unwrap();
    assert_eq!(body(&receive(&reads_one, 1).await[0]), "a");
    receive_nothing(&reads_other).await;
}
