use std::{sync::Arc, time::Duration};

use super::{Producer, ProducerOptions};
use crate::{
    ErrorKind, Message, Persisted, Side,
    backend::fault::{FaultRules, SendFate},
    clock::TokioClock,
    control::{Contact, ContactState},
    fixture::{World, kind_of, within},
    side::{Access, Revision},
    stage::Stage,
};

fn one_try() -> ProducerOptions {
    ProducerOptions {
        max_tries: 1,
        ..ProducerOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn send_timeout_is_retried_on_the_same_side_and_queue_with_the_same_key() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::AnswerLost]);
    let receipt = world.producer().send(Message::new("a")).await.unwrap();
    assert_eq!(receipt.side, Side::Target);
    let stored = world.stored(Side::Target).await;
    assert_eq!(stored.len(), 2);
    for copy in &stored {
        assert_eq!(copy.queue, stored[0].queue);
        assert_eq!(copy.revision, Some(Revision(1)));
        assert_eq!(
            copy.message.idempotency_key.as_ref(),
            Some(&receipt.idempotency_key)
        );
    }
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn definite_failure_in_dual_write_goes_to_the_other_side() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::Refused]);
    let receipt = world.producer().send(Message::new("a")).await.unwrap();
    assert_eq!(receipt.side, Side::Source);
    assert!(
        world
            .registry
            .prometheus(&[])
            .contains("send_failed_over_total{topic=\"orders\",side=\"target\"} 1")
    );
}

#[tokio::test(start_paused = true)]
async fn broker_that_is_busy_for_seconds_slows_its_senders_and_fails_none() {
    let world = World::new(Stage::SourceOnly, 0).await;
    world.faults[0].script([SendFate::Busy; 12]);
    let before = tokio::time::Instant::now();
    let receipt = world.producer().send(Message::new("a")).await.unwrap();
    assert_eq!(receipt.side, Side::Source);
    // 10, 20, 40 ... 320 ms, then half a second each.
    assert_eq!(before.elapsed(), Duration::from_millis(630 + 6 * 500));
    assert_eq!(world.stored(Side::Source).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn broker_that_stays_busy_fails_a_send_when_its_time_is_over() {
    let world = World::new(Stage::SourceOnly, 0).await;
    world.faults[0].script([SendFate::Busy; 100]);
    let error = within(11, world.producer().send(Message::new("a")))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Throttled, Persisted::No)
    );
}

#[tokio::test(start_paused = true)]
async fn definite_failure_with_an_ordering_key_stays_on_its_side_and_queue() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    let producer = world.producer();
    let message = || Message::new("a").with_ordering_key("k");
    producer.send(message()).await.unwrap();
    world.faults[1].script([SendFate::Refused, SendFate::Refused]);
    let receipt = producer.send(message()).await.unwrap();
    assert_eq!(receipt.side, Side::Target);
    let stored = world.stored(Side::Target).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].queue, stored[1].queue);
}

#[tokio::test(start_paused = true)]
async fn failure_after_an_ambiguous_try_stays_on_its_side() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::RequestLost, SendFate::Refused]);
    let receipt = world.producer().send(Message::new("a")).await.unwrap();
    assert_eq!(receipt.side, Side::Target);
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn send_refused_by_a_seal_goes_to_the_other_side_at_once() {
    let world = World::new(Stage::DualRead, 0).await;
    world.set_access(Side::Source, Access::Sealed).await;
    let before = tokio::time::Instant::now();
    let receipt = world.producer().send(Message::new("a")).await.unwrap();
    assert_eq!(receipt.side, Side::Target);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn ordered_send_refused_by_a_seal_waits_for_the_newer_plan() {
    let world = World::new(Stage::DualWrite, 0).await;
    world.set_access(Side::Source, Access::Sealed).await;
    let producer = world.producer();
    let sending = tokio::spawn(async move {
        producer
            .send(Message::new("a").with_ordering_key("k"))
            .await
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!sending.is_finished());
    world.publish(Stage::Draining, 0);
    let receipt = sending.await.unwrap().unwrap();
    assert_eq!(
        (receipt.side, receipt.revision),
        (Side::Target, Revision(2))
    );
}

#[tokio::test(start_paused = true)]
async fn send_refused_by_both_seals_ends_in_time_as_not_persisted() {
    let world = World::new(Stage::DualWrite, 0).await;
    world.set_access(Side::Source, Access::Sealed).await;
    world.set_access(Side::Target, Access::Sealed).await;
    let error = within(11, world.producer().send(Message::new("a")))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Sealed, Persisted::No)
    );
}

