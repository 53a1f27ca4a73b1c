//! A broker of your own behind the backend traits: here a log in memory with one queue a topic. The same client then moves a topic from it to an embedded cluster.
//!
//! `cargo run --example custom_backend`

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossfade::{
    Access, BoxFuture, Client, Error, ErrorKind, IdempotencyKey, Message, Result, Revision,
    backend::{
        AckToken, Backend, BackendAdmin, BackendConsumer, BackendProducer, Backlog, Capability,
        ConnectedClient, GroupMembers, Incoming, Outgoing, QueueBacklog, QueueId, Stored,
        Subscription, TopicDescription, TopicSettings, registry,
    },
    control::FixedPlans,
    stage::{Routing, Stage, TopicPlan, Weight},
};
use tokio::{sync::Notify, time::Instant};

/// Everything that is in the log.
#[derive(Debug, Default)]
struct Log {
    topics: Mutex<BTreeMap<String, Topic>>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct Topic {
    records: Vec<Record>,
    /// Committed offsets by group.
    groups: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
struct Record {
    message: Message,
    key: IdempotencyKey,
    revision: Revision,
}

impl Log {
    fn with<T>(&self, name: &str, use_topic: impl FnOnce(&mut Topic) -> T) -> Result<T> {
        let mut topics = lock(&self.topics);
        let topic = topics.get_mut(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "log",
                format!("topic {name} does not exist"),
            )
        })?;
        Ok(use_topic(topic))
    }
}

fn queue() -> QueueId {
    QueueId {
        broker: "log".into(),
        queue: 0,
    }
}

fn now<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct LogBackend {
    log: Arc<Log>,
    client_id: String,
}

impl Backend for LogBackend {
    fn scheme(&self) -> &'static str {
        "log"
    }

    /// It cannot seal, delay or filter: the control plane is told so and asks for nothing of the kind.
    fn capability(&self) -> Capability {
        Capability::default()
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        let producer = LogProducer {
            log: Arc::clone(&self.log),
            topic: topic.into(),
        };
        now(Ok(Arc::new(producer)))
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        let Subscription { topic, group, .. } = subscription.clone();
        let start = self.log.with(&topic, |log| {
            *log.groups.entry(group.to_string()).or_default()
        });
        let consumer = start.map(|next| LogConsumer {
            log: Arc::clone(&self.log),
            topic,
            group,
            window: Mutex::new(Window {
                next,
                ..Window::default()
            }),
        });
        now(consumer.map(|consumer| Arc::new(consumer) as Arc<dyn BackendConsumer>))
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(LogAdmin {
            log: Arc::clone(&self.log),
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        now(())
    }
}

#[derive(Debug)]
struct LogProducer {
    log: Arc<Log>,
    topic: String,
}

impl BackendProducer for LogProducer {
    fn send<'a>(&'a self, outgoing: Outgoing<'a>, _: Duration) -> BoxFuture<'a, Result<Stored>> {
        let record = Record {
            message: outgoing.message.clone(),
            key: outgoing.idempotency_key.clone(),
            revision: outgoing.revision,
        };
        let offset = self.log.with(&self.topic, |topic| {
            topic.records.push(record);
            topic.records.len() as u64 - 1
        });
        self.log.grown.notify_waiters();
        now(offset.map(|offset| Stored {
            message_id: offset.to_string(),
            queue: queue(),
            offset: Some(offset),
        }))
    }

    fn ambiguity_bound(&self) -> Duration {
        Duration::ZERO
    }
}

/// What one consumer has fetched and not acked.
#[derive(Debug, Default)]
struct Window {
    next: u64,
    outstanding: BTreeSet<u64>,
    /// Given back: offset, and when it is due with which attempt.
    again: HashMap<u64, (Instant, u32)>,
    attempts: HashMap<u64, u32>,
}

/// One member; a real broker would share the queue among many.
#[derive(Debug)]
struct LogConsumer {
    log: Arc<Log>,
    topic: Arc<str>,
    group: Arc<str>,
    window: Mutex<Window>,
}

impl LogConsumer {
    fn take(&self, max: usize) -> Result<Vec<Incoming>> {
        let mut window = lock(&self.window);
        self.log.with(&self.topic, |topic| {
            let now = Instant::now();
            let due = window
                .again
                .iter()
                .filter(|(_, (at, _))| *at <= now)
                .map(|(offset, _)| *offset);
            let mut offsets: Vec<u64> = due.take(max).collect();
            while offsets.len() < max && window.next < topic.records.len() as u64 {
                offsets.push(window.next);
                window.next += 1;
            }
            let incoming = offsets.into_iter().map(|offset| {
                let attempt = window
                    .again
                    .remove(&offset)
                    .map_or(1, |(_, attempt)| attempt);
                window.attempts.insert(offset, attempt);
                window.outstanding.insert(offset);
                let record = topic.records[offset as usize].clone();
                Incoming {
                    message: record.message.with_idempotency_key(record.key),
                    message_id: offset.to_string(),
                    queue: queue(),
                    offset,
                    attempt,
                    revision: Some(record.revision),
                    token: AckToken(offset),
                }
            });
            incoming.collect()
        })
    }

    fn end(&self, token: AckToken, again: Option<Duration>) -> Result<()> {
        let mut window = lock(&self.window);
        if !window.outstanding.contains(&token.0) || window.again.contains_key(&token.0) {
            return Err(Error::new(
                ErrorKind::StaleDelivery,
                "ack",
                "not outstanding here",
            ));
        }
        let attempt = window.attempts.remove(&token.0).unwrap_or(1);
        match again {
            Some(delay) => {
                window
                    .again
                    .insert(token.0, (Instant::now() + delay, attempt + 1));
            }
            None => {
                window.outstanding.remove(&token.0);
            }
        }
        // The offset passes what is handled without a gap.
        let passed = window.outstanding.first().copied().unwrap_or(window.next);
        self.log.with(&self.topic, |topic| {
            topic.groups.insert(self.group.to_string(), passed)
        })?;
        Ok(())
    }
}

impl BackendConsumer for LogConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let deadline = Instant::now() + wait;
            loop {
                let grown = self.log.grown.notified();
                let batch = self.take(max)?;
                if !batch.is_empty() {
                    return Ok(batch);
                }
                let due = lock(&self.window)
                    .again
                    .values()
                    .map(|(at, _)| *at)
                    .min()
                    .unwrap_or(deadline);
                tokio::select! {
                    () = grown => {}
                    () = tokio::time::sleep_until(due.min(deadline)) => {
                        if Instant::now() >= deadline {
                            return self.take(max);
                        }
                    }
                }
            }
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        now(self.end(token, None))
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        now(self.end(token, Some(delay)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        now(Ok(()))
    }

    fn assigned(&self) -> Vec<QueueId> {
        vec![queue()]
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        now(Ok(()))
    }
}

#[derive(Debug)]
struct LogAdmin {
    log: Arc<Log>,
}

fn settings() -> TopicSettings {
    TopicSettings {
        queues: 1,
        saved: serde_json::Value::Null,
    }
}

impl BackendAdmin for LogAdmin {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        now(Ok(lock(&self.log.topics).keys().cloned().collect()))
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        let known = lock(&self.log.topics).contains_key(topic);
        now(Ok(known.then(|| TopicDescription {
            settings: settings(),
            access: Access::Open,
            disagreement: None,
            queues: [queue()].into(),
            message_type: None,
        })))
    }

    fn create_topic<'a>(&'a self, topic: &'a str, _queues: u32) -> BoxFuture<'a, Result<()>> {
        lock(&self.log.topics).entry(topic.into()).or_default();
        now(Ok(()))
    }

    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>> {
        lock(&self.log.topics).remove(topic);
        now(Ok(()))
    }

    fn create_group<'a>(&'a self, _group: &'a str) -> BoxFuture<'a, Result<()>> {
        now(Ok(()))
    }

    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        for topic in lock(&self.log.topics).values_mut() {
            topic.groups.remove(group);
        }
        now(Ok(()))
    }

    fn group_exists<'a>(&'a self, _group: &'a str) -> BoxFuture<'a, Result<bool>> {
        now(Ok(true))
    }

    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        now(self
            .log
            .with(topic, |topic| topic.groups.keys().cloned().collect()))
    }

    fn set_access<'a>(
        &'a self,
        _topic: &'a str,
        _settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        now(match access {
            Access::Open => Ok(()),
            Access::Closed | Access::Sealed => Err(Error::new(
                ErrorKind::Unsupported,
                "set access",
                "this log takes every write",
            )),
        })
    }

    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>> {
        now(self.log.with(topic, |topic| {
            topic.groups.entry(group.into()).or_default();
        }))
    }

    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>> {
        now(self.log.with(topic, |topic| Backlog {
            queues: vec![QueueBacklog {
                queue: queue(),
                min: 0,
                end: topic.records.len() as u64,
                committed: topic.groups.get(group).copied(),
            }],
            ..Backlog::default()
        }))
    }

    fn ends<'a>(
        &'a self,
        topic: &'a str,
        _settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>> {
        now(self.log.with(topic, |topic| {
            [(queue(), topic.records.len() as u64)].into()
        }))
    }

    fn members<'a>(&'a self, _group: &'a str) -> BoxFuture<'a, Result<GroupMembers>> {
        now(Ok(GroupMembers::default()))
    }

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        now(Ok(None))
    }
}

