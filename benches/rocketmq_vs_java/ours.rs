//! Our program: obeys the lines that `tests/java/JavaBench.java` obeys, and some more.
//!
//! - `create TOPIC QUEUES`, `delete TOPIC`
//! - `send TOPIC BODY IN_FLIGHT MILLISECONDS`
//! - `read TOPIC GROUP COUNT`
//! - `count TOPIC BODY COUNT`: the allocations of so many sends, one after the other

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, ErrorKind, Message, Producer,
    ProducerOptions, admin::TopicConfig,
};

use crate::{Answer, Result, counting};

const TIMEOUT: Duration = Duration::from_secs(3);
/// How many at a time a reader asks for.
const BATCH: usize = 32;
const LONGEST_SILENCE: Duration = Duration::from_secs(20);

/// Until the end of standard input.
pub(crate) fn obey(server: &str) -> Result<()> {
    // As an application has it by default: a worker for each core.
    tokio::runtime::Runtime::new()?.block_on(async {
        let options =
            ClientOptions::new(server.split(';'), format!("bench-{}", std::process::id()));
        let mut program = Ours {
            client: Client::new(options)?,
            producers: HashMap::new(),
        };
        for line in io::stdin().lines() {
            let answer = program.order(&line?).await?;
            println!("{}", serde_json::to_string(&answer)?);
        }
        Ok(())
    })
}

struct Ours {
    client: Client,
    producers: HashMap<String, Arc<Producer>>,
}

impl Ours {
    async fn order(&mut self, line: &str) -> Result<Answer> {
        let admin = Admin::new(&self.client);
        match *line.split(' ').collect::<Vec<_>>() {
            ["create", topic, queues] => {
                let config = TopicConfig::new(topic, queues.parse()?);
                admin.create_topic(&config).await?;
                let options = ProducerOptions::default();
                let producer = Producer::new(&self.client, topic, options).await?;
                self.producers.insert(topic.to_owned(), Arc::new(producer));
                Ok(Answer::default())
            }
            ["delete", topic] => {
                self.producers.remove(topic);
                admin.delete_topic(topic).await?;
                Ok(Answer::default())
            }
            ["send", topic, body, in_flight, milliseconds] => {
                let span = Duration::from_millis(milliseconds.parse()?);
                send(
                    self.producer(topic)?,
                    body.parse()?,
                    in_flight.parse()?,
                    span,
                )
                .await
            }
            ["read", topic, group, count] => read(&self.client, topic, group, count.parse()?).await,
            ["count", topic, body, count] => {
                count_allocations(self.producer(topic)?, body.parse()?, count.parse()?).await
            }
            _ => Err(format!("no such order: {line}").into()),
        }
    }

    fn producer(&self, topic: &str) -> Result<&Arc<Producer>> {
        let producer = self.producers.get(topic);
        producer.ok_or_else(|| format!("topic {topic} was not created here").into())
    }
}

/// One after the other until `end`: how long each took that was stored, and how many were refused.
async fn send_until(
    producer: Arc<Producer>,
    body: Bytes,
    mut lane: u64,
    end: Instant,
) -> Result<(Vec<Duration>, u64)> {
    let (mut times, mut refused) = (Vec::new(), 0);
    let mut now = Instant::now();
    while now < end {
        let message = Message::new(body.clone());
        let sent = producer.send(&message, lane, TIMEOUT).await;
        let after = Instant::now();
        match sent {
            Ok(_) => times.push(after - now),
            Err(error) if error.kind() == ErrorKind::Throttled => refused += 1,
            Err(error) => return Err(error.into()),
        }
        now = after;
        lane += 1;
    }
    Ok((times, refused))
}

async fn send(
    producer: &Arc<Producer>,
    body: usize,
    in_flight: u64,
    span: Duration,
) -> Result<Answer> {
    let body = Bytes::from(vec![0; body]);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|lane| {
            let (producer, body) = (Arc::clone(producer), body.clone());
            tokio::spawn(send_until(producer, body, lane, begun + span))
        })
        .collect();
    let (mut times, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (of_task, refused_of_task) = task.await??;
        times.extend(of_task);
        refused += refused_of_task;
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let microseconds = |index: usize| {
        let time = times.get(index);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(Answer {
        messages: times.len() as u64,
        seconds,
        refused,
        p50_us: microseconds(times.len() / 2),
        p99_us: microseconds(times.len() * 99 / 100),
        ..Answer::default()
    })
}

async fn read(client: &Client, topic: &str, group: &str, count: u64) -> Result<Answer> {
    let consumer = Consumer::new(client, topic, group, ConsumerOptions::default()).await?;
    let mut first = None;
    let mut handled = 0;
    while handled < count {
        let deliveries = consumer.receive(BATCH, LONGEST_SILENCE).await?;
        if deliveries.is_empty() {
            return Err(format!("only {handled} of {count} messages came").into());
        }
        first.get_or_insert_with(Instant::now);
        for delivery in &deliveries {
            consumer.ack(delivery.token)?;
        }
        handled += deliveries.len() as u64;
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    consumer.close().await?;
    Ok(Answer {
        messages: handled,
        seconds,
        ..Answer::default()
    })
}

async fn count_allocations(producer: &Arc<Producer>, body: usize, count: u32) -> Result<Answer> {
    let (producer, body) = (Arc::clone(producer), Bytes::from(vec![0; body]));
    tokio::spawn(async move {
        let mut stored = 0;
        // The first clone of the body makes it a shared one.
        let shared = body.clone();
        counting::begin();
        for lane in 0..count {
            let message = Message::new(shared.clone());
            match producer.send(&message, lane.into(), TIMEOUT).await {
                Ok(_) => stored += 1,
                Err(error) if error.kind() == ErrorKind::Throttled => {}
                Err(error) => {
                    counting::end();
                    return Err(error.into());
                }
            }
        }
        let (allocations, bytes) = counting::end();
        Ok(Answer {
            messages: stored,
            allocations: allocations as f64 / f64::from(count),
            allocated_bytes: bytes as f64 / f64::from(count),
            ..Answer::default()
        })
    })
    .await?
}
