//! Kinds of faults, and how each is brought about and taken back.

use std::time::Duration;

use crossfade::{
    Side,
    backend::fault::{FaultRules, SendFate},
};
use rand::{RngExt, rngs::StdRng};
use serde::Serialize;

use crate::{brokers::AccessFate, link::LinkFaults, store::Torn, world::World};

/// What can go wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An instance dies and is started again under its name.
    Crash,
    /// An instance stops in the middle, and wakes with what it had in hand.
    Freeze,
    /// An instance and the control plane do not reach each other.
    CutOff,
    /// Requests of an instance arrive, answers do not.
    AnswersCut,
    /// Answers of the control plane are lost, late, or requests arrive twice.
    BadLink,
    /// The control plane dies and is started again.
    ControlPlaneCrash,
    /// A write of the control plane is refused, or made without an answer.
    TornWrite,
    /// A cluster answers nothing for a while.
    Stall,
    /// Everything takes long at a cluster.
    SlowCluster,
    /// Sends are refused, lost, without answer, stored twice, stored late.
    BadSends,
    /// A change of access is made without an answer, not made, or made late.
    AccessInFlight,
    /// Handlers fail.
    HandlersFail,
    /// Messages are delayed.
    DelayedMessages,
    /// Somebody writes who does not use the library.
    UnmanagedWriter,
    /// The clock of an instance goes wrong by up to two percent from its next start on.
    ClockSkew,
    /// An operator changes the goal at a bad moment.
    ChangeOfMind,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 16] = [
        Fault::Crash,
        Fault::Freeze,
        Fault::CutOff,
        Fault::AnswersCut,
        Fault::BadLink,
        Fault::ControlPlaneCrash,
        Fault::TornWrite,
        Fault::Stall,
        Fault::SlowCluster,
        Fault::BadSends,
        Fault::AccessInFlight,
        Fault::HandlersFail,
        Fault::DelayedMessages,
        Fault::UnmanagedWriter,
        Fault::ClockSkew,
        Fault::ChangeOfMind,
    ];
}

/// Begins a fault; the answer is when it may be taken back.
pub(crate) async fn begin(world: &mut World, fault: Fault, random: &mut StdRng) -> Duration {
    world.record.note("fault", &format!("{fault:?}"));
    *world.faults.entry(fault).or_default() += 1;
    let victim = random.random_range(0..world.instances.len());
    let side = Side::BOTH[random.random_range(0..2)];
    let span = Duration::from_millis(random.random_range(200..6_000));
    match fault {
        Fault::Crash => {
            let ground = world.ground.clone();
            world.instances[victim].crash(&ground);
        }
        Fault::Freeze => world.instances[victim].gate.set_frozen(true),
        Fault::CutOff => world.set_link(
            victim,
            LinkFaults {
                requests_cut: true,
                answers_cut: true,
                ..LinkFaults::default()
            },
        ),
        Fault::AnswersCut => world.set_link(
            victim,
            LinkFaults {
                answers_cut: true,
                ..LinkFaults::default()
            },
        ),
        Fault::BadLink => {
            for index in 0..world.instances.len() {
                let faults = LinkFaults {
                    lost: 0.2,
                    doubled: 0.2,
                    delay_ms: 400,
                    ..LinkFaults::default()
                };
                world.set_link(index, faults);
            }
        }
        Fault::ControlPlaneCrash => world.stop_control_plane(),
        Fault::TornWrite => world.disk.tear(match random.random_bool(0.5) {
            true => Torn::Refused,
            false => Torn::AnswerLost,
        }),
        Fault::Stall => world.ground.faults[side.index()].stall(),
        Fault::SlowCluster => {
            let mut rules = FaultRules::default();
            rules.delay = Duration::ZERO..=Duration::from_millis(300);
            world.ground.faults[side.index()].set_rules(rules);
        }
        Fault::BadSends => {
            let mut rules = FaultRules::default();
            rules.sends = [
                SendFate::Refused,
                SendFate::AnswerLost,
                SendFate::RequestLost,
                SendFate::Late,
                SendFate::Duplicated,
            ]
            .map(|fate| (fate, 0.08))
            .to_vec();
            rules.late_by = Duration::from_millis(500);
            world.ground.faults[side.index()].set_rules(rules);
        }
        Fault::AccessInFlight => world.fates[side.index()].push(match random.random_range(0..3) {
            0 => AccessFate::AnswerLost,
            1 => AccessFate::RequestLost,
            _ => AccessFate::Late(Duration::from_millis(random.random_range(0..1_500))),
        }),
        Fault::HandlersFail => world.ground.mood.handlers_fail.set(20),
        Fault::DelayedMessages => world.ground.mood.delayed.set(30),
        Fault::UnmanagedWriter => {
            for _ in 0..random.random_range(1..5) {
                world.write_unmanaged(side);
            }
        }
        Fault::ClockSkew => {
            world.instances[victim].clock = random.random_range(980..=1_020);
        }
        Fault::ChangeOfMind => world.order(random).await,
    }
    span
}

/// Takes everything back.
pub(crate) async fn heal(world: &mut World, random: &mut StdRng) {
    world.record.note("fault", "healed");
    for side in Side::BOTH {
        world.ground.faults[side.index()].set_rules(FaultRules::default());
        world.ground.faults[side.index()].resume();
        world.fates[side.index()].clear();
    }
    world.ground.mood.handlers_fail.set(0);
    world.ground.mood.delayed.set(0);
    world.disk.heal();
    if world.control_plane.is_none() {
        world.start_control_plane().await;
    }
    for index in 0..world.instances.len() {
        world.set_link(index, LinkFaults::default());
        world.instances[index].gate.set_frozen(false);
        if !world.instances[index].is_alive() {
            let ground = world.ground.clone();
            let seed = random.random();
            world.instances[index].start(&ground, seed);
        }
    }
}
