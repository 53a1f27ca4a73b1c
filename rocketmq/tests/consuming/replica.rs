//! A master that is gone: its replica is read.

use std::sync::Arc;

use crossfade_rocketmq::{ConsumerOptions, Request, codes::request};

use crate::{
    clusters::{Clusters, Script},
    support::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn queue_is_read_from_a_replica_while_its_master_is_gone() {
    let name = "queue_is_read_from_a_replica_while_its_master_is_gone";
    if !rehearsals(name) {
        return;
    }
    let Some(own) = Clusters::up("replica").await else {
        return skip(name, "no clusters of its own");
    };
    for (side, cluster) in own.sides() {
        one_side(&own.script, side, cluster).await;
    }
    own.down().await;
}

async fn one_side(script: &Script, side: &str, cluster: &Cluster) {
    const QUEUES: u32 = 2;
    script.run(&format!("add-replica {side}")).await;
    let (topic, group) = (cluster.topic(QUEUES).await, unique("group"));
    let producer = cluster.producer(&topic).await;
    send(&producer, (0..200).map(message)).await;
    // Little is fetched ahead: most can only come from the replica.
    let mut options = ConsumerOptions::default();
    options.max_outstanding = 10;
    let (_client, consumer) = cluster.member(&topic, &group, &options).await;
    let mut all = take(&consumer, 50).await;
    // Topics, groups and offsets come to it every so often, messages at once.
    let synchronised = until("the replica has everything", async || {
        let route = cluster.client.route(&topic).await.ok()?;
        let replica = route.brokers[0].addresses.get(&1)?;
        let end = sum(cluster, replica, &topic, QUEUES, None).await?;
        let committed = sum(cluster, replica, &topic, QUEUES, Some(&group)).await?;
        (end == 200 && committed == 50).then_some(())
    })
    .await;
    script.run(&format!("kill-broker {side}")).await;
    let mut rest = Vec::new();
    let after = until("everything is read", async || {
        for delivery in consumer.receive(200, QUIET).await.unwrap() {
            consumer.ack(delivery.token).unwrap();
            rest.push(number(&delivery));
        }
        all.sort_unstable();
        let mut seen = [&all[..], &rest].concat();
        seen.sort_unstable();
        seen.dedup();
        (seen.len() == 200).then_some(())
    })
    .await;
    let repeats = all.len() + rest.len() - 200;
    assert!(rest.len() > 100, "{}", rest.len());
    let route = cluster.client.route(&topic).await.unwrap();
    assert_eq!(route.masters().count(), 0, "{route:?}");
    let replica = route.brokers[0].addresses[&1].clone();
    let told = until("the replica has the offsets", async || {
        let committed = sum(cluster, &replica, &topic, QUEUES, Some(&group)).await?;
        (committed == 200).then_some(())
    })
    .await;
    script.run(&format!("start-broker {side}")).await;
    let back = until("the master has the offsets", async || {
        let route = cluster.client.route(&topic).await.ok()?;
        let master = route.masters().next()?;
        let committed = sum(cluster, master, &topic, QUEUES, Some(&group)).await?;
        (committed == 200).then_some(())
    })
    .await;
    send(&producer, (200..210).map(message)).await;
    assert_eq!(take(&consumer, 10).await, (200..210).collect::<Vec<_>>());
    println!(
        "{side}: the replica knew the topic, the group and its offsets after {synchronised:?}; all of 200 read {after:?} after the kill, {repeats} of them twice; the replica had the offsets {told:?} later; the master {back:?} after its start"
    );
}

/// The ends of all queues at one address, or what a group has committed there.
async fn sum(
    cluster: &Cluster,
    address: &Arc<str>,
    topic: &Arc<str>,
    queues: u32,
    group: Option<&str>,
) -> Option<u64> {
    let mut sum = 0;
    for queue in 0..queues {
        let request = match group {
            None => Request::new(request::GET_MAX_OFFSET),
            Some(group) => {
                Request::new(request::QUERY_CONSUMER_OFFSET).text("consumerGroup", group)
            }
        };
        let request = request.text("topic", topic).field("queueId", queue);
        let answer = cluster.client.call(address, "offsets", request).await;
        sum += answer.ok()?.fields.number::<u64>("offset").ok()?;
    }
    Some(sum)
}
