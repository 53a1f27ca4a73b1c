//! A send through the producer beside the same backend's bare producer, in rounds that take turns.
//!
//! Goal: at least 0.98 of the bare throughput, and at most 1 µs more at the median. The embedded cluster stores a message in well under
//! 2 µs, so there the difference in time is what counts; the ratio means something on a real cluster: set `CROSSFADE_TEST_SOURCE`
//! to its address.
#![allow(clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossfade::{
    BoxFuture, IdempotencyKey, Message, Producer, ProducerOptions, ProducerParts, Result, Revision,
    Side,
    backend::{
        Backend, BackendProducer, Backends, MessageId, Outgoing, memory::MemoryCluster, registry,
    },
    control::{Contact, PlanTable},
    metrics::Registry,
    stage::{Routing, Stage, TopicPlan, Weight},
};

const TOPIC: &str = "crossfade-bench-shim";
const BODY_BYTES: usize = 256;

/// Both sides are one cluster: the draw between them is made, and does not matter.
#[derive(Debug)]
struct Same(Arc<dyn Backend>);

impl Backends for Same {
    fn backend(&self, _: Side) -> BoxFuture<'_, Result<Arc<dyn Backend>>> {
        Box::pin(std::future::ready(Ok(Arc::clone(&self.0))))
    }
}

/// What is measured.
#[derive(Clone)]
enum Sender {
    Bare(Arc<dyn BackendProducer>, IdempotencyKey),
    Shim(Producer),
}

impl Sender {
    async fn send(&self, message: Message, lane: u64) -> Result<()> {
        match self {
            Sender::Bare(producer, key) => {
                let outgoing = Outgoing {
                    message: &message,
                    idempotency_key: key,
                    message_id: &MessageId::default(),
                    revision: Revision(1),
                    lane,
                };
                producer.send(outgoing, Duration::from_secs(3)).await?;
            }
            Sender::Shim(producer) => {
                producer.send(message).await?;
            }
        }
        Ok(())
    }

    /// Sends `count` messages one after the other; the latency of each, in nanoseconds.
    async fn run(self, count: usize) -> Result<Vec<u64>> {
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        let mut latencies = Vec::with_capacity(count);
        for number in 0..count {
            let message = Message::new(body.clone());
            let begun = Instant::now();
            self.send(message, number as u64).await?;
            latencies.push(begun.elapsed().as_nanos() as u64);
        }
        Ok(latencies)
    }

    /// One round with so many sends under way: messages a second, and the median latency in nanoseconds.
    async fn round(&self, in_flight: usize, count: usize) -> Result<(f64, u64)> {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| tokio::spawn(self.clone().run(count / in_flight)))
            .collect();
        let mut latencies = Vec::with_capacity(count);
        for task in tasks {
            latencies.extend(task.await.expect("no panic")?);
        }
        let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
        Ok((rate, median(&mut latencies)))
    }
}

fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

async fn senders(backend: Arc<dyn Backend>) -> Result<[Sender; 2]> {
    backend.admin().create_topic(TOPIC, 8).await?;
    let bare = Sender::Bare(backend.producer(TOPIC).await?, IdempotencyKey::new("bare")?);
    let (table, registry) = (PlanTable::default(), Registry::default());
    let cell = table.cell(TOPIC);
    cell.publish(TopicPlan {
        topic: TOPIC.into(),
        stage: Stage::DualWrite,
        weight: Weight::from_basis_points(5_000)?,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(1),
        previous_revision: Revision(0),
    })?;
    let shim = Producer::start(ProducerParts {
        role: cell.add_producer(),
        backends: Arc::new(Same(backend)),
        contact: Arc::new(Contact::default()),
        metrics: registry.topic(cell.topic()),
        options: ProducerOptions::default(),
        seed: 1,
        key_prefix: "bench".into(),
    });
    Ok([bare, Sender::Shim(shim)])
}

/// Makes the cluster of one round.
type Open = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Backend>>>>;

async fn compare(
    name: &str,
    open: &Open,
    in_flight: usize,
    count: usize,
    rounds: usize,
) -> Result<()> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut medians = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    for round in 0..=rounds {
        let senders = senders(open().await?).await?;
        for sender in &senders {
            sender.round(in_flight, count / 10 + in_flight).await?;
        }
        let mut rate = [0.0; 2];
        // Who goes first takes turns too.
        for place in [round % 2, (round + 1) % 2] {
            let (per_second, latency) = senders[place].round(in_flight, count).await?;
            rate[place] = per_second;
            // The first round warms up.
            if round > 0 {
                rates[place].push(per_second);
                medians[place].push(latency);
            }
        }
        if round > 0 {
            ratios.push(rate[1] / rate[0]);
        }
    }
    let [bare, shim] = rates.map(|mut rates| median(&mut rates));
    let [bare_p50, shim_p50] = medians.map(|mut medians| median(&mut medians));
    println!(
        "{name:8} in flight {in_flight:2}: bare {bare:9.0}/s p50 {bare_p50:7} ns | shim {shim:9.0}/s p50 {shim_p50:7} ns | \
         throughput x {:.3}, p50 {:+} ns ({rounds} rounds of {count})",
        median(&mut ratios),
        shim_p50 as i64 - bare_p50 as i64,
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let memory: Open =
        Box::new(|| Box::pin(async { Ok(MemoryCluster::default().backend("bench")) }));
    for in_flight in [1, 32] {
        compare("memory", &memory, in_flight, 20_000, 15).await?;
    }
    match std::env::var("CROSSFADE_TEST_SOURCE") {
        Ok(address) => {
            let backend = registry::open(&address, "crossfade-bench-shim").await?;
            let (scheme, admin) = (backend.scheme(), backend.admin());
            let open: Open = Box::new(move || {
                let backend = Arc::clone(&backend);
                Box::pin(async move { Ok(backend) })
            });
            for (in_flight, count) in [(1, 500), (32, 4_000)] {
                compare(scheme, &open, in_flight, count, 9).await?;
            }
            admin.delete_topic(TOPIC).await?;
        }
        Err(_) => println!("CROSSFADE_TEST_SOURCE is not set: no real cluster measured"),
    }
    Ok(())
}
