//! What this client sends, the official one reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade_rocketmq::{
    DelayLevel, ErrorKind, Message, Producer, ProducerOptions, Result, SendResult,
};
use tokio::time::sleep;

use crate::{Pair, content, event::Event, ours_transactions};

pub(crate) const WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn sent_is_handled_by_them(pair: &Pair) {
    // First what takes longest: brokers ask for the end of a transaction after a minute.
    let transactions = ours_transactions::send(pair).await;
    let mut sent = send(pair).await;
    sent.extend(transactions.committed());
    let handled = pair.events.until("handled", |handled| {
        let ids: BTreeSet<_> = of("concurrent", handled).map(Event::id).collect();
        let missing = sent.keys().filter(|id| !ids.contains(id.as_str()));
        let mut missing: Vec<_> = missing.cloned().collect();
        if attempts(handled).len() < 2 {
            missing.push("retry-0 again".to_owned());
        }
        let ordered = of("ordered", handled).count();
        let left = ordered..content::ORDERED + 1;
        missing.extend(left.map(|n| format!("delivery {n} of those in order")));
        missing
    });
    let handled = handled.await;
    transactions.all_were_asked_for(pair).await;
    for event in of("concurrent", &handled) {
        let sent = sent.get(event.id());
        let sent = sent.unwrap_or_else(|| panic!("{}: {event:?}", pair.what));
        check(pair, event, sent);
    }
    assert_eq!(attempts(&handled), [1, 2], "{}", pair.what);
    let ordered = of("ordered", &handled).map(|event| {
        let (number, _) = content::ordering(&event.properties);
        (number, event.attempt)
    });
    let ordered: Vec<_> = ordered.collect();
    content::check_order(&pair.what, &ordered, Some(content::STUMBLE));
}

fn of<'a>(reader: &str, handled: &'a [Event]) -> impl Iterator<Item = &'a Event> {
    handled.iter().filter(move |event| event.reader == reader)
}

/// Of the message that fails once.
fn attempts(handled: &[Event]) -> Vec<u32> {
    let retried = of("concurrent", handled).filter(|event| event.id() == "retry-0");
    retried.map(|event| event.attempt).collect()
}

/// A message that they should handle.
pub(crate) struct Sent {
    pub(crate) at_ms: i64,
    pub(crate) message_id: String,
    pub(crate) result: SendResult,
}

/// One message after the other, a batch, and those in order; the answers to those that they should handle.
async fn send(pair: &Pair) -> BTreeMap<String, Sent> {
    let options = ProducerOptions::default();
    let topic = format!("{}-ours", pair.prefix);
    let producer = Producer::new(&pair.client, &topic, options.clone())
        .await
        .unwrap();
    let ids = |kind, count| (0..count).map(move |n| (kind, content::id(kind, n)));
    let single = [
        ("normal", 4),
        ("unwanted", 1),
        ("delayed", 1),
        ("retry", 1),
        ("large", 1),
    ];
    let single = single
        .into_iter()
        .flat_map(|(kind, count)| ids(kind, count));
    let mut sent = BTreeMap::new();
    for (lane, (kind, id)) in (0..).zip(single) {
        let mut message = message(kind, &id);
        if kind == "delayed" {
            message = message.delay(DelayLevel::SHORTEST);
        }
        let at_ms = now_ms();
        let result = insist(|| producer.send(&message, lane, WAIT)).await;
        let found = content::tag(&id).is_ascii() || pair.kind.finds_tags_of_any_script();
        if kind != "unwanted" && found {
            let message_id = message.unique_id().to_owned();
            let stored = Sent {
                at_ms,
                message_id,
                result,
            };
            sent.insert(id, stored);
        }
    }
    let batch: Vec<_> = ids("batch", 4).map(|(_, id)| id).collect();
    let messages: Vec<_> = batch.iter().map(|id| message("batch", id)).collect();
    let at_ms = now_ms();
    let results = insist(|| producer.send_batch(&messages, 2, WAIT)).await;
    let results = messages.iter().zip(results).map(|(message, result)| Sent {
        at_ms,
        message_id: message.unique_id().to_owned(),
        result,
    });
    sent.extend(batch.into_iter().zip(results));

    let topic = format!("{topic}-ordered");
    let producer = Producer::new(&pair.client, &topic, options).await.unwrap();
    for number in 0..content::ORDERED {
        let kind = match number {
            content::STUMBLE => "stumble",
            _ => "ordered",
        };
        let key = number % content::KEYS;
        let message = message(kind, &content::id("ordered", number))
            .property("ordering", &content::id("key", key))
            .and_then(|message| message.property("number", &number.to_string()))
            .unwrap();
        insist(|| producer.send(&message, key as u64, WAIT)).await;
    }
    sent
}

/// A broker on a busy machine turns requests away.
pub(crate) async fn insist<T, F: Future<Output = Result<T>>>(send: impl Fn() -> F) -> T {
    loop {
        match send().await {
            Ok(stored) => return stored,
            Err(error) if error.kind() == ErrorKind::Throttled => {
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

pub(crate) fn message(kind: &str, id: &str) -> Message {
    Message::new(content::body(id).into())
        .tag(content::tag(id))
        .and_then(|message| message.keys(&content::keys(id)))
        .and_then(|message| message.property("kind", kind))
        .and_then(|message| message.property("id", id))
        .and_then(|message| message.property(content::TEXT.0, content::TEXT.1))
        .and_then(|message| message.property(content::NAME.0, content::NAME.1))
        .unwrap()
}

/// One message, as it was sent and as they say that it came.
fn check(pair: &Pair, handled: &Event, sent: &Sent) {
    let (id, result) = (handled.id(), &sent.result);
    let body = content::body(id);
    assert_eq!(handled.body_bytes, body.len(), "{id}");
    assert_eq!(handled.body_crc32, crc32fast::hash(&body), "{id}");
    content::check(id, &handled.properties);
    assert_eq!(handled.topic, format!("{}-ours", pair.prefix), "{id}");
    assert_eq!(handled.message_id, sent.message_id, "{id}");
    match handled.property("kind") {
        "normal" | "large" | "batch" => {
            let place = (handled.queue, handled.offset);
            assert_eq!(place, (result.queue, result.offset), "{id}");
        }
        "delayed" => {
            let late = handled.at_ms - sent.at_ms;
            assert!(late >= 950, "{}: after {late} ms only", pair.what);
        }
        _ => {}
    }
}
