//! Which stages, which faults, and when: all of it drawn from a seed, before anything runs.

use std::{fmt, time::Duration};

use crossfade::{Side, stage::Stage};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;

/// Where the topic goes, word by word: all stages forward one at a time with a step back on the way; then, from the end, all the way back in one
/// walk and forward again in one.
pub const JOURNEY: [Stage; 9] = [
    Stage::SourceOnly,
    Stage::DualRead,
    Stage::DualWrite,
    Stage::DualRead,
    Stage::DualWrite,
    Stage::Draining,
    Stage::TargetOnly,
    Stage::SourceOnly,
    Stage::TargetOnly,
];

/// Shares of the target in the legs that rest in `DualWrite`, in basis points.
const WEIGHTS: [u32; 2] = [3_000, 7_000];

/// How many instances there are, and how often each kind of fault happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Volume {
    /// Producing instances, at least 1.
    pub producers: usize,
    /// Consuming instances, at least 1.
    pub consumers: usize,
    /// SIGKILLs of instances.
    pub kills: usize,
    /// SIGSTOPs of instances.
    pub stops: usize,
    /// How long a stopped instance stays so.
    pub stop_length: Duration,
    /// SIGKILLs of each of the two brokers.
    pub broker_kills: usize,
    /// SIGKILLs of the control plane.
    pub control_kills: usize,
    /// SIGSTOPs of the control plane.
    pub control_stops: usize,
    /// How long a stopped control plane stays so: longer than every lease that it has given.
    pub control_stop_length: Duration,
}

/// What an instance is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// It sends.
    Producer,
    /// It handles.
    Consumer,
}

/// One instance: its job and its number among those with this job, from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Who {
    /// What it is for.
    pub job: Job,
    /// From 0.
    pub index: usize,
}

/// Something that happens to a process. Each one ends by itself: what was killed is started again, what was stopped goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL, and a new process under the same name.
    Kill {
        /// The victim.
        who: Who,
        /// Until the new process starts.
        down: Duration,
    },
    /// SIGSTOP, later SIGCONT.
    Freeze {
        /// The victim.
        who: Who,
        /// In between.
        length: Duration,
    },
    /// SIGKILL of the control plane, and a new one on the same store and address.
    KillControl {
        /// Until the new process starts.
        down: Duration,
    },
    /// SIGSTOP of the control plane, later SIGCONT: it wakes with what it knew before, and all leases are over.
    FreezeControl {
        /// In between.
        length: Duration,
    },
    /// SIGKILL of a broker, and a new one on the same files.
    KillBroker {
        /// Whose.
        side: Side,
        /// Until the new process starts.
        down: Duration,
    },
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// So long after the operator's word: while the topic is on its way.
    AfterWord(Duration),
    /// When so many thousandths of the leg's messages were sent at the settled stage.
    AtShare(u16),
}

/// A fault and its moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Incident {
    /// When.
    pub moment: Moment,
    /// What.
    pub fault: Fault,
}

/// One word of the operator, and what happens until the next one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Leg {
    /// Where the topic is to go.
    pub to: Stage,
    /// The target's share of writes, set before the word is given.
    pub weight_basis_points: Option<u32>,
    /// In the order of their moments.
    pub incidents: Vec<Incident>,
}

/// The whole run. The same seed and volume give the same schedule. Every kind of fault visits all legs before it visits one again.
#[must_use]
pub fn schedule(seed: u64, volume: &Volume) -> Vec<Leg> {
    let mut draw = Draw {
        random: StdRng::seed_from_u64(seed),
    };
    let mut weights = WEIGHTS.iter();
    let mut legs: Vec<Leg> = JOURNEY
        .iter()
        .map(|stage| Leg {
            to: *stage,
            weight_basis_points: (*stage == Stage::DualWrite)
                .then(|| weights.next().copied())
                .flatten(),
            incidents: Vec::new(),
        })
        .collect();
    let mut add =
        |draw: &mut Draw, count: usize, fault: &mut dyn FnMut(&mut Draw, usize) -> Fault| {
            for (number, leg) in draw.legs(count).into_iter().enumerate() {
                let moment = draw.moment(leg);
                let fault = fault(draw, number);
                legs[leg].incidents.push(Incident { moment, fault });
            }
        };
    add(&mut draw, volume.kills, &mut |draw, number| Fault::Kill {
        who: draw.who(volume, number),
        down: draw.millis(0, 4_000),
    });
    add(&mut draw, volume.stops, &mut |draw, number| Fault::Freeze {
        who: draw.who(volume, number),
        length: volume.stop_length + draw.millis(0, 3_000),
    });
    add(&mut draw, volume.control_kills, &mut |draw, _| {
        Fault::KillControl {
            down: draw.millis(0, 8_000),
        }
    });
    for side in Side::BOTH {
        add(&mut draw, volume.broker_kills, &mut |draw, _| {
            Fault::KillBroker {
                side,
                down: draw.millis(0, 3_000),
            }
        });
    }
    add(&mut draw, volume.control_stops, &mut |draw, _| {
        Fault::FreezeControl {
            length: volume.control_stop_length + draw.millis(0, 3_000),
        }
    });
    for leg in &mut legs {
        leg.incidents.sort_by_key(|incident| match incident.moment {
            Moment::AfterWord(after) => (0, after.as_millis()),
            Moment::AtShare(share) => (1, share.into()),
        });
    }
    legs
}

