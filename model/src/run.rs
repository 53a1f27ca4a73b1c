//! Explorations, with what they found and how long they took.

use std::time::{Duration, Instant};

use crate::{
    engine::{Found, Reach, explore},
    fleet::Scene,
    mutation::Mutation,
    state::Act,
    words,
    world::World,
};

/// What one exploration found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exploration.
    pub scene: Scene,
    /// What was found.
    pub found: Found<Act>,
    /// Different control planes among the states.
    pub planes: usize,
    /// The counter-example in words.
    pub steps: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Explores a scene, with one rule switched off or none.
#[must_use]
pub fn run(scene: Scene, lie: Option<Mutation>, reach: Reach) -> Outcome {
    let begun = Instant::now();
    let mut world = World::new(scene, lie);
    let found = explore(&mut world, reach);
    let way = found.broken.as_ref().map(|(_, way)| way.as_slice());
    let steps = words::tell(&mut world, way.unwrap_or_default());
    Outcome {
        scene,
        found,
        planes: world.planes(),
        steps,
        took: begun.elapsed(),
    }
}
