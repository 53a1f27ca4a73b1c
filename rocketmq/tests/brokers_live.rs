//! Several masters: what a seal, a restart and a rebalance do when brokers are not all alike. Two clusters of this test's own with two masters each, by
//! `scripts/rocketmq`, which it starts (in `CROSSFADE_CLUSTERS_DIR` where that is set) and ends if they did not run. Minutes: a rehearsal,
//! `CROSSFADE_TEST_REHEARSALS=1` runs it. It says what it saw; `src/docs/rocketmq.md` of the SDK has it.
#![allow(clippy::print_stdout)]

#[path = "seal/own.rs"]
mod own;
#[path = "seal/support.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossfade_rocketmq::{
    Consumer, ErrorKind, Persisted,
    admin::{GroupConfig, TopicAccess, TopicConfig, grown},
};
use tokio::time::Instant;

use crate::{own::Own, support::*};

const QUEUES: u32 = 4;
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_masters() {
    if !rehearsals() {
        println!("rehearsal: several_masters: CROSSFADE_TEST_REHEARSALS=1 runs it");
        return;
    }
    let Some(own) = Own::up().await else {
        skip(
            "several_masters",
            "no java or no mvn for clusters of its own",
        );
        return;
    };
    let (source, target) = (own.source().await, own.target().await);
    tokio::join!(
        one_side(&own, "source", &source),
        one_side(&own, "target", &target)
    );
}

async fn one_side(own: &Own, side: &str, cluster: &Cluster) {
    assert!(cluster.masters().await.len() >= 2);
    seal_on_some_masters_only(cluster).await;
    group_that_only_some_brokers_know(cluster).await;
    rebalance_during_a_seal(cluster).await;
    broker_that_was_away(own, side, cluster).await;
    broker_that_joins(own, side, cluster).await;
}

/// Writers go to the open one, nothing gets behind the seal, and both can be put right from there.
async fn seal_on_some_masters_only(cluster: &Cluster) {
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let masters = cluster.masters().await;
    let producer = cluster.producer(&topic).await;
    let sealed = saved[&masters[0].broker].with_access(TopicAccess::Sealed);
    admin.update_topic(&masters[0], &sealed).await.unwrap();
    let (mut stored, mut refused) = (0, 0);
    for lane in 0..200 {
        match producer.send(&message(lane), lane, TIMEOUT).await {
            Ok(sent) => {
                assert_ne!(sent.broker, masters[0].broker);
                stored += 1;
            }
            // The name server still told of the sealed one.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Sealed);
                assert_eq!(error.persisted(), Persisted::No);
                refused += 1;
            }
        }
    }
    println!(
        "{}: sealed on one of {} masters: of 200 sends {stored} went to the others, {refused} were refused in the first moment",
        cluster.name,
        masters.len()
    );
    assert!(stored >= 100, "{stored}");
    let group = cluster.group(16).await;
    assert_eq!(cluster.owed(&topic, &group, &saved).await.total(), stored);
    for access in [TopicAccess::Sealed, TopicAccess::Open] {
        admin.set_topic_access(&saved, access).await.unwrap();
        let now = admin.topic_configs(&topic).await.unwrap();
        assert!(now.values().all(|config| config.access() == access));
        assert_eq!(now == saved, access == TopicAccess::Open);
    }
    cluster.delete(&topic, &[&group]).await;
}

/// Its offsets are counted on every broker: what lies on one that does not know it is owed as well.
async fn group_that_only_some_brokers_know(cluster: &Cluster) {
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let group: Arc<str> = unique("seal-partly").into();
    let masters = cluster.masters().await;
    let producer = cluster.producer(&topic).await;
    let queues = u64::from(QUEUES) * saved.len() as u64;
    for lane in 0..queues {
        producer.send(&message(lane), lane, TIMEOUT).await.unwrap();
    }
    let body = serde_json::to_vec(&GroupConfig::new(&group)).unwrap();
    own::create_group_on(cluster, &masters[0], body).await;
    for queue in 0..QUEUES {
        let commit = admin.commit_offset(&masters[0].address, &group, &topic, queue, 1);
        commit.await.unwrap();
    }
    assert!(!admin.group_exists(&group).await.unwrap());
    let named = admin.groups_of_topic(&topic).await.unwrap();
    assert_eq!(named, [group.to_string()]);
    let owed = cluster.owed(&topic, &group, &saved).await;
    println!(
        "{}: a group that one broker knows is named, and is owed {} messages of the others",
        cluster.name,
        owed.total()
    );
    assert_eq!(owed.total(), queues - u64::from(QUEUES));
    cluster.delete(&topic, &[&group]).await;
}

