//! RocketMQ peers that misbehave, on sockets of this process: no broker is needed.
#![cfg(feature = "rocketmq")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use crossfade::{
    BoxFuture, Client, Error, ErrorKind, Message, Persisted, Side,
    backend::{KEY_PROPERTY, TransactionChecker, TransactionEnd, registry},
    control::{FixedPlans, wire::Clusters},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use crossfade_rocketmq::{
    Command,
    codes::{self, request},
    frame,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What the broker does with a send.
#[derive(Clone, Copy)]
enum Fate {
    Stored,
    /// Half an answer, then the end of the connection.
    CutOff,
    /// Stored, on a master without the replica that it should have.
    Unreplicated,
}

/// Name server and broker in one.
struct Peer {
    address: String,
    script: Mutex<VecDeque<Fate>>,
    /// After the script.
    always: Fate,
    /// The idempotency keys of all sends.
    keys: Mutex<Vec<String>>,
    /// The ids by which others tell them apart.
    unique_ids: Mutex<Vec<String>>,
    /// How transactions ended: `commitOrRollback`.
    ends: Mutex<Vec<String>>,
}

impl Peer {
    async fn start(script: impl IntoIterator<Item = Fate>, always: Fate) -> Arc<Peer> {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Arc::new(Peer {
            address: server.local_addr().unwrap().to_string(),
            script: Mutex::new(script.into_iter().collect()),
            always,
            keys: Mutex::default(),
            unique_ids: Mutex::default(),
            ends: Mutex::default(),
        });
        let serving = Arc::clone(&peer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = server.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        peer
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(command) = frame::decode(&mut buffer, 64 << 20).unwrap() {
                let (bytes, ends) = self.answer(&command);
                if stream.write_all(&bytes).await.is_err() || ends {
                    return;
                }
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    fn answer(&self, command: &Command) -> (Vec<u8>, bool) {
        let address = &self.address;
        let broker =
            format!(r#"{{"cluster":"c","brokerName":"a","brokerAddrs":{{"0":"{address}"}}}}"#);
        match command.code {
            request::GET_BROKER_CLUSTER_INFO => (
                response(
                    command,
                    "{}",
                    &format!(
                        r#"{{"brokerAddrTable":{{"a":{broker}}},"clusterAddrTable":{{"c":["a"]}}}}"#
                    ),
                ),
                false,
            ),
            request::GET_ROUTEINFO_BY_TOPIC => (
                response(
                    command,
                    "{}",
                    &format!(
                        r#"{{"brokerDatas":[{broker}],"queueDatas":[{{"brokerName":"a","perm":6,"readQueueNums":2,"writeQueueNums":2}}]}}"#
                    ),
                ),
                false,
            ),
            request::SEND_MESSAGE_V2 => {
                let properties = command.fields.get("i").unwrap_or_default();
                let named = |name: &str| {
                    let mut properties = properties.split('\u{2}');
                    let start = format!("{name}\u{1}");
                    let value = properties.find_map(|property| property.strip_prefix(&start));
                    value.unwrap().to_owned()
                };
                self.keys.lock().unwrap().push(named(KEY_PROPERTY));
                self.unique_ids.lock().unwrap().push(named("UNIQ_KEY"));
                let fields = r#"{"msgId":"7F00000100002A9F0000000000001000","queueId":"0","queueOffset":"5"}"#;
                let stored = response(command, fields, "");
                match self
                    .script
                    .lock()
                    .unwrap()
                    .pop_front()
                    .unwrap_or(self.always)
                {
                    Fate::Stored => (stored, false),
                    Fate::CutOff => (stored[..stored.len() / 2].to_vec(), true),
                    Fate::Unreplicated => {
                        let code = codes::response::SLAVE_NOT_AVAILABLE;
                        (response_with(code, command, fields, ""), false)
                    }
                }
            }
            request::END_TRANSACTION => {
                let end = command.fields.get("commitOrRollback").unwrap_or_default();
                self.ends.lock().unwrap().push(end.to_owned());
                (response(command, "{}", ""), false)
            }
            _ => (response(command, "{}", ""), false),
        }
    }

    fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }
}

fn response(command: &Command, fields: &str, body: &str) -> Vec<u8> {
    response_with(codes::response::SUCCESS, command, fields, body)
}

fn response_with(code: i32, command: &Command, fields: &str, body: &str) -> Vec<u8> {
    let header = format!(
        r#"{{"code":{code},"flag":1,"language":"JAVA","opaque":{},"version":399,"extFields":{fields}}}"#,
        command.opaque
    );
    let mut bytes = Vec::new();
    bytes.put_u32((4 + header.len() + body.len()) as u32);
    bytes.put_u32(header.len() as u32);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// A client that writes to the first peer, and may write to the second.
async fn client(source: &Peer, target: &Peer) -> Client {
    let plan = TopicPlan {
        topic: "orders".into(),
        stage: Stage::DualWrite,
        weight: Weight::ZERO,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: crossfade::Revision(1),
        previous_revision: crossfade::Revision(0),
    };
    let plans = FixedPlans::new([plan]).with_clusters(Clusters {
        source: Some(format!("rocketmq://{}", source.address)),
        target: Some(format!("rocketmq://{}", target.address)),
    });
    Client::builder()
        .plans(Arc::new(plans))
        .set("producer.max_body_bytes", "8388608")
        .unwrap()
        .set("producer.transaction_group", "orders-sends")
        .unwrap()
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn broker_that_closes_inside_its_answer_gets_the_same_key_again() {
    let source = Peer::start([Fate::CutOff, Fate::CutOff], Fate::Stored).await;
    let target = Peer::start([], Fate::Stored).await;
    let client = client(&source, &target).await;
    let producer = client.producer("orders").await.unwrap();
    let receipt = producer.send(Message::new("x")).await.unwrap();
    assert_eq!(receipt.side, Side::Source);
    assert_eq!(source.keys(), vec![receipt.idempotency_key.as_str(); 3]);
    // So does whoever knows nothing of idempotency keys.
    let ids = source.unique_ids.lock().unwrap().clone();
    assert_eq!(ids, vec![receipt.message_id.as_str(); 3]);
    // It may be stored already: the other side never gets it.
    assert!(target.keys().is_empty());
}

#[tokio::test]
async fn send_to_a_broker_that_always_closes_inside_its_answer_is_maybe_stored() {
    let source = Peer::start([], Fate::CutOff).await;
    let target = Peer::start([], Fate::Stored).await;
    let client = client(&source, &target).await;
    let producer = client.producer("orders").await.unwrap();
    let error: Error = producer.send(Message::new("x")).await.unwrap_err();
    assert_eq!(error.persisted(), Persisted::Maybe, "{error}");
    assert_eq!(error.side(), Some(Side::Source));
    let keys = source.keys();
    assert!(keys.len() > 1 && keys.iter().all(|key| *key == keys[0]));
    assert!(target.keys().is_empty());
}

/// Never asked here.
#[derive(Debug)]
struct Checker;

impl TransactionChecker for Checker {
    fn check<'a>(&'a self, _: &'a Message) -> BoxFuture<'a, TransactionEnd> {
        Box::pin(std::future::ready(TransactionEnd::Unknown))
    }
}

#[tokio::test]
async fn half_message_that_its_broker_cannot_keep_safely_is_rolled_back_and_begins_no_transaction()
{
    const ROLLBACK: &str = "12";
    let source = Peer::start([], Fate::Unreplicated).await;
    let target = Peer::start([], Fate::Unreplicated).await;
    let client = client(&source, &target).await;
    let producer = client.transactional_producer("orders", Arc::new(Checker));
    let producer = producer.await.unwrap();
    let error = producer.begin(Message::new("x")).await.err().unwrap();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Unavailable, Persisted::No),
        "{error}"
    );
    for peer in [source, target] {
        let ends = peer.ends.lock().unwrap().clone();
        assert_eq!(ends, vec![ROLLBACK; peer.keys().len()]);
        assert!(!ends.is_empty());
    }
    // A message without a transaction is stored, if not as safely as it should be.
    let source = Peer::start([], Fate::Unreplicated).await;
    let client = self::client(&source, &source).await;
    let producer = client.producer("orders").await.unwrap();
    producer.send(Message::new("x")).await.unwrap();
}

#[tokio::test]
async fn larger_bodies_go_out_where_the_key_allows_them() {
    let source = Peer::start([], Fate::Stored).await;
    let target = Peer::start([], Fate::Stored).await;
    let client = client(&source, &target).await;
    let producer = client.producer("orders").await.unwrap();
    producer
        .send(Message::new(vec![b'x'; 8 << 20]))
        .await
        .unwrap();
    let error = producer
        .send(Message::new(vec![b'x'; (8 << 20) + 1]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::InvalidMessage, Persisted::No)
    );
    assert_eq!(source.keys().len(), 1);
}

#[tokio::test]
async fn name_server_that_is_down_or_none_is_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("rocketmq://{}", closed.local_addr().unwrap());
    drop(closed);
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = format!("rocketmq://{}", web.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for (address, kind) in [
        (nobody, ErrorKind::Unavailable),
        (stranger, ErrorKind::InvalidConfig),
    ] {
        let opened = tokio::time::timeout(Duration::from_secs(10), registry::open(&address, "c"));
        let error = opened.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains("name server"), "{error}");
    }
}
