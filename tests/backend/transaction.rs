//! Half messages, their ends, and the broker's questions.

use std::sync::{Arc, Mutex};

use crossfade::{
    Access, BoxFuture, ErrorKind, IdempotencyKey, Message, Persisted, Result, Revision,
    TransactionChecker, TransactionEnd,
    backend::{BackendProducer, HalfMessage, MessageId, Outgoing},
};

use crate::support::*;

/// Answers as it was told, and keeps what it was asked about.
#[derive(Debug)]
struct Checker {
    answer: TransactionEnd,
    asked: Mutex<Vec<Message>>,
}

fn checker(answer: TransactionEnd) -> Arc<Checker> {
    Arc::new(Checker {
        answer,
        asked: Mutex::default(),
    })
}

impl TransactionChecker for Checker {
    fn check<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, TransactionEnd> {
        self.asked.lock().unwrap().push(message.clone());
        Box::pin(std::future::ready(self.answer))
    }
}

async fn begin(
    producer: &Arc<dyn BackendProducer>,
    message: &Message,
    key: &IdempotencyKey,
) -> Result<HalfMessage> {
    let outgoing = Outgoing {
        message,
        idempotency_key: key,
        message_id: &MessageId::default(),
        revision: Revision(7),
        lane: 1,
    };
    producer.send_half(outgoing, TIMEOUT).await
}

fn key() -> IdempotencyKey {
    IdempotencyKey::new(unique("key")).unwrap()
}

async fn producer(
    cluster: &Cluster,
    topic: &str,
    group: &str,
    checker: Arc<Checker>,
) -> Arc<dyn BackendProducer> {
    let client = cluster.transactional_client(group).await;
    client.transactional_producer(topic, checker).await.unwrap()
}

pub(crate) async fn a_committed_message_arrives_once_and_a_rolled_back_one_never(cluster: Cluster) {
    if !cluster.capability.transactions {
        return;
    }
    let (topic, settings) = cluster.topic(4).await;
    let group = unique("group");
    let unasked = checker(TransactionEnd::Unknown);
    let producer = producer(&cluster, &topic, &unique("producers"), unasked).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let (wanted_key, unwanted_key) = (key(), key());
    let message = Message::new("wanted")
        .with_key("k")
        .with_tag("t")
        .with_property("name", "value");
    let wanted = begin(&producer, &message, &wanted_key).await.unwrap();
    let unwanted = Message::new("unwanted");
    let unwanted = begin(&producer, &unwanted, &unwanted_key).await.unwrap();
    receive_nothing(&consumer).await;
    for (half, end) in [
        (&unwanted, TransactionEnd::Rollback),
        (&wanted, TransactionEnd::Commit),
    ] {
        producer.end_transaction(half, end, TIMEOUT).await.unwrap();
    }
    let all = receive(&consumer, 1).await;
    let got = &all[0];
    assert_eq!(body(got), "wanted");
    assert_eq!(got.message.key, message.key);
    assert_eq!(got.message.tag, message.tag);
    assert_eq!(got.message.properties, message.properties);
    assert_eq!(got.message.idempotency_key, Some(wanted_key));
    assert_eq!(got.revision, Some(Revision(7)));
    assert_eq!(got.queue, wanted.stored.queue);
    assert_eq!(got.message_id, wanted.stored.message_id);
    receive_nothing(&consumer).await;
    ack_all(&consumer, &all).await;
    eventually_slowly("nothing is owed", async || {
        (cluster.total(&topic, &group, &settings).await == 0).then_some(())
    })
    .await;
}

