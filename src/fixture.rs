//! Two embedded clusters with faults, a plan that tests change, and the parts of producers and consumers on top of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    BoxFuture,
    backend::{
        Backend, Backends, Backlog, Incoming, Subscription, TransactionChecker,
        fault::{Fault, FaultControl},
        memory::MemoryCluster,
    },
    consumer::{Consumer, ConsumerOptions, ConsumerParts},
    control::{Contact, ContactState, PlanTable, TopicCell},
    dedup::{DedupStore, MemoryDedup},
    error::{ErrorKind, Result},
    message::Delivery,
    metrics::Registry,
    producer::{Producer, ProducerOptions, ProducerParts, TransactionalProducer},
    side::{Access, Revision, Side},
    stage::{Buckets, Move, QueueBarrier, Routing, Stage, TopicPlan, Weight, bucket_of},
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
const QUEUES: u32 = 4;

/// Both clusters of one client.
#[derive(Debug)]
pub(crate) struct Pair {
    backends: [Arc<dyn Backend>; 2],
    /// How often each was asked for: a consumer asks once each time it opens a side.
    asked: [AtomicUsize; 2],
    dead: [AtomicBool; 2],
}

impl Pair {
    pub(crate) fn asked(&self) -> [usize; 2] {
        Side::BOTH.map(|side| self.asked[side.index()].load(Ordering::SeqCst))
    }

    /// From now on, connecting never ends.
    pub(crate) fn kill(&self, side: Side) {
        self.dead[side.index()].store(true, Ordering::SeqCst);
    }
}

impl Backends for Pair {
    fn backend(&self, side: Side) -> BoxFuture<'_, Result<Arc<dyn Backend>>> {
        self.asked[side.index()].fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if self.dead[side.index()].load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(Arc::clone(&self.backends[side.index()]))
        })
    }
}

pub(crate) struct World {
    clusters: [MemoryCluster; 2],
    pub(crate) faults: [FaultControl; 2],
    pub(crate) cell: Arc<TopicCell>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) registry: Registry,
    pub(crate) dedup: Arc<MemoryDedup>,
    routing: Routing,
    clients: AtomicUsize,
}

impl World {
    /// All open, under a first plan.
    pub(crate) async fn new(stage: Stage, basis_points: u32) -> World {
        World::with(stage, basis_points, Routing::Unordered).await
    }

    /// The same with a topic that promises order.
    pub(crate) async fn ordered(stage: Stage, basis_points: u32) -> World {
        World::with(stage, basis_points, Routing::Ordered).await
    }

    /// The same, started from disk.
    pub(crate) async fn uncontacted(stage: Stage, basis_points: u32) -> World {
        let world = World::ordered(stage, basis_points).await;
        World {
            contact: Arc::default(),
            ..world
        }
    }

    async fn with(stage: Stage, basis_points: u32, routing: Routing) -> World {
        let clusters = [MemoryCluster::default(), MemoryCluster::default()];
        for cluster in &clusters {
            let admin = cluster.backend("admin").admin();
            admin.create_topic(TOPIC, QUEUES).await.unwrap();
            admin.create_group(GROUP).await.unwrap();
        }
        let world = World {
            clusters,
            faults: [FaultControl::new(1), FaultControl::new(2)],
            cell: PlanTable::default().cell(TOPIC),
            contact: Arc::default(),
            registry: Registry::default(),
            dedup: Arc::default(),
            routing,
            clients: AtomicUsize::new(0),
        };
        world.contact.set(ContactState::Valid);
        world.publish(stage, basis_points);
        world
    }

    /// The same clusters, as an instance sees them that has a first plan only.
    pub(crate) fn behind(&self, stage: Stage, basis_points: u32) -> World {
        let world = World {
            clusters: self.clusters.clone(),
            faults: self.faults.clone(),
            cell: PlanTable::default().cell(TOPIC),
            contact: Arc::clone(&self.contact),
            registry: Registry::default(),
            dedup: Arc::clone(&self.dedup),
            routing: self.routing,
            clients: AtomicUsize::new(100),
        };
        world.publish(stage, basis_points);
        world
    }

