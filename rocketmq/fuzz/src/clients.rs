//! Executions of whole clients: a producer and a consumer at a broker that lies, and at the same broker once it tells the truth.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade_rocketmq::{
    Client, ClientOptions, Consumer, ConsumerOptions, Message, Producer, ProducerOptions,
    ReceivedMessage, Token, TransactionChecker, TransactionEnd,
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    broker::{self, Broker, GROUP, TOPIC},
    draw,
    run::Report,
    together,
};

/// Clients at a time.
pub const TOGETHER: usize = 16;
/// Of one request.
const PATIENCE: Duration = Duration::from_millis(150);
/// Within which every call must end while the broker lies, on a busy machine, too.
const LONGEST: Duration = Duration::from_secs(60);
/// Within which everything must work again.
const RECOVERY: Duration = Duration::from_secs(60);
/// What is sent once the broker tells the truth.
const AFTER: &[u8] = b"after";

/// Executions `from..from + count`, [`TOGETHER`] at a time. Must not run twice at a time: it counts the process's panics.
#[must_use]
pub fn run(seed: u64, from: u64, count: u64) -> Report {
    together::run("clients", (seed, from, count), TOGETHER, execute)
}

/// Ends the transactions that are asked about.
#[derive(Debug)]
struct Commits;

impl TransactionChecker for Commits {
    fn check(
        &self,
        _message: ReceivedMessage,
    ) -> Pin<Box<dyn Future<Output = TransactionEnd> + Send + '_>> {
        Box::pin(async { TransactionEnd::Commit })
    }
}

/// One client's life. Panics when a call does not end, or when something does not work again with a broker that tells the truth.
async fn execute(mut draws: StdRng) {
    let broker = Broker::start("fuzz", broker::draws(&mut draws)).await;
    let broker = broker.expect("a free port");
    let mut options = ClientOptions::new([&*broker.address], "fuzz");
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    options.route_refresh = PATIENCE;
    options.heartbeat = PATIENCE;
    options.max_frame_bytes = 256 << 10;
    let mut life = Life {
        client: Client::new(options).expect("good options"),
        ordered: draws.random_bool(0.5),
        producer: None,
        consumer: None,
        handling: Vec::new(),
    };
    for _ in 0..draws.random_range(4..16) {
        life.step(&mut draws).await;
    }
    broker.mend();
    life.works_again().await;
    drop(life.producer);
    let consumer = life.consumer.expect("it has joined");
    let begun = Instant::now();
    // The next call commits what one could not.
    while let Err(error) = ends("close", consumer.close()).await {
        assert!(begun.elapsed() < RECOVERY, "the last commit: {error}");
    }
}

struct Life {
    client: Client,
    ordered: bool,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    /// What the consumer's handlers have not come to an end with.
    handling: Vec<Token>,
}

impl Life {
    async fn step(&mut self, draws: &mut StdRng) {
        self.join().await;
        let message = Message::new(Bytes::from_static(b"hello"));
        let lane = draws.random_range(0..4);
        if let Some(producer) = &self.producer {
            // Refused or not: the broker lies.
            match draws.random_range(0..3) {
                0 => drop(ends("send", producer.send(&message, lane, PATIENCE)).await),
                1 => {
                    let batch = [message.clone(), Message::new(Bytes::new()), message];
                    drop(ends("batch", producer.send_batch(&batch, lane, PATIENCE)).await);
                }
                _ => {
                    let half = ends("half", producer.send_half(&message, lane, PATIENCE)).await;
                    if let Ok(half) = half {
                        let end = *draw::one(
                            draws,
                            &[
                                TransactionEnd::Commit,
                                TransactionEnd::Rollback,
                                TransactionEnd::Unknown,
                            ],
                        );
                        let ended = producer.end_transaction(&half, end, PATIENCE);
                        drop(ends("end", ended).await);
                    }
                }
            }
        }
        if let Some(consumer) = &self.consumer {
            let received = ends("receive", consumer.receive(4, PATIENCE)).await;
            for delivery in received.unwrap_or_default() {
                match draws.random_range(0..4) {
                    0 => drop(ends("nack", consumer.nack(delivery.token, PATIENCE)).await),
                    1 | 2 => drop(consumer.ack(delivery.token)),
                    _ => self.handling.push(delivery.token),
                }
            }
            let _ = (consumer.assigned(), consumer.unreadable());
            // Now and then it leaves in the middle.
            if draws.random_bool(0.1)
                && let Some(consumer) = self.consumer.take()
                && draws.random_bool(0.5)
            {
                drop(ends("close", consumer.close()).await);
            }
        }
    }

    /// Makes what there is not yet.
    async fn join(&mut self) {
        if self.producer.is_none() {
            let made = Producer::new(&self.client, TOPIC, ProducerOptions::default());
            self.producer = ends("producer", made).await.ok();
            if let Some(producer) = &self.producer {
                producer.set_checker(Arc::new(Commits));
            }
        }
        if self.consumer.is_none() {
            let mut options = ConsumerOptions::default();
            options.ordered = self.ordered;
            options.max_outstanding = 64;
            let made = Consumer::new(&self.client, TOPIC, GROUP, options);
            self.consumer = ends("consumer", made).await.ok();
            self.handling.clear();
        }
    }

    /// Sends to every queue until something of it comes, as it does with any broker: what was sent while the client found its way is not looked for.
    async fn works_again(&mut self) {
        let begun = Instant::now();
        let mut seen = Vec::new();
        let mut said = String::new();
        while seen.len() < broker::QUEUES as usize {
            let late = begun.elapsed() > RECOVERY;
            assert!(!late, "{seen:?} alone work again; {said}");
            self.join().await;
            let (Some(producer), Some(consumer)) = (&self.producer, &self.consumer) else {
                sleep(PATIENCE).await;
                continue;
            };
            // A queue rightly waits for its handlers: for the first of them where others are far ahead, for all of them before it begins anew in order.
            for token in self.handling.drain(..) {
                drop(consumer.ack(token));
            }
            said.clear();
            for lane in 0..u64::from(broker::QUEUES) {
                let message = Message::new(Bytes::from_static(AFTER));
                if let Err(error) = ends("send", producer.send(&message, lane, PATIENCE)).await {
                    said = error.to_string();
                }
            }
            said = format!("{said}; assigned {:?}", consumer.assigned());
            let received = ends("receive", consumer.receive(64, PATIENCE)).await;
            for delivery in received.expect("a consumer that is not closed") {
                let acked = consumer.ack(delivery.token);
                let message = &delivery.message;
                let queue = message.queue.queue;
                let new = acked.is_ok() && message.body == AFTER && !seen.contains(&queue);
                if new && *message.queue.topic == *TOPIC {
                    seen.push(queue);
                }
            }
        }
    }
}

async fn ends<T>(name: &str, call: impl Future<Output = T>) -> T {
    let ended = timeout(LONGEST, call).await;
    ended.unwrap_or_else(|_| panic!("{name} takes longer than {LONGEST:?}"))
}
