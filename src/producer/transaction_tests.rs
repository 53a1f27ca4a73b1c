use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    BoxFuture, ErrorKind, Message, Persisted, Side, TransactionChecker, TransactionEnd,
    backend::fault::{FaultRules, SendFate},
    fixture::{World, kind_of, within},
    side::Revision,
    stage::Stage,
};

/// Answers as it was told, and counts.
#[derive(Debug)]
struct Checker {
    answer: Mutex<TransactionEnd>,
    asked: Mutex<usize>,
}

impl Checker {
    fn new(answer: TransactionEnd) -> Arc<Self> {
        Arc::new(Checker {
            answer: Mutex::new(answer),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl TransactionChecker for Checker {
    fn check<'a>(&'a self, _: &'a Message) -> BoxFuture<'a, TransactionEnd> {
        *self.asked.lock().unwrap() += 1;
        Box::pin(std::future::ready(*self.answer.lock().unwrap()))
    }
}

/// Half messages by side.
async fn half(world: &World) -> [Option<u64>; 2] {
    [
        world.backlog(Side::Source).await.half,
        world.backlog(Side::Target).await.half,
    ]
}

#[tokio::test(start_paused = true)]
async fn transaction_begun_on_the_source_is_committed_there_after_the_stage_has_moved_on() {
    let world = World::new(Stage::DualWrite, 0).await;
    let producer = world.transactional_producer(Checker::new(TransactionEnd::Unknown));
    let consumer = world.consumer();
    let transaction = producer.begin(Message::new("paid")).await.unwrap();
    assert_eq!(transaction.side(), Side::Source);
    world.publish(Stage::Draining, 0);
    // The plan is not held by what waits for an end.
    world.applied().await;
    assert_eq!(half(&world).await, [Some(1), Some(0)]);
    assert_eq!(
        producer.begin(Message::new("next")).await.unwrap().side(),
        Side::Target
    );
    let receipt = transaction.commit().await.unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Source, Revision(1))
    );
    let delivery = crate::fixture::one(&consumer).await;
    assert_eq!(delivery.message.body, "paid");
    assert_eq!(delivery.side, Side::Source);
    assert_eq!(
        delivery.message.idempotency_key,
        Some(receipt.idempotency_key)
    );
    assert_eq!(delivery.revision, Some(Revision(1)));
    crate::fixture::nothing(&consumer).await;
    assert_eq!(half(&world).await, [Some(0), Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn question_about_a_dropped_transaction_is_answered_on_its_side_after_the_stage_has_moved_on()
{
    let world = World::new(Stage::DualWrite, 0).await;
    let commits = Checker::new(TransactionEnd::Commit);
    let producer = world.transactional_producer(commits.clone());
    let consumer = world.consumer();
    drop(producer.begin(Message::new("paid")).await.unwrap());
    world.publish(Stage::Draining, 0);
    let delivery = crate::fixture::one(&consumer).await;
    assert_eq!(delivery.message.body, "paid");
    assert_eq!(delivery.side, Side::Source);
    assert_eq!(half(&world).await, [Some(0), Some(0)]);
    assert_eq!(commits.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn instance_that_is_started_later_answers_for_one_that_has_crashed() {
    let world = World::new(Stage::DualWrite, 0).await;
    let crashed = world.transactional_producer(Checker::new(TransactionEnd::Unknown));
    let transaction = crashed.begin(Message::new("paid")).await.unwrap();
    drop((transaction, crashed));
    world.publish(Stage::Draining, 0);
    // It has nothing to send, and connects both sides all the same.
    let _started = world.transactional_producer(Checker::new(TransactionEnd::Rollback));
    let mut left = half(&world).await;
    for _ in 0..60 {
        if left == [Some(0), Some(0)] {
            break;
        }
        left = half(&world).await;
    }
    assert_eq!(left, [Some(0), Some(0)]);
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn rolled_back_message_is_never_read() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let producer = world.transactional_producer(Checker::new(TransactionEnd::Commit));
    let transaction = producer.begin(Message::new("x")).await.unwrap();
    transaction.rollback().await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.stored(Side::Source).await.is_empty());
    assert_eq!(half(&world).await, [Some(0), Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn checker_that_does_not_know_is_asked_again() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let checker = Checker::new(TransactionEnd::Unknown);
    let producer = world.transactional_producer(checker.clone());
    drop(producer.begin(Message::new("x")).await.unwrap());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(checker.asked(), 1);
    *checker.answer.lock().unwrap() = TransactionEnd::Commit;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(checker.asked(), 2);
    assert_eq!(world.stored(Side::Source).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn half_message_without_an_answer_is_tried_again_and_the_checker_ends_the_copy() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::AnswerLost]);
    let checker = Checker::new(TransactionEnd::Commit);
    let producer = world.transactional_producer(checker.clone());
    let consumer = world.consumer();
    let transaction = producer.begin(Message::new("paid")).await.unwrap();
    assert_eq!(transaction.side(), Side::Target);
    transaction.commit().await.unwrap();
    let delivery = crate::fixture::one(&consumer).await;
    consumer.ack(&delivery).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(checker.asked(), 1);
    let stored = world.stored(Side::Target).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(
        stored[0].message.idempotency_key,
        stored[1].message.idempotency_key
    );
    // The copy is dropped by its key.
    crate::fixture::nothing(&consumer).await;
    assert_eq!(half(&world).await, [Some(0), Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn half_message_holds_its_plan_only_until_it_is_stored() {
    let world = World::new(Stage::DualWrite, 0).await;
    let producer = world.transactional_producer(Checker::new(TransactionEnd::Unknown));
    let open = producer.begin(Message::new("connects")).await.unwrap();
    let delay = Duration::from_secs(2);
    world.faults[0].set_rules(FaultRules {
        delay: delay..=delay,
        ..FaultRules::default()
    });
    let beginning = tokio::spawn({
        let producer = producer.clone();
        async move { producer.begin(Message::new("slow")).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.publish(Stage::DualWrite, 5_000);
    assert_eq!(world.cell.applied(), None);
    let begun = beginning.await.unwrap().unwrap();
    assert_eq!(begun.receipt().revision, Revision(1));
    assert_eq!(world.cell.applied(), Some(Revision(2)));
    drop((open, begun));
}

#[tokio::test(start_paused = true)]
async fn ordered_topic_and_delayed_message_are_refused_before_anything_is_stored() {
    let ordered = World::ordered(Stage::DualWrite, 5_000).await;
    let producer = ordered.transactional_producer(Checker::new(TransactionEnd::Commit));
    let plain = World::new(Stage::DualWrite, 5_000).await;
    let other = plain.transactional_producer(Checker::new(TransactionEnd::Commit));
    let delayed = Message::new("x").with_deliver_after(Duration::from_secs(1));
    for (world, begun) in [
        (&ordered, producer.begin(Message::new("x")).await),
        (&plain, other.begin(delayed).await),
    ] {
        let error = begun.unwrap_err();
        let told = (error.kind(), error.persisted());
        assert_eq!(told, (ErrorKind::InvalidMessage, Persisted::No));
        assert_eq!(half(world).await, [Some(0), Some(0)]);
    }
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_open_transactions_and_refuses_new_ones() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let producer = world.transactional_producer(Checker::new(TransactionEnd::Unknown));
    let transaction = producer.begin(Message::new("x")).await.unwrap();
    let closing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.close().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!closing.is_finished());
    assert_eq!(
        kind_of(producer.begin(Message::new("y")).await),
        ErrorKind::Closed
    );
    transaction.commit().await.unwrap();
    within(1, closing).await.unwrap().unwrap();
    assert_eq!(world.stored(Side::Source).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn end_that_no_broker_has_heard_is_tried_again_and_ends_in_time() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let producer = world.transactional_producer(Checker::new(TransactionEnd::Unknown));
    let first = producer.begin(Message::new("x")).await.unwrap();
    let second = producer.begin(Message::new("y")).await.unwrap();
    world.faults[0].stall();
    let committing = tokio::spawn(first.commit());
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.faults[0].resume();
    within(5, committing).await.unwrap().unwrap();
    assert_eq!(world.stored(Side::Source).await.len(), 1);
    world.faults[0].stall();
    let error = within(20, second.commit()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.side()),
        (ErrorKind::Unavailable, Some(Side::Source))
    );
}
