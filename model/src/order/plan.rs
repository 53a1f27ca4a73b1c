//! What is explored of ordered topics, and where each mutation is caught soonest.

use super::{PRODUCERS, mutation::Mutation};

/// What may go wrong; each time costs one of the faults of a scene.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A process dies, and starts again from the plan on disk.
    pub crash: bool,
    /// It stands still, and goes on at any time or never.
    pub freeze: bool,
    /// It loses the control plane for ever.
    pub cut: bool,
    /// The control plane dies.
    pub plane: bool,
    /// A send, or its answer, is lost.
    pub answer: bool,
    /// A freeze lasts too long.
    pub slow: bool,
}

impl Faults {
    const NONE: Faults = Faults {
        crash: false,
        freeze: false,
        cut: false,
        plane: false,
        answer: false,
        slow: false,
    };
}

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// For people.
    pub name: &'static str,
    /// The weights that operators ask for, one after the other, at any time.
    pub weights: &'static [u16],
    /// Of each message, in the order of the calls: which of the two keys it has.
    pub keys: &'static [u8],
    /// Faults.
    pub faults: u8,
    /// Which ones.
    pub kinds: Faults,
}

impl Scene {
    /// Whether a process stops without its lease.
    pub(super) fn stops(&self, slot: usize) -> bool {
        slot + 1 == PRODUCERS
    }
}

const ANY: Faults = Faults {
    crash: true,
    freeze: true,
    cut: true,
    plane: true,
    answer: true,
    slow: true,
};

/// Weights that operators ask for, one after the other.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    weights: &'static [u16],
}

const THERE: Way = Way {
    name: "0 to 50 %",
    weights: &[5_000],
};
const THERE_AND_BACK: Way = Way {
    name: "0 to 50 % to 0",
    weights: &[5_000, 0],
};
const IN_TWO_STEPS: Way = Way {
    name: "0 to 50 to 100 %",
    weights: &[5_000, 10_000],
};
const THERE_BACK_THERE: Way = Way {
    name: "0 to 50 % to 0 to 50 %",
    weights: &[5_000, 0, 5_000],
};

/// A family of explorations with the same messages and faults: several ways each.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// For people.
    pub name: &'static str,
    ways: &'static [Way],
    keys: &'static [u8],
    faults: u8,
}

impl Family {
    /// Its explorations.
    pub fn scenes(self) -> impl Iterator<Item = Scene> {
        self.ways.iter().map(move |way| Scene {
            name: way.name,
            weights: way.weights,
            keys: self.keys,
            faults: self.faults,
            kinds: ANY,
        })
    }
}

/// What is explored of the coordinator as it is.
pub const FAMILIES: [Family; 4] = [
    Family {
        name: "ordered: keys a a, 1 fault",
        ways: &[THERE_AND_BACK, THERE],
        keys: &[0, 0],
        faults: 1,
    },
    Family {
        name: "ordered: keys a b a, 1 fault",
        ways: &[THERE],
        keys: &[0, 1, 0],
        faults: 1,
    },
    Family {
        name: "ordered: keys a a a, no fault",
        ways: &[THERE_BACK_THERE, IN_TWO_STEPS],
        keys: &[0, 0, 0],
        faults: 0,
    },
    Family {
        name: "ordered: keys a b a, no fault",
        ways: &[THERE_BACK_THERE, IN_TWO_STEPS],
        keys: &[0, 1, 0],
        faults: 0,
    },
];

/// What takes minutes more.
pub const WIDE: [Family; 4] = [
    Family {
        name: "ordered: keys a a, 1 fault",
        ways: &[THERE_BACK_THERE, IN_TWO_STEPS],
        keys: &[0, 0],
        faults: 1,
    },
    Family {
        name: "ordered: keys b b, 1 fault",
        ways: &[IN_TWO_STEPS],
        keys: &[1, 1],
        faults: 1,
    },
    Family {
        name: "ordered: keys a a a, 1 fault",
        ways: &[THERE],
        keys: &[0, 0, 0],
        faults: 1,
    },
    Family {
        name: "ordered: keys a a, 2 faults",
        ways: &[THERE],
        keys: &[0, 0],
        faults: 2,
    },
];

/// Where a mutation is caught soonest.
#[must_use]
pub fn scene_of(mutation: Mutation) -> Scene {
    use Mutation as M;
    let scene = |way: Way, faults, kinds| Scene {
        name: way.name,
        weights: way.weights,
        keys: &[0, 0],
        faults,
        kinds,
    };
    let there = |kinds| scene(THERE, 1, kinds);
    let none = Faults::NONE;
    match mutation {
        M::FreezeNotKept
        | M::EndsReadEarly
        | M::AcksNotAwaited
        | M::ProducerAcksWithOldSend
        | M::ReleaseNotKept
        | M::OlderPlanHandles => scene(THERE, 0, none),
        M::MovesForgotten => scene(THERE_AND_BACK, 0, none),
        M::FreezeNotCalledOff => there(Faults { cut: true, ..none }),
        M::ListsBelieved | M::LateAnswerIsSuccess => there(Faults {
            freeze: true,
            ..none
        }),
        M::BlindProducerSends => there(Faults {
            crash: true,
            ..none
        }),
        M::AmbiguousSendRetriedElsewhere => there(Faults {
            answer: true,
            ..none
        }),
    }
}
