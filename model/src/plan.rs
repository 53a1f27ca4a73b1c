//! What a run of the checker explores: the coordinator as it is, and each mutation where it is caught soonest.

use crossfade::stage::Stage;

use crate::{
    engine::Reach,
    fleet::{Bounds, FLEETS, Faults, Scene},
    mutation::Mutation,
};

/// Nothing is larger than this within the bounds of a run; beyond it an exploration is given up and does not count as complete.
pub const MOST: Reach = Reach {
    states: 30_000_000,
    live: true,
};

/// A family of explorations with the same bounds: each fleet from each stage.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// For people.
    pub name: &'static str,
    /// The fleets, by their place in [`FLEETS`].
    pub fleets: &'static [usize],
    /// How much may happen.
    pub bounds: Bounds,
}

impl Family {
    /// Its explorations.
    pub fn scenes(self) -> impl Iterator<Item = Scene> {
        let fleets = self.fleets.iter().map(|place| FLEETS[*place]);
        fleets.flat_map(move |fleet| {
            Stage::ALL.into_iter().map(move |from| Scene {
                fleet,
                from,
                bounds: self.bounds,
            })
        })
    }
}

const fn within(changes: u64, faults: u8, kinds: Faults) -> Bounds {
    Bounds {
        changes,
        sends: 1,
        faults,
        kinds,
    }
}

/// What is explored of the coordinator as it is.
pub const FAMILIES: [Family; 3] = [
    Family {
        name: "1 change, 1 send, 1 fault",
        fleets: &[3, 1, 0, 5, 7, 8],
        bounds: within(1, 1, Faults::MOST),
    },
    Family {
        name: "2 changes, 1 send, no fault",
        fleets: &[6, 2, 4, 7, 8],
        bounds: within(2, 0, Faults::NONE),
    },
    Family {
        name: "1 change, 1 send, 1 fault or half",
        fleets: &[0],
        bounds: within(1, 1, Faults::HALF),
    },
];

/// A transaction whose producer stands still.
const FROZEN_HALF: Faults = Faults {
    freeze: true,
    half: true,
    ..Faults::NONE
};
/// A process that never reaches the control plane again.
const CUT: Faults = Faults {
    cut: true,
    ..Faults::NONE
};
/// One that starts from an old plan, and never reaches it either.
const FROM_DISK: Faults = Faults {
    crash: true,
    disk: true,
    ..Faults::NONE
};

/// Where a mutation is caught soonest.
#[must_use]
pub fn scene_of(mutation: Mutation) -> Scene {
    use Mutation as M;
    use Stage::{Draining, DualRead, DualWrite, SourceOnly, TargetOnly};
    let most = |changes, faults| within(changes, faults, Faults::MOST);
    let (fleet, from, bounds) = match mutation {
        M::AcksNotAwaited | M::ProducerAcksWithOldSend | M::ConsumerAcksUnsubscribed => {
            (0, SourceOnly, most(2, 0))
        }
        M::SealOnlyCloses => (0, Draining, most(1, 0)),
        M::UnsealOnlyReported => (0, SourceOnly, most(2, 0)),
        M::DispatchNotAwaited | M::HandlersLeftOut | M::NoReverseDrain => (8, DualRead, most(1, 0)),
        M::OneLookUnderTheSeal | M::DispatchAwaitedOnce | M::RetryLeftOut | M::DelayedLeftOut => {
            (8, DualRead, most(1, 1))
        }
        M::HalfLeftOut | M::NoWatchOverTheSeal => (9, DualWrite, within(2, 2, FROZEN_HALF)),
        M::SilenceTakenForEmpty => (8, DualRead, most(1, 2)),
        M::LostInstanceUnlisted => (0, DualRead, most(1, 1)),
        M::StopLeaseNotKept => (5, DualRead, most(1, 1)),
        M::FirstOffsetLatest => (8, SourceOnly, most(1, 0)),
        M::AmbiguousSendRetriedElsewhere => (0, DualWrite, most(1, 1)),
        M::RefusedSendWaitsForAPlan => (9, DualWrite, within(2, 1, CUT)),
        M::BlindConsumerReadsItsPlan => (1, TargetOnly, within(2, 2, FROM_DISK)),
        M::SealedSideNotSubscribable => (2, Draining, most(1, 0)),
        M::TwoStagesAwayRefused => (0, SourceOnly, most(2, 1)),
        M::MembershipNotStored => (0, SourceOnly, most(2, 1)),
        M::ChangeUnderWayTakenForDone | M::ChangeUnderWayNotStored | M::MemoryKeptOverRestart => {
            (0, Draining, most(2, 1))
        }
        M::SealedAgainUnproved => (7, TargetOnly, most(1, 0)),
    };
    Scene {
        fleet: FLEETS[fleet],
        from,
        bounds,
    }
}
