//! Requests that this crate's producers and consumers do not make: transactions, timers, and a consumer whose every step the test decides.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, Command, MessageQueue, ReceivedMessage, Request, admin::Master, codes::request,
    codes::response, message,
};

const TIMEOUT: Duration = Duration::from_secs(60);
/// `MessageSysFlag.TRANSACTION_PREPARED_TYPE`, `_COMMIT_TYPE`, `_ROLLBACK_TYPE`.
const PREPARED: u32 = 4;
const COMMIT: u32 = 8;
const ROLLBACK: u32 = 12;
/// Nobody is connected in it, so brokers ask nobody about its transactions.
pub(crate) const PRODUCER_GROUP: &str = "drain-producers";

const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const HALF_GROUP: &str = "CID_RMQ_SYS_TRANS";

/// A stored message: what has to be said to end its transaction.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Stored {
    commit_log_offset: u64,
    queue_offset: u64,
    message_id: String,
}

fn now_ms() -> u128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

/// Sends with these properties.
async fn send(
    client: &Client,
    address: &Arc<str>,
    topic: &str,
    queue: u32,
    body: &str,
    properties: &[(&str, String)],
    flag: u32,
) -> Stored {
    let mut text = format!("UNIQ_KEY\u{1}{body}\u{2}");
    for (name, value) in properties {
        text.push_str(&format!("{name}\u{1}{value}\u{2}"));
    }
    let request = Request::new(request::SEND_MESSAGE_V2)
        .text("a", PRODUCER_GROUP)
        .text("b", topic)
        .text("c", topic)
        .text("d", "4")
        .field("e", queue)
        .field("f", flag)
        .field("g", now_ms())
        .text("h", "0")
        .text("i", &text)
        .text("j", "0")
        .text("k", "false")
        .text("m", "false")
        .body(Bytes::from(body.to_owned()));
    let answer = invoke(client, address, request).await;
    assert_eq!(answer.code, response::SUCCESS, "{topic}: {answer:?}");
    let message_id = answer.fields.get("msgId").unwrap().to_owned();
    Stored {
        // The last eight bytes of the id.
        commit_log_offset: u64::from_str_radix(&message_id[message_id.len() - 16..], 16).unwrap(),
        queue_offset: answer.fields.number("queueOffset").unwrap(),
        message_id: body.to_owned(),
    }
}

/// Asks again while the broker has no time, which it says before it has done anything.
async fn invoke(client: &Client, address: &Arc<str>, request: Request) -> Command {
    loop {
        let answer = client.invoke(address, request.clone(), TIMEOUT).await;
        let answer = answer.unwrap();
        let busy = [response::SYSTEM_BUSY, response::FLOW_CONTROL].contains(&answer.code);
        if !busy {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn send_plain(
    c: &Client,
    at: &Arc<str>,
    topic: &str,
    queue: u32,
    body: &str,
) -> Stored {
    send(c, at, topic, queue, body, &[], 0).await
}

pub(crate) async fn send_delayed(
    c: &Client,
    at: &Arc<str>,
    topic: &str,
    queue: u32,
    body: &str,
    level: u32,
) -> Stored {
    let delay = [("DELAY", level.to_string())];
    send(c, at, topic, queue, body, &delay, 0).await
}

pub(crate) async fn send_timer(
    c: &Client,
    at: &Arc<str>,
    topic: &str,
    queue: u32,
    body: &str,
    delay_ms: u64,
) -> Stored {
    let due = [(
        "TIMER_DELIVER_MS",
        (now_ms() + u128::from(delay_ms)).to_string(),
    )];
    send(c, at, topic, queue, body, &due, 0).await
}

pub(crate) async fn begin(
    c: &Client,
    at: &Arc<str>,
    topic: &str,
    queue: u32,
    body: &str,
) -> Stored {
    let properties = [
        ("TRAN_MSG", "true".to_owned()),
        ("PGROUP", PRODUCER_GROUP.to_owned()),
    ];
    send(c, at, topic, queue, body, &properties, PREPARED).await
}

/// Commits or rolls back.
pub(crate) async fn end(client: &Client, address: &Arc<str>, half: &Stored, commit: bool) {
    let request = Request::new(request::END_TRANSACTION)
        .text("producerGroup", PRODUCER_GROUP)
        .field("tranStateTableOffset", half.queue_offset)
        .field("commitLogOffset", half.commit_log_offset)
        .field("commitOrRollback", if commit { COMMIT } else { ROLLBACK })
        .text("fromTransactionCheck", "false")
        .text("msgId", &half.message_id)
        .text("transactionId", &half.message_id);
    let answer = invoke(client, address, request).await;
    assert_eq!(answer.code, response::SUCCESS, "{answer:?}");
}

/// The copies of these half messages that the broker has made to ask its producer about: `bodies` are theirs. A transaction that ends while
/// it is asked about leaves one behind.
pub(crate) async fn asked_about(
    client: &Client,
    admin: &Admin,
    master: &Master,
    bodies: &BTreeSet<String>,
) -> Vec<Stored> {
    let queue = MessageQueue {
        topic: HALF_TOPIC.into(),
        broker: Arc::clone(&master.broker),
        queue: 0,
    };
    let resolved = admin.committed_offset(&master.address, HALF_GROUP, HALF_TOPIC, 0);
    let mut from = resolved.await.unwrap().unwrap_or(0);
    let mut copies = Vec::new();
    loop {
        let messages = pull(client, &master.address, "TOOLS_CONSUMER", &queue, from).await;
        let Some(last) = messages.last() else {
            return copies;
        };
        from = last.offset + 1;
        for message in &messages {
            let body = String::from_utf8_lossy(&message.body).into_owned();
            if bodies.contains(&body) && message.property("TRANSACTION_CHECK_TIMES").is_some() {
                copies.push(Stored {
                    commit_log_offset: message.commit_log_offset,
                    queue_offset: message.offset,
                    message_id: body,
                });
            }
        }
    }
}

/// The messages from `offset` on; none where the topic cannot be read now.
pub(crate) async fn pull(
    client: &Client,
    address: &Arc<str>,
    group: &str,
    queue: &MessageQueue,
    offset: u64,
) -> Vec<ReceivedMessage> {
    let request = Request::new(request::PULL_MESSAGE)
        .text("consumerGroup", group)
        .text("topic", &queue.topic)
        .field("queueId", queue.queue)
        .field("queueOffset", offset)
        .text("maxMsgNums", "8")
        .text("sysFlag", "4")
        .text("commitOffset", "0")
        .text("suspendTimeoutMillis", "0")
        .text("subscription", "*")
        .text("subVersion", "0")
        .text("expressionType", "TAG");
    let answer = invoke(client, address, request).await;
    if answer.code != response::SUCCESS {
        return Vec::new();
    }
    let decoded = message::decode(answer.body, queue);
    assert!(decoded.error.is_none(), "{:?}", decoded.error);
    decoded.messages
}

/// Gives a message back, to come again after the first delay level (1 s).
pub(crate) async fn give_back(
    client: &Client,
    address: &Arc<str>,
    group: &str,
    topic: &str,
    message: &ReceivedMessage,
) -> bool {
    let request = Request::new(request::CONSUMER_SEND_MSG_BACK)
        .field("offset", message.commit_log_offset)
        .text("group", group)
        .text("delayLevel", "1")
        .text("originMsgId", message.message_id())
        .text("originTopic", topic)
        .text("unitMode", "false")
        .text("maxReconsumeTimes", "16");
    let answer = invoke(client, address, request).await;
    answer.code == response::SUCCESS
}
