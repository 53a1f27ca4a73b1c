//! Half messages, their ends, and the brokers' questions.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use crossfade_rocketmq::{
    DelayLevel, ErrorKind, ReceivedMessage, TransactionChecker, TransactionEnd, message::property,
};

use crate::support::*;

/// Answers as it was told, and keeps what it was asked.
#[derive(Debug)]
struct Checker {
    answer: TransactionEnd,
    asked: Mutex<Vec<ReceivedMessage>>,
}

impl Checker {
    fn new(answer: TransactionEnd) -> Arc<Self> {
        Arc::new(Checker {
            answer,
            asked: Mutex::default(),
        })
    }
}

impl TransactionChecker for Checker {
    fn check(
        &self,
        message: ReceivedMessage,
    ) -> Pin<Box<dyn Future<Output = TransactionEnd> + Send + '_>> {
        self.asked.lock().unwrap().push(message);
        Box::pin(ready(self.answer))
    }
}

pub(crate) async fn committed_message_arrives_once_and_rolled_back_one_never(cluster: Cluster) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    let consumer = consumer(&client, &topic).await;
    let rich = message("wanted")
        .tag("tag")
        .and_then(|message| message.property("name", "value"))
        .unwrap();
    let wanted = producer.send_half(&rich, 3, WAIT).await.unwrap();
    let unwanted = message("unwanted");
    let unwanted = producer.send_half(&unwanted, 3, WAIT).await.unwrap();
    receive_nothing(&consumer, Duration::from_millis(500)).await;
    for (half, end) in [
        (&unwanted, TransactionEnd::Rollback),
        (&wanted, TransactionEnd::Commit),
    ] {
        producer.end_transaction(half, end, WAIT).await.unwrap();
    }
    let received = receive(&consumer, 1, WAIT).await.remove(0);
    assert_eq!(received.body, "wanted");
    assert_eq!((received.queue.queue, received.offset), (3, 0));
    assert_eq!(received.message_id(), wanted.message_id());
    assert_eq!(received.property(property::TAGS), Some("tag"));
    assert_eq!(received.property("name"), Some("value"));
    receive_nothing(&consumer, Duration::from_millis(500)).await;
}

pub(crate) async fn broker_asks_the_checker_and_delivers_what_it_commits(cluster: Cluster) {
    let client = cluster.client();
    let group = unique("producers");
    let (kept, dropped) = (cluster.topic(&client).await, cluster.topic(&client).await);
    let keeps = producer(&client, &kept, &group).await;
    let drops = producer(&client, &dropped, &group).await;
    // One client, one group: the topic decides who is asked.
    let commits = Checker::new(TransactionEnd::Commit);
    let rolls_back = Checker::new(TransactionEnd::Rollback);
    keeps.set_checker(commits.clone());
    drops.set_checker(rolls_back.clone());
    let (reads_kept, reads_dropped) = (
        consumer(&client, &kept).await,
        consumer(&client, &dropped).await,
    );
    let rich = message("kept").tag("tag").unwrap();
    let half = keeps.send_half(&rich, 1, WAIT).await.unwrap();
    let other = drops.send_half(&message("dropped"), 1, WAIT).await.unwrap();
    for (producer, half) in [(&keeps, &half), (&drops, &other)] {
        let told = producer.end_transaction(half, TransactionEnd::Unknown, WAIT);
        told.await.unwrap();
    }
    let received = receive(&reads_kept, 1, ROUND).await.remove(0);
    assert_eq!(received.body, "kept");
    assert_eq!(received.queue.queue, 1);
    let asked = commits.asked.lock().unwrap().remove(0);
    assert_eq!(asked.body, "kept");
    assert_eq!(*asked.topic, *kept);
    assert_eq!(asked.message_id(), half.message_id());
    assert_eq!(asked.property(property::TAGS), Some("tag"));
    let deadline = tokio::time::Instant::now() + ROUND;
    while rolls_back.asked.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nobody asks");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    receive_nothing(&reads_dropped, Duration::from_millis(500)).await;
}

pub(crate) async fn other_client_of_the_group_answers_for_one_that_is_gone(cluster: Cluster) {
    let reader = cluster.client();
    let topic = cluster.topic(&reader).await;
    let group = unique("producers");
    let first = cluster.client();
    let gone = producer(&first, &topic, &group).await;
    gone.send_half(&message("left"), 0, WAIT).await.unwrap();
    drop((gone, first));
    let second = cluster.client();
    let stays = producer(&second, &topic, &group).await;
    stays.set_checker(Checker::new(TransactionEnd::Commit));
    let consumer = consumer(&reader, &topic).await;
    let received = receive(&consumer, 1, ROUND).await.remove(0);
    assert_eq!(received.body, "left");
}

pub(crate) async fn transaction_cannot_be_ended_by_another_group(cluster: Cluster) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let owner = producer(&client, &topic, &unique("owner")).await;
    let stranger = producer(&client, &topic, &unique("stranger")).await;
    let half = owner.send_half(&message("x"), 0, WAIT).await.unwrap();
    let error = stranger.end_transaction(&half, TransactionEnd::Commit, WAIT);
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Broker);
    let ended = owner.end_transaction(&half, TransactionEnd::Rollback, WAIT);
    ended.await.unwrap();
}

pub(crate) async fn delayed_half_message_is_refused_before_it_is_sent(cluster: Cluster) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    for delayed in [
        message("x").delay(DelayLevel::SHORTEST),
        message("x").timer(WAIT),
    ] {
        let error = producer.send_half(&delayed, 0, WAIT).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.address()),
            (ErrorKind::InvalidInput, None)
        );
    }
}
