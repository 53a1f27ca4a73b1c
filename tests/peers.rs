//! RocketMQ peers that misbehave, on sockets of this process: no broker is needed.
#![cfg(feature = "rocketmq")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut as _, BytesMut};
use crossfade::{
    Client, Error, ErrorKind, Message, Persisted, Side,
    backend::{KEY_PROPERTY, registry},
    control::{FixedPlans, wire::Clusters},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use crossfade_rocketmq::{Command, codes::request, frame};
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
}

/// Name server and broker in one.
struct Peer {
    address: String,
    script: Mutex<VecDeque<Fate>>,
    /// After the script.
    always: Fate,
    /// The idempotency keys of all sends.
    keys: Mutex<Vec<String>>,
}

impl Peer {
    async fn start(script: impl IntoIterator<Item = Fate>, always: Fate) -> Arc<Peer> {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Arc::new(Peer {
            address: server.local_addr().unwrap().to_string(),
            script: Mutex::new(script.into_iter().collect()),
            always,
            keys: Mutex::default(),
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
                let key = properties
                    .split('\u{2}')
                    .find_map(|property| property.strip_prefix(&format!("{KEY_PROPERTY}\u{1}")));
                self.keys.lock().unwrap().push(key.unwrap().to_owned());
                let stored = response(
                    command,
                    r#"{"msgId":"0A0B","queueId":"0","queueOffset":"5"}"#,
                    "",
                );
                match self
                    .script
                    .lock()
                    .unwrap()
                    .pop_front()
                    .unwrap_or(self.always)
                {
                    Fate::Stored => (stored, false),
                    Fate::CutOff => (stored[..stored.len() / 2].to_vec(), true),
                }
            }
            _ => (response(command, "{}", ""), false),
        }
    }

    fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }
}

fn response(command: &Command, fields: &str, body: &str) -> Vec<u8> {
    let header = format!(
        r#"{{"code":0,"flag":1,"language":"JAVA","opaque":{},"version":399,"extFields":{fields}}}"#,
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
