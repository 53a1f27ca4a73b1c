use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Consumer, ConsumerOptions};
use crate::{
    BoxFuture, Delivery, Error, ErrorKind, IdempotencyKey, Message, Side,
    backend::{Unreadable, fault::FaultRules},
    control::{ContactState, wire},
    dedup::{Claim, DedupStore, Fill, MemoryDedup, MemoryDedupOptions, Owner},
    error::Result,
    fixture::{GROUP, TOPIC, World, kind_of, nothing, one, within},
    side::Access,
    stage::Stage,
};

/// One message to each side, under the same key.
async fn send_twins(world: &World) {
    let key = IdempotencyKey::new("twin").unwrap();
    let producer = world.producer();
    for side in Side::BOTH {
        world.publish(Stage::DualWrite, side.index() as u32 * 10_000);
        let message = Message::new("a").with_idempotency_key(key.clone());
        assert_eq!(producer.send(message).await.unwrap().side, side);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_both_sides_are_delivered_and_acked_to_their_side() {
    let world = World::new(Stage::DualWrite, 5_000).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    let mut sent = HashMap::new();
    for _ in 0..100 {
        let receipt = producer.send(Message::new("a")).await.unwrap();
        sent.insert(receipt.idempotency_key, receipt.side);
    }
    for _ in 0..100 {
        let delivery = one(&consumer).await;
        let key = delivery.message.idempotency_key.as_ref().unwrap();
        assert_eq!(sent.remove(key), Some(delivery.side));
        consumer.ack(&delivery).await.unwrap();
        assert_eq!(
            kind_of(consumer.ack(&delivery).await),
            ErrorKind::StaleDelivery
        );
    }
    assert!(sent.is_empty());
    for side in Side::BOTH {
        assert_eq!(world.backlog(side).await.total(), 0);
    }
    assert_eq!(world.count(|row| row.handled).iter().sum::<u64>(), 100);
}

#[tokio::test(start_paused = true)]
async fn stalled_side_does_not_delay_the_other() {
    let world = World::new(Stage::DualRead, 0).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    world.faults[1].stall();
    let before = tokio::time::Instant::now();
    for _ in 0..100 {
        producer.send(Message::new("a")).await.unwrap();
        let delivery = one(&consumer).await;
        consumer.ack(&delivery).await.unwrap();
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn side_that_never_opens_does_not_delay_the_other_and_keeps_the_plan_unapplied() {
    let world = World::new(Stage::DualRead, 0).await;
    let pair = world.pair();
    pair.kill(Side::Target);
    let producer = world.producer();
    let consumer = world.consumer_with(
        pair,
        Arc::clone(&world.dedup) as _,
        ConsumerOptions::default(),
    );
    producer.send(Message::new("a")).await.unwrap();
    consumer.ack(&one(&consumer).await).await.unwrap();
    assert_eq!(
        kind_of(consumer.ready(Duration::from_secs(60)).await),
        ErrorKind::Timeout
    );
    assert_eq!(world.cell.applied(), None);
}

#[tokio::test(start_paused = true)]
async fn message_that_cannot_be_read_is_counted_once_and_reported_while_its_queue_stands_there() {
    let world = World::new(Stage::DualRead, 0).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    let told = async |side: Side| {
        // Longer than one fetch and one report.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut roles = world.cell.role().unwrap().consumes;
        let sides = roles.remove(0).sides;
        let states = sides.into_iter().filter(|state| state.side == side);
        states
            .flat_map(|state| state.unreadable)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(Side::Source).await, []);
    let mut rules = FaultRules::default();
    for offset in [41, 41, 42] {
        rules.unreadable = vec![Unreadable {
            queue: "b:2".into(),
            offset,
            reason: "compressed by LZ4".into(),
        }];
        world.faults[0].set_rules(rules.clone());
        let expected = [wire::Unreadable::new(
            "b:2".into(),
            offset,
            "compressed by LZ4",
        )];
        assert_eq!(told(Side::Source).await, expected);
        assert_eq!(told(Side::Target).await, []);
    }
    world.faults[0].set_rules(FaultRules::default());
    assert_eq!(told(Side::Source).await, []);
    let text = world.registry.prometheus(&[]);
    assert!(text.contains("crossfade_unreadable_total{topic=\"orders\",side=\"source\"} 2"));
    assert!(text.contains("crossfade_unreadable_total{topic=\"orders\",side=\"target\"} 0"));
    // Other queues go on.
    producer.send(Message::new("a")).await.unwrap();
    consumer.ack(&one(&consumer).await).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn duplicate_of_a_pending_message_is_dropped_once_the_first_is_handled() {
    let world = World::new(Stage::DualWrite, 0).await;
    send_twins(&world).await;
    let consumer = world.consumer();
    let first = one(&consumer).await;
    nothing(&consumer).await;
    consumer.ack(&first).await.unwrap();
    nothing(&consumer).await;
    assert_eq!(world.count(|row| row.duplicates).iter().sum::<u64>(), 1);
    for side in Side::BOTH {
        assert_eq!(world.backlog(side).await.total(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn duplicate_of_a_pending_message_is_delivered_once_the_first_has_failed() {
    let world = World::new(Stage::DualWrite, 0).await;
    send_twins(&world).await;
    let consumer = world.consumer();
    let first = one(&consumer).await;
    consumer
        .nack(&first, Duration::from_secs(60))
        .await
        .unwrap();
    let second = one(&consumer).await;
    assert_eq!(second.side, first.side.other());
    consumer.ack(&second).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    nothing(&consumer).await;
    assert_eq!(world.count(|row| row.handled).iter().sum::<u64>(), 1);
    assert_eq!(world.backlog(first.side).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn same_key_in_another_topic_is_another_message() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let key = IdempotencyKey::new("7").unwrap();
    let payments = crate::dedup::scope("payments", GROUP);
    let other: Owner = "other".into();
    world.dedup.claim(&payments, &key, &other).await.unwrap();
    world.dedup.commit(&payments, &key, &other).await.unwrap();
    let message = Message::new("a").with_idempotency_key(key);
    world.producer().send(message).await.unwrap();
    let consumer = world.consumer();
    consumer.ack(&one(&consumer).await).await.unwrap();
}

/// What the application has seen, by key.
type Seen = HashMap<IdempotencyKey, usize>;

async fn drain(consumer: &Consumer, seen: &mut Seen, expected: usize) {
    while seen.len() < expected {
        let delivery = one(consumer).await;
        let key = delivery.message.idempotency_key.clone().unwrap();
        *seen.entry(key).or_default() += 1;
        consumer.ack(&delivery).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn walk_through_all_stages_and_back_loses_and_doubles_nothing_and_keeps_the_side_that_stays()
{
    let world = World::new(Stage::SourceOnly, 0).await;
    world.set_access(Side::Target, Access::Sealed).await;
    let pair = world.pair();
    let producer = world.producer();
    let consumer = world.consumer_with(
        Arc::clone(&pair),
        Arc::clone(&world.dedup) as _,
        ConsumerOptions::default(),
    );
    let mut seen = Seen::new();
    let mut sent = 0;
    let there_and_back = Stage::ALL
        .into_iter()
        .skip(1)
        .chain(Stage::ALL.into_iter().rev().skip(1));
    for stage in there_and_back {
        for side in Side::BOTH {
            // What an end stage seals is empty, and sealed before it is published; what a stage opens is open before.
            let access = stage.access(side);
            let leaves_an_end = world.cell.load().unwrap().plan().stage.access(side);
            if access == Access::Sealed {
                drain(&consumer, &mut seen, sent).await;
                assert_eq!(world.backlog(side).await.total(), 0);
                world.set_access(side, Access::Sealed).await;
            } else if leaves_an_end == Access::Sealed {
                world.set_access(side, Access::Open).await;
            }
        }
        for _ in 0..50 {
            producer.send(Message::new("before")).await.unwrap();
        }
        world.publish(stage, 5_000);
        for _ in 0..50 {
            producer.send(Message::new("after")).await.unwrap();
        }
        sent += 100;
        let (applied, ()) = tokio::join!(world.applied(), drain(&consumer, &mut seen, sent));
        let () = applied;
    }
    nothing(&consumer).await;
    assert_eq!(seen.len(), sent);
    assert!(seen.values().all(|entries| *entries == 1));
    // The source was left and opened again; the target was opened once.
    assert_eq!(pair.asked(), [2, 1]);
    assert_eq!(world.count(|row| row.send_errors), [0, 0]);
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn revision_that_removes_a_side_is_applied_after_its_handlers_have_ended() {
    let world = World::new(Stage::Draining, 0).await;
    let consumer = world.consumer();
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    world.publish(Stage::DualWrite, 0);
    world.producer().send(Message::new("a")).await.unwrap();
    let delivery = one(&consumer).await;
    assert_eq!(delivery.side, Side::Source);
    world.publish(Stage::Draining, 0);
    world.publish(Stage::TargetOnly, 0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.cell.applied(), None);
    consumer.ack(&delivery).await.unwrap();
    world.applied().await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn handler_that_outlives_the_stop_timeout_keeps_the_revision_unapplied() {
    let world = World::new(Stage::DualWrite, 0).await;
    let consumer = world.consumer();
    world.producer().send(Message::new("a")).await.unwrap();
    let delivery = one(&consumer).await;
    assert_eq!(delivery.side, Side::Source);
    world.publish(Stage::Draining, 0);
    world.publish(Stage::TargetOnly, 0);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.cell.applied(), None);
    consumer.ack(&delivery).await.unwrap();
    world.applied().await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn last_commit_that_fails_keeps_the_revision_unapplied_until_it_is_made() {
    let world = World::new(Stage::Draining, 0).await;
    let consumer = world.consumer();
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    world.faults[0].stall();
    world.publish(Stage::TargetOnly, 0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.cell.applied(), None);
    world.faults[0].resume();
    world.applied().await;
}

#[tokio::test(start_paused = true)]
async fn side_that_is_wanted_again_waits_no_longer_than_the_stop_timeout_for_a_handler() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    producer.send(Message::new("a")).await.unwrap();
    let hangs = one(&consumer).await;
    assert_eq!(hangs.side, Side::Target);
    world.publish(Stage::DualRead, 10_000);
    world.publish(Stage::SourceOnly, 10_000);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.publish(Stage::DualRead, 10_000);
    world.publish(Stage::DualWrite, 10_000);
    producer.send(Message::new("b")).await.unwrap();
    let mut next = within(31, consumer.receive(1, Duration::from_secs(60)))
        .await
        .unwrap();
    let next = next.pop().unwrap();
    assert_eq!(next.message.body, "b");
    consumer.ack(&next).await.unwrap();
    // Its queue was given up meanwhile: the broker hands it out again, and its key says that it was handled.
    consumer.ack(&hangs).await.unwrap();
    nothing(&consumer).await;
    assert_eq!(world.backlog(Side::Target).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn side_closed_over_a_handler_is_not_applied_before_that_has_ended() {
    let world = World::new(Stage::DualWrite, 0).await;
    let consumer = world.consumer();
    world.producer().send(Message::new("a")).await.unwrap();
    let delivery = one(&consumer).await;
    world.contact.set(ContactState::Stopped);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.publish(Stage::Draining, 0);
    world.publish(Stage::TargetOnly, 0);
    world.contact.set(ContactState::Valid);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.cell.applied(), None);
    consumer.ack(&delivery).await.unwrap();
    world.applied().await;
}

#[tokio::test(start_paused = true)]
async fn consumer_without_contact_reads_both_sides_and_a_stopped_one_hands_nothing_out() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let pair = world.pair();
    let producer = world.producer();
    let consumer = world.consumer_with(
        Arc::clone(&pair),
        Arc::clone(&world.dedup) as _,
        ConsumerOptions::default(),
    );
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    assert_eq!(pair.asked(), [1, 0]);
    world.contact.set(ContactState::Lost);
    producer.send(Message::new("a")).await.unwrap();
    consumer.ack(&one(&consumer).await).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pair.asked(), [1, 1]);
    producer.send(Message::new("b")).await.unwrap();
    world.contact.set(ContactState::Stopped);
    let refused = consumer.receive(1, Duration::from_secs(1)).await;
    assert_eq!(kind_of(refused), ErrorKind::LeaseOver);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.contact.set(ContactState::Valid);
    consumer.ack(&one(&consumer).await).await.unwrap();
    world.applied().await;
    assert_eq!(pair.asked(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn stopped_consumer_gives_its_queues_to_the_others_until_there_is_contact() {
    let mut world = World::new(Stage::SourceOnly, 0).await;
    let stopped = world.consumer();
    let cut_off = std::mem::take(&mut world.contact);
    world.contact.set(ContactState::Valid);
    let (producer, other) = (world.producer(), world.consumer());
    stopped.ready(Duration::from_secs(1)).await.unwrap();
    other.ready(Duration::from_secs(1)).await.unwrap();
    cut_off.set(ContactState::Stopped);
    for _ in 0..100 {
        producer.send(Message::new("a")).await.unwrap();
    }
    drain(&other, &mut Seen::new(), 100).await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
    cut_off.set(ContactState::Valid);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..100 {
        producer.send(Message::new("a")).await.unwrap();
    }
    stopped.ack(&one(&stopped).await).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_receive_loses_nothing() {
    let world = World::new(Stage::DualWrite, 5_000).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    let sending = async {
        for _ in 0..100 {
            producer.send(Message::new("a")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let mut handled = 0;
    let receiving = async {
        while handled < 100 {
            let receive = consumer.receive(10, Duration::from_secs(1));
            let cut = tokio::time::timeout(Duration::from_millis(2), receive).await;
            for delivery in cut.map(Result::unwrap).unwrap_or_default() {
                consumer.ack(&delivery).await.unwrap();
                handled += 1;
            }
        }
    };
    within(30, async { tokio::join!(sending, receiving) }).await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
    assert_eq!(world.backlog(Side::Target).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_not_handed_out_before_close_go_to_the_next_consumer_at_once() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let (producer, first) = (world.producer(), world.consumer());
    for _ in 0..10 {
        producer.send(Message::new("a")).await.unwrap();
    }
    let handed_out = one(&first).await;
    let closing = first.close();
    tokio::pin!(closing);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), &mut closing)
            .await
            .is_err()
    );
    first.ack(&handed_out).await.unwrap();
    closing.await.unwrap();
    assert_eq!(
        kind_of(first.receive(1, Duration::from_secs(1)).await),
        ErrorKind::Closed
    );
    let second = world.consumer();
    for _ in 0..9 {
        second.ack(&one(&second).await).await.unwrap();
    }
    nothing(&second).await;
}

#[tokio::test(start_paused = true)]
async fn close_with_a_handler_that_never_ends_says_so_after_the_stop_timeout() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let consumer = world.consumer();
    world.producer().send(Message::new("a")).await.unwrap();
    let _never_ended = one(&consumer).await;
    assert_eq!(
        kind_of(within(31, consumer.close()).await),
        ErrorKind::Timeout
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_consumers_messages_are_delivered_again() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let first = world.consumer();
    world.producer().send(Message::new("a")).await.unwrap();
    one(&first).await;
    drop(first);
    let second = world.consumer();
    second.ack(&one(&second).await).await.unwrap();
    // Nothing is left of the first one's claim.
    assert_eq!(world.dedup.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn message_in_hand_is_entered_by_nobody_else_while_its_consumer_is_there() {
    let world = World::new(Stage::DualWrite, 0).await;
    send_twins(&world).await;
    let first = world.consumer();
    let in_hand = one(&first).await;
    // As after a freeze of the whole process: no time for a renewal.
    first.supervisor.abort();
    let second = world.consumer();
    for _ in 0..12 {
        nothing(&second).await;
    }
    drop((in_hand, first));
    second.ack(&one(&second).await).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_claim_refuses_the_ack_and_the_message_comes_again() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let consumer = world.consumer();
    world.producer().send(Message::new("a")).await.unwrap();
    let delivery = one(&consumer).await;
    let (scope, key) = (crate::dedup::scope(TOPIC, GROUP), key_of(&delivery));
    let (own, thief): (Owner, Owner) = (consumer.shared.owner.clone(), "thief".into());
    world.dedup.release(&scope, &key, &own).await.unwrap();
    world.dedup.claim(&scope, &key, &thief).await.unwrap();
    assert_eq!(
        kind_of(consumer.ack(&delivery).await),
        ErrorKind::StaleDelivery
    );
    world.dedup.release(&scope, &key, &thief).await.unwrap();
    consumer.ack(&one(&consumer).await).await.unwrap();
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

fn key_of(delivery: &Delivery) -> IdempotencyKey {
    delivery.message.idempotency_key.clone().unwrap()
}

/// A store that can be away.
#[derive(Debug, Default)]
struct Away {
    store: MemoryDedup,
    is_away: AtomicBool,
}

impl Away {
    fn ask<'a, T: Send + 'a>(&self, call: BoxFuture<'a, Result<T>>) -> BoxFuture<'a, Result<T>> {
        if !self.is_away.load(Ordering::SeqCst) {
            return call;
        }
        let error = Error::new(ErrorKind::Unavailable, "claim", "away");
        Box::pin(std::future::ready(Err(error)))
    }
}

impl DedupStore for Away {
    fn claim<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<Claim>> {
        if self.is_away.load(Ordering::SeqCst) {
            let error = Error::new(ErrorKind::Unavailable, "claim", "away");
            return Box::pin(std::future::ready(Err(error)));
        }
        self.store.claim(scope, key, owner)
    }

    fn commit<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        self.ask(self.store.commit(scope, key, owner))
    }

    fn release<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        self.ask(self.store.release(scope, key, owner))
    }

    fn renew<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<()>> {
        self.ask(self.store.renew(owner))
    }

    fn forget(&self, owner: &Owner) {
        self.store.forget(owner);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nothing_is_delivered_and_nothing_is_lost() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let store = Arc::new(Away::default());
    store.is_away.store(true, Ordering::SeqCst);
    let options = ConsumerOptions {
        set_aside: 8,
        ..ConsumerOptions::default()
    };
    let consumer = world.consumer_with(world.pair(), Arc::clone(&store) as _, options);
    let producer = world.producer();
    for _ in 0..50 {
        producer.send(Message::new("a")).await.unwrap();
    }
    nothing(&consumer).await;
    store.is_away.store(false, Ordering::SeqCst);
    let mut seen = Seen::new();
    drain(&consumer, &mut seen, 50).await;
    nothing(&consumer).await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn both_sides_take_turns() {
    let world = World::new(Stage::DualWrite, 5_000).await;
    let (producer, consumer) = (world.producer(), world.consumer());
    for _ in 0..100 {
        producer.send(Message::new("a")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let deliveries = consumer.receive(40, Duration::from_secs(1)).await.unwrap();
    let from_target = deliveries.iter().filter(|d| d.side == Side::Target).count();
    assert_eq!((deliveries.len(), from_target), (40, 20));
}

#[tokio::test(start_paused = true)]
async fn full_store_stops_the_side_counts_it_and_goes_on_when_keys_are_old() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let store = Arc::new(MemoryDedup::new(MemoryDedupOptions {
        window: Duration::from_secs(60),
        max_keys: 16,
    }));
    let options = ConsumerOptions::default();
    let consumer = world.consumer_with(world.pair(), Arc::clone(&store) as _, options);
    let producer = world.producer();
    for _ in 0..100 {
        producer.send(Message::new("a")).await.unwrap();
    }
    let mut handled = 0;
    let mut round = async || {
        let deliveries = consumer.receive(100, Duration::from_secs(5)).await.unwrap();
        for delivery in &deliveries {
            consumer.ack(delivery).await.unwrap();
        }
        handled += deliveries.len();
        (deliveries.len(), handled)
    };
    while round().await.0 > 0 {}
    let (_, before) = round().await;
    assert!((1..=16).contains(&before), "{before} of 100 were handled");
    assert_eq!(
        store.fill().unwrap(),
        Fill {
            keys: before as u64,
            limit: 16
        }
    );
    let text = world.registry.prometheus(&[]);
    let full = format!(r#"crossfade_dedup_full_total{{topic="{TOPIC}",side="source"}} "#);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&full))
        .unwrap();
    assert!(line.parse::<u64>().unwrap() > 0);
    within(3_600, async { while round().await.1 < 100 {} }).await;
    assert_eq!(world.backlog(Side::Source).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn group_that_cannot_be_left_does_not_hold_the_close_beyond_its_bound() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let consumer = world.consumer();
    consumer.ready(Duration::from_secs(1)).await.unwrap();
    let slow = Duration::from_secs(600);
    world.faults[0].set_rules(FaultRules {
        delay: slow..=slow,
        ..FaultRules::default()
    });
    within(10, consumer.close()).await.unwrap();
}
