//! A run from its seed to its verdict.

use std::{collections::BTreeMap, time::Duration};

use crossfade::stage::Stage;
use crossfade_history::Report;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fault::{self, Fault},
    world::World,
};

/// How long everything may take to come to rest once the faults are healed.
const REST: Duration = Duration::from_secs(240);

/// What a run is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scenario {
    /// Operators walk at random, without faults: nothing may fail at all.
    Calm,
    /// Operators walk at random, faults come at random.
    Random,
    /// One step, and two faults while it is taken.
    Step {
        /// From.
        from: Stage,
        /// To, a neighbour.
        to: Stage,
        /// Which faults.
        faults: [Fault; 2],
    },
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was broken, in words; empty when all held.
    pub violations: Vec<String>,
    /// The checker's verdict on the history.
    pub report: Report,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each stage was published, from the control plane's audit.
    pub published: usize,
    /// How often what landed behind a seal reopened a drain.
    pub reopened: usize,
    /// Tells two traces apart.
    pub trace_hash: u64,
    /// The trace, where it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed for `length` of virtual time, then heals all faults and waits for rest.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn run(seed: u64, scenario: Scenario, length: Duration, keep_trace: bool) -> Outcome {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Who of several waiters is woken first is tokio's choice, by a generator of its own.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = builder
        .build()
        .unwrap_or_else(|error| unreachable!("a runtime of one thread: {error}"));
    let local = LocalSet::new();
    local.block_on(&runtime, whole(seed, scenario, length, keep_trace))
}

async fn whole(seed: u64, scenario: Scenario, length: Duration, keep_trace: bool) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, &mut random, keep_trace).await;
    if world.violations.is_empty() {
        match scenario {
            Scenario::Calm => disturbed(&mut world, &mut random, length, false).await,
            Scenario::Random => disturbed(&mut world, &mut random, length, true).await,
            Scenario::Step { from, to, faults } => {
                step(&mut world, &mut random, from, to, faults).await;
            }
        }
        rest(&mut world, &mut random).await;
    }
    let failed = world.record.count("failed") + world.record.count("ambiguous");
    if scenario == Scenario::Calm && failed > 0 {
        world
            .violations
            .push(format!("{failed} sends failed without a fault"));
    }
    let (report, trace_hash, trace) = world.record.finish();
    for (what, count) in report.violations() {
        world.violations.push(format!("{what}: {count}"));
    }
    Outcome {
        violations: std::mem::take(&mut world.violations),
        report,
        faults: std::mem::take(&mut world.faults),
        published: world.disk.audited("publish"),
        reopened: world.disk.audited("reopen"),
        trace_hash,
        trace,
    }
}

/// Operators and, where wanted, faults.
async fn disturbed(world: &mut World, random: &mut StdRng, length: Duration, faults: bool) {
    let end = Instant::now() + length;
    let mut order = Instant::now();
    let mut next_fault = Instant::now() + Duration::from_secs(1);
    let mut healing = None;
    while Instant::now() < end {
        let now = Instant::now();
        if now >= order {
            world.order(random).await;
            order = now + Duration::from_millis(random.random_range(1_000..6_000));
        }
        if faults && now >= next_fault {
            let kind = Fault::ALL[random.random_range(0..Fault::ALL.len())];
            let span = fault::begin(world, kind, random).await;
            let until = healing.unwrap_or(now).max(now + span);
            healing = Some(until);
            next_fault = now + Duration::from_millis(random.random_range(300..3_000));
        }
        if healing.is_some_and(|until| now >= until) {
            fault::heal(world, random).await;
            healing = None;
        }
        world.check().await;
        let mut wake = order.min(end).min(now + Duration::from_millis(200));
        if faults {
            wake = wake.min(next_fault);
        }
        sleep_until(wake.max(now + Duration::from_millis(1))).await;
    }
}

/// Calmly to `from`; then the step, with both faults while it is taken.
async fn step(world: &mut World, random: &mut StdRng, from: Stage, to: Stage, faults: [Fault; 2]) {
    world.go(from).await;
    if !world.settle(from, REST).await {
        return;
    }
    world.go(to).await;
    let mut span = Duration::ZERO;
    for kind in faults {
        sleep(Duration::from_millis(random.random_range(0..700))).await;
        span = span.max(fault::begin(world, kind, random).await);
    }
    let until = Instant::now() + span;
    while Instant::now() < until {
        world.check().await;
        sleep(Duration::from_millis(200)).await;
    }
    if faults.contains(&Fault::ChangeOfMind) {
        return;
    }
    fault::heal(world, random).await;
    // A command may have been lost with the control plane.
    world.go(to).await;
}

/// No more faults and no more words: the topic must settle, and everything that was sent must be handled.
async fn rest(world: &mut World, random: &mut StdRng) {
    fault::heal(world, random).await;
    // The word of an operator may have been lost; without one the last goal stands.
    if let Some(view) = world.view().await {
        world.goal = view.goal;
    }
    let goal = world.goal;
    if !world.settle(goal, REST).await {
        return;
    }
    world.ground.mood.sending.set(false);
    let deadline = Instant::now() + REST;
    // Long enough for a send that still has no end, and for what it leaves to be seen.
    sleep(Duration::from_secs(15)).await;
    let mut quiet = 0;
    while quiet < 5 && Instant::now() < deadline {
        quiet = if world.owed().await == 0 {
            quiet + 1
        } else {
            0
        };
        world.check().await;
        sleep(Duration::from_millis(500)).await;
    }
    if quiet < 5 {
        let owed = world.owed().await;
        world
            .violations
            .push(format!("{owed} messages are owed and nobody handles them"));
    }
    // What was owed behind a seal has reopened a drain: that must come to rest too.
    world.settle(goal, REST).await;
    for instance in &mut world.instances {
        instance.stop().await;
    }
}
