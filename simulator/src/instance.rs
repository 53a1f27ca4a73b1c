//! Applications: each is one SDK client, with a life that ends in a goodbye or a crash.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade::{
    Client, Delivery, Error, IdempotencyKey, Message, Persisted, Side, Subscription,
    backend::{
        Backend,
        fault::{Fault, FaultControl},
        memory::MemoryCluster,
    },
    clock::Clock,
    dedup::{DedupStore, MemoryDedup},
};
use crossfade_history::{DedupScope, Header, Role, Side as HistorySide, StreamId, What};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    TOPIC,
    gate::{Gate, Gated},
    link::{Address, Link},
    record::Record,
};

/// What an instance is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Job {
    Produce,
    Consume(&'static str),
}

/// What all instances share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) clusters: [MemoryCluster; 2],
    pub(crate) faults: [FaultControl; 2],
    pub(crate) address: Address,
    pub(crate) dedup: Arc<MemoryDedup>,
    pub(crate) record: Record,
    pub(crate) mood: Rc<Mood>,
}

/// What applications do at the moment.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// Producers send.
    pub(crate) sending: Cell<bool>,
    /// Share of handlers that fail, in percent.
    pub(crate) handlers_fail: Cell<u32>,
    /// Share of messages that are delayed, in percent.
    pub(crate) delayed: Cell<u32>,
}

/// One instance, over all its lives.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) job: Job,
    pub(crate) lease_mode: &'static str,
    /// How fast its clock goes, in parts per thousand of the true one.
    pub(crate) clock: u32,
    pub(crate) gate: Gate,
    pub(crate) link: Option<Arc<Link>>,
    lives: u32,
    life: Option<Life>,
}

struct Life {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A clock that is a little wrong.
#[derive(Debug)]
struct SkewedClock {
    start: Instant,
    per_mille: u32,
}

impl Clock for SkewedClock {
    fn boot_time(&self) -> Duration {
        self.start.elapsed() * self.per_mille / 1_000
    }

    fn wall_time(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH + self.boot_time()
    }
}

impl Instance {
    pub(crate) fn new(name: &str, job: Job, lease_mode: &'static str) -> Self {
        Instance {
            name: name.to_owned(),
            job,
            lease_mode,
            clock: 1_000,
            gate: Gate::new(),
            link: None,
            lives: 0,
            life: None,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life
            .as_ref()
            .is_some_and(|life| !life.task.is_finished())
    }

    /// Begins a new life; an earlier one that still runs is left to crash.
    pub(crate) fn start(&mut self, ground: &Ground, seed: u64) {
        self.crash(ground);
        self.lives += 1;
        self.gate = Gate::new();
        let link = Arc::new(Link::new(ground.address.clone(), self.gate.clone(), seed));
        self.link = Some(Arc::clone(&link));
        let (stop, stopped) = watch::channel(false);
        let app = App {
            name: self.name.clone(),
            life: self.lives,
            job: self.job,
            lease_mode: self.lease_mode,
            per_mille: self.clock,
            gate: self.gate.clone(),
            link,
            ground: ground.clone(),
            seed,
            stopped,
        };
        ground.record.note(&self.name, "starts");
        self.life = Some(Life {
            stop,
            task: tokio::task::spawn_local(app.run()),
        });
    }

    /// Ends at once: nothing is said, nothing is committed.
    pub(crate) fn crash(&mut self, ground: &Ground) {
        if self.life.take().is_some() {
            ground.record.note(&self.name, "crashes");
        }
    }

    /// Leaves in good order.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.stop.send_replace(true);
            // It is bounded by its own shutdown.
            let _ = (&mut life.task).await;
        }
    }
}

struct App {
    name: String,
    life: u32,
    job: Job,
    lease_mode: &'static str,
    per_mille: u32,
    gate: Gate,
    link: Arc<Link>,
    ground: Ground,
    seed: u64,
    stopped: watch::Receiver<bool>,
}

impl App {
    async fn run(self) {
        let client = match self.client().await {
            Ok(client) => client,
            Err(error) => {
                self.ground
                    .record
                    .note(&self.name, &format!("cannot start: {error}"));
                return;
            }
        };
        let outcome = match self.job {
            Job::Produce => self.produce(&client).await,
            Job::Consume(group) => self.consume(&client, group).await,
        };
        if let Err(error) = outcome {
            self.ground
                .record
                .note(&self.name, &format!("ends: {error}"));
        }
        // What cannot be said in time is found out by the others.
        let _ = client.shutdown(Duration::from_secs(10)).await;
    }

