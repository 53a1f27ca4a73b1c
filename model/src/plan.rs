//! What a run of the checker explores: the coordinator as it is, and each mutation where it is caught soonest.

use crossfade::stage::Stage;

use crate::{
    engine::Reach,
    fleet::{Bounds, FLEETS, Faults, Fleet, Scene},
    mutation::{ALL, Mutation},
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