fn plan(revision: u64, stage: Stage) -> TopicPlan {
    TopicPlan {
        topic: "orders".into(),
        stage,
        weight: Weight::ZERO,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(revision - 1),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let source = Arc::new(LogBackend {
        log: Arc::default(),
        client_id: "custom".into(),
    });
    let target = registry::open("memory://custom-target", "custom").await?;
    source.admin().create_topic("orders", 1).await?;
    target.admin().create_topic("orders", 4).await?;

    let plans = FixedPlans::new([plan(1, Stage::SourceOnly)]);
    let client = Client::builder()
        .instance("custom")
        .source(Arc::clone(&source) as Arc<dyn Backend>)
        .target(target)
        .plans(Arc::new(plans.clone()))
        .start()
        .await?;
    let producer = client.producer("orders").await?;
    let consumer = client
        .consumer(Subscription::new("orders", "billing"))
        .await?;
    for stage in Stage::ALL {
        if stage != Stage::SourceOnly {
            plans.publish(plan(stage as u64 + 1, stage));
        }
        while client.plan("orders").is_none_or(|plan| plan.stage != stage) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        consumer.ready(Duration::from_secs(10)).await?;
        let receipt = producer.send(Message::new(stage.as_str())).await?;
        let mut failed_once = false;
        'handled: loop {
            for delivery in consumer.receive(8, Duration::from_secs(1)).await? {
                if !failed_once {
                    failed_once = true;
                    consumer.nack(&delivery, Duration::from_millis(10)).await?;
                    continue;
                }
                consumer.ack(&delivery).await?;
                say(&format!(
                    "{stage}: sent to the {}, handled from the {} at attempt {}",
                    receipt.side, delivery.side, delivery.attempt
                ));
                break 'handled;
            }
        }
    }
    let left = source
        .admin()
        .backlog("orders", "billing", &settings())
        .await?
        .total();
    say(&format!("the log owes {left} messages"));
    client.shutdown(Duration::from_secs(5)).await
}

#[allow(clippy::print_stdout, reason = "an example speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
