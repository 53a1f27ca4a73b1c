use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::Consumer;
use crate::{
    Delivery, IdempotencyKey, Message, Producer, Side,
    backend::{BackendConsumer, Incoming, Subscription},
    dedup::{Claim, DedupStore},
    fixture::{GROUP, TOPIC, World, key_of, nothing, one, within},
    stage::{Stage, bucket_of},
};

async fn send(producer: &Producer, key: &str, body: &str) -> Side {
    let message = Message::new(body.to_owned()).with_ordering_key(key);
    producer.send(message).await.unwrap().side
}

fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.message.body).unwrap()
}

async fn handle(consumer: &Consumer, expected: &str) {
    let delivery = one(consumer).await;
    assert_eq!(body(&delivery), expected);
    consumer.ack(&delivery).await.unwrap();
}

/// Ordering keys whose queues differ, one for each kind of bucket.
async fn keys_of_two_queues(buckets: [fn(u16) -> bool; 2]) -> [String; 2] {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    for number in 0..40 {
        send(&producer, &format!("k{number}"), "").await;
    }
    let stored = world.stored(Side::Source).await;
    let key = |got: &Incoming| got.message.ordering_key.clone().unwrap();
    let is = |got: &Incoming, wanted: fn(u16) -> bool| wanted(bucket_of(key(got).as_bytes()));
    let first = stored.iter().find(|got| is(got, buckets[0])).unwrap();
    let differs = |got: &&Incoming| is(got, buckets[1]) && got.queue != first.queue;
    let second = stored.iter().find(differs).unwrap();
    [key(first), key(second)]
}

