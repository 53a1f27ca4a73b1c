//! A master that is gone: its replica is read.

use std::{collections::BTreeSet, sync::Arc};

use crossfade_rocketmq::{Consumer, ConsumerOptions, Request, codes::request};
use tokio::time::Instant;

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
    let (_client, first) = cluster.member(&topic, &group, &options).await;
    let mut seen = take(&first, 50).await;
    let route = cluster.client.route(&topic).await.unwrap();
    let replica = Arc::clone(&route.brokers[0].addresses[&1]);
    // Topics come to it every so often, messages at once.
    let synchronised = until("the replica has everything", async || {
        let known = knows(cluster, &replica, &topic).await?;
        let end = sum(cluster, &replica, &topic, QUEUES, None).await?;
        (known && end == 200).then_some(())
    })
    .await;
    let copied = sum(cluster, &replica, &topic, QUEUES, Some(&group)).await;
    script.run(&format!("kill-broker {side}")).await;
    let killed = Instant::now();
    seen.extend(take(&first, 70).await);
    let read_on = killed.elapsed();
    let told = until("the replica has the offsets", async || {
        let committed = sum(cluster, &replica, &topic, QUEUES, Some(&group)).await?;
        (committed == 120).then_some(())
    })
    .await;
    let route = cluster.client.route(&topic).await.unwrap();
    assert_eq!(route.masters().count(), 0, "{route:?}");
    // Whoever joins goes on where the replica says.
    let (_other, second) = cluster.member(&topic, &group, &options).await;
    let members = [&first, &second];
    until("each has a queue", async || {
        let queues = members.map(|member| member.assigned().len());
        (queues == [1, 1]).then_some(())
    })
    .await;
    let mut by_second = 0;
    until("everything is read", async || {
        seen.extend(read(&first).await);
        let more = read(&second).await;
        by_second += more.len();
        seen.extend(more);
        let all: BTreeSet<_> = seen.iter().collect();
        (all.len() == 200).then_some(())
    })
    .await;
    assert!(by_second > 0, "{side}");
    assert_eq!(seen.len(), 200, "{side}: some were read twice");
    until("the replica has the last offsets", async || {
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
    let mut last = Vec::new();
    until("the last are read", async || {
        for member in members {
            last.extend(read(member).await);
        }
        (last.len() >= 10).then_some(())
    })
    .await;
    last.sort_unstable();
    assert_eq!(last, (200..210).collect::<Vec<_>>(), "{side}");
    let copied = match copied {
        Some(50) => "and the group's offsets",
        _ => "but not the group's offsets",
    };
    println!(
        "{side}: the replica knew the topic {copied} after {synchronised:?}; 70 more were read {read_on:?} after the kill; the replica had their offsets {told:?} later; a member that joined then read {by_second} of the last 80; each of 200 came once; the master had the offsets {back:?} after its start"
    );
}

/// Reads and acks what is there.
async fn read(member: &Consumer) -> Vec<u64> {
    let more = member.receive(100, QUIET / 10).await.unwrap();
    for delivery in &more {
        member.ack(delivery.token).unwrap();
    }
    more.iter().map(number).collect()
}

/// Whether a broker has a topic's settings: without them it gives nothing out.
async fn knows(cluster: &Cluster, address: &Arc<str>, topic: &str) -> Option<bool> {
    let request = Request::new(request::GET_ALL_TOPIC_CONFIG);
    let answer = cluster.client.call(address, "topics", request).await.ok()?;
    let text = String::from_utf8_lossy(&answer.body);
    Some(text.contains(&format!("\"{topic}\"")))
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
