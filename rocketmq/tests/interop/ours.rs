//! What this client sends, the official one reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade_rocketmq::{
    DelayLevel, ErrorKind, Message, Producer, ProducerOptions, Result, SendResult,
};
use tokio::time::sleep;

use crate::{Pair, content, event::Event};

const WAIT: Duration = Duration::from_secs(10);

pub(crate) async fn sent_is_handled_by_them(pair: &Pair) {
    let sent = send(pair).await;
    let handled = pair.events.until("handled", |handled| {
        let ids: BTreeSet<_> = concurrent(handled).map(Event::id).collect();
        let missing = sent.keys().filter(|id| !ids.contains(id.as_str()));
        let mut missing: Vec<_> = missing.cloned().collect();
        if attempts(handled).len() < 2 {
            missing.push("retry-0 again".to_owned());
        }
        missing
    });
    let handled = handled.await;
    for event in concurrent(&handled) {
        let sent = sent.get(event.id());
        let sent = sent.unwrap_or_else(|| panic!("{}: {event:?}", pair.what));
        check(pair, event, sent);
    }
    assert_eq!(attempts(&handled), [1, 2], "{}", pair.what);
}

fn concurrent(handled: &[Event]) -> impl Iterator<Item = &Event> {
    handled.iter().filter(|event| event.reader == "concurrent")
}

/// Of the message that fails once.
fn attempts(handled: &[Event]) -> Vec<u32> {
    let retried = concurrent(handled).filter(|event| event.id() == "retry-0");
    retried.map(|event| event.attempt).collect()
}

struct Sent {
    at_ms: i64,
    result: SendResult,
}

/// Sends one message after the other; the answers to those that they should handle.
async fn send(pair: &Pair) -> BTreeMap<String, Sent> {
    let topic = format!("{}-ours", pair.prefix);
    let producer = Producer::new(&pair.client, &topic, ProducerOptions::default())
        .await
        .unwrap();
    let mut sent = BTreeMap::new();
    for (kind, count) in [
        ("normal", 4),
        ("unwanted", 1),
        ("delayed", 1),
        ("retry", 1),
        ("large", 1),
    ] {
        for n in 0..count {
            let id = content::id(kind, n);
            let mut message = message(kind, &id);
            if kind == "delayed" {
                message = message.delay(DelayLevel::SHORTEST);
            }
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let at_ms = at_ms.as_millis() as i64;
            let result = insist(|| producer.send(&message, n, WAIT)).await;
            if kind != "unwanted" {
                sent.insert(id, Sent { at_ms, result });
            }
        }
    }
    sent
}

/// A broker on a busy machine turns requests away.
async fn insist<T, F: Future<Output = Result<T>>>(send: impl Fn() -> F) -> T {
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

fn message(kind: &str, id: &str) -> Message {
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
    let id = handled.id();
    let body = content::body(id);
    assert_eq!(handled.body_bytes, body.len(), "{id}");
    assert_eq!(handled.body_crc32, crc32fast::hash(&body), "{id}");
    content::check(id, &handled.properties);
    assert_eq!(handled.topic, format!("{}-ours", pair.prefix), "{id}");
    assert_eq!(handled.message_id, sent.result.message_id, "{id}");
    match handled.property("kind") {
        "normal" | "large" => {
            let place = (handled.queue, handled.offset);
            assert_eq!(place, (sent.result.queue, sent.result.offset), "{id}");
        }
        "delayed" => {
            let late = handled.at_ms - sent.at_ms;
            assert!(late >= 950, "{}: after {late} ms only", pair.what);
        }
        _ => {}
    }
}
