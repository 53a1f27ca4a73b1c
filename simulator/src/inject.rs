//! How each fault is brought about, and how all are taken back.

use std::time::Duration;

use crossfade::{
    Access, Side,
    backend::fault::{FaultControl, FaultRules, SendFate},
};
use rand::{RngExt, rngs::StdRng};

use crate::{
    GROUPS,
    brokers::AccessFate,
    effect::FaultSet,
    fault::Fault,
    ghost::{Ghost, Missing},
    instance::{Instance, Job},
    store::Torn,
    world::World,
};

/// How long a fault without an end of its own lasts, in milliseconds.
const SPAN_MS: std::ops::Range<u64> = 200..6_000;

/// How often an operator says something else, at the most, when it is refused.
const ORDERS: u32 = 3;

/// Begins a fault; the answer is when it may be taken back.
pub(crate) async fn begin(world: &mut World, fault: Fault, random: &mut StdRng) -> Duration {
    world.record.note("fault", &fault.name());
    *world.faults.entry(fault).or_default() += 1;
    let span = Duration::from_millis(random.random_range(SPAN_MS));
    let instance_only = matches!(
        fault,
        Fault::Crash
            | Fault::Gone
            | Fault::Unplugged
            | Fault::Replaced
            | Fault::Freeze
            | Fault::CutOff
            | Fault::RequestsCut
            | Fault::AnswersCut
            | Fault::BrokerCut
            | Fault::BrokerAnswersCut
            | Fault::ClockSkew
            | Fault::DiskKept
            | Fault::DiskLost
            | Fault::DiskOutdated
            | Fault::DiskTorn
    );
    if instance_only {
        let Some(victim) = victim(world, fault, random) else {
            return span;
        };
        let job = world.instances[victim].job;
        let side = side(world, fault, Some(job), random).await;
        on_instance(world, fault, victim, side, random);
        return span;
    }
    let side = side(world, fault, None, random).await;
    let shared = world.ground.faults[side.index()].clone();
    match fault {
        Fault::Rebalance => {
            let group = GROUPS[random.random_range(0..GROUPS.len())];
            let job = Job::Consume(group);
            let name = world.new_name(job);
            let mode = ["continue", "stop"][random.random_range(0..2)];
            let mut guest = Instance::new(&name, job, mode, &world.effects, random.random());
            guest.start(&world.ground, random.random(), Some(fault), false);
            world.guests.push(guest);
        }
        Fault::BadLink => {
            for life in world.instances.iter().filter_map(|one| one.life.as_ref()) {
                life.wire.change(|faults| faults.bad = true);
            }
        }
        Fault::ControlPlaneCut => world.ways[side.index()].stall(),
        Fault::ControlPlaneCrash => {
            if world.control_plane.is_none() {
                world.start_control_plane().await;
            }
            world.effects.touch(fault);
            world.stop_control_plane();
        }
        Fault::TornWrite => world.disk.tear(match random.random_bool(0.5) {
            true => Torn::Refused,
            false => Torn::AnswerLost,
        }),
        Fault::Stall => shared.stall(),
        Fault::SlowCluster => {
            let mut rules = shared.rules();
            rules.delay = Duration::ZERO..=Duration::from_millis(300);
            shared.set_rules(rules);
        }
        Fault::BadSends => {
            let mut rules = shared.rules();
            rules.sends = [
                SendFate::Refused,
                SendFate::Busy,
                SendFate::AnswerLost,
                SendFate::RequestLost,
                SendFate::Late,
                SendFate::Duplicated,
            ]
            .map(|fate| (fate, 0.08))
            .to_vec();
            rules.late_by = Duration::from_millis(500);
            shared.set_rules(rules);
        }
        Fault::AccessInFlight => {
            for fates in &world.fates {
                fates.push(match random.random_range(0..3) {
                    0 => AccessFate::AnswerLost,
                    1 => AccessFate::RequestLost,
                    _ => AccessFate::Late(Duration::from_millis(random.random_range(0..1_500))),
                });
            }
        }
        Fault::HandlersFail => world.ground.mood.handlers_fail.set(20),
        Fault::DeadLetters => {
            let poisoned = &world.ground.mood.poisoned;
            poisoned.set(poisoned.get() + random.random_range(1..4));
        }
        Fault::DelayedMessages => world.ground.mood.delayed.set(30),
        Fault::UnmanagedWriter => {
            for _ in 0..random.random_range(1..5) {
                world.write_unmanaged(side);
            }
        }
        Fault::ChangeOfMind => {
            for _ in 0..ORDERS {
                if world.order(random).await {
                    world.effects.touch(fault);
                    break;
                }
            }
        }
        _ => unreachable!("a fault of one instance"),
    }
    span
}

/// A cluster that can meet it: nobody feels on a side that nobody uses what happens to sends, or to the calls of an instance.
async fn side(world: &World, fault: Fault, victim: Option<Job>, random: &mut StdRng) -> Side {
    let any = Side::BOTH[random.random_range(0..2)];
    let tightest = match (fault, victim) {
        (Fault::BadSends | Fault::BrokerAnswersCut, _) | (Fault::BrokerCut, Some(Job::Produce)) => {
            Access::Open
        }
        (Fault::BrokerCut, _) => Access::Closed,
        _ => return any,
    };
    let Some(view) = world.view().await else {
        return any;
    };
    let used = [view.stage, view.goal].map(|stage| stage.access(any) <= tightest);
    match used.contains(&true) {
        true => any,
        false => any.other(),
    }
}

