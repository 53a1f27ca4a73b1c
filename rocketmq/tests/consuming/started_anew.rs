//! The only broker of a cluster is killed and started again while two members read.

use std::collections::BTreeMap;

use crossfade_rocketmq::{Consumer, ConsumerOptions, Persisted};
use tokio::time::Instant;

use crate::{
    clusters::{Clusters, Script},
    support::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn members_keep_their_queues_while_their_only_broker_is_started_anew() {
    let name = "members_keep_their_queues_while_their_only_broker_is_started_anew";
    if !rehearsals(name) {
        return;
    }
    let Some(own) = Clusters::up("started-anew").await else {
        return skip(name, "no clusters of its own");
    };
    for (side, cluster) in own.sides() {
        one_side(&own.script, side, cluster).await;
    }
    own.down().await;
}

async fn one_side(script: &Script, side: &str, cluster: &Cluster) {
    const QUEUES: u32 = 8;
    let (topic, group) = (cluster.topic(QUEUES).await, unique("group"));
    let producer = cluster.producer(&topic).await;
    let options = ConsumerOptions::default();
    let (_one, first) = cluster.member(&topic, &group, &options).await;
    let (_two, second) = cluster.member(&topic, &group, &options).await;
    let members = [&first, &second];
    until("each has its half", async || {
        let halves = members.map(|member| member.assigned().len());
        (halves == [4, 4]).then_some(())
    })
    .await;
    let halves = members.map(Consumer::assigned);
    let mut seen = BTreeMap::new();
    send(&producer, (0..100).map(message)).await;
    until("the first are read", async || {
        read(&members, &mut seen).await;
        (seen.len() == 100).then_some(())
    })
    .await;
    until("the first are committed", async || {
        let committed = cluster.committed(&topic, &group).await;
        (committed.into_iter().flatten().sum::<u64>() == 100).then_some(())
    })
    .await;
    script.run(&format!("kill-broker {side}")).await;
    script.run(&format!("start-broker {side}")).await;
    let back = Instant::now();
    until("the producer is connected again", async || {
        match producer.send(&message(100), 0, WAIT).await {
            Err(error) if error.persisted() == Persisted::No => None,
            sent => {
                sent.unwrap();
                Some(())
            }
        }
    })
    .await;
    send(&producer, (101..200).map(message)).await;
    // Longer than it takes a member's heartbeat to come: that is how long the broker may have been wrong.
    let mut all_after = None;
    while back.elapsed() < 2 * WAIT {
        read(&members, &mut seen).await;
        assert_eq!(members.map(Consumer::assigned), halves, "{side}");
        if seen.len() == 200 {
            all_after.get_or_insert_with(|| back.elapsed());
        }
    }
    assert_eq!(seen.len(), 200, "{side}");
    let twice = seen.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "{side}: {seen:?}");
    println!(
        "{side}: both members kept their 4 queues; 100 of before and 100 of after were read once each, the last {:?} after the broker answered again",
        all_after.unwrap_or_default()
    );
}

/// Reads and acks what is there; how often each came.
async fn read(members: &[&Consumer; 2], seen: &mut BTreeMap<u64, u32>) {
    for member in members {
        for delivery in member.receive(100, QUIET / 10).await.unwrap() {
            let number = number(&delivery);
            *seen.entry(number).or_default() += 1;
            member.ack(delivery.token).unwrap();
        }
    }
}
