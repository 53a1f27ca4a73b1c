//! What a seal does to what is on its way, on real brokers: `scripts/rocketmq up`, then the environment from `.clusters/env`. What takes minutes runs
//! with `CROSSFADE_TEST_REHEARSALS=1`. Each test says what it saw; `src/docs/rocketmq.md` of the SDK has it.
#![allow(clippy::print_stdout)]

#[path = "seal/raw.rs"]
mod raw;
#[path = "seal/support.rs"]
mod support;

use std::{env, time::Duration};

use crossfade_rocketmq::{
    ErrorKind,
    admin::{TopicAccess, TopicConfig},
    codes::response,
};
use tokio::time::Instant;

use crate::support::*;

const QUEUES: u32 = 4;

/// Both clusters of the environment, or none where there are none.
async fn clusters(test: &str) -> Vec<Cluster> {
    let mut all = Vec::new();
    for variable in ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"] {
        let Ok(address) = env::var(variable) else {
            skip(test, &format!("no broker ({variable})"));
            return Vec::new();
        };
        all.push(Cluster::at(&address).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_back_under_a_seal_comes_again_under_it() {
    for cluster in clusters("what_is_sent_back_under_a_seal_comes_again_under_it").await {
        let admin = &cluster.admin;
        let (topic, saved) = cluster.topic(QUEUES).await;
        let group = cluster.group(16).await;
        let (_client, consumer) = cluster.consumer(&topic, &group).await;
        let producer = cluster.producer(&topic).await;
        producer.send(&message(7), 0, TIMEOUT).await.unwrap();
        let held = consumer.receive(1, TIMEOUT).await.unwrap().remove(0);
        // By hand: a member that has given the queue up because of the seal lets the message stay where it is.
        consumer.close().await.unwrap();
        let seal = admin.set_topic_access(&saved, TopicAccess::Sealed);
        seal.await.unwrap();
        let begun = Instant::now();
        raw::send_back(&cluster, &group, &held.message).await;
        let (_client, consumer) = cluster.consumer(&topic, &group).await;
        let again = consumer.receive(1, TIMEOUT).await.unwrap().remove(0);
        println!(
            "{}: sent back under the seal, delivered again after {:?}",
            cluster.name,
            begun.elapsed()
        );
        assert_eq!(again.attempt, 2);
        // The broker had it: it came from the group's own topic, not from this process.
        let retry = format!("%RETRY%{group}");
        assert_eq!(*again.message.queue.topic, *retry);
        assert!(cluster.owed(&topic, &group, &saved).await.total() > 0);
        consumer.ack(again.token).unwrap();
        cluster.drained(&topic, &group, &saved).await;
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_find_their_way_back_after_an_unseal() {
    let all = clusters("clients_find_their_way_back_after_an_unseal").await;
    if let [source, target] = &all[..] {
        tokio::join!(find_back(source), find_back(target));
    }
}

/// A reader finds out about a seal within 10 s: that is what a round takes.
async fn find_back(cluster: &Cluster) {
    let rounds = if rehearsals() { 20 } else { 1 };
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let group = cluster.group(16).await;
    let queues: usize = saved.values().map(|config| config.queues() as usize).sum();
    let producer = cluster.producer(&topic).await;
    let (_client, consumer) = cluster.consumer(&topic, &group).await;
    let mut lags: [Vec<Duration>; 3] = Default::default();
    for round in 0..rounds {
        let seal = admin.set_topic_access(&saved, TopicAccess::Sealed);
        seal.await.unwrap();
        until("the route is sealed", async || {
            let route = cluster.client.route(&topic).await.unwrap();
            let topic = topic.as_str().into();
            route.readable(&topic).is_empty().then_some(())
        })
        .await;
        let error = producer.send(&message(round), 0, TIMEOUT).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Sealed);
        until("the reader has no queue", async || {
            consumer.assigned().is_empty().then_some(())
        })
        .await;
        let open = admin.set_topic_access(&saved, TopicAccess::Open);
        open.await.unwrap();
        let (routed, sent, assigned) = tokio::join!(
            until("the name server tells of the queues", async || {
                let route = cluster.client.route(&topic).await.unwrap();
                let topic = topic.as_str().into();
                (route.writable(&topic).len() == queues).then_some(())
            }),
            until("a send is taken", async || {
                let sent = producer.send(&message(round), round, TIMEOUT).await;
                sent.ok()
            }),
            until("every queue is read", async || {
                (consumer.assigned().len() == queues).then_some(())
            }),
        );
        for (lags, lag) in lags.iter_mut().zip([routed, sent, assigned]) {
            lags.push(lag);
        }
    }
    let [routed, sent, assigned] = lags.map(spread);
    println!(
        "{}: after an unseal the route shows it: {routed}; a send is taken: {sent}; all queues are read again: {assigned}",
        cluster.name
    );
    let mut numbers = take(&consumer, rounds as usize, TIMEOUT).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..rounds).collect::<Vec<_>>());
    cluster.drained(&topic, &group, &saved).await;
    cluster.delete(&topic, &[&group]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_topic_is_as_before_after_a_seal() {
    for cluster in clusters("every_field_of_a_topic_is_as_before_after_a_seal").await {
        let admin = &cluster.admin;
        let topic = unique("seal-exact");
        for (number, master) in (0..).zip(cluster.masters().await) {
            let mut config = TopicConfig::new(&topic, 5 + number);
            config.write_queues = 3 + number;
            config.filter_type = "MULTI_TAG".to_owned();
            config.system_flag = 1;
            config.order = true;
            if number == 0 {
                let attribute = ("message.type".to_owned(), "FIFO".to_owned());
                config.attributes.extend([attribute]);
                admin.create_topic(&config).await.unwrap();
            }
            admin.update_topic(&master, &config).await.unwrap();
        }
        let saved = admin.topic_configs(&topic).await.unwrap();
        let before = raw::stored_topics(&cluster, &topic).await;
        for access in [
            TopicAccess::Closed,
            TopicAccess::Sealed,
            TopicAccess::Closed,
            TopicAccess::Open,
        ] {
            admin.set_topic_access(&saved, access).await.unwrap();
            let now = raw::stored_topics(&cluster, &topic).await;
            assert_eq!(now == before, access == TopicAccess::Open, "{access:?}");
        }
        println!("{}: as before on every broker: {before:?}", cluster.name);
        cluster.delete(&topic, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_somebody_adds_are_sealed_counted_and_put_back() {
    for cluster in clusters("queues_that_somebody_adds_are_sealed_counted_and_put_back").await {
        let admin = &cluster.admin;
        let (topic, saved) = cluster.topic(2).await;
        let group = cluster.group(16).await;
        admin.commit_first_offsets(&group, &saved).await.unwrap();
        for master in cluster.masters().await {
            let more = TopicConfig::new(&topic, 6);
            admin.update_topic(&master, &more).await.unwrap();
        }
        let producer = cluster.producer(&topic).await;
        let queues = 6 * saved.len() as u64;
        until("every queue is written to", async || {
            producer.send(&message(0), queues - 1, TIMEOUT).await.ok()?;
            let now = admin.topic_configs(&topic).await.unwrap();
            let owed = cluster.owed(&topic, &group, &now).await;
            let last = owed.offsets.topic.last().map(|queue| queue.max);
            (last > Some(0)).then_some(())
        })
        .await;
        let now = admin.topic_configs(&topic).await.unwrap();
        // A seal by what was saved would hide the queues that were added.
        let seal = admin.set_topic_access(&saved, TopicAccess::Sealed).await;
        assert_eq!(seal.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(admin.topic_configs(&topic).await.unwrap(), now);
        // A change that hides nothing takes nothing away.
        let close = admin.set_topic_access(&saved, TopicAccess::Closed);
        close.await.unwrap();
        let closed = admin.topic_configs(&topic).await.unwrap();
        let own = crossfade_rocketmq::admin::grown(&saved, &closed);
        assert_eq!(own, now);
        let seal = admin.set_topic_access(&own, TopicAccess::Sealed);
        seal.await.unwrap();
        assert!(cluster.owed(&topic, &group, &own).await.total() > 0);
        let open = admin.set_topic_access(&own, TopicAccess::Open);
        open.await.unwrap();
        assert_eq!(admin.topic_configs(&topic).await.unwrap(), now);
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_counted_by_name_and_owed_no_more() {
    for cluster in clusters("dead_letters_are_counted_by_name_and_owed_no_more").await {
        let admin = &cluster.admin;
        let (topic, saved) = cluster.topic(QUEUES).await;
        let group = cluster.group(1).await;
        let (_client, consumer) = cluster.consumer(&topic, &group).await;
        let producer = cluster.producer(&topic).await;
        producer.send(&message(7), 0, TIMEOUT).await.unwrap();
        let first = consumer.receive(1, TIMEOUT).await.unwrap().remove(0);
        consumer.close().await.unwrap();
        let seal = admin.set_topic_access(&saved, TopicAccess::Sealed);
        seal.await.unwrap();
        let soon = Duration::from_secs(1);
        raw::send_back(&cluster, &group, &first.message).await;
        let (_client, consumer) = cluster.consumer(&topic, &group).await;
        let second = consumer.receive(1, TIMEOUT).await.unwrap().remove(0);
        assert_eq!(second.attempt, 2);
        consumer.nack(second.token, soon).await.unwrap();
        let took = until("it is a dead letter", async || {
            let owed = cluster.owed(&topic, &group, &saved).await;
            (owed.dead_letters == 1 && owed.total() == 0).then_some(())
        })
        .await;
        println!(
            "{}: the second refusal made it a dead letter, under the seal, after {took:?}",
            cluster.name
        );
        assert!(consumer.receive(1, soon).await.unwrap().is_empty());
        let dead = format!("%DLQ%{group}");
        assert!(!admin.topic_configs(&dead).await.unwrap().is_empty());
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasting_group_is_told_and_owes_everything_for_ever() {
    for cluster in clusters("broadcasting_group_is_told_and_owes_everything_for_ever").await {
        let (topic, saved) = cluster.topic(QUEUES).await;
        let group = cluster.group(16).await;
        let producer = cluster.producer(&topic).await;
        for number in 0..3 {
            producer
                .send(&message(number), number, TIMEOUT)
                .await
                .unwrap();
        }
        let broadcaster = cluster.client();
        raw::broadcast(&cluster, &broadcaster, &topic, &group).await;
        let members = cluster.admin.consumers(&group).await.unwrap();
        assert!(members.broadcasting && !members.pop);
        assert_eq!(members.members[0].client_id, **broadcaster.client_id());
        let owed = cluster.owed(&topic, &group, &saved).await;
        println!(
            "{}: a broadcasting member is listed as such; brokers know no offset of its group and count {} as owed",
            cluster.name,
            owed.total()
        );
        assert_eq!(owed.total(), 3);
        assert!(
            cluster
                .admin
                .groups_of_topic(&topic)
                .await
                .unwrap()
                .contains(&group.to_string())
        );
        cluster.delete(&topic, &[&group]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_that_pops_has_offsets_that_prove_nothing() {
    for cluster in clusters("group_that_pops_has_offsets_that_prove_nothing").await {
        let (topic, saved) = cluster.topic(1).await;
        let group = cluster.group(16).await;
        let producer = cluster.producer(&topic).await;
        for number in 0..saved.len() as u64 {
            producer
                .send(&message(number), number, TIMEOUT)
                .await
                .unwrap();
        }
        cluster.admin.wait_for_dispatch(TIMEOUT).await.unwrap();
        let mut codes = Vec::new();
        for master in cluster.masters().await {
            codes.push(raw::pop(&cluster, &master, &topic, &group).await);
        }
        if !cluster.name.starts_with('5') {
            println!("{}: POP is answered with {codes:?}", cluster.name);
            let unknown = |code: &i32| *code == response::REQUEST_CODE_NOT_SUPPORTED;
            assert!(codes.iter().all(unknown), "{codes:?}");
            cluster.delete(&topic, &[&group]).await;
            continue;
        }
        assert!(
            codes.iter().all(|code| *code == response::SUCCESS),
            "{codes:?}"
        );
        // Handed out and not acked: somebody still has to handle it, and the offsets say that nothing is owed.
        let moved = until("the offset has moved", async || {
            let owed = cluster.owed(&topic, &group, &saved).await;
            (owed.offsets.owed() == 0).then_some(())
        })
        .await;
        let at_first = cluster.admin.pops(&topic, &group).await.unwrap();
        println!(
            "{}: handed out by POP, not acked, and owed no more by its offset after {moved:?}; told as POP at once: {at_first}",
            cluster.name
        );
        if rehearsals() {
            let told = until("the group is told as one that pops", async || {
                let told = cluster.admin.pops(&topic, &group).await.unwrap();
                told.then_some(())
            })
            .await;
            println!(
                "{}: told as POP by its retry topic after {told:?}",
                cluster.name
            );
        }
        cluster.delete(&topic, &[&group]).await;
        for between in ["_", "+"] {
            let retry = format!("%RETRY%{group}{between}{topic}");
            cluster.admin.delete_topic(&retry).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_commit_lands_behind_the_seal_and_is_seen() {
    for cluster in clusters("late_commit_lands_behind_the_seal_and_is_seen").await {
        check_back(&cluster, false).await;
    }
}

/// The broker asks only after its next round: up to a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_back_reaches_its_producer_after_the_side_was_sealed() {
    if !rehearsals() {
        println!(
            "rehearsal: check_back_reaches_its_producer_after_the_side_was_sealed: CROSSFADE_TEST_REHEARSALS=1 runs it"
        );
        return;
    }
    let all = clusters("check_back_reaches_its_producer_after_the_side_was_sealed").await;
    if let [source, target] = &all[..] {
        tokio::join!(check_back(source, true), check_back(target, true));
    }
}

/// A half message from before the seal is committed under it: by its producer, or by its answer to the broker's question.
async fn check_back(cluster: &Cluster, asked: bool) {
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(1).await;
    let group = cluster.group(16).await;
    admin.commit_first_offsets(&group, &saved).await.unwrap();
    let master = cluster.masters().await.remove(0);
    let mut producer = raw::TransactionProducer::connect(&master.address).await;
    let half = producer.begin(&topic).await;
    let seal = admin.set_topic_access(&saved, TopicAccess::Sealed);
    seal.await.unwrap();
    let owed = cluster.owed(&topic, &group, &saved).await;
    assert_eq!((owed.half, owed.offsets.owed()), (1, 0), "{owed:?}");
    let begun = Instant::now();
    if asked {
        let question = producer.question().await;
        println!(
            "{}: asked under the seal after {:?}",
            cluster.name,
            begun.elapsed()
        );
        producer.commit(&question).await;
    } else {
        producer.commit(&half).await;
    }
    let counted = until("it is seen behind the seal", async || {
        let owed = cluster.owed(&topic, &group, &saved).await;
        // At no moment neither half nor waiting.
        assert!(owed.total() > 0, "{owed:?}");
        (owed.offsets.owed() == 1).then_some(())
    })
    .await;
    println!(
        "{}: committed under the seal, and counted as waiting after {counted:?}",
        cluster.name
    );
    let open = admin.set_topic_access(&saved, TopicAccess::Open);
    open.await.unwrap();
    let (_client, consumer) = cluster.consumer(&topic, &group).await;
    assert_eq!(take(&consumer, 1, TIMEOUT).await, [7]);
    if asked {
        // Until the broker's next round the resolved half message is still counted.
        let begun = Instant::now();
        cluster.drained(&topic, &group, &saved).await;
        println!("{}: drained {:?} later", cluster.name, begun.elapsed());
    }
    cluster.delete(&topic, &[&group]).await;
}

/// Median and maximum, in words.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let last = times.last().copied().unwrap_or_default();
    format!(
        "median {:?}, max {last:?} of {}",
        times[times.len() / 2],
        times.len()
    )
}
