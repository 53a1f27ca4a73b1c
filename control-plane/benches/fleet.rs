//! How long a change takes until a whole fleet has applied it: `cargo bench -p crossfade-control-plane --bench fleet`.
//!
//! One control plane over HTTP on the loopback interface, embedded clusters, and so many SDK clients in this process, each with a producer and a
//! consumer of one topic, which walks between the three inner stages. Timed from the operator's `advance` or `rollback` to the moment at which the
//! control plane has every instance's ack of the new stage. `CROSSFADE_BENCH_INSTANCES` (default 100), `CROSSFADE_BENCH_CHANGES` (default 200).
//!
//! Goal: at 100 instances, 99 of 100 changes within 1 s.
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use crossfade::{
    Client, Consumer, Producer,
    backend::{Subscription, memory::MemoryCluster},
    stage::Stage,
};
use crossfade_control_plane::{Operator, ServeOptions, Server};
use tokio::time::sleep;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
/// There and back, over and over. The end stages are left out: into them leads a proof, which takes time by intent.
const WALK: [Stage; 4] = [
    Stage::DualWrite,
    Stage::Draining,
    Stage::DualWrite,
    Stage::DualRead,
];
/// Between two questions; as exact as a figure here can be.
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn number(variable: &str, default: usize) -> usize {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Whether every instance has applied the stage.
async fn is_applied(operator: &Operator, stage: Stage) -> Outcome<bool> {
    let view = operator.show(TOPIC).await?;
    let mut gates = view.gates.iter();
    let acked = gates.any(|gate| gate.code == "instances_acked" && gate.passed);
    Ok(view.stage == stage && acked)
}

async fn applied(operator: &Operator, stage: Stage) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    while !is_applied(operator, stage).await? {
        if Instant::now() >= end {
            return Err(format!("not everybody has applied {stage} within {PATIENCE:?}").into());
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// One more instance, with all that it does.
async fn join(url: &str, name: String) -> Outcome<(Client, Producer, Consumer)> {
    let client = Client::builder()
        .instance(name)
        .control(url)
        .start()
        .await?;
    let producer = client.producer(TOPIC).await?;
    let consumer = client.consumer(Subscription::new(TOPIC, GROUP)).await?;
    Ok((client, producer, consumer))
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let instances = number("CROSSFADE_BENCH_INSTANCES", 100);
    let changes = number("CROSSFADE_BENCH_CHANGES", 200);
    for side in ["fleet-source", "fleet-target"] {
        let admin = MemoryCluster::named(side).backend("bench").admin();
        let queues = u32::try_from(instances)?.max(4);
        admin.create_topic(TOPIC, queues).await?;
        admin.create_group(GROUP).await?;
    }
    let options = ServeOptions::in_memory("memory://fleet-source", "memory://fleet-target");
    let server = Server::start(options).await?;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await?;

    let mut fleet = Vec::with_capacity(instances);
    for instance in 0..instances {
        fleet.push(join(server.url(), format!("instance-{instance}")).await?);
    }
    operator.advance(TOPIC, Some(Stage::DualRead)).await?;
    operator.settled(TOPIC, PATIENCE).await?;

    let mut times = Vec::with_capacity(changes);
    let mut before = Stage::DualRead;
    for stage in WALK.into_iter().cycle().take(changes) {
        let begun = Instant::now();
        if stage > before {
            operator.advance(TOPIC, Some(stage)).await?;
        } else {
            operator.rollback(TOPIC, Some(stage)).await?;
        }
        applied(&operator, stage).await?;
        times.push(begun.elapsed());
        // The sides are closed or opened too before the next word.
        operator.settled(TOPIC, PATIENCE).await?;
        before = stage;
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).ceil() as usize];
    println!(
        "{instances} instances, {changes} changes, from the word to the last ack: median {:?}, p99 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    for (client, _producer, _consumer) in fleet {
        client.shutdown(Duration::from_secs(10)).await?;
    }
    server.shutdown().await?;
    Ok(())
}
