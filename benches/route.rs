//! The routing decision of a send: load the snapshot, read its write plan, draw the side.
//!
//! Goal: at most 25 ns, no allocation, flat from 1 to 10 000 topics. The reference beside it is the least that any client with a table of
//! rules does: `arc_swap::Cache` load, one hash lookup, one random number.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossfade::{
    BoxFuture, Producer, ProducerOptions, ProducerParts, Result, Revision, Side,
    backend::{Backend, Backends},
    control::{Contact, PlanTable},
    metrics::Registry,
    stage::{Routing, Stage, TopicPlan, Weight},
};

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Clusters that are never reached: routing needs none.
#[derive(Debug)]
struct Nowhere;

impl Backends for Nowhere {
    fn backend(&self, _: Side) -> BoxFuture<'_, Result<Arc<dyn Backend>>> {
        Box::pin(std::future::pending())
    }
}

fn names(topics: usize) -> Vec<Arc<str>> {
    (0..topics)
        .map(|number| format!("topic-{number}").into())
        .collect()
}

fn weight() -> Weight {
    Weight::from_basis_points(3_000).expect("in range")
}

fn producers(topics: usize) -> Vec<Producer> {
    let (table, registry) = (PlanTable::default(), Registry::default());
    let (contact, backends) = (Arc::new(Contact::default()), Arc::new(Nowhere));
    let producer = |topic: &Arc<str>| {
        let cell = table.cell(topic);
        let plan = TopicPlan {
            topic: Arc::clone(topic),
            stage: Stage::DualWrite,
            weight: weight(),
            routing: Routing::Unordered,
            moves: Vec::new(),
            revision: Revision(1),
            previous_revision: Revision(0),
        };
        cell.publish(plan).expect("a first plan is adopted");
        Producer::start(ProducerParts {
            role: cell.add_producer(),
            backends: Arc::clone(&backends) as _,
            contact: Arc::clone(&contact),
            metrics: registry.topic(topic),
            options: ProducerOptions::default(),
            seed: 1,
            key_prefix: "bench".into(),
        })
    };
    names(topics).iter().map(producer).collect()
}

/// Visits all places in an order that no prefetcher knows; the same for both sides of the comparison.
struct Order {
    state: usize,
    places: usize,
}

impl Order {
    fn new(places: usize) -> Self {
        Order { state: 0, places }
    }

    fn next(&mut self) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) * self.places) >> 31
    }
}

fn split_mix(state: &mut u64) -> u32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

fn route(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("route");
    group
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    for topics in [1, 100, 10_000] {
        let producers = producers(topics);
        let mut order = Order::new(topics);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..100_000 {
            let _ = black_box(producers[order.next()].route(None));
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, 0, "allocations in 100 000 decisions");
        group.bench_function(BenchmarkId::new("crossfade", topics), |bencher| {
            bencher.iter(|| producers[order.next()].route(None));
        });

        let names = names(topics);
        let rules: HashMap<Arc<str>, Weight> =
            names.iter().map(|name| (name.clone(), weight())).collect();
        let shared = ArcSwap::from_pointee(rules);
        let mut cache = Cache::new(&shared);
        let mut draws = 1;
        let mut order = Order::new(topics);
        group.bench_function(BenchmarkId::new("reference", topics), |bencher| {
            bencher.iter(|| {
                let weight = cache.load()[&names[order.next()]];
                weight.covers_draw(split_mix(&mut draws))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);
