//! Apache's own clients and this one share topics on both clusters: what either sends, the other reads, in every type of message.
//!
//! An official client and this one are members of one group, too (`member.rs`), in every way of reading.
//!
//! Each official client is one program (`java/`, `go/`) that sends and reads on both clusters at once. `CROSSFADE_TEST_SOURCE` and
//! `CROSSFADE_TEST_TARGET` name the clusters as `rocketmq://host:port`; without them, or without java or go, a test says what it skips, and with
//! `CROSSFADE_TEST_NO_SKIP=1` it fails instead. It takes as long as a broker takes to ask for the end of a transaction: about a minute.
#![allow(clippy::print_stdout, reason = "what was skipped and shown is said")]

mod codes;
mod content;
mod event;
mod member;
mod needs;
mod official;
mod ours;
mod ours_transactions;
mod theirs;
mod topics;

use std::time::Duration;

use crossfade_rocketmq::{Client, ClientOptions};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    event::Events,
    needs::Cluster,
    official::{Kind, Official},
};

/// Of everything. Brokers of 4.9 ask for the end of a transaction once a minute, and pass over those that are not 6 s old.
const BOUND: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_and_this_one_read_each_others_messages_of_every_type() {
    let test = "official_clients_and_this_one_read_each_others_messages_of_every_type";
    let Some(clusters) = needs::clusters(test) else {
        return;
    };
    let mut officials = Vec::new();
    for kind in official::ALL {
        officials.extend(Official::build(kind, test).await);
    }
    // All at once: each waits for the same minute.
    let deadline = Instant::now() + BOUND;
    let mut runs = JoinSet::new();
    for official in officials {
        runs.spawn(with(official, clusters.clone(), deadline));
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

/// One official client on both clusters.
async fn with(official: Official, clusters: Vec<Cluster>, deadline: Instant) {
    let (name, kind) = (official.name(), official.kind);
    let mut pairs = Vec::new();
    for cluster in &clusters {
        let prefix = format!("interop-{name}-{:016x}", rand::random::<u64>());
        let mut options = ClientOptions::new([&*cluster.address], format!("{prefix}-client"));
        // Several programs and brokers share the machine.
        options.connect_timeout = ours::WAIT;
        options.request_timeout = ours::WAIT;
        let client = Client::new(options).unwrap();
        topics::create(&client, &prefix).await;
        pairs.push((cluster, prefix, client));
    }
    let arguments = pairs
        .iter()
        .map(|(cluster, prefix, _)| format!("{},{},{prefix}", cluster.name, cluster.address));
    let program = official.start(BOUND, arguments);
    let mut both = JoinSet::new();
    for (cluster, prefix, client) in pairs {
        let pair = Pair {
            what: format!("{name} on {}", cluster.name),
            client,
            prefix,
            kind,
            events: program.events(&cluster.name, deadline),
            deadline,
        };
        both.spawn(async move {
            tokio::join!(
                ours::sent_is_handled_by_them(&pair),
                theirs::sent_is_received(&pair)
            );
            topics::delete(&pair.client, &pair.prefix).await;
        });
    }
    while let Some(pair) = both.join_next().await {
        pair.unwrap();
    }
    program.end().await;
}

/// One official client on one cluster.
struct Pair {
    /// For messages.
    what: String,
    client: Client,
    /// Of the names of topics and groups.
    prefix: String,
    kind: Kind,
    /// What the program prints about this cluster.
    events: Events,
    deadline: Instant,
}
