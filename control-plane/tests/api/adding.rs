//! What is not managed, because sealing its target would hurt somebody.

use crossfade::{
    Access, IdempotencyKey, Message, Revision, Side,
    backend::{Outgoing, Subscription},
};
use crossfade_control_plane::{ServeOptions, Server};

use crate::support::*;

async fn send(clusters: &Clusters, side: Side) {
    let producer = clusters.backends[side.index()].producer(TOPIC).await;
    let (message, key) = (Message::new("x"), IdempotencyKey::new("k").unwrap());
    let outgoing = Outgoing {
        message: &message,
        idempotency_key: &key,
        revision: Revision(0),
        lane: 0,
    };
    producer.unwrap().send(outgoing, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn topic_that_is_in_use_on_the_target_is_added_only_with_a_reason() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    // Messages wait there for the group, and a client that nobody registered reads them.
    send(&clusters, Side::Target).await;
    let subscription = Subscription::new(TOPIC, GROUP);
    let consumer = clusters.backends[1].consumer(&subscription).await.unwrap();
    let refused = operator.add(TOPIC, &[GROUP]).await.unwrap_err();
    assert_eq!(refused.code(), "conflict");
    for part in [
        "1 clients consume there",
        "owes 1 messages",
        "--target-in-use",
    ] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert_eq!(clusters.access(Side::Target).await, Access::Open);
    assert!(operator.topics().await.unwrap().is_empty());

    let reason = Some("a test of ours");
    operator
        .add_although(TOPIC, &[GROUP], reason)
        .await
        .unwrap();
    let audit = operator.audit(None, 100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|line| line.entry.reason == "a test of ours")
    );
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn messages_that_wait_on_the_source_are_no_reason_against_a_topic() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    send(&clusters, Side::Source).await;
    server.operator().add(TOPIC, &[GROUP]).await.unwrap();
}

#[tokio::test]
async fn one_cluster_as_both_sides_is_found_out() {
    let clusters = Clusters::new().await;
    let [source, _] = &clusters.addresses;
    let options = ServeOptions::in_memory(source, source);
    let server = Server::start(options).await.unwrap();
    let refused = server.operator().add(TOPIC, &[GROUP]).await.unwrap_err();
    assert_eq!(refused.code(), "conflict");
    assert!(refused.to_string().contains("one cluster"), "{refused}");
    assert_eq!(clusters.access(Side::Source).await, Access::Open);
}
