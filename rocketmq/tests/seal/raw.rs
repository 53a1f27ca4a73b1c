//! Requests that this crate's clients do not make: a member that broadcasts, POP, a topic's stored configuration in full, and a producer of
//! transactions that brokers can ask.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use crossfade_rocketmq::{
    Client, ReceivedMessage, Request,
    admin::Master,
    codes::{request, response},
    fastjson,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Cluster, PATIENCE, TIMEOUT, unique};

/// Every field that each broker has stored of a topic, whatever it means.
pub(crate) async fn stored_topics(cluster: &Cluster, topic: &str) -> BTreeMap<Arc<str>, Value> {
    let mut stored = BTreeMap::new();
    for master in cluster.masters().await {
        let request = Request::new(request::GET_ALL_TOPIC_CONFIG);
        let answer = cluster.client.call(&master.address, "topics", request);
        let body: Value = fastjson::from_slice(&answer.await.unwrap().body).unwrap();
        let config = body["topicConfigTable"][topic].clone();
        assert!(config.is_object(), "{config}");
        stored.insert(master.broker, config);
    }
    stored
}

/// Joins a group as one that broadcasts, on every broker.
pub(crate) async fn broadcast(cluster: &Cluster, client: &Client, topic: &str, group: &str) {
    let body = json!({
        "clientID": &**client.client_id(),
        "producerDataSet": [],
        "consumerDataSet": [{
            "groupName": group,
            "consumeType": "CONSUME_PASSIVELY",
            "messageModel": "BROADCASTING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
            "subscriptionDataSet": [{
                "topic": topic, "subString": "*", "tagsSet": [], "codeSet": [], "subVersion": 1,
                "classFilterMode": false, "expressionType": "TAG",
            }],
            "unitMode": false,
        }],
    });
    for master in cluster.masters().await {
        let request = Request::new(request::HEART_BEAT).body(body.to_string());
        let answer = client.call(&master.address, "heartbeat", request).await;
        answer.unwrap();
    }
}

/// Takes what is there by POP, never to ack it; the answer's code.
pub(crate) async fn pop(cluster: &Cluster, master: &Master, topic: &str, group: &str) -> i32 {
    const POP_MESSAGE: i32 = 200_050;
    let request = Request::new(POP_MESSAGE)
        .text("consumerGroup", group)
        .text("topic", topic)
        .text("queueId", "-1")
        .text("maxMsgNums", "32")
        .text("invisibleTime", "10000")
        .text("pollTime", "0")
        .field("bornTime", now_ms())
        .text("initMode", "0")
        .text("expType", "TAG")
        .text("exp", "*")
        .text("order", "false");
    let answer = cluster
        .client
        .invoke(&master.address, request, TIMEOUT)
        .await;
    answer.unwrap().code
}

/// Gives a message back, to come again after the first delay level (1 s), and commits past it as a member does that has its answer.
pub(crate) async fn send_back(cluster: &Cluster, group: &str, message: &ReceivedMessage) {
    let masters = cluster.masters().await;
    let queue = &message.queue;
    let master = masters.iter().find(|master| master.broker == queue.broker);
    let address = &master.unwrap().address;
    let request = Request::new(request::CONSUMER_SEND_MSG_BACK)
        .field("offset", message.commit_log_offset)
        .text("group", group)
        .text("delayLevel", "1")
        .text("originMsgId", &message.offset_message_id)
        .text("originTopic", &message.topic)
        .text("unitMode", "false");
    let answer = cluster.client.call(address, "send-back", request).await;
    answer.unwrap();
    let passed = message.offset + 1;
    let commit = cluster
        .admin
        .commit_offset(address, group, &queue.topic, queue.queue, passed);
    commit.await.unwrap();
}

fn now_ms() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_millis()
}

/// A half message: what has to be said to end it.
#[derive(Debug)]
pub(crate) struct Half {
    queue_offset: String,
    commit_log_offset: String,
    id: String,
}

/// A connection of its own on which a broker can ask about transactions.
pub(crate) struct TransactionProducer {
    stream: TcpStream,
    group: String,
    id: String,
}

