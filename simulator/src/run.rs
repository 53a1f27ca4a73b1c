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
    effect::FaultSet, fault::Fault, http::HttpReport, inject, mutation::Mutation, record::Trace,
    world::World,
};

/// How long everything may take to come to rest once the faults are healed.
const REST: Duration = Duration::from_secs(240);
/// How much longer the faults of a step last, at the most, until each of them was felt.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether they were.
const FELT_LOOK: Duration = Duration::from_millis(200);
/// How long a fault of a step waits for a moment at which it can be felt.
const MOMENT: Duration = Duration::from_secs(3);
/// Between two looks whether it has come.
const MOMENT_LOOK: Duration = Duration::from_millis(10);
/// Between two looks at everything.
const LOOK: Duration = Duration::from_millis(400);

/// What a run is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scenario {
    /// Operators walk at random, without faults: nothing may fail at all.
    Calm,
    /// Operators walk at random, faults come at random.
    Random,
    /// One step, and two faults while it is taken.
    Step(Step),
}

/// One step and what goes wrong meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// From.
    pub from: Stage,
    /// To, a neighbour.
    pub to: Stage,
    /// Which faults.
    pub faults: [Fault; 2],
    /// Chooses the moments and all else anew.
    pub attempt: u32,
}

/// A run to be made: it decides everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// Of all choices.
    pub seed: u64,
    /// What happens.
    pub scenario: Scenario,
    /// What can go wrong in [`Scenario::Random`].
    pub faults: FaultSet,
    /// How long faults come in [`Scenario::Random`], in virtual time; coming to rest takes longer.
    pub length: Duration,
    /// Instances and operators reach the control plane over HTTP.
    pub http: bool,
    /// A part that is broken on purpose.
    pub mutation: Option<Mutation>,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was broken, in words; empty when all held.
    pub violations: Vec<String>,
    /// The checker's verdict on the history.
    pub report: Report,
    /// Faults begun, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each of them has touched something: during the step, where there is one.
    pub effects: BTreeMap<Fault, u64>,
    /// In a step: which of its faults came while it was on its way.
    pub in_time: [bool; 2],
    /// How often a stage was published, from the control plane's audit.
    pub published: usize,
    /// How often what landed behind a seal reopened a drain.
    pub reopened: usize,
    /// What went over HTTP.
    pub http: HttpReport,
    /// Tells two traces apart, where one was asked for.
    pub trace_hash: u64,
    /// The lines, where they were asked for.
    pub trace: Vec<String>,
}

impl Outcome {
    /// Whether both faults of a step came in time and touched something; one that comes twice, twice.
    #[must_use]
    pub fn both_touched(&self, faults: [Fault; 2]) -> bool {
        self.in_time == [true, true] && touched(&self.effects, &faults)
    }
}

/// Makes a run, heals all faults at its end and waits for rest.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn run(run: Run, trace: Trace) -> Outcome {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Who of several waiters is woken first is tokio's choice, by a generator of its own.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&run.seed.to_be_bytes()));
    let runtime = builder
        .build()
        .unwrap_or_else(|error| unreachable!("a runtime of one thread: {error}"));
    let local = LocalSet::new();
    local.block_on(&runtime, whole(run, trace))
}

async fn whole(run: Run, trace: Trace) -> Outcome {
    let attempt = match run.scenario {
        Scenario::Step(step) => u64::from(step.attempt),
        _ => 0,
    };
    let seed = run.seed ^ attempt << 32;
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, &mut random, trace, run.http, run.mutation).await;
    let mut before = BTreeMap::new();
    let mut in_time = [true; 2];
    if world.violations.is_empty() {
        match run.scenario {
            Scenario::Calm => {
                disturbed(&mut world, &mut random, run.length, FaultSet::default()).await;
            }
            Scenario::Random => disturbed(&mut world, &mut random, run.length, run.faults).await,
            Scenario::Step(step) => {
                if arrive(&mut world, step.from).await {
                    before = world.effects_now();
                    in_time = take(&mut world, &mut random, step).await;
                }
            }
        }
        rest(&mut world, &mut random).await;
        world.bury().await;
    }
    let failed = world.record.failed_sends();
    if run.scenario == Scenario::Calm && failed > 0 {
        world
            .violations
            .push(format!("{failed} sends failed without a fault"));
    }
    let (report, trace_hash, trace) = world.record.finish();
    for (what, count) in report.violations() {
        world.violations.push(format!("{what}: {count}"));
    }
    let effects = since(&before, world.effects_now());
    let http = world.ground.http.as_ref();
    Outcome {
        violations: std::mem::take(&mut world.violations),
        report,
        faults: std::mem::take(&mut world.faults),
        effects,
        in_time,
        published: world.disk.audited("publish"),
        reopened: world.disk.audited("reopen"),
        http: http.map(|counts| counts.report()).unwrap_or_default(),
        trace_hash,
        trace,
    }
}

