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

#[cfg(test)]
mod tests {
    use crossfade::stage::Stage;

    use super::*;
    use crate::{
        engine::World as _,
        fleet::{Bounds, FLEETS, Faults},
        plan::{MOST, scene_of},
    };

    fn walk(changes: u64) -> impl Iterator<Item = Scene> {
        Stage::ALL.into_iter().map(move |from| Scene {
            fleet: FLEETS[0],
            from,
            bounds: Bounds {
                changes,
                sends: 0,
                faults: 0,
                kinds: Faults::NONE,
            },
        })
    }

    #[test]
    fn topic_rests_at_the_start_in_every_stage() {
        for scene in walk(0) {
            let mut world = World::new(scene, None);
            let start = world.start();
            assert!(world.is_rest(&start), "{}", scene.from);
            assert!(world.brief(&start).settled, "{}", scene.from);
        }
    }

    #[test]
    fn walk_of_two_steps_breaks_nothing_and_comes_to_rest() {
        for scene in walk(2) {
            let found = run(scene, None, MOST).found;
            assert_eq!(found.broken, None, "{}", scene.from);
            assert!(found.complete && found.states > 100, "{}", scene.from);
        }
    }

    #[test]
    fn seal_that_is_reported_and_not_made_is_caught_in_words() {
        let lie = Mutation::SealOnlyCloses;
        let outcome = run(scene_of(lie), Some(lie), MOST);
        let (property, way) = outcome.found.broken.unwrap();
        assert!(property.starts_with("W:"), "{property}");
        assert_eq!(outcome.steps.len(), way.len());
        let last = outcome.steps.last().unwrap();
        assert!(last.contains("sealed and proved"), "{last}");
    }

    #[test]
    fn message_that_waits_behind_a_false_proof_is_caught() {
        let lie = Mutation::HandlersLeftOut;
        let (property, _) = run(scene_of(lie), Some(lie), MOST).found.broken.unwrap();
        assert!(property.starts_with("P1:"), "{property}");
    }
}
