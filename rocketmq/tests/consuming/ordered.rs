//! Queues under locks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade_rocketmq::{Client, Consumer, ConsumerOptions, Request, codes::request};
use tokio::time::Instant;

use crate::support::*;

fn ordered() -> ConsumerOptions {
    let mut options = ConsumerOptions::default();
    options.ordered = true;
    options
}

/// Whether a client gets the lock of the topic's only queue, or gives it back.
async fn ask(client: &Client, code: i32, who: &str, group: &str, topic: &Arc<str>) -> bool {
    let route = client.route(topic).await.unwrap();
    let queue = route.readable(topic).remove(0);
    let broker = &queue.broker;
    let body = format!(
        r#"{{"consumerGroup":"{group}","clientId":"{who}","mqSet":[{{"topic":"{topic}","brokerName":"{broker}","queueId":0}}]}}"#
    );
    let master = route.master(broker).unwrap();
    let request = Request::new(code).body(Bytes::from(body));
    let answer = client.call(master, "the lock", request).await.unwrap();
    answer.body.windows(7).any(|bytes| bytes == b"queueId")
}

async fn rival_gets_it(client: &Client, group: &str, topic: &Arc<str>) -> bool {
    ask(client, request::LOCK_BATCH_MQ, "rival", group, topic).await
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_unlocks_a_queue_unless_something_of_it_is_outstanding() {
    let name = "closing_unlocks_a_queue_unless_something_of_it_is_outstanding";
    on_each(name, async |cluster| {
        let topic = cluster.topic(1).await;
        let producer = cluster.producer(&topic).await;
        send(&producer, (0..2).map(message)).await;
        for acked in [true, false] {
            let group = unique("group");
            let (client, consumer) = cluster.member(&topic, &group, &ordered()).await;
            assert!(!rival_gets_it(&client, &group, &topic).await);
            let held = consumer.receive(1, WAIT).await.unwrap();
            if acked {
                consumer.ack(held[0].token).unwrap();
            }
            consumer.close().await.unwrap();
            let committed = cluster.committed(&topic, &group).await;
            assert_eq!(committed[0].unwrap_or(0), u64::from(acked));
            assert_eq!(rival_gets_it(&client, &group, &topic).await, acked);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_keeps_the_lock_and_the_same_client_goes_on_at_once() {
    let name = "dropping_keeps_the_lock_and_the_same_client_goes_on_at_once";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        send(&cluster.producer(&topic).await, (0..3).map(message)).await;
        let (client, consumer) = cluster.member(&topic, &group, &ordered()).await;
        let held = consumer.receive(1, WAIT).await.unwrap();
        assert_eq!(held.len(), 1);
        drop(consumer);
        assert!(!rival_gets_it(&client, &group, &topic).await);
        let consumer = Consumer::new(&client, &topic, &group, ordered());
        let consumer = consumer.await.unwrap();
        assert_eq!(take(&consumer, 3).await, [0, 1, 2]);
    })
    .await;
}

/// What a broker does that was started anew and gave the lock to the first who asked.
#[tokio::test(flavor = "multi_thread")]
async fn queue_whose_lock_went_to_another_member_is_given_up() {
    let name = "queue_whose_lock_went_to_another_member_is_given_up";
    if !rehearsals(name) {
        return;
    }
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        send(&cluster.producer(&topic).await, (0..3).map(message)).await;
        let (client, consumer) = cluster.member(&topic, &group, &ordered()).await;
        let held = consumer.receive(1, WAIT).await.unwrap();
        let own = client.client_id().to_string();
        ask(&client, request::UNLOCK_BATCH_MQ, &own, &group, &topic).await;
        assert!(rival_gets_it(&client, &group, &topic).await);
        let found = until("the loss is seen", async || {
            consumer.assigned().is_empty().then_some(())
        })
        .await;
        assert!(found < Duration::from_secs(25), "{found:?}");
        assert!(consumer.ack(held[0].token).is_err());
        nothing_comes(&consumer).await;
        ask(&client, request::UNLOCK_BATCH_MQ, "rival", &group, &topic).await;
        assert_eq!(take(&consumer, 3).await, [0, 1, 2]);
        println!("the loss of a lock was seen after {found:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_of_a_member_that_crashed_goes_on_once_its_lock_has_run_out() {
    let name = "queue_of_a_member_that_crashed_goes_on_once_its_lock_has_run_out";
    if !rehearsals(name) {
        return;
    }
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        send(&cluster.producer(&topic).await, (0..3).map(message)).await;
        let (client, consumer) = cluster.member(&topic, &group, &ordered()).await;
        let held = consumer.receive(2, WAIT).await.unwrap();
        consumer.ack(held[0].token).unwrap();
        until("the ack is committed", async || {
            let committed = cluster.committed(&topic, &group).await;
            (committed == [Some(1)]).then_some(())
        })
        .await;
        let crashed = Instant::now();
        drop((consumer, client));
        let (_client, heir) = cluster.member(&topic, &group, &ordered()).await;
        assert_eq!(take(&heir, 2).await, [1, 2]);
        let after = crashed.elapsed();
        assert!(after > Duration::from_secs(40), "{after:?}");
        println!("the queue of a member that crashed went on after {after:?}");
    })
    .await;
}