#[tokio::test(start_paused = true)]
async fn seal_that_refuses_the_retry_of_an_ambiguous_send_leaves_it_maybe_persisted() {
    let world = World::new(Stage::DualWrite, 0).await;
    world.faults[0].script([SendFate::AnswerLost]);
    let producer = world.producer();
    let sending = tokio::spawn(async move { producer.send(Message::new("a")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.set_access(Side::Source, Access::Sealed).await;
    world.set_access(Side::Target, Access::Sealed).await;
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Sealed, Persisted::Maybe)
    );
}

#[tokio::test(start_paused = true)]
async fn revision_is_applied_only_after_the_send_under_the_older_one_has_ended() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    let producer = world.producer();
    producer.send(Message::new("connects")).await.unwrap();
    world.faults[1].set_rules(slow(Duration::from_secs(2)));
    let sending = tokio::spawn(async move { producer.send(Message::new("a")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.publish(Stage::DualWrite, 5_000);
    assert_eq!(world.cell.applied(), None);
    let receipt = sending.await.unwrap().unwrap();
    assert_eq!(receipt.revision, Revision(1));
    assert_eq!(world.cell.applied(), Some(Revision(2)));
}

fn slow(delay: Duration) -> FaultRules {
    FaultRules {
        delay: delay..=delay,
        late_by: Duration::from_secs(5),
        ..FaultRules::default()
    }
}

/// Lets a send be under way for a second, ends it with `end`, and expects the older plan to be in use for five more.
async fn holds_the_plan(world: &World, end: impl AsyncFnOnce(Producer)) {
    world.faults[1].set_rules(slow(Duration::ZERO));
    let producer = world.producer_with(world.pair(), one_try());
    let watched = producer.clone();
    end(producer).await;
    world.publish(Stage::DualWrite, 5_000);
    let closing = watched.close();
    tokio::pin!(closing);
    for _ in 0..4 {
        assert!(
            tokio::time::timeout(Duration::from_secs(1), &mut closing)
                .await
                .is_err()
        );
        assert_eq!(world.cell.applied(), None);
    }
    within(2, closing).await.unwrap();
    assert_eq!(world.cell.applied(), Some(Revision(2)));
}

#[tokio::test(start_paused = true)]
async fn dropped_send_holds_its_plan_until_the_brokers_bound() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::RequestLost]);
    holds_the_plan(&world, async |producer| {
        let send = producer.send(Message::new("a"));
        let cut = tokio::time::timeout(Duration::from_secs(1), send).await;
        assert!(cut.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn ambiguous_send_holds_its_plan_until_the_brokers_bound() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::Late]);
    holds_the_plan(&world, async |producer| {
        let error = producer.send(Message::new("a")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted(), error.side()),
            (ErrorKind::Timeout, Persisted::Maybe, Some(Side::Target))
        );
    })
    .await;
    assert_eq!(world.stored(Side::Target).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropped_producer_stays_registered_while_a_send_has_no_end() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].set_rules(slow(Duration::ZERO));
    world.faults[1].script([SendFate::RequestLost]);
    let producer = world.producer_with(world.pair(), one_try());
    let send = producer.send(Message::new("a"));
    let cut = tokio::time::timeout(Duration::from_secs(1), send).await;
    assert!(cut.is_err());
    drop(producer);
    assert!(world.cell.role().is_some_and(|role| role.produces));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(world.cell.role().is_none());
}

