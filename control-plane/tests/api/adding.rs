//! What is not managed, because sealing its target would hurt somebody.

use std::time::Duration;

use crossfade::{
    Access, IdempotencyKey, Message, Revision, Side,
    backend::{MessageId, Outgoing, Subscription},
    stage::Stage,
};
use crossfade_control_plane::{ServeOptions, Server};
use reqwest::StatusCode;

use crate::support::*;

async fn send(clusters: &Clusters, side: Side) {
    let producer = clusters.backends[side.index()].producer(TOPIC).await;
    let (message, key) = (Message::new("x"), IdempotencyKey::new("k").unwrap());
    let outgoing = Outgoing {
        message: &message,
        idempotency_key: &key,
        message_id: &MessageId::default(),
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

#[tokio::test]
async fn group_that_nobody_named_counts_on_the_target_too() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let target = &clusters.backends[Side::Target.index()];
    target.admin().create_group("reports").await.unwrap();
    let consumer = target
        .consumer(&Subscription::new(TOPIC, "reports"))
        .await
        .unwrap();
    let refused = server.operator().add(TOPIC, &[GROUP]).await.unwrap_err();
    assert_eq!(refused.code(), "conflict");
    assert!(
        refused.to_string().contains("in group reports"),
        "{refused}"
    );
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn topic_that_has_moved_is_added_again_although_its_target_is_in_use() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let mut hand = Hand::new(server.url(), "orders-1");
    let instance = hand.clone().run().await;
    operator
        .advance(TOPIC, Some(Stage::TargetOnly))
        .await
        .unwrap();
    operator.settled(TOPIC, PATIENCE).await.unwrap();
    drop(instance);
    hand.request.leaving = true;
    hand.request.sequence = 0;
    hand.sync(Duration::ZERO).await.unwrap();
    operator.remove(TOPIC).await.unwrap();

    send(&clusters, Side::Target).await;
    let added = operator.add(TOPIC, &[GROUP]).await.unwrap();
    assert_eq!(added.stage, Stage::TargetOnly);
    assert_eq!(clusters.access(Side::Target).await, Access::Open);
}

#[tokio::test]
async fn store_that_is_older_than_an_instance_hands_out_no_plans_and_moves_no_topic() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let mut knows = Hand::new(server.url(), "orders-1");
    knows.request.known_revision = Revision(1_000);
    // It is not answered with what is old, and not cut off either: it goes on with the plans that it has.
    let answer = knows.sync(Duration::ZERO).await.unwrap();
    assert!(answer.plans.plans.is_empty());
    let mut fresh = Hand::new(server.url(), "orders-2");
    let (status, problem) = fresh.sync(Duration::ZERO).await.unwrap_err();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem.message.contains("older copy"), "{problem:?}");
    let plan = reqwest::get(format!("{}/v1/plan", server.url())).await;
    assert_eq!(plan.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let refused = operator.advance(TOPIC, None).await.unwrap_err();
    assert_eq!(refused.code(), "conflict");
}
