//! The wrapper that makes things go wrong.
#![cfg(feature = "memory")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossfade::{
    ErrorKind, Message, Persisted,
    backend::{
        Backend, Subscription,
        fault::{Fault, FaultControl, FaultRules, STALL_TIMEOUT, SendFate},
    },
};
use tokio::time::Instant;

use crate::support::*;

struct Faulty {
    cluster: Cluster,
    client: Fault,
    control: FaultControl,
    topic: String,
}

async fn faulty(seed: u64) -> Faulty {
    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let client = Fault::new(cluster.client("faulty").await, seed);
    Faulty {
        control: client.control(),
        client,
        cluster,
        topic,
    }
}

fn rules(change: impl FnOnce(&mut FaultRules)) -> FaultRules {
    let mut rules = FaultRules::default();
    change(&mut rules);
    rules
}

pub(crate) async fn each_fate_stores_and_answers_as_it_says() {
    let faulty = faulty(1).await;
    let producer = faulty.client.producer(&faulty.topic).await.unwrap();
    let consumer = faulty.cluster.consumer(&faulty.topic, "group").await;
    use SendFate::*;
    // The fate, how often it is stored before the answer, and after it.
    for (fate, before, after) in [
        (Passed, 1, 0),
        (Refused, 0, 0),
        (AnswerLost, 1, 0),
        (RequestLost, 0, 0),
        (Late, 0, 1),
        (Duplicated, 2, 0),
    ] {
        faulty.control.script([fate]);
        let start = Instant::now();
        let sent = send(&producer, &Message::new(format!("{fate:?}")), 0).await;
        let took = start.elapsed();
        match fate {
            Passed | Duplicated => {
                sent.unwrap();
            }
            Refused => {
                let error = sent.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert_eq!(error.persisted(), Persisted::No);
            }
            _ => {
                let error = sent.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                assert_eq!(error.persisted(), Persisted::Maybe);
                assert!(took >= TIMEOUT && took < TIMEOUT * 2);
            }
        }
        let at_once = consumer.receive(10, Duration::ZERO).await.unwrap();
        assert_eq!(at_once.len(), before, "{fate:?}");
        let bound = producer.ambiguity_bound() + Duration::from_millis(2);
        tokio::time::sleep(bound).await;
        let later = consumer.receive(10, Duration::ZERO).await.unwrap();
        assert_eq!(later.len(), after, "{fate:?}");
        for incoming in at_once.iter().chain(&later) {
            assert_eq!(body(incoming), format!("{fate:?}"));
        }
        if let [first, second] = &at_once[..] {
            assert_eq!(
                first.message.idempotency_key,
                second.message.idempotency_key
            );
        }
    }
}

pub(crate) async fn shares_are_kept_and_one_seed_is_one_sequence() {
    let mut sequences = Vec::new();
    for seed in [7, 7, 8] {
        let faulty = faulty(seed).await;
        faulty.control.set_rules(rules(|rules| {
            rules.sends = vec![(SendFate::Refused, 0.25), (SendFate::Duplicated, 0.25)];
        }));
        let producer = faulty.client.producer(&faulty.topic).await.unwrap();
        let mut sequence = Vec::new();
        let mut counts = BTreeMap::<bool, u32>::new();
        for _ in 0..1000 {
            let stored = send(&producer, &Message::new("x"), 0).await;
            *counts.entry(stored.is_ok()).or_default() += 1;
            sequence.push(stored.map(|stored| stored.offset).ok());
        }
        assert!((200..300).contains(&counts[&false]), "{counts:?}");
        sequences.push(sequence);
    }
    assert_eq!(sequences[0], sequences[1]);
    assert_ne!(sequences[0], sequences[2]);
}

pub(crate) async fn delays_are_within_their_range() {
    let faulty = faulty(1).await;
    let range = Duration::from_millis(100)..=Duration::from_millis(300);
    faulty
        .control
        .set_rules(rules(|rules| rules.delay = range.clone()));
    let producer = faulty.client.producer(&faulty.topic).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        send(&producer, &Message::new("x"), 0).await.unwrap();
        all.push(start.elapsed());
    }
    let timer = Duration::from_millis(1);
    assert!(
        all.iter()
            .all(|took| (*range.start()..=*range.end() + timer).contains(took))
    );
    assert!(
        all.iter()
            .max()
            .unwrap()
            .saturating_sub(*all.iter().min().unwrap())
            > timer * 100
    );
    // A delay beyond the timeout is a timeout, and nothing is stored.
    let slow = Duration::from_secs(60);
    faulty
        .control
        .set_rules(rules(|rules| rules.delay = slow..=slow));
    let error = send(&producer, &Message::new("slow"), 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let consumer = faulty.cluster.consumer(&faulty.topic, "group").await;
    let stored = receive(&consumer, 50).await;
    assert!(stored.iter().all(|incoming| body(incoming) == "x"));
    receive_nothing(&consumer).await;
}

pub(crate) async fn a_stalled_cluster_answers_nothing_until_it_resumes() {
    let faulty = faulty(1).await;
    let (topic, control) = (&faulty.topic, &faulty.control);
    let producer = faulty.client.producer(topic).await.unwrap();
    let subscription = Subscription::new(topic.as_str(), "group");
    let consumer = faulty.client.consumer(&subscription).await.unwrap();
    send(&producer, &Message::new("1"), 0).await.unwrap();
    send(&producer, &Message::new("2"), 0).await.unwrap();
    let held = receive(&consumer, 2).await;
    control.stall();

    let error = send(&producer, &Message::new("x"), 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.persisted(), Persisted::Maybe);
    faulty
        .cluster
        .memory()
        .send_unmanaged(topic, &Message::new("3"), 0)
        .unwrap();
    receive_nothing(&consumer).await;
    consumer.ack(held[0].token).await.unwrap();
    let start = Instant::now();
    // What cannot be given back now is kept, and given back once the cluster is there again.
    consumer.nack(held[1].token, Duration::ZERO).await.unwrap();
    assert!(start.elapsed() < STALL_TIMEOUT * 2);
    let error = faulty.client.admin().topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = faulty.client.producer(topic).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    // A call that waits goes on when the cluster is back, and what came meanwhile is there.
    let waiting = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.receive(1, Duration::from_secs(30)).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    control.resume();
    let mut came = waiting.await.unwrap().unwrap();
    came.extend(receive(&consumer, 1).await);
    let mut bodies: Vec<_> = came.iter().map(body).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["2", "3"]);
    receive_nothing(&consumer).await;
}

pub(crate) async fn a_stall_holds_a_receive_that_waits_already() {
    let faulty = faulty(1).await;
    let subscription = Subscription::new(faulty.topic.as_str(), "group");
    let client: Arc<dyn Backend> = Arc::new(faulty.client);
    let consumer = client.consumer(&subscription).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.receive(1, Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    faulty.control.stall();
    faulty
        .cluster
        .memory()
        .send_unmanaged(&faulty.topic, &Message::new("x"), 0)
        .unwrap();
    assert!(waiting.await.unwrap().unwrap().is_empty());
}
