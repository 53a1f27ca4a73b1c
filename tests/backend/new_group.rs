//! Where a group starts.

use crate::support::*;

pub(crate) async fn a_new_group_starts_at_the_first_message(cluster: Cluster) {
    let (topic, _) = cluster.topic(3).await;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 9).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let all = receive(&consumer, 9).await;
    assert_eq!(numbers(&all), (0..9).collect::<Vec<_>>());
}

pub(crate) async fn first_offsets_are_committed_once(cluster: Cluster) {
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 4).await;
    cluster
        .admin
        .commit_first_offsets(&topic, &group, &settings)
        .await
        .unwrap();
    assert!(cluster.admin.group_exists(&group).await.unwrap());
    let committed = async || {
        let backlog = cluster
            .admin
            .backlog(&topic, &group, &settings)
            .await
            .unwrap();
        let offsets = backlog.queues.iter().map(|queue| queue.committed);
        offsets.collect::<Vec<_>>()
    };
    assert_eq!(committed().await, [Some(0), Some(0)]);
    assert!(cluster.admin.groups(&topic).await.unwrap().contains(&group));
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 4).await;
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
    // Offsets that are there are left alone.
    cluster
        .admin
        .commit_first_offsets(&topic, &group, &settings)
        .await
        .unwrap();
    assert_eq!(committed().await, [Some(2), Some(2)]);
}

pub(crate) async fn a_group_goes_on_where_it_stopped(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 4).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 4).await;
    ack_all(&consumer, &all).await;
    consumer.close().await.unwrap();
    drop(consumer);
    send_numbers(&producer, 2).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 2).await;
    assert_eq!(numbers(&all), [0, 1]);
    receive_nothing(&consumer).await;
}
