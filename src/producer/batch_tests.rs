use std::{collections::BTreeSet, time::Duration};

use crate::{
    ErrorKind, Message, Persisted, Side,
    backend::fault::SendFate,
    fixture::{World, kind_of},
    side::Access,
    stage::Stage,
};

fn batch(count: u32) -> Vec<Message> {
    (0..count)
        .map(|number| Message::new(number.to_string()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn batch_goes_whole_to_one_side_and_each_message_counts() {
    let world = World::new(Stage::DualWrite, 5_000).await;
    let producer = world.producer();
    let mut sides = BTreeSet::new();
    for _ in 0..20 {
        let receipts = producer.send_batch(batch(10)).await.unwrap();
        assert_eq!(receipts.len(), 10);
        let of_batch: BTreeSet<_> = receipts.iter().map(|receipt| receipt.side).collect();
        assert_eq!(of_batch.len(), 1);
        sides.extend(of_batch);
        let keys: BTreeSet<_> = receipts
            .iter()
            .map(|receipt| &receipt.idempotency_key)
            .collect();
        assert_eq!(keys.len(), 10);
    }
    assert_eq!(sides.len(), 2, "batches are drawn by weight");
    let sent = world.count(|row| row.sent);
    assert_eq!(sent[0] + sent[1], 200);
    let stored = [
        world.stored(Side::Source).await.len(),
        world.stored(Side::Target).await.len(),
    ];
    assert_eq!(sent.map(|sent| sent as usize), stored);
}

#[tokio::test(start_paused = true)]
async fn ambiguous_batch_is_retried_whole_on_the_same_side_with_the_same_keys() {
    let world = World::new(Stage::DualWrite, 10_000).await;
    world.faults[1].script([SendFate::AnswerLost]);
    let receipts = world.producer().send_batch(batch(3)).await.unwrap();
    let stored = world.stored(Side::Target).await;
    assert_eq!(stored.len(), 6);
    for receipt in &receipts {
        let key = Some(&receipt.idempotency_key);
        let copies = stored
            .iter()
            .filter(|copy| copy.message.idempotency_key.as_ref() == key);
        assert_eq!(copies.count(), 2);
    }
    assert_eq!(world.count(|row| row.retries), [0, 3]);
    assert_eq!(world.count(|row| row.sent), [0, 3]);
    assert!(world.stored(Side::Source).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn batch_refused_by_a_seal_goes_to_the_other_side_whole() {
    let world = World::new(Stage::DualRead, 0).await;
    world.set_access(Side::Source, Access::Sealed).await;
    let receipts = world.producer().send_batch(batch(3)).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.side == Side::Target));
    assert_eq!(world.stored(Side::Target).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn failed_batch_counts_an_error_for_each_message() {
    let world = World::new(Stage::SourceOnly, 0).await;
    world.set_access(Side::Source, Access::Sealed).await;
    world.set_access(Side::Target, Access::Sealed).await;
    let error = world.producer().send_batch(batch(3)).await.unwrap_err();
    let told = (error.kind(), error.persisted());
    assert_eq!(told, (ErrorKind::Sealed, Persisted::No));
    let errors = world.count(|row| row.send_errors);
    assert_eq!(errors[0] + errors[1], 3);
}

#[tokio::test(start_paused = true)]
async fn batch_needs_one_ordering_key_or_none() {
    let world = World::ordered(Stage::DualWrite, 5_000).await;
    let producer = world.producer();
    let keyed = |key: &str| Message::new("a").with_ordering_key(key);
    for (batch, fits) in [
        (vec![keyed("k"), keyed("k")], true),
        (batch(2), true),
        (vec![keyed("k"), keyed("l")], false),
        (vec![keyed("k"), Message::new("a")], false),
        (vec![], false),
        (
            vec![Message::new("a").with_deliver_after(Duration::from_secs(1))],
            false,
        ),
        (
            vec![Message::new("a").with_property("CROSSFADE_KEY", "x")],
            false,
        ),
    ] {
        let sent = producer.send_batch(batch).await;
        match fits {
            true => drop(sent.unwrap()),
            false => assert_eq!(kind_of(sent), ErrorKind::InvalidMessage),
        }
    }
    let one = producer.send(keyed("k")).await.unwrap();
    let both = producer.send_batch(vec![keyed("k"), keyed("k")]);
    let both = both.await.unwrap();
    assert!(both.iter().all(|receipt| receipt.side == one.side));
    let queues = world.stored(one.side).await.into_iter();
    let of_key = queues
        .filter(|incoming| incoming.message.ordering_key.as_deref() == Some("k"))
        .map(|incoming| incoming.queue);
    assert_eq!(of_key.collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn batch_of_a_frozen_key_is_held_until_the_move() {
    let world = World::ordered(Stage::DualWrite, 0).await;
    let producer = world.producer();
    let mut keys = (0..).map(|number| format!("k{number}"));
    let low = keys.find(|key| crate::stage::bucket_of(key.as_bytes()) < 5_000);
    let low = low.unwrap();
    world.freeze(5_000);
    let batch = vec![Message::new("a").with_ordering_key(low); 2];
    let held = tokio::spawn(async move { producer.send_batch(batch).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!held.is_finished());
    world.release(5_000).await;
    let receipts = held.await.unwrap().unwrap();
    assert!(receipts.iter().all(|receipt| receipt.side == Side::Target));
}