struct Draw {
    random: StdRng,
}

impl Draw {
    /// `count` legs: each once in an order of its own before any comes again.
    fn legs(&mut self, count: usize) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let mut round: Vec<usize> = (0..JOURNEY.len()).collect();
            round.shuffle(&mut self.random);
            drawn.extend(round.into_iter().take(count - drawn.len()));
        }
        drawn
    }

    /// The first leg begins at its stage: nothing is on its way there.
    fn moment(&mut self, leg: usize) -> Moment {
        if leg > 0 && self.random.random_bool(0.5) {
            Moment::AfterWord(self.millis(0, 4_000))
        } else {
            Moment::AtShare(self.random.random_range(0..800))
        }
    }

    /// Producers and consumers in turn.
    fn who(&mut self, volume: &Volume, number: usize) -> Who {
        let (job, among) = if number.is_multiple_of(2) {
            (Job::Consumer, volume.consumers)
        } else {
            (Job::Producer, volume.producers)
        };
        let index = self.random.random_range(0..among.max(1));
        Who { job, index }
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..=to))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = match self.job {
            Job::Producer => "producer",
            Job::Consumer => "consumer",
        };
        write!(f, "{job}-{}", self.index + 1)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill { who, .. } => write!(f, "SIGKILL of {who}"),
            Fault::Freeze { who, length } => {
                write!(f, "SIGSTOP of {who} for {:.1} s", length.as_secs_f64())
            }
            Fault::KillControl { .. } => f.write_str("SIGKILL of the control plane"),
            Fault::FreezeControl { length } => {
                let seconds = length.as_secs_f64();
                write!(f, "SIGSTOP of the control plane for {seconds:.1} s")
            }
            Fault::KillBroker { side, .. } => write!(f, "SIGKILL of the {side} broker"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: Volume = Volume {
        producers: 3,
        consumers: 2,
        kills: 20,
        stops: 5,
        stop_length: Duration::from_secs(30),
        broker_kills: 1,
        control_kills: 3,
        control_stops: 2,
        control_stop_length: Duration::from_secs(9),
    };

    fn faults(legs: &[Leg]) -> Vec<Fault> {
        let incidents = legs.iter().flat_map(|leg| &leg.incidents);
        incidents.map(|incident| incident.fault).collect()
    }

    #[test]
    fn same_seed_gives_the_same_schedule_and_another_seed_another_one() {
        assert_eq!(schedule(7, &VOLUME), schedule(7, &VOLUME));
        assert_ne!(schedule(7, &VOLUME), schedule(8, &VOLUME));
    }

    #[test]
    fn every_fault_that_was_asked_for_is_there_for_instances_that_exist() {
        for seed in 0..50 {
            let all = faults(&schedule(seed, &VOLUME));
            let count =
                |wanted: fn(&Fault) -> bool| all.iter().filter(|fault| wanted(fault)).count();
            assert_eq!(count(|fault| matches!(fault, Fault::Kill { .. })), 20);
            assert_eq!(
                count(
                    |fault| matches!(fault, Fault::Freeze { length, .. } if length.as_secs() >= 30)
                ),
                5
            );
            assert_eq!(count(|fault| matches!(fault, Fault::KillControl { .. })), 3);
            let frozen = count(
                |fault| matches!(fault, Fault::FreezeControl { length } if length.as_secs() >= 9),
            );
            assert_eq!(frozen, 2);
            for wanted in Side::BOTH {
                let killed = all.iter().filter(
                    |fault| matches!(fault, Fault::KillBroker { side, .. } if *side == wanted),
                );
                assert_eq!(killed.count(), 1);
            }
            for fault in &all {
                if let Fault::Kill { who, .. } | Fault::Freeze { who, .. } = fault {
                    let among = if who.job == Job::Producer { 3 } else { 2 };
                    assert!(who.index < among);
                }
            }
        }
    }

    #[test]
    fn every_leg_has_a_kill_when_there_are_enough_of_them() {
        for seed in 0..50 {
            for leg in schedule(seed, &VOLUME) {
                let kills = leg
                    .incidents
                    .iter()
                    .filter(|incident| matches!(incident.fault, Fault::Kill { .. }));
                assert!(kills.count() >= 2, "{}", leg.to);
            }
        }
    }

    #[test]
    fn moments_are_in_order_and_the_first_leg_has_nothing_on_its_way() {
        for seed in 0..50 {
            let legs = schedule(seed, &VOLUME);
            assert!(
                legs[0]
                    .incidents
                    .iter()
                    .all(|incident| matches!(incident.moment, Moment::AtShare(_)))
            );
            for leg in &legs {
                let resting = leg
                    .incidents
                    .iter()
                    .map(|incident| matches!(incident.moment, Moment::AtShare(_)));
                assert!(resting.is_sorted());
            }
        }
    }

    #[test]
    fn journey_visits_every_stage_and_goes_back_twice() {
        let back = JOURNEY.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert_eq!(back, 2);
        for stage in [
            Stage::SourceOnly,
            Stage::DualRead,
            Stage::DualWrite,
            Stage::Draining,
            Stage::TargetOnly,
        ] {
            assert!(JOURNEY.contains(&stage));
        }
        assert!(
            schedule(1, &VOLUME)
                .iter()
                .all(|leg| leg.weight_basis_points.is_some() == (leg.to == Stage::DualWrite))
        );
    }
}