/// Members come and go under the seal; after it every queue has one reader, and every message is handled.
async fn rebalance_during_a_seal(cluster: &Cluster) {
    const MESSAGES: u64 = 300;
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let group = cluster.group(16).await;
    let queues = QUEUES as usize * saved.len();
    let producer = cluster.producer(&topic).await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(cluster.consumer(&topic, &group).await);
    }
    each_queue_once(&members, queues).await;
    for lane in 0..MESSAGES {
        producer.send(&message(lane), lane, TIMEOUT).await.unwrap();
    }
    let mut handled: BTreeSet<u64> = BTreeSet::new();
    let mut twice = 0;
    let mut note = |numbers: Vec<u64>| {
        for number in numbers {
            twice += u64::from(!handled.insert(number));
        }
        handled.len()
    };
    for (_, consumer) in &members {
        note(take(consumer, 20, SHORT).await);
    }
    admin
        .set_topic_access(&saved, TopicAccess::Sealed)
        .await
        .unwrap();
    let (_client, leaves) = members.remove(0);
    leaves.close().await.unwrap();
    drop(members.remove(0));
    for _ in 0..2 {
        members.push(cluster.consumer(&topic, &group).await);
    }
    admin
        .set_topic_access(&saved, TopicAccess::Open)
        .await
        .unwrap();
    let assigned = each_queue_once(&members, queues).await;
    let deadline = Instant::now() + PATIENCE;
    while note(Vec::new()) < MESSAGES as usize {
        for (_, consumer) in &members {
            note(take(consumer, 64, SHORT).await);
        }
        assert!(Instant::now() < deadline, "{} came", note(Vec::new()));
    }
    cluster.drained(&topic, &group, &saved).await;
    println!(
        "{}: one member left, one died and two joined under the seal: {queues} queues each with one reader {assigned:?} after the unseal, {MESSAGES} handled, {twice} of them twice",
        cluster.name
    );
    drop(members);
    cluster.delete(&topic, &[&group]).await;
}

async fn each_queue_once(
    members: &[(crossfade_rocketmq::Client, Consumer)],
    queues: usize,
) -> Duration {
    until("every queue has one reader", async || {
        let all: Vec<_> = members
            .iter()
            .flat_map(|(_, member)| member.assigned())
            .collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        (all.len() == queues && distinct.len() == queues).then_some(())
    })
    .await
}

/// A broker that is killed under the seal comes back sealed; while it is away nothing is proved and nothing is called open.
async fn broker_that_was_away(own: &Own, side: &str, cluster: &Cluster) {
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let group = cluster.group(16).await;
    let (_client, consumer) = cluster.consumer(&topic, &group).await;
    let _producer = cluster.producer(&topic).await;
    let masters = cluster.masters().await;
    admin
        .set_topic_access(&saved, TopicAccess::Sealed)
        .await
        .unwrap();
    own.call(&["kill-broker", side, "b"]).await;
    until("the name server has forgotten it", async || {
        (cluster.masters().await.len() < masters.len()).then_some(())
    })
    .await;
    let error = admin
        .set_topic_access(&saved, TopicAccess::Open)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let away = format!("{side}-b");
    assert!(error.message().contains(&away), "{error}");
    let groups = [Arc::clone(&group)];
    let unknown = admin.owed(&topic, &groups, &saved, TIMEOUT).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Unavailable);
    let now = admin.topic_configs(&topic).await.unwrap();
    assert!(!now.contains_key(&*away));
    assert!(
        now.values()
            .all(|config| config.access() == TopicAccess::Open)
    );

    own.call(&["start-broker", side, "b"]).await;
    let begun = Instant::now();
    until("the name server knows it", async || {
        (cluster.masters().await.len() == masters.len()).then_some(())
    })
    .await;
    let mut first_look = None;
    let id = consumer_id(&_client);
    until("the broker lists the reader again", async || {
        let listed = listed_on(cluster, &away, &group).await.contains(&id);
        first_look.get_or_insert(listed);
        listed.then_some(())
    })
    .await;
    println!(
        "{}: a broker that was killed is back; it lists a living client {:?} after it answers (at the first look: {first_look:?})",
        cluster.name,
        begun.elapsed()
    );
    let now = admin.topic_configs(&topic).await.unwrap();
    assert_eq!(now[&*away].access(), TopicAccess::Sealed);
    println!(
        "{}: and it is still sealed, while the others were opened meanwhile",
        cluster.name
    );
    admin
        .set_topic_access(&saved, TopicAccess::Open)
        .await
        .unwrap();
    assert_eq!(admin.topic_configs(&topic).await.unwrap(), saved);
    drop(consumer);
    cluster.delete(&topic, &[&group]).await;
}

