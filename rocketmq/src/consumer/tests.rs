//! Consumers of several topics in one group, and queues that do not get on.

mod brokers;
mod cluster;
mod replica;
mod started_anew;

use std::time::Duration;

use super::{Consumer, ConsumerOptions, Delivery};
use crate::codes::request;
pub(super) use cluster::stored_message;
use cluster::{Cluster, RETRY, offsets, place, take};

/// How long a test looks for what must not come.
const QUIET: Duration = Duration::from_millis(300);

/// Retries of topics that nobody reads have waited long enough.
async fn let_strangers_go() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

async fn nothing_comes(consumer: &Consumer) {
    let more = consumer.receive(1, QUIET).await.unwrap();
    assert!(more.is_empty(), "{more:?}");
}

fn ack(consumer: &Consumer, deliveries: &[Delivery]) {
    for delivery in deliveries {
        consumer.ack(delivery.token).unwrap();
    }
}

#[tokio::test]
async fn retries_of_a_topic_that_is_closed_come_again_when_it_is_opened_again() {
    for dropped in [false, true] {
        let cluster = Cluster::start(&["a"], 1).await;
        cluster.store(RETRY, "orders", 2);
        cluster.store(RETRY, "refunds", 2);
        cluster.store(RETRY, "orders", 1);
        let client = cluster.client();
        let options = ConsumerOptions::default;
        let orders = cluster.consumer(&client, "orders", options()).await;
        let refunds = cluster.consumer(&client, "refunds", options()).await;
        let kept = take(&refunds, 2).await;
        let handed_out = take(&orders, 2).await;
        assert_eq!(
            (offsets(&handed_out), offsets(&kept)),
            (vec![0, 1], vec![2, 3])
        );
        ack(&orders, &handed_out[..1]);
        ack(&refunds, &kept[..1]);
        if dropped {
            drop(orders);
        } else {
            orders.close().await.unwrap();
        }
        let orders = cluster.consumer(&client, "orders", options()).await;
        let again = take(&orders, 2).await;
        assert_eq!(offsets(&again), [1, 4], "dropped: {dropped}");
        ack(&orders, &again);
        // What the other topic had all the time was not fetched twice.
        ack(&refunds, &kept[1..]);
        nothing_comes(&refunds).await;
        cluster
            .until("all is committed", |state| {
                state.committed.get(&place(RETRY, "a", 0)) == Some(&5)
            })
            .await;
    }
}

#[tokio::test]
async fn retries_of_a_topic_that_stays_closed_go_back_to_the_group_and_hold_no_offset_up() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store(RETRY, "orders", 2);
    cluster.store(RETRY, "refunds", 1);
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    let refunds = cluster
        .consumer(&client, "refunds", ConsumerOptions::default())
        .await;
    take(&orders, 1).await;
    ack(&refunds, &take(&refunds, 1).await);
    orders.close().await.unwrap();
    nothing_comes(&refunds).await;
    let sent_back = |count| cluster.state().heard("a", request::CONSUMER_SEND_MSG_BACK) == count;
    assert!(sent_back(0));
    let_strangers_go().await;
    cluster
        .until("all is committed", |state| {
            state.committed.get(&place(RETRY, "a", 0)) == Some(&3)
        })
        .await;
    assert!(sent_back(2));
}

#[tokio::test]
async fn queue_is_fetched_no_further_than_the_span_behind_a_message_that_is_not_acked() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store("orders", "orders", 300);
    let client = cluster.client();
    let options = ConsumerOptions {
        max_span: 100,
        ..ConsumerOptions::default()
    };
    let orders = cluster.consumer(&client, "orders", options).await;
    let stuck = take(&orders, 1).await;
    let mut last = 0;
    loop {
        let more = orders.receive(32, QUIET).await.unwrap();
        let Some(end) = more.last() else { break };
        last = end.message.offset;
        ack(&orders, &more);
    }
    // What one fetch brings may pass it.
    assert!((100..132).contains(&last), "{last}");
    ack(&orders, &stuck);
    assert_eq!(offsets(&take(&orders, 1).await), [last + 1]);
}

#[tokio::test]
async fn queue_that_does_not_get_on_leaves_the_others_their_part() {
    let cluster = Cluster::start(&["a", "b"], 1).await;
    cluster.store("orders", "orders", 500);
    let client = cluster.client();
    let options = ConsumerOptions {
        max_outstanding: 100,
        ..ConsumerOptions::default()
    };
    {
        let mut state = cluster.state();
        let later = (0..500).map(|offset| stored_message(offset, "orders"));
        state
            .stored
            .insert(place("orders", "b", 0), later.collect());
    }
    let orders = cluster.consumer(&client, "orders", options).await;
    // Nothing of the first queue is acked.
    let (mut stuck, mut read) = (0, 0);
    loop {
        let more = orders.receive(32, QUIET).await.unwrap();
        if more.is_empty() {
            break;
        }
        for delivery in more {
            if &*delivery.message.queue.broker == "a" {
                stuck += 1;
            } else {
                read += 1;
                orders.ack(delivery.token).unwrap();
            }
        }
    }
    assert_eq!((stuck, read), (50, 500));
}

#[tokio::test]
async fn full_topic_leaves_room_for_its_retries_and_stops_those_of_no_other() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store("orders", "orders", 40);
    cluster.store(RETRY, "orders", 20);
    cluster.store(RETRY, "refunds", 1);
    cluster.store(RETRY, "orders", 20);
    cluster.store(RETRY, "refunds", 1);
    let client = cluster.client();
    let options = ConsumerOptions {
        max_outstanding: 32,
        ..ConsumerOptions::default()
    };
    let orders = cluster.consumer(&client, "orders", options.clone()).await;
    let refunds = cluster.consumer(&client, "refunds", options).await;
    let first = take(&orders, 64).await;
    nothing_comes(&orders).await;
    let retries = first
        .iter()
        .filter(|one| &*one.message.queue.topic == RETRY);
    assert_eq!(retries.count(), 32);
    assert_eq!(offsets(&take(&refunds, 1).await), [20]);
    // The last one lies behind retries for which there is no room.
    nothing_comes(&refunds).await;
    ack(&orders, &first);
    assert_eq!(offsets(&take(&refunds, 1).await), [41]);
    take(&orders, 16).await;
}

#[tokio::test]
async fn retry_of_a_topic_that_is_opened_a_moment_later_is_not_sent_back() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store(RETRY, "refunds", 1);
    cluster.store(RETRY, "orders", 1);
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    // It is at hand, and waits; so does what lies behind it.
    nothing_comes(&orders).await;
    let refunds = cluster
        .consumer(&client, "refunds", ConsumerOptions::default())
        .await;
    assert_eq!(offsets(&take(&refunds, 1).await), [0]);
    assert_eq!(offsets(&take(&orders, 1).await), [1]);
    assert_eq!(
        cluster.state().heard("a", request::CONSUMER_SEND_MSG_BACK),
        0
    );
}

#[tokio::test]
async fn broker_that_takes_nothing_back_keeps_nobody_from_what_lies_behind() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store(RETRY, "nobodys", 3);
    cluster.store(RETRY, "orders", 1);
    cluster
        .state()
        .refuses
        .insert(("a", request::CONSUMER_SEND_MSG_BACK));
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    nothing_comes(&orders).await;
    let_strangers_go().await;
    ack(&orders, &take(&orders, 1).await);
    cluster.state().refuses.clear();
    cluster
        .until("they went back, and all is committed", |state| {
            state.committed.get(&place(RETRY, "a", 0)) == Some(&4)
        })
        .await;
}
