//! A broker that takes connections and answers nothing, beside one that does.

use std::{sync::atomic::Ordering, time::Duration};

use crossfade_rocketmq::{Client, ClientOptions, Consumer, ConsumerOptions};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::{
    server::{FIRST, Server, TOPIC},
    unreadable::plain,
};

/// Of one request.
const PATIENCE: Duration = Duration::from_millis(300);
/// Asked one after the other, they would take three times [`LONGEST`].
const QUEUES: u32 = 100;
const LONGEST: Duration = Duration::from_secs(10);

#[tokio::test]
async fn broker_that_does_not_answer_keeps_queues_of_others_back_once_and_not_for_each_of_its_own()
{
    let server = Server::start(vec![plain(FIRST, "text")]).await;
    server.takes_commits.store(true, Ordering::SeqCst);
    // The kernel takes connections; nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    *server.neighbour.lock().unwrap() = Some((address, QUEUES));
    let mut options = ClientOptions::new([&*server.address], "one");
    options.request_timeout = PATIENCE;
    let client = Client::new(options).unwrap();
    let consumer = Consumer::new(&client, TOPIC, "billing", ConsumerOptions::default());
    let consumer = consumer.await.unwrap();
    let joined = Instant::now();
    while consumer.assigned().is_empty() {
        let waited = joined.elapsed();
        assert!(waited < LONGEST, "nothing is assigned after {waited:?}");
        sleep(Duration::from_millis(10)).await;
    }
    let got = consumer.receive(1, LONGEST).await.unwrap();
    assert_eq!(got[0].message.offset as i64, FIRST);
}