/// Somebody who runs; who blocks, or has older plans, where that is the point.
fn victim(world: &World, fault: Fault, random: &mut StdRng) -> Option<usize> {
    let blocks = matches!(fault, Fault::Unplugged | Fault::Replaced);
    let alive = (0..world.instances.len()).filter(|index| {
        let one = &world.instances[*index];
        // Only a send hears no answer.
        let sends = fault != Fault::BrokerAnswersCut || one.job == Job::Produce;
        one.is_alive() && sends && (!blocks || one.lease_mode == "continue")
    });
    let alive: Vec<_> = alive.collect();
    let older = alive.iter().copied().filter(|index| {
        fault == Fault::DiskOutdated && world.instances[*index].disk.has_been_written_over()
    });
    let older: Vec<_> = older.collect();
    let among = if older.is_empty() { alive } else { older };
    (!among.is_empty()).then(|| among[random.random_range(0..among.len())])
}

/// Whether somebody can feel it now; where not, a moment later somebody may.
pub(crate) fn can_be_felt(world: &World, fault: Fault) -> bool {
    let mut alive = world.instances.iter().filter(|one| one.is_alive());
    fault != Fault::DiskOutdated || alive.any(|one| one.disk.has_been_written_over())
}

fn on_instance(world: &mut World, fault: Fault, victim: usize, side: Side, random: &mut StdRng) {
    let ground = world.ground.clone();
    let one = &mut world.instances[victim];
    world.record.note("fault", &format!("meets {}", one.name));
    match fault {
        Fault::Crash => {
            one.crash(&ground);
            world.effects.touch(fault);
        }
        Fault::Gone => {
            one.crash(&ground);
            world.missing.push(Missing(one.name.clone()));
            rename(world, victim, random);
        }
        Fault::Unplugged | Fault::Replaced => {
            let Some(life) = one.life.take() else { return };
            // What it is an effect of is that it blocks, or that another runs under its name.
            life.gate.freeze(FaultSet::default());
            let wakes = fault == Fault::Replaced && random.random_bool(0.7);
            world.ghosts.push(Ghost::new(&one.name, life, fault, wakes));
            if fault == Fault::Replaced {
                one.start(&ground, random.random(), Some(fault), false);
            } else if random.random_bool(0.5) {
                rename(world, victim, random);
            }
        }
        Fault::ClockSkew => match random.random_bool(0.7) {
            true => one
                .clock
                .set(random.random_range(900..=1_100), Duration::ZERO),
            false => {
                let jump = Duration::from_millis(random.random_range(100..8_000));
                one.clock.set(1_000, jump);
            }
        },
        Fault::BrokerCut => one.ways[side.index()].stall(),
        Fault::BrokerAnswersCut => {
            let mut rules = one.ways[side.index()].rules();
            rules.sends = vec![(SendFate::AnswerLost, 1.0)];
            one.ways[side.index()].set_rules(rules);
        }
        Fault::DiskKept | Fault::DiskLost | Fault::DiskOutdated | Fault::DiskTorn => {
            one.crash(&ground);
            one.disk.suffer(fault, random);
            one.start(&ground, random.random(), None, true);
        }
        _ => {
            let Some(life) = &one.life else { return };
            match fault {
                Fault::Freeze => life.gate.freeze(fault.into()),
                Fault::CutOff => life.wire.change(|faults| {
                    faults.requests_cut.insert(fault);
                    faults.answers_cut.insert(fault);
                }),
                Fault::RequestsCut => life.wire.change(|faults| faults.requests_cut.insert(fault)),
                _ => life.wire.change(|faults| faults.answers_cut.insert(fault)),
            }
        }
    }
}

/// The place is taken by a new instance with another name, once the faults are healed.
fn rename(world: &mut World, victim: usize, random: &mut StdRng) {
    let (job, mode) = {
        let one = &world.instances[victim];
        (one.job, one.lease_mode)
    };
    let name = world.new_name(job);
    world.retire(victim);
    world.instances[victim] = Instance::new(&name, job, mode, &world.effects, random.random());
}

/// Takes everything back.
pub(crate) async fn heal(world: &mut World, random: &mut StdRng) {
    world.record.note("fault", "healed");
    for side in Side::BOTH {
        recover(&world.ground.faults[side.index()]);
        recover(&world.ways[side.index()]);
        world.fates[side.index()].clear();
    }
    world.ground.mood.handlers_fail.set(0);
    world.ground.mood.delayed.set(0);
    world.disk.heal();
    if world.control_plane.is_none() {
        world.start_control_plane().await;
    }
    for guest in std::mem::take(&mut world.guests) {
        world.dismiss(guest);
    }
    for ghost in std::mem::take(&mut world.ghosts) {
        if ghost.wakes {
            world.record.note("fault", "a frozen process wakes");
            ghost.life.gate.wake();
            let after = Duration::from_millis(random.random_range(0..4_000));
            world.let_leave(ghost.life, after);
        } else {
            world.ghosts.push(ghost);
        }
    }
    for one in &mut world.instances {
        one.ways.iter().for_each(recover);
        one.clock.set(1_000, Duration::ZERO);
        if let Some(life) = &one.life {
            life.wire.change(|faults| *faults = Default::default());
            life.gate.wake();
        }
    }
    start_the_ended(world, random);
}

/// Starts each instance that does not run, as whoever watches over processes does: it has crashed, or gave up its start.
pub(crate) fn start_the_ended(world: &mut World, random: &mut StdRng) {
    let ground = world.ground.clone();
    for one in &mut world.instances {
        if !one.is_alive() {
            one.start(&ground, random.random(), None, false);
        }
    }
}

fn recover(control: &FaultControl) {
    control.set_rules(FaultRules::default());
    control.resume();
}
