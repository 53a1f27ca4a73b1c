//! What the official client sends, this one reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade_rocketmq::{Consumer, ConsumerOptions, Delivery};
use tokio::time::Instant;

use crate::{Pair, content, event::Event};

/// A transaction that only the broker's question ends.
const ROLLED_BACK_WHEN_ASKED: &str = "transaction-check-rollback";

pub(crate) async fn sent_is_received(pair: &Pair) {
    let expected = expected(pair.kind.compressions());
    let (received, ()) = tokio::join!(receive(pair, &expected), receive_in_order(pair));
    let checked = pair.events.until("checked", |checked| {
        let rolled_back = |event: &Event| event.id() == ROLLED_BACK_WHEN_ASKED;
        let none = !checked.iter().any(rolled_back);
        none.then_some(ROLLED_BACK_WHEN_ASKED).into_iter().collect()
    });
    checked.await;
    let all = expected.len() + 1 + 2 + content::ORDERED;
    let sent = pair
        .events
        .until("sent", |sent| (sent.len()..all).collect());
    for event in &sent.await {
        match received.get(event.id()) {
            Some(delivery) => check(event, delivery),
            None => assert!(!expected.contains(event.id()), "{event:?}"),
        }
    }
}

/// What must come: neither a tag that is not subscribed to nor what was rolled back.
fn expected(compressions: &[&str]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (kind, count) in [("normal", 4), ("batch", 4), ("delayed", 1), ("retry", 1)] {
        ids.extend((0..count).map(|n| content::id(kind, n)));
    }
    ids.extend(
        compressions
            .iter()
            .map(|method| content::id("large", method)),
    );
    ids.extend(["commit", "check-commit"].map(|end| content::id("transaction", end)));
    ids
}

/// Reads until all is there, and a little longer. What is to be retried is given back once.
async fn receive(pair: &Pair, expected: &BTreeSet<String>) -> BTreeMap<String, Delivery> {
    let (topic, group) = (
        format!("{}-theirs", pair.prefix),
        format!("{}-ours", pair.prefix),
    );
    let mut options = ConsumerOptions::default();
    options.filter = crossfade_rocketmq::Filter::Tags(content::SUBSCRIBED.to_owned());
    let consumer = Consumer::new(&pair.client, &topic, &group, options)
        .await
        .unwrap();
    let mut received = BTreeMap::new();
    let mut given_back = None;
    loop {
        let complete = received.len() == expected.len();
        let deliveries = consumer.receive(32, Duration::from_secs(1)).await.unwrap();
        if complete && deliveries.is_empty() {
            break;
        }
        let missing = expected.iter().filter(|id| !received.contains_key(*id));
        let missing: Vec<_> = missing.collect();
        let late = Instant::now() > pair.deadline;
        assert!(!late, "{}: not in time: {missing:?}", pair.what);
        for delivery in deliveries {
            let id = delivery.message.property("id").unwrap().to_owned();
            assert!(expected.contains(&id), "{}: {delivery:?}", pair.what);
            assert_eq!(*delivery.message.topic, *topic);
            if id == "retry-0" && given_back.is_none() {
                assert_eq!(delivery.attempt, 1);
                given_back = Some(Arc::clone(&delivery.message));
                let second = Duration::from_secs(1);
                consumer.nack(delivery.token, second).await.unwrap();
                continue;
            }
            if id == "delayed-0" {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let late = now.as_millis() as i64 - delivery.message.born_timestamp_ms;
                assert!(late >= 950, "{}: after {late} ms only", pair.what);
            }
            let attempt = 1 + u32::from(id == "retry-0");
            assert_eq!(delivery.attempt, attempt, "{}: {id}", pair.what);
            consumer.ack(delivery.token).unwrap();
            // A broker may ask before the end arrives, and deliver once for each of the two.
            let ended_twice = id.starts_with("transaction-");
            let earlier = received.insert(id, delivery).filter(|_| !ended_twice);
            assert!(earlier.is_none(), "{}: twice: {earlier:?}", pair.what);
        }
    }
    let first = given_back.unwrap();
    assert_eq!(received["retry-0"].message.message_id(), first.message_id());
    consumer.close().await.unwrap();
    received
}

/// Reads the other topic under the brokers' locks; nothing is given back.
async fn receive_in_order(pair: &Pair) {
    let (topic, group) = (
        format!("{}-theirs-ordered", pair.prefix),
        format!("{}-ours-ordered", pair.prefix),
    );
    let mut options = ConsumerOptions::default();
    options.ordered = true;
    let consumer = Consumer::new(&pair.client, &topic, &group, options)
        .await
        .unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < content::ORDERED {
        let late = Instant::now() > pair.deadline;
        assert!(!late, "{}: not in time: only {numbers:?}", pair.what);
        for delivery in consumer.receive(32, Duration::from_secs(1)).await.unwrap() {
            let (number, _) = content::ordering(&properties(&delivery));
            assert_eq!(delivery.attempt, 1);
            consumer.ack(delivery.token).unwrap();
            numbers.push((number, 1));
        }
    }
    consumer.close().await.unwrap();
    content::check_order(&pair.what, &numbers, None);
}

fn properties(delivery: &Delivery) -> BTreeMap<String, String> {
    let all = delivery.message.properties();
    let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // The first of two with one name counts.
    all.collect::<Vec<_>>().into_iter().rev().collect()
}

/// One message, as they say that they sent it and as it came.
fn check(sent: &Event, delivery: &Delivery) {
    let (id, message) = (sent.id(), &delivery.message);
    assert_eq!(message.body, content::body(id), "{id}");
    content::check(id, &properties(delivery));
    // A batch's answer names the ids of all its messages. The Go client gives those none.
    let ids: Vec<_> = sent.message_id.split(',').collect();
    let known = ids == [""] || ids.contains(&message.message_id());
    assert!(known, "{sent:?}: {message:?}");
    let starts = match sent.property("method") {
        "zlib" => "78",
        "lz4" => "04224d18",
        "zstd" => "28b52ffd",
        _ => "",
    };
    assert!(sent.property("wire").starts_with(starts), "{sent:?}");
    if ["normal", "large"].contains(&sent.property("kind")) {
        let place = (message.queue.queue, message.offset);
        assert_eq!(place, (sent.queue, sent.offset), "{id}");
    }
}
