//! A client that dies without a word.

use crossfade::backend::Subscription;

use crate::support::*;

pub(crate) async fn a_dropped_consumer_is_gone_and_its_messages_come_again(cluster: Cluster) {
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let client = cluster.client(&unique("victim")).await;
    let subscription = Subscription::new(topic.as_str(), group.as_str());
    let victim = client.consumer(&subscription).await.unwrap();
    victim.ready().await.unwrap();
    send_numbers(&producer, 6).await;
    let held = receive(&victim, 6).await;
    assert_eq!(numbers(&held), (0..6).collect::<Vec<_>>());
    let heir = cluster.consumer(&topic, &group).await;
    drop(victim);
    drop(client);
    eventually("only the heir is listed", async || {
        (cluster.admin.members(&group).await.unwrap().clients.len() == 1).then_some(())
    })
    .await;
    // Some may have come to the heir before and after the crash.
    let mut all = Vec::new();
    while numbers(&all).len() < 6 {
        all.extend(receive(&heir, 1).await);
    }
    assert!(all.iter().all(|incoming| incoming.attempt == 1));
    ack_all(&heir, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}

/// A seeded crowd: members join, take, ack, nack, close and crash in every order, and a seal comes and goes.
#[cfg(feature = "memory")]
pub(crate) async fn a_crowd_that_comes_and_goes_loses_nothing() {
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use crossfade::{
        Access, Message,
        backend::{BackendConsumer, Incoming},
    };
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let cluster = embedded_with(|config| config.max_retries = u32::MAX);
        let (topic, settings) = cluster.topic(5).await;
        let producer = cluster.producer(&topic).await;
        let mut members: Vec<(Arc<dyn BackendConsumer>, Vec<Incoming>)> = Vec::new();
        let (mut sent, mut handled) = (0u64, BTreeSet::new());
        for _ in 0..600 {
            let pick = rng.random_range(0..members.len().max(1));
            match rng.random_range(0..100) {
                0..30 => {
                    let mut message = Message::new(sent.to_string());
                    if rng.random_bool(0.1) {
                        message = message.with_deliver_after(Duration::from_secs(1));
                    }
                    let stored = send(&producer, &message, rng.random()).await;
                    sent += u64::from(stored.is_ok());
                }
                30..36 if members.len() < 8 => {
                    members.push((cluster.consumer(&topic, "group").await, Vec::new()));
                }
                36..60 if !members.is_empty() => {
                    let (member, held) = &mut members[pick];
                    let wait = Duration::from_millis(rng.random_range(0..300));
                    held.extend(member.receive(3, wait).await.unwrap());
                }
                60..90 if !members.is_empty() => {
                    let (member, held) = &mut members[pick];
                    if !held.is_empty() {
                        let incoming = held.swap_remove(rng.random_range(0..held.len()));
                        let _ = match rng.random_bool(0.8) {
                            true => {
                                handled.insert(body(&incoming));
                                member.ack(incoming.token).await
                            }
                            false => member.nack(incoming.token, Duration::ZERO).await,
                        };
                    }
                }
                90..93 if !members.is_empty() => {
                    let (member, _) = members.swap_remove(pick);
                    member.close().await.unwrap();
                }
                93..96 if !members.is_empty() => drop(members.swap_remove(pick)),
                96..98 => {
                    let access = match rng.random_bool(0.3) {
                        true => Access::Sealed,
                        false => Access::Open,
                    };
                    let set = cluster.admin.set_access(&topic, &settings, access);
                    set.await.unwrap();
                }
                _ => {}
            }
        }
        let opened = cluster.admin.set_access(&topic, &settings, Access::Open);
        opened.await.unwrap();
        drop(members);
        let last = cluster.consumer(&topic, "group").await;
        loop {
            let some = last.receive(100, Duration::from_secs(10)).await.unwrap();
            if some.is_empty() {
                break;
            }
            handled.extend(some.iter().map(body));
            ack_all(&last, &some).await;
        }
        cluster.drained(&topic, "group", &settings).await;
        let expected: BTreeSet<_> = (0..sent).map(|number| number.to_string()).collect();
        assert!(sent > 50);
        assert_eq!(handled, expected, "seed {seed}");
    }
}