    pub(crate) fn revision(&self) -> Revision {
        self.cell
            .read_plan()
            .map_or(Revision(0), |(revision, _)| revision)
    }

    pub(crate) fn publish(&self, stage: Stage, basis_points: u32) {
        self.publish_with(stage, basis_points, Vec::new());
    }

    fn publish_with(&self, stage: Stage, basis_points: u32, moves: Vec<Move>) {
        let previous_revision = self.revision();
        let plan = TopicPlan {
            topic: TOPIC.into(),
            stage,
            weight: Weight::from_basis_points(basis_points).unwrap(),
            routing: self.routing,
            moves,
            revision: Revision(previous_revision.0 + 1),
            previous_revision,
        };
        self.cell.publish(plan).unwrap();
    }

    fn plan(&self) -> TopicPlan {
        self.cell.load().unwrap().plan().clone()
    }

    /// Freezes the keys that another weight would move.
    pub(crate) fn freeze(&self, basis_points: u32) {
        let plan = self.plan();
        let next = Weight::from_basis_points(basis_points).unwrap();
        let (buckets, from) = Buckets::between(plan.weight, next).unwrap();
        let mut moves = plan.moves;
        moves.push(Move::freeze(from, buckets, Revision(plan.revision.0 + 1)));
        self.publish_with(plan.stage, plan.weight.basis_points().into(), moves);
    }

    /// Moves the frozen keys, behind all that the side they leave has stored.
    pub(crate) async fn release(&self, basis_points: u32) {
        let plan = self.plan();
        let mut moves = plan.moves.clone();
        let frozen = moves.pop().unwrap();
        let admin = self.clusters[frozen.from.index()].backend("admin").admin();
        let settings = admin.topic(TOPIC).await.unwrap().unwrap().settings;
        let ends = admin.ends(TOPIC, &settings).await.unwrap();
        let barrier = ends.into_iter().map(|(queue, end_offset)| QueueBarrier {
            broker: queue.broker.to_string(),
            queue: queue.queue,
            end_offset,
        });
        moves.push(frozen.released(Revision(plan.revision.0 + 1), barrier.collect()));
        self.publish_with(plan.stage, basis_points, moves);
    }

    /// The keys stay where they are.
    pub(crate) fn abort(&self) {
        let plan = self.plan();
        let kept = plan.moves.into_iter().filter(|moving| !moving.is_frozen());
        self.publish_with(
            plan.stage,
            plan.weight.basis_points().into(),
            kept.collect(),
        );
    }