fn consumer_id(client: &crossfade_rocketmq::Client) -> String {
    client.client_id().to_string()
}

/// The members of the group that this one broker lists.
async fn listed_on(cluster: &Cluster, broker: &str, group: &str) -> BTreeSet<String> {
    let masters = cluster.masters().await;
    let master = masters.iter().find(|master| &*master.broker == broker);
    own::members_on(cluster, master.unwrap(), group).await
}

/// It has no topic until somebody makes it there; then it takes sends behind everybody's back until it is sealed with the others.
async fn broker_that_joins(own: &Own, side: &str, cluster: &Cluster) {
    let admin = &cluster.admin;
    let (topic, saved) = cluster.topic(QUEUES).await;
    let group = cluster.group(16).await;
    admin.commit_first_offsets(&group, &saved).await.unwrap();
    let producer = cluster.producer(&topic).await;
    admin
        .set_topic_access(&saved, TopicAccess::Sealed)
        .await
        .unwrap();
    let letter = own.call(&["add-broker", side]).await;
    let joined: Arc<str> = format!("{side}-{}", letter.trim()).into();
    let masters = cluster.masters().await;
    let master = masters
        .iter()
        .find(|master| master.broker == joined)
        .unwrap();
    let now = admin.topic_configs(&topic).await.unwrap();
    assert!(!now.contains_key(&joined));
    let error = producer.send(&message(0), 0, TIMEOUT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sealed);

    // An operator makes the topic there, with more queues than the others have.
    let more = TopicConfig::new(&topic, QUEUES + 2);
    admin.update_topic(master, &more).await.unwrap();
    let lanes = u64::from(QUEUES + 2);
    let took = until("a send is taken by the broker that joined", async || {
        producer.send(&message(0), lanes - 1, TIMEOUT).await.ok()
    })
    .await;
    println!(
        "{}: a broker that joins a sealed topic does not have it; made there by hand, it takes sends {took:?} later",
        cluster.name
    );
    let error = admin
        .set_topic_access(&saved, TopicAccess::Sealed)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let now = admin.topic_configs(&topic).await.unwrap();
    let all = grown(&saved, &now);
    let counts: BTreeMap<_, _> = all
        .iter()
        .map(|(broker, own)| (broker, own.queues()))
        .collect();
    assert_eq!(counts[&joined], QUEUES + 2);
    admin
        .set_topic_access(&all, TopicAccess::Sealed)
        .await
        .unwrap();
    let owed = cluster.owed(&topic, &group, &all).await;
    println!(
        "{}: sealed with the others, and what it took is counted: {} owed",
        cluster.name,
        owed.total()
    );
    assert_eq!(owed.total(), 1);
    for lane in 0..lanes {
        let error = producer.send(&message(0), lane, TIMEOUT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sealed);
    }
    admin
        .set_topic_access(&all, TopicAccess::Open)
        .await
        .unwrap();
    assert_eq!(admin.topic_configs(&topic).await.unwrap(), all);
    let (_client, consumer) = cluster.consumer(&topic, &group).await;
    assert_eq!(take(&consumer, 1, TIMEOUT).await, [0]);
    cluster.drained(&topic, &group, &all).await;
    drop(consumer);
    cluster.delete(&topic, &[&group]).await;
}