    async fn client(&self) -> crossfade::Result<Client> {
        let backend = |side: Side| {
            let id = format!("{}.{}@{side}", self.name, self.life);
            let cluster = self.ground.clusters[side.index()].backend(&id);
            let control = self.ground.faults[side.index()].clone();
            Arc::new(Gated {
                inner: Arc::new(Fault::with_control(cluster, control)),
                gate: self.gate.clone(),
            }) as Arc<dyn Backend>
        };
        Client::builder()
            .instance(&self.name)
            .source(backend(Side::Source))
            .target(backend(Side::Target))
            .plans(Arc::clone(&self.link) as _)
            .dedup(Arc::clone(&self.ground.dedup) as Arc<dyn DedupStore>)
            .clock(Arc::new(SkewedClock {
                start: Instant::now(),
                per_mille: self.per_mille,
            }))
            .set("lease.mode", self.lease_mode)?
            .set("random.seed", &self.seed.to_string())?
            .start()
            .await
    }

    fn stream(&self, role: Role) -> StreamId {
        self.ground.record.stream(Header {
            instance: self.name.clone(),
            incarnation: self.life.to_string(),
            role,
            topic: TOPIC.to_owned(),
            clock: String::new(),
            started_at_us: 0,
            started_unix_ms: 0,
        })
    }

    async fn produce(&self, client: &Client) -> crossfade::Result<()> {
        let producer = client.producer(TOPIC).await?;
        let stream = self.stream(Role::Producer);
        let record = &self.ground.record;
        let mut random = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        let mut number = 0_u32;
        while !*self.stopped.borrow() {
            sleep(Duration::from_millis(random.random_range(20..120))).await;
            self.gate.pass().await;
            if !self.ground.mood.sending.get() {
                continue;
            }
            number += 1;
            let id = format!("{}-{}-{number}", self.name, self.life);
            let mut message = Message::new(Bytes::from(id.clone()))
                .with_idempotency_key(IdempotencyKey::new(&id)?);
            if random.random_range(0..100) < self.ground.mood.delayed.get() {
                let delay = Duration::from_millis(random.random_range(200..3_000));
                message = message.with_deliver_after(delay);
            }
            record.add(
                stream,
                &self.name,
                What::Call {
                    id: id.as_str().into(),
                    key: None,
                },
            );
            let sent = producer.send(message).await;
            // A frozen process cannot know yet.
            self.gate.pass().await;
            let what = match sent {
                Ok(receipt) => What::Acked {
                    id: id.as_str().into(),
                    side: side(receipt.side),
                    revision: receipt.revision.0,
                },
                Err(error) => ended(&id, &error),
            };
            record.add(stream, &self.name, what);
        }
        record.add(stream, &self.name, What::End);
        Ok(())
    }

    async fn consume(&self, client: &Client, group: &'static str) -> crossfade::Result<()> {
        let consumer = client.consumer(Subscription::new(TOPIC, group)).await?;
        let stream = self.stream(Role::Consumer {
            group: group.to_owned(),
            dedup: DedupScope::Group,
        });
        let record = &self.ground.record;
        let mut random = StdRng::seed_from_u64(self.seed ^ 0xfeed);
        while !*self.stopped.borrow() {
            let deliveries = match consumer.receive(16, Duration::from_millis(300)).await {
                Ok(deliveries) => deliveries,
                // Out of its lease, or the cluster does not answer.
                Err(_) => {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            for delivery in deliveries {
                self.gate.pass().await;
                let id = id_of(&delivery);
                let id = || id.as_str().into();
                let entered = What::Enter {
                    id: id(),
                    side: side(delivery.side),
                    attempt: delivery.attempt,
                };
                record.add(stream, &self.name, entered);
                sleep(Duration::from_millis(random.random_range(0..10))).await;
                self.gate.pass().await;
                if random.random_range(0..100) < self.ground.mood.handlers_fail.get() {
                    record.add(stream, &self.name, What::HandlerFailed { id: id() });
                    let delay = Duration::from_millis(random.random_range(100..1_000));
                    // What cannot be given back is delivered again all the same.
                    let _ = consumer.nack(&delivery, delay).await;
                    continue;
                }
                record.add(stream, &self.name, What::Done { id: id() });
                if consumer.ack(&delivery).await.is_ok() {
                    record.add(stream, &self.name, What::Settled { id: id() });
                }
            }
        }
        record.add(stream, &self.name, What::End);
        Ok(())
    }
}

fn id_of(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

fn side(side: Side) -> HistorySide {
    match side {
        Side::Source => HistorySide::Source,
        Side::Target => HistorySide::Target,
    }
}

fn ended<'a>(id: &'a str, error: &Error) -> What<'a> {
    let error_text = format!("{:?}", error.kind());
    match error.persisted() {
        Persisted::No => What::Failed {
            id: id.into(),
            error: error_text.into(),
        },
        _ => What::Ambiguous {
            id: id.into(),
            error: error_text.into(),
        },
    }
}