#[tokio::test(start_paused = true)]
async fn hopeless_or_unwanted_send_touches_no_broker() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let producer = world.producer();
    let forged = Message::new("a").with_property("CROSSFADE_KEY", "x");
    assert_eq!(
        kind_of(producer.send(forged).await),
        ErrorKind::InvalidMessage
    );
    world.contact.set(ContactState::Stopped);
    assert_eq!(
        kind_of(producer.send(Message::new("a")).await),
        ErrorKind::LeaseOver
    );
    world.contact.set(ContactState::Superseded);
    assert_eq!(
        kind_of(producer.send(Message::new("a")).await),
        ErrorKind::Superseded
    );
    producer.close().await.unwrap();
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn retry_is_not_sent_once_the_lease_is_over() {
    let world = World::new(Stage::SourceOnly, 0).await;
    world.faults[0].script([SendFate::RequestLost]);
    let producer = world.producer();
    let sending = tokio::spawn(async move { producer.send(Message::new("a")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.contact.set(ContactState::Stopped);
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::LeaseOver, Persisted::Maybe)
    );
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn request_is_at_no_broker_after_the_end_of_the_lease() {
    // Connecting takes two seconds, and so does the request after it.
    let cases = [
        (1_000, Persisted::No),
        (3_500, Persisted::Maybe),
        (2_000, Persisted::No),
    ];
    for (lease_ms, persisted) in cases {
        let mut world = World::new(Stage::SourceOnly, 0).await;
        world.contact = Arc::new(Contact::new(Arc::new(TokioClock::default())));
        world.contact.set(ContactState::Valid);
        let lease = Duration::from_millis(lease_ms);
        world.contact.set_stop_at(Some(lease));
        world.faults[0].set_rules(slow(Duration::from_secs(2)));
        let options = ProducerOptions {
            try_timeout: Duration::from_secs(10),
            ..ProducerOptions::default()
        };
        let producer = world.producer_with(world.pair(), options);
        let begun = tokio::time::Instant::now();
        let error = producer.send(Message::new("a")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted()),
            (ErrorKind::LeaseOver, persisted),
            "{error}"
        );
        // The pause before the retry that is refused.
        assert!(begun.elapsed() <= lease + Duration::from_millis(20));
        assert!(world.stored(Side::Source).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn send_is_refused_when_contact_has_ended_while_it_connected() {
    let world = World::new(Stage::SourceOnly, 0).await;
    world.faults[0].set_rules(slow(Duration::from_secs(2)));
    let producer = world.producer();
    let sending = tokio::spawn(async move { producer.send(Message::new("a")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.contact.set(ContactState::Superseded);
    let error = sending.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Superseded, Persisted::No)
    );
}

#[tokio::test(start_paused = true)]
async fn closed_producer_refuses_sends() {
    let world = World::new(Stage::SourceOnly, 0).await;
    let producer = world.producer();
    producer.send(Message::new("a")).await.unwrap();
    producer.clone().close().await.unwrap();
    assert_eq!(
        kind_of(producer.send(Message::new("b")).await),
        ErrorKind::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn side_that_cannot_be_connected_does_not_hold_up_the_other() {
    let world = World::new(Stage::DualRead, 0).await;
    let pair = world.pair();
    pair.kill(Side::Target);
    let producer = world.producer_with(Arc::clone(&pair), ProducerOptions::default());
    let before = tokio::time::Instant::now();
    for _ in 0..10 {
        producer.send(Message::new("a")).await.unwrap();
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // The target is connected before it is written to.
    assert_eq!(pair.asked(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn weight_is_the_share_of_the_target() {
    let world = World::new(Stage::DualWrite, 3_000).await;
    let producer = world.producer();
    for _ in 0..2_000 {
        producer.send(Message::new("a")).await.unwrap();
    }
    let sent = world.count(|row| row.sent);
    assert_eq!(sent[0] + sent[1], 2_000);
    assert!((540..=660).contains(&sent[1]), "{sent:?}");
}
