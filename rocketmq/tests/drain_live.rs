//! The proof of drain against real brokers: random situations with messages that wait, are retried, delayed, half or timers, looked at all the
//! time while they move. The test knows what is owed; no look may know less, and once nothing is owed, looks have to say so soon.
//!
//! `scripts/rocketmq up`, then the environment from `.clusters/env`. `CROSSFADE_DRAIN_SITUATIONS` (default 8) is how many on both clusters together,
//! `CROSSFADE_DRAIN_SEED` the seed.
#![allow(clippy::print_stdout)]

#[path = "drain/raw.rs"]
mod raw;
#[path = "drain/situation.rs"]
mod situation;

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossfade_rocketmq::{
    Admin, Client, ClientOptions, MessageQueue,
    admin::{GroupConfig, TopicConfig},
};
use tokio::task::JoinSet;

use crate::situation::{Cluster, Outcome, run};

/// For the brokers' dispatch, and for a retry to fall due.
const WAIT: Duration = Duration::from_secs(60);
/// At the same time on one cluster.
const AT_ONCE: usize = 40;

async fn cluster(name: &'static str) -> Option<Cluster> {
    let Ok(address) = env::var(name) else {
        let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
        assert!(!forbidden, "no broker ({name}), and nothing may be skipped");
        println!("skipped: drain proof: no broker ({name})");
        return None;
    };
    let address = address.strip_prefix("rocketmq://").expect("rocketmq://");
    let servers = address.split('?').next().unwrap_or_default();
    let servers: Vec<String> = servers.split(';').map(str::to_owned).collect();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let stamp = since.as_nanos();
    let mut options = ClientOptions::new(servers, format!("drain-{stamp}"));
    options.request_timeout = Duration::from_secs(20);
    let client = Client::new(options).unwrap();
    let admin = Admin::new(&client);
    let masters = admin.masters().await.unwrap();
    let info = admin.runtime_info(&masters[0].address).await.unwrap();
    Some(Cluster {
        name,
        timers: info["brokerVersionDesc"].starts_with("V5"),
        client,
        admin,
        masters,
        stamp,
    })
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_situations_are_never_called_drained_too_early_and_always_at_last() {
    let situations = number("CROSSFADE_DRAIN_SITUATIONS", 8).max(2);
    let seed = number("CROSSFADE_DRAIN_SEED", 1);
    let mut clusters = JoinSet::new();
    for name in ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"] {
        let Some(cluster) = cluster(name).await else {
            return;
        };
        let own_seed = seed.wrapping_mul(2) + u64::from(cluster.timers);
        clusters.spawn(on(cluster, situations / 2, own_seed));
    }
    let mut all = Outcome::default();
    while let Some(outcome) = clusters.join_next().await {
        all.add(&outcome.unwrap());
    }
    println!("seed {seed}: {all:?}");
    assert_eq!(all.false_drained, 0, "{:?}", all.examples);
    assert_eq!(all.counted_too_few, 0, "{:?}", all.examples);
    assert_eq!(all.never_drained, 0, "{:?}", all.examples);
    assert!(all.looks_while_owed > 0 && all.situations >= situations / 2 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_of_a_groups_other_topic_are_not_owed_by_this_one() {
    for name in ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"] {
        let Some(cluster) = cluster(name).await else {
            return;
        };
        let (admin, client) = (&cluster.admin, &cluster.client);
        let master = &cluster.masters[0];
        let topics = ["one", "two"].map(|topic| format!("drain-{}-{topic}", cluster.stamp));
        let group: Arc<str> = format!("drain-{}-both", cluster.stamp).into();
        admin.create_group(&GroupConfig::new(&group)).await.unwrap();
        // One of the first topic and two of the second are given back, and come again in the retry topic after a second.
        for (topic, count) in topics.iter().zip(1..) {
            admin
                .create_topic(&TopicConfig::new(topic, 1))
                .await
                .unwrap();
            for number in 0..count {
                let body = format!("{topic}-{number}");
                raw::send_plain(client, &master.address, topic, 0, &body).await;
            }
            admin.wait_for_dispatch(WAIT).await.unwrap();
            let queue = MessageQueue {
                topic: topic.as_str().into(),
                broker: Arc::clone(&master.broker),
                queue: 0,
            };
            let messages = raw::pull(client, &master.address, &group, &queue, 0).await;
            assert_eq!(messages.len(), count);
            for message in &messages {
                let address = &master.address;
                assert!(raw::give_back(client, address, &group, topic, message).await);
            }
            admin
                .commit_offset(&master.address, &group, topic, 0, count as u64)
                .await
                .unwrap();
        }
        let groups = [Arc::clone(&group)];
        let due = Instant::now() + WAIT;
        for (topic, count) in topics.iter().zip(1_u64..) {
            let configs = admin.topic_configs(topic).await.unwrap();
            loop {
                let owed = admin.owed(topic, &groups, &configs, WAIT).await.unwrap();
                let owed = &owed[&group];
                // One that falls due while it is looked at may count twice.
                assert!(owed.total() >= count, "{topic}: {owed:?}");
                // All of them are due: those of both topics wait in the one retry topic.
                if owed.delayed == 0 && owed.offsets.owed() == 3 {
                    assert_eq!((owed.total(), owed.retry_of_others), (count, 3 - count));
                    break;
                }
                assert!(Instant::now() < due, "{topic}: {owed:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        admin.delete_group(&group).await.unwrap();
        for topic in &topics {
            admin.delete_topic(topic).await.unwrap();
        }
    }
}

async fn on(cluster: Cluster, situations: u64, seed: u64) -> Outcome {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut all = Outcome::default();
    for number in 0..situations {
        if running.len() >= AT_ONCE {
            let outcome: Option<Result<Outcome, _>> = running.join_next().await;
            all.add(&outcome.unwrap().unwrap());
        }
        running.spawn(run(cluster.clone(), number, seed));
        // Not all at the same point of the brokers' rounds.
        tokio::time::sleep(Duration::from_millis(137)).await;
    }
    while let Some(outcome) = running.join_next().await {
        all.add(&outcome.unwrap());
    }
    println!("{} in {:?}: {all:?}", cluster.name, begun.elapsed());
    all
}
