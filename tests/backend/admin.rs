//! Topics, groups and backlogs.

use std::time::Duration;

use crate::support::*;

pub(crate) async fn topics_are_created_listed_and_deleted(cluster: Cluster) {
    let admin = &cluster.admin;
    let topic = unique("topic");
    assert!(admin.topic(&topic).await.unwrap().is_none());
    let listed = async || admin.topics().await.unwrap().contains(&topic);
    assert!(!listed().await);
    admin.create_topic(&topic, 3).await.unwrap();
    eventually("it is listed", async || listed().await.then_some(())).await;
    // One that exists is left as it is.
    admin.create_topic(&topic, 8).await.unwrap();
    let described = admin.topic(&topic).await.unwrap().unwrap();
    assert_eq!(described.settings.queues, 3);
    admin.delete_topic(&topic).await.unwrap();
    eventually("it is gone", async || (!listed().await).then_some(())).await;
    assert!(admin.topic(&topic).await.unwrap().is_none());
    admin.delete_topic(&topic).await.unwrap();
}

pub(crate) async fn groups_are_created_and_found(cluster: Cluster) {
    let admin = &cluster.admin;
    let (topic, _) = cluster.topic(1).await;
    let group = unique("group");
    assert!(!admin.group_exists(&group).await.unwrap());
    admin.create_group(&group).await.unwrap();
    admin.create_group(&group).await.unwrap();
    assert!(admin.group_exists(&group).await.unwrap());
    assert!(!admin.groups(&topic).await.unwrap().contains(&group));
    let _consumer = cluster.consumer(&topic, &group).await;
    eventually("the topic knows its group", async || {
        admin
            .groups(&topic)
            .await
            .unwrap()
            .contains(&group)
            .then_some(())
    })
    .await;
}

pub(crate) async fn a_deleted_group_is_gone_and_begins_anew(cluster: Cluster) {
    let admin = &cluster.admin;
    let (topic, settings) = cluster.topic(1).await;
    let group = unique("group");
    // One that does not exist is no error.
    admin.delete_group(&group).await.unwrap();
    send_numbers(&cluster.producer(&topic).await, 3).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 3).await;
    consumer.nack(all[0].token, Duration::ZERO).await.unwrap();
    ack_all(&consumer, &all[1..]).await;
    consumer.close().await.unwrap();

    admin.delete_group(&group).await.unwrap();
    assert!(!admin.group_exists(&group).await.unwrap());
    assert!(!admin.groups(&topic).await.unwrap().contains(&group));
    for topic in [format!("%RETRY%{group}"), format!("%DLQ%{group}")] {
        assert!(admin.topic(&topic).await.unwrap().is_none(), "{topic}");
    }
    admin.delete_group(&group).await.unwrap();

    admin.create_group(&group).await.unwrap();
    let backlog = admin.backlog(&topic, &group, &settings).await.unwrap();
    assert_eq!((backlog.waiting(), backlog.retrying()), (3, 0));
    admin.delete_group(&group).await.unwrap();
    admin.delete_topic(&topic).await.unwrap();
}

/// So two clusters with stock settings agree.
pub(crate) async fn every_broker_takes_the_delay_levels_for_the_stock_ones(cluster: Cluster) {
    const STOCK: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
    // The second time from what is known of this start.
    for _ in 0..2 {
        let levels = cluster.admin.delay_levels().await.unwrap();
        assert!(!levels.is_empty());
        for (broker, levels) in levels {
            assert_eq!(levels.to_string(), STOCK, "{broker}");
        }
    }
}

pub(crate) async fn a_backlog_counts_what_was_sent_and_not_acked(cluster: Cluster) {
    let (topic, settings) = cluster.topic(3).await;
    let group = unique("group");
    let admin = &cluster.admin;
    admin.create_group(&group).await.unwrap();
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 7).await;
    let backlog = admin.backlog(&topic, &group, &settings).await.unwrap();
    let mut ends: Vec<_> = backlog.queues.iter().map(|queue| queue.end).collect();
    ends.sort_unstable();
    assert_eq!(ends, [2, 2, 3]);
    assert_eq!((backlog.waiting(), backlog.retrying()), (7, 0));
    if cluster.capability.counts_delayed {
        assert_eq!(backlog.delayed, Some(0));
    }
    if cluster.capability.counts_half {
        assert_eq!(backlog.half, Some(0));
    }
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 7).await;
    // Handed out is still owed.
    assert_eq!(cluster.total(&topic, &group, &settings).await, 7);
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}