/// Operators and, where wanted, faults.
async fn disturbed(world: &mut World, random: &mut StdRng, length: Duration, faults: FaultSet) {
    let kinds: Vec<_> = faults.iter().collect();
    let faults = !kinds.is_empty();
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
            let kind = kinds[random.random_range(0..kinds.len())];
            let span = inject::begin(world, kind, random).await;
            let until = healing.unwrap_or(now).max(now + span);
            healing = Some(until);
            next_fault = now + Duration::from_millis(random.random_range(300..3_000));
        }
        if healing.is_some_and(|until| now >= until) {
            inject::heal(world, random).await;
            healing = None;
        }
        world.look().await;
        let mut wake = order.min(end).min(now + LOOK);
        if faults {
            wake = wake.min(next_fault);
        }
        sleep_until(wake.max(now + Duration::from_millis(1))).await;
    }
}

/// Calmly to where the step begins.
async fn arrive(world: &mut World, from: Stage) -> bool {
    world.go(from).await;
    world.settle(from, REST).await
}

/// When the faults of a step come.
struct Moments {
    /// So many of them before the step is begun.
    early: usize,
    /// Each that comes later, at random within so many milliseconds.
    spread_ms: u64,
    /// The second one comes once the first was felt.
    waits: bool,
    /// The second one comes first.
    swapped: bool,
}

impl Moments {
    /// The first attempt leaves the most to chance; every eight of them have each order at each moment.
    fn of(attempt: u32) -> Self {
        let (early, spread_ms, waits) = match attempt % 4 {
            0 => (0, 400, false),
            1 => (1, 150, true),
            2 => (2, 60, false),
            _ => (0, 30, true),
        };
        Moments {
            early,
            spread_ms,
            waits,
            swapped: (attempt + attempt / 4) % 2 == 1,
        }
    }
}

/// The step, with both faults while it is taken, or just before; which of them came in time.
async fn take(world: &mut World, random: &mut StdRng, step: Step) -> [bool; 2] {
    let before = world.effects_now();
    let moments = Moments::of(step.attempt);
    let mut faults = step.faults;
    if moments.swapped {
        faults.swap(0, 1);
    }
    let mut in_time = [true; 2];
    let mut healing = Instant::now();
    for (place, kind) in faults.into_iter().enumerate() {
        if place == moments.early {
            world.go(step.to).await;
        }
        if place == 1 && moments.waits {
            let end = Instant::now() + PATIENCE;
            until_felt(world, &before, &faults[..1], end).await;
        }
        if place >= moments.early {
            let spread = random.random_range(0..moments.spread_ms);
            sleep(Duration::from_millis(spread)).await;
            until_possible(world, kind, Instant::now() + MOMENT).await;
            let view = world.view().await;
            in_time[place] = !view.is_some_and(|view| view.settled && view.stage == step.to);
        }
        let span = inject::begin(world, kind, random).await;
        healing = healing.max(Instant::now() + span);
    }
    if moments.early == faults.len() {
        world.go(step.to).await;
    }
    if moments.swapped {
        in_time.swap(0, 1);
    }
    while Instant::now() < healing {
        world.look().await;
        sleep(FELT_LOOK).await;
    }
    until_felt(world, &before, &faults, healing + PATIENCE).await;
    if !faults.contains(&Fault::ChangeOfMind) {
        inject::heal(world, random).await;
        // A command may have been lost with the control plane.
        world.go(step.to).await;
    }
    in_time
}

/// Until all of these faults have touched something, but not after `end`. Dead letters are found at the end of the run only.
async fn until_felt(
    world: &mut World,
    before: &BTreeMap<Fault, u64>,
    faults: &[Fault],
    end: Instant,
) {
    let faults = faults.iter().copied();
    let faults: Vec<_> = faults.filter(|one| *one != Fault::DeadLetters).collect();
    while Instant::now() < end && !touched(&since(before, world.effects_now()), &faults) {
        world.look().await;
        sleep(FELT_LOOK).await;
    }
}

/// Until somebody can feel it, but not after `end`.
async fn until_possible(world: &World, fault: Fault, end: Instant) {
    while Instant::now() < end && !inject::can_be_felt(world, fault) {
        sleep(MOMENT_LOOK).await;
    }
}

/// What has come to `before`.
fn since(before: &BTreeMap<Fault, u64>, mut now: BTreeMap<Fault, u64>) -> BTreeMap<Fault, u64> {
    for (fault, count) in before {
        *now.entry(*fault).or_default() -= count;
    }
    now
}

/// Whether each of these has touched something; one that comes twice, twice.
fn touched(effects: &BTreeMap<Fault, u64>, faults: &[Fault]) -> bool {
    faults.iter().all(|fault| {
        let least = faults.iter().filter(|other| *other == fault).count() as u64;
        effects.get(fault).is_some_and(|count| *count >= least)
    })
}

/// No more faults and no more words: the topic must settle, and everything that was sent must be handled.
async fn rest(world: &mut World, random: &mut StdRng) {
    inject::heal(world, random).await;
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
        inject::start_the_ended(world, random);
        world.look().await;
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
    for leaving in std::mem::take(&mut world.leaving) {
        // Bounded by the shutdown of its client.
        let _ = leaving.await;
    }
    for instance in &mut world.instances {
        if let Some(life) = instance.life.take() {
            life.stop().await;
        }
    }
}
