//! Applications: each is one SDK client, with a life that ends in a goodbye or a crash.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade::{
    Client, Delivery, Error, IdempotencyKey, Message, Persisted, Side, Subscription,
    backend::{
        Backend,
        fault::{Fault as Faulty, FaultControl, Layered},
        memory::MemoryCluster,
    },
    dedup::{DedupStore, MemoryDedup},
};
use crossfade_history::{DedupScope, Header, Role, Side as HistorySide, StreamId, What};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    TOPIC,
    clock::MachineClock,
    disk::PlanDisk,
    effect::Effects,
    fault::Fault,
    gate::Gate,
    http,
    link::{Address, Link},
    mutation::{self, Mutation},
    record::Record,
    wire::Wire,
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
    pub(crate) effects: Effects,
    pub(crate) mutation: Option<Mutation>,
    /// Instances reach the control plane over HTTP.
    pub(crate) http: Option<http::Counts>,
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
    /// Messages still to be sent whose handlers always fail.
    pub(crate) poisoned: Cell<u32>,
}

/// How such a message's id ends.
pub(crate) const POISON: &str = "-poison";

/// One instance, over all its lives.
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) job: Job,
    pub(crate) lease_mode: &'static str,
    pub(crate) clock: MachineClock,
    pub(crate) disk: PlanDisk,
    /// Its own way to each cluster.
    pub(crate) ways: [FaultControl; 2],
    pub(crate) life: Option<Life>,
    lives: u32,
}

/// One process.
pub(crate) struct Life {
    pub(crate) gate: Gate,
    pub(crate) wire: Wire,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Life {
    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Leaves in good order.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        // It is bounded by its own shutdown.
        let _ = (&mut self.task).await;
    }
}

impl Instance {
    pub(crate) fn new(
        name: &str,
        job: Job,
        lease_mode: &'static str,
        effects: &Effects,
        seed: u64,
    ) -> Self {
        Instance {
            name: name.to_owned(),
            job,
            lease_mode,
            clock: MachineClock::new(effects.clone()),
            disk: PlanDisk::new(effects.clone()),
            ways: [FaultControl::new(seed ^ 3), FaultControl::new(seed ^ 5)],
            life: None,
            lives: 0,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life.as_ref().is_some_and(Life::is_running)
    }

    /// Begins a new life; an earlier one that still runs is left to crash. `because`: whose effect it is that the new one runs. `alone`: nobody
    /// answers it at first.
    pub(crate) fn start(
        &mut self,
        ground: &Ground,
        seed: u64,
        because: Option<Fault>,
        alone: bool,
    ) {
        self.crash(ground);
        self.lives += 1;
        let gate = Gate::new(ground.effects.clone());
        let wire = Wire::new(ground.effects.clone(), seed);
        wire.change(|faults| faults.refused = alone);
        let (stop, stopped) = watch::channel(false);
        let app = App {
            name: self.name.clone(),
            life: self.lives,
            job: self.job,
            lease_mode: self.lease_mode,
            clock: self.clock.clone(),
            disk: self.disk.clone(),
            ways: self.ways.clone(),
            gate: gate.clone(),
            wire: wire.clone(),
            ground: ground.clone(),
            seed,
            stopped,
            because,
        };
        ground.record.note(&self.name, "starts");
        self.life = Some(Life {
            gate,
            wire,
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
}

struct App {
    name: String,
    life: u32,
    job: Job,
    lease_mode: &'static str,
    clock: MachineClock,
    disk: PlanDisk,
    ways: [FaultControl; 2],
    gate: Gate,
    wire: Wire,
    ground: Ground,
    seed: u64,
    stopped: watch::Receiver<bool>,
    because: Option<Fault>,
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
        let mutation = self.ground.mutation;
        let backend = |side: Side| {
            let id = format!("{}.{}@{side}", self.name, self.life);
            let cluster = self.ground.clusters[side.index()].backend(&id);
            let shared = self.ground.faults[side.index()].clone();
            let own = self.ways[side.index()].clone();
            let cluster = mutation::backend(mutation, side, cluster, self.seed);
            let cluster = Arc::new(Faulty::with_control(cluster, shared));
            let cluster = Arc::new(Faulty::with_control(cluster, own));
            Arc::new(Layered::over(cluster, self.gate.clone())) as Arc<dyn Backend>
        };
        let link = Link::new(
            self.ground.address.clone(),
            self.gate.clone(),
            self.wire.clone(),
            self.ground.http.clone(),
            mutation == Some(Mutation::PlanRewritten) && self.job != Job::Produce,
        )?;
        let dedup = Arc::clone(&self.ground.dedup) as Arc<dyn DedupStore>;
        Client::builder()
            .instance(&self.name)
            .source(backend(Side::Source))
            .target(backend(Side::Target))
            .plans(Arc::new(link))
            .plan_store(Arc::new(self.disk.clone()))
            .incarnation(StdRng::seed_from_u64(self.seed).random())
            .dedup(mutation::dedup(mutation, dedup))
            .clock(Arc::new(self.clock.clone()))
            .set("lease.mode", self.lease_mode)?
            .set("random.seed", &self.seed.to_string())?
            .start()
            .await
    }

    /// The application is at work.
    fn works(&self) {
        if let Some(because) = self.because {
            self.ground.effects.touch(because);
        }
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
        self.works();
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
            let poisoned = self.ground.mood.poisoned.get();
            self.ground.mood.poisoned.set(poisoned.saturating_sub(1));
            let end = if poisoned > 0 { POISON } else { "" };
            let id = format!("{}-{}-{number}{end}", self.name, self.life);
            let mut message = Message::new(Bytes::from(id.clone()))
                .with_idempotency_key(IdempotencyKey::new(&id)?);
            if random.random_range(0..100) < self.ground.mood.delayed.get() {
                let delay = Duration::from_millis(random.random_range(200..3_000));
                message = message.with_deliver_after(delay);
                self.ground.effects.touch(Fault::DelayedMessages);
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
        self.works();
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
                let text = id_of(&delivery);
                let id = || text.as_str().into();
                let entered = What::Enter {
                    id: id(),
                    side: side(delivery.side),
                    attempt: delivery.attempt,
                };
                record.add(stream, &self.name, entered);
                sleep(Duration::from_millis(random.random_range(0..10))).await;
                self.gate.pass().await;
                let poisoned = delivery.message.body.ends_with(POISON.as_bytes());
                let fails = random.random_range(0..100) < self.ground.mood.handlers_fail.get();
                if poisoned || fails {
                    record.add(stream, &self.name, What::HandlerFailed { id: id() });
                    record.note_failed(group, &text);
                    let delay = match poisoned {
                        true => Duration::ZERO,
                        false => {
                            self.ground.effects.touch(Fault::HandlersFail);
                            Duration::from_millis(random.random_range(100..1_000))
                        }
                    };
                    // What cannot be given back is delivered again all the same.
                    let _ = consumer.nack(&delivery, delay).await;
                    continue;
                }
                record.add(stream, &self.name, What::Done { id: id() });
                record.note_handled(group, &text);
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
