//! Every member reads everything.

use std::{path::PathBuf, time::Duration};

use crossfade_rocketmq::{Broadcast, Consumer, ConsumerOptions, ErrorKind};

use crate::support::*;

fn broadcast(offsets_file: Option<PathBuf>) -> ConsumerOptions {
    let mut options = ConsumerOptions::default();
    options.broadcast = Some(Broadcast { offsets_file });
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_broadcast_gets_everything_from_the_end_on() {
    let name = "every_member_of_a_broadcast_gets_everything_from_the_end_on";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(3).await, unique("group"));
        let producer = cluster.producer(&topic).await;
        send(&producer, (0..3).map(message)).await;
        until("the broker tells the ends", async || {
            let mut ends = 0;
            for queue in 0..3 {
                ends += end(&cluster, &topic, queue).await;
            }
            (ends == 3).then_some(())
        })
        .await;
        let (_one, first) = cluster.member(&topic, &group, &broadcast(None)).await;
        let (_two, second) = cluster.member(&topic, &group, &broadcast(None)).await;
        send(&producer, (10..20).map(message)).await;
        for member in [&first, &second] {
            assert_eq!(member.assigned().len(), 3);
            assert_eq!(take(member, 10).await, (10..20).collect::<Vec<_>>());
            nothing_comes(member).await;
        }
        first.close().await.unwrap();
        // The brokers have no offsets of a broadcast: 4.9 says 0 for none.
        let committed = cluster.committed(&topic, &group).await;
        assert!(committed.iter().all(|offset| offset.unwrap_or(0) == 0));
    })
    .await;
}

/// The end of a queue, as the broker tells it.
async fn end(cluster: &Cluster, topic: &str, queue: u32) -> u64 {
    use crossfade_rocketmq::{Request, codes::request};
    let route = cluster.client.route(topic).await.unwrap();
    let master = route.masters().next().unwrap();
    let request = Request::new(request::GET_MAX_OFFSET)
        .text("topic", topic)
        .field("queueId", queue);
    let answer = cluster.client.call(master, "the end", request).await;
    answer.unwrap().fields.number("offset").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn member_of_a_broadcast_goes_on_where_its_file_says() {
    let name = "member_of_a_broadcast_goes_on_where_its_file_says";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(2).await, unique("group"));
        let file = std::env::temp_dir().join(unique("offsets.json"));
        let producer = cluster.producer(&topic).await;
        let options = broadcast(Some(file.clone()));
        let (_client, member) = cluster.member(&topic, &group, &options).await;
        send(&producer, (0..6).map(message)).await;
        // One is given back: it comes again here, and nothing behind it counts before it is acked.
        let mut held = Vec::new();
        while held.len() < 6 {
            held.extend(member.receive(6, WAIT).await.unwrap());
        }
        held.sort_by_key(number);
        let short = Duration::from_millis(10);
        member.nack(held[0].token, short).await.unwrap();
        for delivery in &held[1..5] {
            member.ack(delivery.token).unwrap();
        }
        let again = member.receive(1, WAIT).await.unwrap();
        assert_eq!((number(&again[0]), again[0].attempt), (0, 2));
        member.ack(again[0].token).unwrap();
        member.close().await.unwrap();
        send(&producer, (6..8).map(message)).await;
        // The last one was handed out and not acked.
        let (_client, member) = cluster.member(&topic, &group, &options).await;
        assert_eq!(take(&member, 3).await, [5, 6, 7]);
        nothing_comes(&member).await;
        std::fs::remove_file(file).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_in_order_or_beside_a_shared_topic_is_refused() {
    let name = "broadcast_in_order_or_beside_a_shared_topic_is_refused";
    on_each(name, async |cluster| {
        let (topic, other) = (cluster.topic(1).await, cluster.topic(1).await);
        let group = unique("group");
        let mut both = broadcast(None);
        both.ordered = true;
        let refused = Consumer::new(&cluster.client, &topic, &group, both).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        let shared = ConsumerOptions::default();
        let _shared = Consumer::new(&cluster.client, &topic, &group, shared)
            .await
            .unwrap();
        let refused = Consumer::new(&cluster.client, &other, &group, broadcast(None)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    })
    .await;
}