#[tokio::test(start_paused = true)]
async fn key_that_does_not_get_on_keeps_no_other_queue_from_being_fetched() {
    let [stuck, other] = keys_of_two_queues([|_| true; 2]).await;
    let world = World::ordered(Stage::DualWrite, 0).await;
    let (producer, consumer) = (world.producer(), world.narrow_consumer(40));
    for number in 0..100 {
        send(&producer, &stuck, &number.to_string()).await;
    }
    let first = one(&consumer).await;
    nothing(&consumer).await;
    for number in 0..100 {
        let text = format!("other {number}");
        send(&producer, &other, &text).await;
        handle(&consumer, &text).await;
    }
    consumer.ack(&first).await.unwrap();
    for number in 1..100 {
        handle(&consumer, &number.to_string()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn held_messages_of_a_key_that_moved_there_and_back_keep_no_queue_from_its_barrier() {
    let [moving, slow] =
        keys_of_two_queues([|bucket| bucket < 5_000, |bucket| bucket >= 5_000]).await;
    let world = World::ordered(Stage::DualWrite, 0).await;
    let (producer, consumer) = (world.producer(), world.narrow_consumer(40));
    for number in 0..200 {
        send(&producer, &slow, &format!("slow {number}")).await;
    }
    let first = one(&consumer).await;
    for (share, side) in [(5_000, Side::Target), (0, Side::Source)] {
        world.freeze(share);
        world.release(share).await;
        for number in 0..100 {
            assert_eq!(send(&producer, &moving, &number.to_string()).await, side);
        }
    }
    // All that it has fetched by now waits for what it has not fetched yet.
    nothing(&consumer).await;
    consumer.ack(&first).await.unwrap();
    for number in 1..200 {
        handle(&consumer, &format!("slow {number}")).await;
    }
    for number in (0..100).chain(0..100) {
        handle(&consumer, &number.to_string()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn message_waits_for_the_end_of_the_one_before_it_under_its_key_and_for_no_other() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    for (key, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&producer, key, body).await;
    }
    let (first, other) = (one(&consumer).await, one(&consumer).await);
    let mut bodies = [body(&first), body(&other)];
    bodies.sort_unstable();
    assert_eq!(bodies, ["a1", "b1"]);
    nothing(&consumer).await;
    for delivery in [&first, &other] {
        consumer.ack(delivery).await.unwrap();
    }
    handle(&consumer, "a2").await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn failed_handler_is_tried_again_in_place_and_the_offset_does_not_pass_it() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    send(&producer, "a", "a1").await;
    send(&producer, "a", "a2").await;
    for attempt in 1..4 {
        let delivery = one(&consumer).await;
        assert_eq!((body(&delivery), delivery.attempt), ("a1", attempt));
        consumer
            .nack(&delivery, Duration::from_secs(1))
            .await
            .unwrap();
        let owed = world.backlog(Side::Source).await;
        assert_eq!((owed.waiting(), owed.retrying()), (2, 0));
    }
    handle(&consumer, "a1").await;
    handle(&consumer, "a2").await;
}

#[tokio::test(start_paused = true)]
async fn duplicate_of_a_pending_message_blocks_its_key_and_no_other() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    let twin = IdempotencyKey::new("twin").unwrap();
    let scope = crate::dedup::scope(TOPIC, GROUP);
    let elsewhere = "elsewhere".into();
    let claimed = world.dedup.claim(&scope, &twin, &elsewhere).await.unwrap();
    assert_eq!(claimed, Claim::First);
    let message = Message::new("a1").with_ordering_key("a");
    producer
        .send(message.with_idempotency_key(twin.clone()))
        .await
        .unwrap();
    send(&producer, "a", "a2").await;
    send(&producer, "b", "b1").await;
    handle(&consumer, "b1").await;
    nothing(&consumer).await;
    world.dedup.commit(&scope, &twin, &elsewhere).await.unwrap();
    handle(&consumer, "a2").await;
}

#[tokio::test(start_paused = true)]
async fn moved_key_waits_on_the_new_side_until_the_group_has_passed_the_barrier() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let moving = key_of(|bucket| bucket < 5_000);
    let staying = key_of(|bucket| bucket >= 5_000);
    let consumer = world.consumer();
    assert_eq!(send(&producer, &moving, "1").await, Side::Source);
    let first = one(&consumer).await;
    world.freeze(5_000);
    world.release(5_000).await;
    assert_eq!(send(&producer, &moving, "2").await, Side::Target);
    assert_eq!(send(&producer, &staying, "other").await, Side::Source);
    handle(&consumer, "other").await;
    nothing(&consumer).await;
    consumer.ack(&first).await.unwrap();
    handle(&consumer, "2").await;
}

#[tokio::test(start_paused = true)]
async fn another_member_of_the_group_holds_the_barrier_as_well() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let moving = key_of(|bucket| bucket < 5_000);
    let consumers = [world.consumer(), world.consumer()];
    for consumer in &consumers {
        consumer.ready(Duration::from_secs(5)).await.unwrap();
    }
    send(&producer, &moving, "1").await;
    let mut held = None;
    for (index, consumer) in consumers.iter().enumerate() {
        let mut got = consumer.receive(1, Duration::from_secs(2)).await.unwrap();
        held = held.or_else(|| got.pop().map(|delivery| (index, delivery)));
    }
    let (reader, first) = held.unwrap();
    world.freeze(5_000);
    world.release(5_000).await;
    assert_eq!(send(&producer, &moving, "2").await, Side::Target);
    for consumer in &consumers {
        nothing(consumer).await;
    }
    consumers[reader].ack(&first).await.unwrap();
    let mut got = Vec::new();
    for consumer in &consumers {
        got.extend(consumer.receive(1, Duration::from_secs(2)).await.unwrap());
    }
    assert_eq!(got.iter().map(body).collect::<Vec<_>>(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn key_that_moves_there_and_back_waits_for_both_barriers() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let moving = key_of(|bucket| bucket < 5_000);
    let consumer = world.consumer();
    send(&producer, &moving, "1").await;
    let first = one(&consumer).await;
    for (share, text, side) in [(5_000, "2", Side::Target), (0, "3", Side::Source)] {
        world.freeze(share);
        world.release(share).await;
        assert_eq!(send(&producer, &moving, text).await, side);
    }
    nothing(&consumer).await;
    consumer.ack(&first).await.unwrap();
    let second = one(&consumer).await;
    assert_eq!(body(&second), "2");
    nothing(&consumer).await;
    consumer.ack(&second).await.unwrap();
    handle(&consumer, "3").await;
}

#[tokio::test(start_paused = true)]
async fn message_routed_under_a_newer_plan_waits_for_that_plan() {
    let ahead = World::ordered(Stage::DualWrite, 10_000).await;
    ahead.publish(Stage::DualWrite, 10_000);
    let behind = ahead.behind(Stage::DualWrite, 10_000);
    send(&ahead.producer(), "a", "1").await;
    let consumer = behind.consumer();
    nothing(&consumer).await;
    behind.publish(Stage::DualWrite, 10_000);
    handle(&consumer, "1").await;
}

#[tokio::test(start_paused = true)]
async fn side_whose_offsets_cannot_be_asked_holds_moved_keys_and_nothing_else() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let moving = key_of(|bucket| bucket < 5_000);
    let staying = key_of(|bucket| bucket >= 5_000);
    let consumer = world.consumer();
    send(&producer, &moving, "1").await;
    handle(&consumer, "1").await;
    world.freeze(5_000);
    world.release(5_000).await;
    send(&producer, &moving, "2").await;
    send(&producer, &staying, "other").await;
    handle(&consumer, "other").await;
    world.faults[0].stall();
    nothing(&consumer).await;
    world.faults[0].resume();
    handle(&consumer, "2").await;
}

#[tokio::test(start_paused = true)]
async fn queue_goes_to_a_new_member_only_after_the_handler_of_the_old_one_has_ended() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let old = world.consumer();
    old.ready(Duration::from_secs(5)).await.unwrap();
    for number in 0..40 {
        for text in ["1", "2"] {
            send(&producer, &format!("k{number}"), text).await;
        }
    }
    let held = old.receive(40, Duration::from_secs(1)).await.unwrap();
    assert_eq!(held.len(), 40);
    // One store for the group: what the old member has handled is not handled again.
    let new = world.consumer();
    new.ready(Duration::from_secs(5)).await.unwrap();
    // Half the queues are promised to the new member; every one still has a handler of the old one.
    nothing(&new).await;
    for delivery in &held {
        assert_eq!(body(delivery), "1");
        old.ack(delivery).await.unwrap();
    }
    let mut seen = 0;
    for consumer in [&old, &new] {
        let rest = within(5, consumer.receive(40, Duration::from_secs(2))).await;
        let rest = rest.unwrap();
        assert!(!rest.is_empty());
        for delivery in &rest {
            assert_eq!(body(delivery), "2");
            consumer.ack(delivery).await.unwrap();
        }
        seen += rest.len();
    }
    assert_eq!(seen, 40);
}

#[tokio::test(start_paused = true)]
async fn message_that_fails_after_its_queue_was_promised_to_another_member_goes_there() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let old = world.consumer();
    old.ready(Duration::from_secs(5)).await.unwrap();
    for number in 0..40 {
        send(&producer, &format!("k{number}"), "1").await;
    }
    let held = old.receive(40, Duration::from_secs(1)).await.unwrap();
    let new = world.consumer();
    new.ready(Duration::from_secs(5)).await.unwrap();
    nothing(&new).await;
    for delivery in &held {
        let long = Duration::from_secs(3_600);
        old.nack(delivery, long).await.unwrap();
    }
    let there = within(5, new.receive(40, Duration::from_secs(2))).await;
    assert!(!there.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn retried_message_is_not_taken_for_one_of_the_topics_own_queue_of_the_same_number() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let before = world.client(Side::Source, "before");
    // The topic's retries get the number of its last queue, which is the first to be lost.
    for number in 0..3 {
        let topic = format!("other{number}");
        before.admin().create_topic(&topic, 1).await.unwrap();
        let other = Subscription::new(topic, GROUP);
        before.consumer(&other).await.unwrap();
    }
    let unordered = Subscription::new(TOPIC, GROUP);
    let reader = before.consumer(&unordered).await.unwrap();
    send(&producer, "a", "retried").await;
    let got = reader.receive(1, Duration::from_secs(1)).await.unwrap();
    reader.nack(got[0].token, Duration::ZERO).await.unwrap();
    reader.close().await.unwrap();
    send(&producer, "a", "first").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let consumer = world.consumer();
    let first = one(&consumer).await;
    assert_eq!(body(&first), "first");
    let other = world.consumer();
    nothing(&other).await;
    consumer.ack(&first).await.unwrap();
    handle(&consumer, "retried").await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

/// A member of the group without all that is tested here.
async fn bare_member(world: &World) -> Arc<dyn BackendConsumer> {
    let mut subscription = Subscription::new(TOPIC, GROUP);
    subscription.ordered = true;
    let client = world.client(Side::Source, "other");
    client.consumer(&subscription).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn queue_goes_to_another_member_although_nobody_receives_what_waits_here() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let consumer = world.consumer();
    consumer.ready(Duration::from_secs(5)).await.unwrap();
    // More than has a place.
    for number in 0..200 {
        send(&producer, &format!("k{number}"), "1").await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = bare_member(&world).await;
    let there = other.receive(200, Duration::from_secs(5)).await.unwrap();
    assert!(!there.is_empty());
}

#[tokio::test(start_paused = true)]
async fn message_whose_queue_was_promised_to_another_member_is_not_handed_out_any_more() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let consumer = world.consumer();
    consumer.ready(Duration::from_secs(5)).await.unwrap();
    for number in 0..40 {
        send(&producer, &format!("k{number}"), "1").await;
    }
    // All of them are claimed and wait for a receive.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = bare_member(&world).await;
    // No task has run since.
    let handed = consumer.receive(64, Duration::ZERO).await.unwrap();
    let handed: BTreeSet<_> = handed.into_iter().map(|got| got.message_id).collect();
    nothing(&consumer).await;
    let there = other.receive(64, Duration::from_secs(5)).await.unwrap();
    let there: BTreeSet<_> = there.into_iter().map(|got| got.message_id).collect();
    assert!(!handed.is_empty() && !there.is_empty() && handed.is_disjoint(&there));
    assert_eq!(handed.len() + there.len(), 40);
    // Nor does it keep their keys.
    other.close().await.unwrap();
    let again = one(&consumer).await;
    assert!(there.contains(&again.message_id));
}