pub(crate) async fn a_half_message_is_owed_until_its_transaction_ends(cluster: Cluster) {
    if !cluster.capability.transactions || !cluster.capability.counts_half {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let (other, other_settings) = cluster.topic(2).await;
    let group = unique("group");
    cluster.admin.create_group(&group).await.unwrap();
    let unasked = checker(TransactionEnd::Unknown);
    let producer = producer(&cluster, &topic, &unique("producers"), unasked).await;
    let half = begin(&producer, &Message::new("x"), &key()).await.unwrap();
    let backlog = async || {
        let backlog = cluster.admin.backlog(&topic, &group, &settings).await;
        backlog.unwrap()
    };
    let before = backlog().await;
    assert_eq!((before.waiting(), before.half), (0, Some(1)));
    assert_eq!(cluster.total(&other, &group, &other_settings).await, 0);
    let ended = producer.end_transaction(&half, TransactionEnd::Rollback, TIMEOUT);
    ended.await.unwrap();
    // Brokers take a resolved one off the list at their next round.
    eventually_slowly("no half message is left", async || {
        (backlog().await.total() == 0).then_some(())
    })
    .await;
}

pub(crate) async fn an_open_transaction_is_asked_about_and_ends_as_the_checker_says(
    cluster: Cluster,
) {
    if !cluster.capability.transactions {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let commits = checker(TransactionEnd::Commit);
    let producer = producer(&cluster, &topic, &unique("producers"), commits.clone()).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let (message, key) = (Message::new("asked").with_key("k"), key());
    let half = begin(&producer, &message, &key).await.unwrap();
    let told = producer.end_transaction(&half, TransactionEnd::Unknown, TIMEOUT);
    told.await.unwrap();
    let all = receive_slowly(&consumer, 1).await;
    assert_eq!(body(&all[0]), "asked");
    let asked = commits.asked.lock().unwrap().remove(0);
    assert_eq!(asked.body, message.body);
    assert_eq!(asked.key, message.key);
    assert_eq!(asked.idempotency_key, Some(key));
    ack_all(&consumer, &all).await;
    eventually_slowly("nothing is owed", async || {
        (cluster.total(&topic, &group, &settings).await == 0).then_some(())
    })
    .await;
}

pub(crate) async fn another_client_of_the_group_ends_what_a_crashed_one_began(cluster: Cluster) {
    if !cluster.capability.transactions {
        return;
    }
    let (topic, _) = cluster.topic(2).await;
    let producers = unique("producers");
    let first = producer(
        &cluster,
        &topic,
        &producers,
        checker(TransactionEnd::Unknown),
    );
    let first = first.await;
    begin(&first, &Message::new("left"), &key()).await.unwrap();
    drop(first);
    let second = checker(TransactionEnd::Commit);
    let _second = producer(&cluster, &topic, &producers, second).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    assert_eq!(body(&receive_slowly(&consumer, 1).await[0]), "left");
}

pub(crate) async fn a_sealed_topic_refuses_half_messages_and_takes_their_commits(cluster: Cluster) {
    if !cluster.capability.transactions || !cluster.capability.seal {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let unasked = checker(TransactionEnd::Unknown);
    let producer = producer(&cluster, &topic, &unique("producers"), unasked).await;
    let half = begin(&producer, &Message::new("late"), &key()).await;
    let half = half.unwrap();
    let set = async |access| {
        let set = cluster.admin.set_access(&topic, &settings, access);
        set.await.unwrap();
    };
    set(Access::Sealed).await;
    let error = begin(&producer, &Message::new("x"), &key()).await;
    let error = error.unwrap_err();
    let told = (error.kind(), error.persisted());
    assert_eq!(told, (ErrorKind::Sealed, Persisted::No));
    let ended = producer.end_transaction(&half, TransactionEnd::Commit, TIMEOUT);
    ended.await.unwrap();
    set(Access::Open).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    assert_eq!(body(&receive(&consumer, 1).await[0]), "late");
}

pub(crate) async fn a_delayed_half_message_and_a_producer_without_a_checker_are_refused(
    cluster: Cluster,
) {
    if !cluster.capability.transactions {
        return;
    }
    let (topic, _) = cluster.topic(1).await;
    let unasked = checker(TransactionEnd::Unknown);
    let transactional = producer(&cluster, &topic, &unique("producers"), unasked).await;
    let delayed = Message::new("x").with_deliver_after(std::time::Duration::from_secs(1));
    let error = begin(&transactional, &delayed, &key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    let plain = cluster.producer(&topic).await;
    let error = begin(&plain, &Message::new("x"), &key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[cfg(feature = "memory")]
pub(crate) async fn questions_are_asked_at_their_times_and_given_up_after_the_last() {
    use std::time::Duration;

    use tokio::time::sleep;

    let cluster = embedded_with(|config| config.transaction_max_checks = 2);
    let (topic, settings) = cluster.topic(1).await;
    cluster.admin.create_group("group").await.unwrap();
    let unsure = checker(TransactionEnd::Unknown);
    let producer = producer(&cluster, &topic, "producers", unsure.clone()).await;
    let half = begin(&producer, &Message::new("x"), &key()).await.unwrap();
    let mut seen = Vec::new();
    for (seconds, asked, owed) in [(5, 0, 1), (2, 1, 1), (30, 2, 1), (30, 2, 0)] {
        sleep(Duration::from_secs(seconds)).await;
        let owes = cluster.total(&topic, "group", &settings).await;
        seen.push((unsure.asked.lock().unwrap().len(), owes) == (asked, owed));
    }
    assert_eq!(seen, [true; 4]);
    // Put aside, and not lost.
    let ended = producer.end_transaction(&half, TransactionEnd::Commit, TIMEOUT);
    ended.await.unwrap();
    let again = producer.end_transaction(&half, TransactionEnd::Commit, TIMEOUT);
    assert_eq!(again.await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(cluster.total(&topic, "group", &settings).await, 1);
}