impl TransactionProducer {
    pub(crate) async fn connect(address: &str) -> Self {
        let mut producer = TransactionProducer {
            stream: TcpStream::connect(address).await.unwrap(),
            group: unique("seal-producers"),
            id: unique("seal-half"),
        };
        let heartbeat = json!({
            "clientID": producer.id,
            "producerDataSet": [{"groupName": producer.group}],
            "consumerDataSet": [],
        });
        let heartbeat = Bytes::from(heartbeat.to_string());
        producer
            .call(request::HEART_BEAT, json!({}), heartbeat)
            .await;
        producer
    }

    /// Sends a half message with the body `7`.
    pub(crate) async fn begin(&mut self, topic: &str) -> Half {
        let id = self.id.clone();
        let properties = format!(
            "UNIQ_KEY\u{1}{id}\u{2}TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{}\u{2}",
            self.group
        );
        let fields = json!({
            "a": self.group, "b": topic, "c": topic, "d": "4", "e": "0", "f": "4", "g": now_ms().to_string(),
            "h": "0", "i": properties, "j": "0", "k": "false", "m": "false",
        });
        let answer = self.call(request::SEND_MESSAGE_V2, fields, Bytes::from_static(b"7"));
        let stored = answer.await["extFields"].take();
        let message_id = stored["msgId"].as_str().unwrap();
        // The last eight bytes of the id.
        let offset = &message_id[message_id.len() - 16..];
        Half {
            queue_offset: stored["queueOffset"].as_str().unwrap().to_owned(),
            commit_log_offset: u64::from_str_radix(offset, 16).unwrap().to_string(),
            id,
        }
    }

    /// Waits until the broker asks.
    pub(crate) async fn question(&mut self) -> Half {
        let asked = async {
            loop {
                let frame = self.read().await;
                if frame["code"] == request::CHECK_TRANSACTION_STATE {
                    return frame["extFields"].clone();
                }
            }
        };
        let fields = timeout(PATIENCE, asked).await.expect("the broker asks");
        let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        Half {
            queue_offset: field("tranStateTableOffset"),
            commit_log_offset: field("commitLogOffset"),
            id: field("transactionId"),
        }
    }

    pub(crate) async fn commit(&mut self, half: &Half) {
        let fields = json!({
            "producerGroup": self.group, "tranStateTableOffset": half.queue_offset,
            "commitLogOffset": half.commit_log_offset, "commitOrRollback": "8", "fromTransactionCheck": "false",
            "msgId": half.id, "transactionId": half.id,
        });
        self.call(request::END_TRANSACTION, fields, Bytes::new())
            .await;
    }

    async fn call(&mut self, code: i32, fields: Value, body: Bytes) -> Value {
        const OPAQUE: i32 = 77;
        let header = json!({
            "code": code, "language": "OTHER", "version": 407, "opaque": OPAQUE, "flag": 0, "extFields": fields,
        });
        let header = header.to_string();
        let mut frame = Vec::new();
        frame.extend(
            u32::try_from(4 + header.len() + body.len())
                .unwrap()
                .to_be_bytes(),
        );
        frame.extend(u32::try_from(header.len()).unwrap().to_be_bytes());
        frame.extend(header.as_bytes());
        frame.extend(&body);
        self.stream.write_all(&frame).await.unwrap();
        let answered = async {
            loop {
                let frame = self.read().await;
                if frame["opaque"] == OPAQUE && frame["flag"] == 1 {
                    return frame;
                }
            }
        };
        let answer = timeout(TIMEOUT, answered).await.expect("an answer");
        assert_eq!(answer["code"], response::SUCCESS, "{answer}");
        answer
    }

    /// A frame's header.
    async fn read(&mut self) -> Value {
        let length = self.stream.read_u32().await.unwrap() as usize;
        let header = self.stream.read_u32().await.unwrap() as usize;
        let mut frame = vec![0; length - 4];
        self.stream.read_exact(&mut frame).await.unwrap();
        serde_json::from_slice(&frame[..header]).unwrap()
    }
}
