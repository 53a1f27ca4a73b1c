//! Closed and sealed topics.

use crossfade::{Access, ErrorKind, Message, Persisted};

use crate::support::*;

pub(crate) async fn a_sealed_topic_refuses_every_send(cluster: Cluster) {
    if !cluster.capability.seal {
        return;
    }
    let (topic, settings) = cluster.topic(4).await;
    let admin = &cluster.admin;
    let before = cluster.producer(&topic).await;
    send(&before, &Message::new("x"), 0).await.unwrap();
    admin
        .set_access(&topic, &settings, Access::Sealed)
        .await
        .unwrap();
    let described = admin.topic(&topic).await.unwrap().unwrap();
    assert_eq!(described.access, Access::Sealed);
    // A producer that knew the topic before, and one that meets it sealed.
    let after = cluster.producer(&topic).await;
    for producer in [&before, &after] {
        for lane in 0..4 {
            let error = send(producer, &Message::new("x"), lane).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Sealed);
            assert_eq!(error.persisted(), Persisted::No);
        }
    }
    admin
        .set_access(&topic, &settings, Access::Open)
        .await
        .unwrap();
    for producer in [&before, &after] {
        eventually("sends are taken again", async || {
            send(producer, &Message::new("x"), 1).await.ok()
        })
        .await;
    }
}

pub(crate) async fn what_was_owed_under_a_seal_is_told_and_read_after_it(cluster: Cluster) {
    if !cluster.capability.seal {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let admin = &cluster.admin;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 4).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let all = receive(&consumer, 4).await;
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
    consumer.close().await.unwrap();
    drop(consumer);
    send_numbers(&producer, 3).await;
    admin
        .set_access(&topic, &settings, Access::Sealed)
        .await
        .unwrap();
    let backlog = admin.backlog(&topic, &group, &settings).await.unwrap();
    assert_eq!((backlog.queues.len(), backlog.waiting()), (2, 3));

    let consumer = cluster.consumer(&topic, &group).await;
    receive_nothing(&consumer).await;
    admin
        .set_access(&topic, &settings, Access::Open)
        .await
        .unwrap();
    let all = receive(&consumer, 3).await;
    assert_eq!(numbers(&all), [0, 1, 2]);
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn a_member_of_a_sealed_topic_finds_its_queues_after_the_unseal(cluster: Cluster) {
    if !cluster.capability.seal {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let admin = &cluster.admin;
    admin
        .set_access(&topic, &settings, Access::Sealed)
        .await
        .unwrap();
    let consumer = cluster.consumer(&topic, &group).await;
    assert!(consumer.assigned().is_empty());
    admin
        .set_access(&topic, &settings, Access::Open)
        .await
        .unwrap();
    eventually("both queues are assigned", async || {
        (consumer.assigned().len() == 2).then_some(())
    })
    .await;
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 4).await;
    assert_eq!(numbers(&receive(&consumer, 4).await), [0, 1, 2, 3]);
}

pub(crate) async fn opening_restores_the_settings_exactly(cluster: Cluster) {
    let (topic, settings) = cluster.topic(3).await;
    let admin = &cluster.admin;
    let original = admin.topic(&topic).await.unwrap().unwrap();
    assert_eq!(original.access, Access::Open);
    assert_eq!(original.settings.queues, 3);
    let walk = [Access::Closed, Access::Sealed, Access::Closed, Access::Open];
    for access in walk {
        if access == Access::Sealed && !cluster.capability.seal {
            continue;
        }
        admin.set_access(&topic, &settings, access).await.unwrap();
        let now = admin.topic(&topic).await.unwrap().unwrap();
        assert_eq!(now.access, access);
    }
    assert_eq!(admin.topic(&topic).await.unwrap().unwrap(), original);
}

pub(crate) async fn a_closed_topic_still_stores(cluster: Cluster) {
    let (topic, settings) = cluster.topic(2).await;
    let admin = &cluster.admin;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    admin
        .set_access(&topic, &settings, Access::Closed)
        .await
        .unwrap();
    send_numbers(&producer, 4).await;
    assert_eq!(numbers(&receive(&consumer, 4).await), [0, 1, 2, 3]);
}

#[cfg(feature = "memory")]
pub(crate) async fn under_a_seal_delayed_and_retried_messages_still_move() {
    use std::time::Duration;

    let cluster = embedded();
    let (topic, settings) = cluster.topic(2).await;
    let admin = &cluster.admin;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    let later = Message::new("later").with_deliver_after(Duration::from_secs(60));
    send(&producer, &later, 1).await.unwrap();
    send(&producer, &Message::new("retried"), 0).await.unwrap();
    let got = receive(&consumer, 1).await;
    consumer
        .nack(got[0].token, Duration::from_secs(5))
        .await
        .unwrap();
    admin
        .set_access(&topic, &settings, Access::Sealed)
        .await
        .unwrap();
    let backlog = admin.backlog(&topic, "group", &settings).await.unwrap();
    assert_eq!((backlog.waiting(), backlog.delayed), (0, Some(2)));

    let got = receive(&consumer, 1).await;
    assert_eq!((body(&got[0]).as_str(), got[0].attempt), ("retried", 2));
    ack_all(&consumer, &got).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    receive_nothing(&consumer).await;
    let backlog = admin.backlog(&topic, "group", &settings).await.unwrap();
    assert_eq!(
        (backlog.waiting(), backlog.retrying(), backlog.delayed),
        (1, 0, Some(0))
    );
    admin
        .set_access(&topic, &settings, Access::Open)
        .await
        .unwrap();
    assert_eq!(body(&receive(&consumer, 1).await[0]), "later");
}

#[cfg(feature = "memory")]
pub(crate) async fn no_send_succeeds_after_a_seal_has_returned() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };

    let cluster = embedded();
    let (topic, settings) = cluster.topic(2).await;
    let memory = cluster.memory().clone();
    let (sealed, stored) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    // Threads, for real interleavings: nothing here looks at the clock.
    let writers: Vec<_> = (0..2u64)
        .map(|lane| {
            let (memory, topic) = (memory.clone(), topic.clone());
            let (sealed, stored) = (sealed.clone(), stored.clone());
            std::thread::spawn(move || {
                loop {
                    let was_sealed = sealed.load(Ordering::SeqCst);
                    match memory.send_unmanaged(&topic, &Message::new("x"), lane) {
                        Ok(_) => {
                            assert!(!was_sealed);
                            stored.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Sealed);
                            return;
                        }
                    }
                }
            })
        })
        .collect();
    while stored.load(Ordering::SeqCst) < 1000 {
        std::thread::yield_now();
    }
    cluster.admin.create_group("group").await.unwrap();
    cluster
        .admin
        .set_access(&topic, &settings, Access::Sealed)
        .await
        .unwrap();
    sealed.store(true, Ordering::SeqCst);
    let at_once = cluster.total(&topic, "group", &settings).await;
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(cluster.total(&topic, "group", &settings).await, at_once);
    assert_eq!(stored.load(Ordering::SeqCst), at_once);
}
