//! Receiving.

use std::time::Duration;

use crossfade::{ErrorKind, Message, backend::Subscription};
use tokio::time::Instant;

use crate::support::*;

pub(crate) async fn nothing_there_gives_an_empty_list_when_the_wait_is_over(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let wait = Duration::from_millis(300);
    let start = Instant::now();
    assert!(consumer.receive(5, wait).await.unwrap().is_empty());
    let took = start.elapsed();
    assert!(took >= wait && took < wait * 10, "{took:?}");
    assert!(
        consumer
            .receive(5, Duration::ZERO)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn a_waiting_receive_gets_a_later_message(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let waiting = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.receive(1, Duration::from_secs(30)).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    send(&producer, &Message::new("late"), 1).await.unwrap();
    let got = waiting.await.unwrap().unwrap();
    assert_eq!(body(&got[0]), "late");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

pub(crate) async fn at_most_max_are_given(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    send_numbers(&producer, 10).await;
    let mut all = Vec::new();
    while all.len() < 10 {
        let some = consumer.receive(3, Duration::from_secs(30)).await.unwrap();
        assert!((1..=3).contains(&some.len()));
        all.extend(some);
    }
    assert_eq!(numbers(&all), (0..10).collect::<Vec<_>>());
    assert!(
        consumer
            .receive(0, Duration::from_secs(1))
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn the_fetch_pauses_at_the_outstanding_limit(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 10).await;
    let mut subscription = Subscription::new(topic.as_str(), unique("group"));
    subscription.max_outstanding = Some(4);
    let consumer = cluster.subscribe(&subscription).await;
    let mut all = receive(&consumer, 4).await;
    receive_nothing(&consumer).await;
    for done in 0..6 {
        consumer.ack(all[done].token).await.unwrap();
        all.extend(receive(&consumer, 1).await);
    }
    assert_eq!(numbers(&all), (0..10).collect::<Vec<_>>());
}

pub(crate) async fn an_ack_lets_a_receive_go_on_that_waits_at_the_limit(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 2).await;
    let mut subscription = Subscription::new(topic.as_str(), unique("group"));
    subscription.max_outstanding = Some(1);
    let consumer = cluster.subscribe(&subscription).await;
    let first = receive(&consumer, 1).await;
    let waiting = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.receive(1, Duration::from_secs(30)).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    ack_all(&consumer, &first).await;
    let second = waiting.await.unwrap().unwrap();
    assert_eq!(
        (body(&first[0]), body(&second[0])),
        ("0".into(), "1".into())
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[cfg(feature = "memory")]
pub(crate) async fn a_queue_that_does_not_get_on_keeps_no_other_from_being_read() {
    for ordered in [false, true] {
        let cluster = embedded();
        let (topic, _) = cluster.topic(2).await;
        let producer = cluster.producer(&topic).await;
        let mut subscription = Subscription::new(topic.as_str(), "group");
        subscription.max_outstanding = Some(100);
        subscription.ordered = ordered;
        let consumer = cluster.subscribe(&subscription).await;
        let send_to = async |lane: u64, count: usize| {
            for _ in 0..count {
                send(&producer, &Message::new("a"), lane).await.unwrap();
            }
        };
        send_to(0, 200).await;
        let stuck = receive(&consumer, 50).await;
        receive_nothing(&consumer).await;
        for _ in 0..200 {
            send_to(1, 1).await;
            let other = receive(&consumer, 1).await;
            assert_ne!(other[0].queue, stuck[0].queue);
            ack_all(&consumer, &other).await;
        }
        ack_all(&consumer, &stuck).await;
        send_to(1, 50).await;
        // Both have some: none gives all.
        let both = receive(&consumer, 20).await;
        let of_the_first = both.iter().filter(|got| got.queue == stuck[0].queue);
        assert!((5..=15).contains(&of_the_first.count()));
    }
}

pub(crate) async fn tags_filter_and_the_offset_passes_the_rest(cluster: Cluster) {
    if !cluster.capability.tags {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let subscription = Subscription::new(topic.as_str(), group.as_str()).with_tags("a || b");
    let consumer = cluster.subscribe(&subscription).await;
    for (lane, tag) in (0..).zip(["a", "c", "b", "d", "a", "c"]) {
        let message = Message::new(tag).with_tag(tag);
        send(&producer, &message, lane).await.unwrap();
    }
    let all = receive(&consumer, 3).await;
    let mut tags: Vec<_> = all.iter().map(body).collect();
    tags.sort();
    assert_eq!(tags, ["a", "a", "b"]);
    receive_nothing(&consumer).await;
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn an_sql_expression_filters_and_the_offset_passes_the_rest(cluster: Cluster) {
    if !cluster.capability.sql_filter {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    for price in 0..6u64 {
        let message = Message::new(price.to_string()).with_property("price", price.to_string());
        send(&producer, &message, price).await.unwrap();
    }
    let client = cluster.client(&unique("consumer")).await;
    let subscription =
        |expression: &str| Subscription::new(topic.as_str(), group.as_str()).with_sql(expression);
    let consumer = match client.consumer(&subscription("price >= 4")).await {
        Ok(consumer) => consumer,
        // A broker may have it switched off, and says what to do.
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            assert!(error.message().contains("enablePropertyFilter"), "{error}");
            return skip(&format!("an SQL92 filter: {error}"));
        }
        Err(error) => panic!("{error:?}"),
    };
    let all = receive(&consumer, 2).await;
    assert_eq!(numbers(&all), [4, 5]);
    receive_nothing(&consumer).await;
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
    consumer.close().await.unwrap();
    let refused = client.consumer(&subscription("price >=")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidConfig);
}

pub(crate) async fn a_dropped_receive_loses_nothing(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    let mut all = Vec::new();
    for number in 0..20u64 {
        let message = Message::new(number.to_string());
        let (sent, received) = tokio::join!(
            send(&producer, &message, number),
            // Given up at odd moments: before, while and after the message arrives.
            tokio::time::timeout(
                Duration::from_micros(number * 150),
                consumer.receive(1, Duration::from_secs(5))
            ),
        );
        sent.unwrap();
        all.extend(received.ok().into_iter().flat_map(Result::unwrap));
    }
    let rest = receive(&consumer, 20 - all.len()).await;
    all.extend(rest);
    assert_eq!(numbers(&all), (0..20).collect::<Vec<_>>());
}

pub(crate) async fn two_groups_get_every_message_each(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let first = cluster.consumer(&topic, &unique("group")).await;
    let second = cluster.consumer(&topic, &unique("group")).await;
    send_numbers(&producer, 6).await;
    for consumer in [first, second] {
        let all = receive(&consumer, 6).await;
        assert_eq!(numbers(&all), (0..6).collect::<Vec<_>>());
        receive_nothing(&consumer).await;
    }
}

#[cfg(feature = "memory")]
pub(crate) async fn two_tasks_share_one_consumer() {
    let cluster = embedded();
    let (topic, _) = cluster.topic(4).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    let task = || {
        let consumer = consumer.clone();
        tokio::spawn(async move {
            let mut all = Vec::new();
            loop {
                let some = consumer.receive(1, Duration::from_secs(5)).await.unwrap();
                if some.is_empty() {
                    return all;
                }
                ack_all(&consumer, &some).await;
                all.extend(some);
                tokio::task::yield_now().await;
            }
        })
    };
    let (first, second) = (task(), task());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    send_numbers(&producer, 500).await;
    let (mut all, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(!all.is_empty() && !second.is_empty());
    all.extend(second);
    assert_eq!(numbers(&all), (0..500).collect::<Vec<_>>());
    // Nobody slept through a message: the only wait is the last one, for nothing.
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
}

#[cfg(feature = "memory")]
pub(crate) async fn all_tasks_that_wait_are_woken_when_a_seal_ends() {
    use crossfade::Access;

    let cluster = embedded();
    let (topic, settings) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 3).await;
    let set = async |access| {
        let set = cluster.admin.set_access(&topic, &settings, access);
        set.await.unwrap();
    };
    set(Access::Sealed).await;
    let consumer = cluster.consumer(&topic, "group").await;
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let consumer = consumer.clone();
            tokio::spawn(async move { consumer.receive(1, Duration::from_secs(30)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    set(Access::Open).await;
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap().unwrap());
    }
    assert_eq!(numbers(&all), [0, 1, 2]);
    assert!(start.elapsed() < Duration::from_secs(1));
}
