//! What is explored of ordered topics, and where each mutation is caught soonest.

use super::{PRODUCERS, mutation::Mutation};

/// What may go wrong; each time costs one of the faults of a scene.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A process dies, and starts again from the plan on disk.
    pub crash: bool,
    /// A producer stands still, and goes on at any time or never.
    pub freeze: bool,
    /// A producer loses the control plane for ever.
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
const CRASH: Faults = Faults {
    crash: true,
    ..Faults::NONE
};
const FREEZE: Faults = Faults {
    freeze: true,
    ..Faults::NONE
};
const CUT: Faults = Faults {
    cut: true,
    ..Faults::NONE
};
const ANSWER: Faults = Faults {
    answer: true,
    ..Faults::NONE
};

const THERE: Scene = Scene {
    name: "0 to 50 %",
    weights: &[5_000],
    keys: &[0, 0],
    faults: 1,
    kinds: ANY,
};
const THERE_AND_BACK: Scene = Scene {
    name: "0 to 50 % to 0",
    weights: &[5_000, 0],
    keys: &[0, 0],
    faults: 0,
    kinds: Faults::NONE,
};
const IN_TWO_STEPS: Scene = Scene {
    name: "0 to 50 to 100 %",
    weights: &[5_000, 10_000],
    keys: &[0, 0],
    faults: 0,
    kinds: Faults::NONE,
};
const THERE_BACK_THERE: Scene = Scene {
    name: "0 to 50 % to 0 to 50 %",
    weights: &[5_000, 0, 5_000],
    keys: &[0, 0],
    faults: 0,
    kinds: Faults::NONE,
};

/// What is explored of the coordinator as it is.
pub const SCENES: [Scene; 4] = [THERE, THERE_AND_BACK, IN_TWO_STEPS, THERE_BACK_THERE];

/// Where a mutation is caught soonest.
#[must_use]
pub fn scene_of(mutation: Mutation) -> Scene {
    use Mutation as M;
    let quiet = Scene {
        faults: 0,
        kinds: Faults::NONE,
        ..THERE
    };
    let with = |kinds| Scene { kinds, ..THERE };
    match mutation {
        M::FreezeNotKept
        | M::EndsReadEarly
        | M::AcksNotAwaited
        | M::ProducerAcksWithOldSend
        | M::ReleaseNotKept
        | M::OlderPlanHandles => quiet,
        M::MovesForgotten => THERE_AND_BACK,
        M::FreezeNotCalledOff => with(CUT),
        M::ListsBelieved | M::LateAnswerIsSuccess => with(FREEZE),
        M::BlindProducerSends => with(CRASH),
        M::AmbiguousSendRetriedElsewhere => with(ANSWER),
    }
}
