//! Name server and broker in one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use crossfade_rocketmq::{
    Client, ClientOptions, Consumer, ConsumerOptions, Request,
    codes::{request, response},
    frame::{self, Command},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

pub(crate) const TOPIC: &str = "orders";
/// No offset is committed.
const NOTHING: i64 = -1;
pub(crate) const FIRST: i64 = 7;

/// A topic with one queue, whose first message is [`FIRST`], and a group without an offset.
pub(crate) struct Server {
    pub(crate) address: Arc<str>,
    pub(crate) takes_commits: AtomicBool,
    /// Commits get no answer.
    pub(crate) stuck: AtomicBool,
    pub(crate) committed: AtomicI64,
    /// The route names it as a replica, and no master.
    pub(crate) is_replica: AtomicBool,
    /// So many pulls find something and get nothing, as from a replica of 4.9 that is not to be read from: it tells the offset behind what it found.
    pub(crate) keeps_back: AtomicUsize,
    /// In the route as well: the address of broker `a`, and how many queues it has.
    pub(crate) neighbour: Mutex<Option<(String, u32)>>,
    /// Frames of the server's own, which go out before its next answer.
    own: Mutex<Vec<u8>>,
    /// Messages in the brokers' format, from [`FIRST`] on.
    stored: Vec<Bytes>,
    /// Commits and goodbyes, in the order in which they came.
    heard: Mutex<Vec<i32>>,
    news: Notify,
}

impl Server {
    pub(crate) async fn start(stored: Vec<Bytes>) -> Arc<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Server {
            address: listener.local_addr().unwrap().to_string().into(),
            takes_commits: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            committed: AtomicI64::new(NOTHING),
            is_replica: AtomicBool::new(false),
            keeps_back: AtomicUsize::new(0),
            neighbour: Mutex::default(),
            own: Mutex::default(),
            stored,
            heard: Mutex::default(),
            news: Notify::new(),
        });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        server
    }

    /// Until the client closes the connection.
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(command) = frame::decode(&mut buffer, 1 << 20).unwrap() {
                if let Some(answer) = self.answer(&command) {
                    let own = std::mem::take(&mut *self.own.lock().unwrap());
                    stream.write_all(&[own, answer].concat()).await.unwrap();
                }
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Makes a request of the server's own that wants no answer; the client has had it when this is over.
    pub(crate) async fn ask(&self, client: &Client, code: i32, fields: &str, body: &[u8]) {
        let header = format!(
            r#"{{"code":{code},"flag":2,"language":"JAVA","opaque":0,"version":0,"extFields":{{{fields}}}}}"#
        );
        self.own.lock().unwrap().extend(framed(&header, body));
        let question = Request::new(request::GET_MIN_OFFSET);
        let answered = client.invoke(&self.address, question, Duration::from_secs(30));
        answered.await.unwrap();
    }

    /// Commits and goodbyes until now, once there was a goodbye.
    pub(crate) async fn heard_goodbye(&self) -> Vec<i32> {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let heard = self.heard.lock().unwrap().clone();
                if heard.contains(&request::UNREGISTER_CLIENT) {
                    return heard;
                }
                self.news.notified().await;
            }
        });
        waited.await.expect("the broker is told")
    }

    /// What a pull finds; `None` holds it for longer than the test takes.
    fn pulled(&self, command: &Command) -> Option<&[Bytes]> {
        let offset: i64 = command.fields.number("queueOffset").unwrap();
        let from = usize::try_from(offset - FIRST).ok()?;
        let found = self.stored.get(from..)?;
        (command.fields.get("topic") == Some(TOPIC) && !found.is_empty()).then_some(found)
    }

    fn answer(&self, command: &Command) -> Option<Vec<u8>> {
        let mut next = NOTHING;
        let (mut code, mut offset, mut body) = (response::SUCCESS, NOTHING, Vec::new());
        if matches!(
            command.code,
            request::UPDATE_CONSUMER_OFFSET | request::UNREGISTER_CLIENT
        ) {
            self.heard.lock().unwrap().push(command.code);
            self.news.notify_one();
        }
        match command.code {
            request::UPDATE_CONSUMER_OFFSET if self.stuck.load(Ordering::SeqCst) => return None,
            request::PULL_MESSAGE => {
                body = self.pulled(command)?.concat();
                next = FIRST + self.stored.len() as i64;
                let left = self.keeps_back.load(Ordering::SeqCst);
                if left > 0 {
                    self.keeps_back.store(left - 1, Ordering::SeqCst);
                    body.clear();
                    code = response::PULL_RETRY_IMMEDIATELY;
                }
            }
            request::GET_ROUTEINFO_BY_TOPIC => {
                let id = u8::from(self.is_replica.load(Ordering::SeqCst));
                let mut brokers = broker("b", id, &self.address);
                let mut queues = queues("b", 1);
                if let Some((address, count)) = &*self.neighbour.lock().unwrap() {
                    brokers += &format!(",{}", broker("a", 0, address));
                    queues += &format!(",{}", self::queues("a", *count));
                }
                let route = format!(r#"{{"brokerDatas":[{brokers}],"queueDatas":[{queues}]}}"#);
                body = route.into_bytes();
            }
            request::GET_CONSUMER_LIST_BY_GROUP => {
                body = br#"{"consumerIdList":["one"]}"#.to_vec();
            }
            request::GET_MIN_OFFSET => offset = FIRST,
            request::QUERY_CONSUMER_OFFSET => match self.committed.load(Ordering::SeqCst) {
                NOTHING => code = response::QUERY_NOT_FOUND,
                committed => offset = committed,
            },
            request::UPDATE_CONSUMER_OFFSET if self.takes_commits.load(Ordering::SeqCst) => {
                let committed = command.fields.number("commitOffset").unwrap();
                self.committed.store(committed, Ordering::SeqCst);
            }
            request::UPDATE_CONSUMER_OFFSET => code = response::SYSTEM_ERROR,
            _ => {}
        }
        let header = format!(
            r#"{{"code":{code},"flag":1,"language":"JAVA","opaque":{},"version":0,"extFields":{{"offset":"{offset}","nextBeginOffset":"{next}"}}}}"#,
            command.opaque
        );
        Some(framed(&header, &body))
    }
}

fn broker(name: &str, id: u8, address: &str) -> String {
    format!(r#"{{"cluster":"c","brokerName":"{name}","brokerAddrs":{{"{id}":"{address}"}}}}"#)
}

fn queues(broker: &str, count: u32) -> String {
    format!(
        r#"{{"brokerName":"{broker}","readQueueNums":{count},"writeQueueNums":{count},"perm":6}}"#
    )
}

fn framed(header: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_u32(u32::try_from(4 + header.len() + body.len()).unwrap());
    frame.put_u32(u32::try_from(header.len()).unwrap());
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A consumer that has its queue.
pub(crate) async fn consumer(server: &Server) -> (Client, Consumer) {
    let mut options = ClientOptions::new([&*server.address], "one");
    // The server shares a busy machine with other tests.
    options.connect_timeout = Duration::from_secs(30);
    options.request_timeout = Duration::from_secs(30);
    let client = Client::new(options).unwrap();
    let consumer = Consumer::new(&client, TOPIC, "billing", ConsumerOptions::default())
        .await
        .unwrap();
    let assigned = tokio::time::timeout(Duration::from_secs(30), consumer.ready()).await;
    assigned.unwrap().unwrap();
    (client, consumer)
}