    /// Waits until the plan in force is applied.
    pub(crate) async fn applied(&self) {
        within(60, async {
            while self.cell.applied() != Some(self.revision()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    pub(crate) async fn set_access(&self, side: Side, access: Access) {
        let admin = self.clusters[side.index()].backend("admin").admin();
        let mut settings = admin.topic(TOPIC).await.unwrap().unwrap().settings;
        settings.queues = QUEUES;
        settings.saved["queues"] = QUEUES.into();
        admin.set_access(TOPIC, &settings, access).await.unwrap();
    }

    /// What a side owes to the group, once what is acked is committed.
    pub(crate) async fn backlog(&self, side: Side) -> Backlog {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let admin = self.clusters[side.index()].backend("admin").admin();
        let settings = admin.topic(TOPIC).await.unwrap().unwrap().settings;
        admin.backlog(TOPIC, GROUP, &settings).await.unwrap()
    }

    /// A client of one side's cluster, past all faults.
    pub(crate) fn client(&self, side: Side, id: &str) -> Arc<dyn Backend> {
        self.clusters[side.index()].backend(id)
    }

    /// Everything that a side has stored.
    pub(crate) async fn stored(&self, side: Side) -> Vec<Incoming> {
        let backend = self.client(side, "auditor");
        let consumer = backend
            .consumer(&Subscription::new(TOPIC, "audit"))
            .await
            .unwrap();
        consumer
            .receive(1_000, Duration::from_millis(1))
            .await
            .unwrap()
    }

    pub(crate) fn pair(&self) -> Arc<Pair> {
        let client = self.clients.fetch_add(1, Ordering::SeqCst);
        let backend = |side: Side| {
            let inner = self.clusters[side.index()].backend(&format!("client-{client}@{side}"));
            let control = self.faults[side.index()].clone();
            Arc::new(Fault::with_control(inner, control)) as Arc<dyn Backend>
        };
        Arc::new(Pair {
            backends: Side::BOTH.map(backend),
            asked: Default::default(),
            dead: Default::default(),
        })
    }

    pub(crate) fn producer(&self) -> Producer {
        self.producer_with(self.pair(), ProducerOptions::default())
    }

    pub(crate) fn producer_with(&self, pair: Arc<Pair>, options: ProducerOptions) -> Producer {
        Producer::start(self.producer_parts(pair, options))
    }

    pub(crate) fn transactional_producer(
        &self,
        checker: Arc<dyn TransactionChecker>,
    ) -> TransactionalProducer {
        let parts = self.producer_parts(self.pair(), ProducerOptions::default());
        TransactionalProducer::start(parts, checker)
    }

    fn producer_parts(&self, pair: Arc<Pair>, options: ProducerOptions) -> ProducerParts {
        let number = self.clients.fetch_add(1, Ordering::SeqCst);
        ProducerParts {
            role: self.cell.add_producer(),
            backends: pair,
            contact: Arc::clone(&self.contact),
            metrics: self.registry.topic(self.cell.topic()),
            options,
            seed: 42,
            key_prefix: format!("p{number}"),
        }
    }

    pub(crate) fn consumer(&self) -> Consumer {
        self.consumer_with(
            self.pair(),
            Arc::clone(&self.dedup) as _,
            ConsumerOptions::default(),
        )
    }

    pub(crate) fn consumer_with(
        &self,
        pair: Arc<Pair>,
        dedup: Arc<dyn DedupStore>,
        options: ConsumerOptions,
    ) -> Consumer {
        let subscription = Subscription::new(TOPIC, GROUP);
        self.consumer_of(pair, dedup, options, subscription)
    }

    /// One that fetches at most so many messages ahead.
    pub(crate) fn narrow_consumer(&self, max_outstanding: usize) -> Consumer {
        let mut subscription = Subscription::new(TOPIC, GROUP);
        subscription.max_outstanding = Some(max_outstanding);
        self.consumer_of(
            self.pair(),
            Arc::clone(&self.dedup) as _,
            ConsumerOptions::default(),
            subscription,
        )
    }

    fn consumer_of(
        &self,
        pair: Arc<Pair>,
        dedup: Arc<dyn DedupStore>,
        options: ConsumerOptions,
        subscription: Subscription,
    ) -> Consumer {
        let number = self.clients.fetch_add(1, Ordering::SeqCst);
        Consumer::start(ConsumerParts {
            role: self.cell.add_consumer(GROUP.into()),
            backends: pair,
            contact: Arc::clone(&self.contact),
            metrics: self.registry.topic(self.cell.topic()),
            dedup,
            owner: format!("owner-{number}").into(),
            subscription,
            options,
        })
    }

    /// One counter of all revisions together, by side.
    pub(crate) fn count(&self, pick: fn(&crate::control::wire::Counters) -> [u64; 2]) -> [u64; 2] {
        let rows = self.registry.counters();
        rows.iter()
            .map(pick)
            .fold([0; 2], |sum, row| [sum[0] + row[0], sum[1] + row[1]])
    }
}

/// An ordering key whose bucket is one that is wanted.
pub(crate) fn key_of(wanted: impl Fn(u16) -> bool) -> String {
    let mut keys = (0..).map(|number| format!("k{number}"));
    keys.find(|key| wanted(bucket_of(key.as_bytes())))
        .expect("some key")
}

/// The next delivery; fails the test when none comes in time.
pub(crate) async fn one(consumer: &Consumer) -> Delivery {
    let mut deliveries = consumer.receive(1, Duration::from_secs(30)).await.unwrap();
    deliveries.pop().expect("a delivery in time")
}

/// Nothing comes for a while.
pub(crate) async fn nothing(consumer: &Consumer) {
    let deliveries = consumer.receive(1, Duration::from_secs(5)).await.unwrap();
    assert!(deliveries.is_empty(), "{deliveries:?}");
}

pub(crate) async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), what)
        .await
        .expect("it ends in time")
}

pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}
