use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Producer, ProducerOptions};
use crate::{
    ErrorKind, Message, Persisted, SendReceipt, Side,
    backend::fault::{FaultRules, SendFate},
    control::ContactState,
    error::Result,
    fixture::{World, key_of, kind_of, within},
    side::Revision,
    stage::Stage,
};

/// Two keys, below and above half the buckets.
fn low_and_high() -> [String; 2] {
    [
        key_of(|bucket| bucket < 5_000),
        key_of(|bucket| bucket >= 5_000),
    ]
}

/// Every call takes so long.
fn two_seconds() -> FaultRules {
    FaultRules {
        delay: Duration::from_secs(2)..=Duration::from_secs(2),
        ..FaultRules::default()
    }
}

fn message(key: &str) -> Message {
    Message::new("a").with_ordering_key(key)
}

fn spawn(producer: &Producer, key: &str) -> JoinHandle<Result<SendReceipt>> {
    let (producer, message) = (producer.clone(), message(key));
    tokio::spawn(async move { producer.send(message).await })
}

#[tokio::test(start_paused = true)]
async fn frozen_key_is_held_while_others_flow_and_goes_to_the_new_side_after_the_move() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, high] = low_and_high();
    world.freeze(5_000);
    let held = spawn(&producer, &low);
    assert_eq!(
        producer.send(message(&high)).await.unwrap().side,
        Side::Source
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!held.is_finished());
    assert_eq!(
        world.cell.applied(),
        Some(Revision(2)),
        "what is held holds no plan"
    );
    assert_eq!(kind_of(producer.route(Some(&low))), ErrorKind::Timeout);
    world.release(5_000).await;
    let receipt = held.await.unwrap().unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Target, Revision(3))
    );
    assert_eq!(
        producer.send(message(&high)).await.unwrap().side,
        Side::Source
    );
}

#[tokio::test(start_paused = true)]
async fn held_key_stays_on_its_side_after_an_abort() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, _] = low_and_high();
    world.freeze(5_000);
    let held = spawn(&producer, &low);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.abort();
    let receipt = held.await.unwrap().unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Source, Revision(3))
    );
}

#[tokio::test(start_paused = true)]
async fn key_that_stays_frozen_ends_the_send_in_time_as_not_persisted() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let [low, _] = low_and_high();
    world.freeze(5_000);
    let error = within(11, world.producer().send(message(&low))).await;
    let error = error.unwrap_err();
    let told = (error.kind(), error.persisted());
    assert_eq!(told, (ErrorKind::Timeout, Persisted::No));
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn freeze_is_not_applied_before_the_send_under_way_has_ended() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, _] = low_and_high();
    producer.send(message(&low)).await.unwrap();
    world.faults[0].set_rules(two_seconds());
    let sending = spawn(&producer, &low);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.freeze(5_000);
    assert_eq!(world.cell.applied(), None);
    assert_eq!(sending.await.unwrap().unwrap().revision, Revision(1));
    assert_eq!(world.cell.applied(), Some(Revision(2)));
}

#[tokio::test(start_paused = true)]
async fn ambiguous_send_of_a_frozen_key_is_retried_where_it_was_and_not_held() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, _] = low_and_high();
    world.faults[0].script([SendFate::AnswerLost]);
    let sending = spawn(&producer, &low);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.freeze(5_000);
    let receipt = sending.await.unwrap().unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Source, Revision(1))
    );
    let stored = world.stored(Side::Source).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].queue, stored[1].queue);
}

#[tokio::test(start_paused = true)]
async fn producer_from_disk_holds_ordered_sends_until_its_first_contact() {
    let world = World::uncontacted(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, _] = low_and_high();
    let held = spawn(&producer, &low);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!held.is_finished());
    producer
        .send(Message::new("no key, no order"))
        .await
        .unwrap();
    world.contact.set(ContactState::Valid);
    held.await.unwrap().unwrap();
    // Out of contact later, sends go on.
    world.contact.set(ContactState::Lost);
    producer.send(message(&low)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_any_contact_an_ordered_send_ends_in_time_as_not_persisted() {
    let world = World::uncontacted(Stage::DualWrite, 0).await;
    let error = within(11, world.producer().send(message("k"))).await;
    let error = error.unwrap_err();
    let told = (error.kind(), error.persisted());
    assert_eq!(told, (ErrorKind::Unavailable, Persisted::No));
}

#[tokio::test(start_paused = true)]
async fn ordered_send_answered_in_another_lease_session_is_repeated_under_the_new_plan() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let [low, _] = low_and_high();
    producer.send(message(&low)).await.unwrap();
    world.faults[0].set_rules(two_seconds());
    let sending = spawn(&producer, &low);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Taken for gone meanwhile: its keys moved.
    world.contact.set(ContactState::Lost);
    world.faults[0].set_rules(FaultRules::default());
    world.freeze(5_000);
    world.release(5_000).await;
    world.contact.set(ContactState::Valid);
    let receipt = sending.await.unwrap().unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Target, Revision(3))
    );
    assert_eq!(world.stored(Side::Source).await.len(), 2);
    let copies = world.stored(Side::Target).await;
    let copy = copies[0].message.idempotency_key.as_ref();
    assert_eq!((copies.len(), copy), (1, Some(&receipt.idempotency_key)));
}

#[tokio::test(start_paused = true)]
async fn delayed_message_is_refused_by_an_ordered_topic() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let delayed = message("k").with_deliver_after(Duration::from_secs(1));
    let options = ProducerOptions::default();
    let producer = world.producer_with(world.pair(), options);
    let refused = producer.send(delayed).await;
    assert_eq!(kind_of(refused), ErrorKind::InvalidMessage);
}
