//! Closing a consumer whose last commit fails, against a server of the test's own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use crossfade_rocketmq::{
    Client, ClientOptions, Consumer, ConsumerOptions,
    codes::{request, response},
    frame::{self, Command, Request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// No offset is committed.
const NOTHING: i64 = -1;
const FIRST: i64 = 7;

/// Name server and broker in one: a topic with one queue, whose first message is [`FIRST`], and a group without an offset.
struct Server {
    address: String,
    takes_commits: AtomicBool,
    /// Commits get no answer.
    stuck: AtomicBool,
    committed: AtomicI64,
    /// Commits and goodbyes, in the order in which they came.
    heard: Mutex<Vec<i32>>,
    news: Notify,
}

impl Server {
    async fn start() -> Arc<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Server {
            address: listener.local_addr().unwrap().to_string(),
            takes_commits: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            committed: AtomicI64::new(NOTHING),
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
                    stream.write_all(&answer).await.unwrap();
                }
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Waits until so many commits and goodbyes were heard.
    async fn heard(&self, count: usize) -> Vec<i32> {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let heard = self.heard.lock().unwrap().clone();
                if heard.len() >= count {
                    return heard;
                }
                self.news.notified().await;
            }
        });
        waited.await.expect("the broker hears of it")
    }

    fn answer(&self, command: &Command) -> Option<Vec<u8>> {
        let (mut code, mut offset, mut body) = (response::SUCCESS, NOTHING, String::new());
        if matches!(
            command.code,
            request::UPDATE_CONSUMER_OFFSET | request::UNREGISTER_CLIENT
        ) {
            self.heard.lock().unwrap().push(command.code);
            self.news.notify_one();
        }
        match command.code {
            request::UPDATE_CONSUMER_OFFSET if self.stuck.load(Ordering::SeqCst) => return None,
            // There is nothing to pull, for longer than the test takes.
            request::PULL_MESSAGE => return None,
            request::GET_ROUTEINFO_BY_TOPIC => {
                body = format!(
                    r#"{{"brokerDatas":[{{"cluster":"c","brokerName":"b","brokerAddrs":{{"0":"{}"}}}}],
                    "queueDatas":[{{"brokerName":"b","readQueueNums":1,"writeQueueNums":1,"perm":6}}]}}"#,
                    self.address
                );
            }
            request::GET_CONSUMER_LIST_BY_GROUP => {
                r#"{"consumerIdList":["one"]}"#.clone_into(&mut body);
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
            r#"{{"code":{code},"flag":1,"language":"JAVA","opaque":{},"version":0,"extFields":{{"offset":"{offset}"}}}}"#,
            command.opaque
        );
        let mut frame = Vec::new();
        frame.put_u32(u32::try_from(4 + header.len() + body.len()).unwrap());
        frame.put_u32(u32::try_from(header.len()).unwrap());
        frame.extend_from_slice(header.as_bytes());
        frame.extend_from_slice(body.as_bytes());
        Some(frame)
    }
}

async fn consumer(server: &Server) -> (Client, Consumer) {
    let client = Client::new(ClientOptions::new([&server.address], "one")).unwrap();
    let consumer = Consumer::new(&client, "orders", "billing", ConsumerOptions::default())
        .await
        .unwrap();
    let assigned = tokio::time::timeout(Duration::from_secs(30), consumer.ready()).await;
    assigned.unwrap().unwrap();
    (client, consumer)
}

#[tokio::test]
async fn close_after_a_failed_commit_makes_it_and_says_when_it_is_made() {
    let server = Server::start().await;
    let (_client, consumer) = consumer(&server).await;
    for _ in 0..2 {
        consumer.close().await.unwrap_err();
    }
    server.takes_commits.store(true, Ordering::SeqCst);
    consumer.close().await.unwrap();
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn close_after_a_failed_commit_sets_back_nothing_that_another_member_has_committed() {
    let server = Server::start().await;
    let (_client, consumer) = consumer(&server).await;
    consumer.close().await.unwrap_err();
    server.takes_commits.store(true, Ordering::SeqCst);
    server.committed.store(FIRST + 3, Ordering::SeqCst);
    consumer.close().await.unwrap();
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST + 3);
}

#[tokio::test]
async fn close_that_is_given_up_tells_the_broker_and_commits_no_more() {
    let server = Server::start().await;
    let (client, consumer) = consumer(&server).await;
    server.stuck.store(true, Ordering::SeqCst);
    let closing = tokio::time::timeout(Duration::from_millis(200), consumer.close());
    closing
        .await
        .expect_err("the broker does not answer the commit");
    let said = [request::UPDATE_CONSUMER_OFFSET, request::UNREGISTER_CLIENT];
    assert_eq!(server.heard(2).await, said);
    drop(consumer);
    // Answered after all that was sent before it.
    let question = Request::new(request::GET_MIN_OFFSET);
    let answered = client.invoke(&server.address, question, Duration::from_secs(30));
    answered.await.unwrap();
    assert_eq!(server.heard(2).await, said);
}
