//! Explorations, with what they found and how long they took.

use std::time::{Duration, Instant};

use crossfade::stage::Stage;

use crate::{
    engine::{Found, Reach, explore},
    fleet::Scene,
    mutation::Mutation,
    order, words,
    world::World,
};

/// What one exploration found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who takes part, or for an ordered topic what is asked for.
    pub fleet: &'static str,
    /// The stage in which the topic rests at the start.
    pub from: Stage,
    /// What was found; the steps of a counter-example are below.
    pub found: Found<()>,
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
        fleet: scene.fleet.name,
        from: scene.from,
        found: without_steps(found),
        planes: world.planes(),
        steps,
        took: begun.elapsed(),
    }
}

/// Explores an ordered topic in `DualWrite`, with one rule switched off or none.
#[must_use]
pub fn run_ordered(scene: order::Scene, lie: Option<order::Mutation>, reach: Reach) -> Outcome {
    let begun = Instant::now();
    let mut world = order::World::new(scene, lie);
    let found = explore(&mut world, reach);
    let way = found.broken.iter().flat_map(|(_, way)| way);
    Outcome {
        fleet: scene.name,
        from: Stage::DualWrite,
        steps: way.map(ToString::to_string).collect(),
        found: without_steps(found),
        planes: world.planes(),
        took: begun.elapsed(),
    }
}

fn without_steps<A>(found: Found<A>) -> Found<()> {
    Found {
        states: found.states,
        depth: found.depth,
        complete: found.complete,
        broken: found
            .broken
            .map(|(property, way)| (property, way.iter().map(|_| ()).collect())),
    }
}

#[cfg(test)]
mod tests {
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
    fn ordered_topic_whose_keys_move_there_and_back_breaks_nothing_and_comes_to_rest() {
        let scene = order::Scene {
            keys: &[0],
            ..order::scene_of(order::Mutation::MovesForgotten)
        };
        let found = run_ordered(scene, None, MOST).found;
        assert_eq!(found.broken, None);
        assert!(found.complete && found.states > 1_000, "{found:?}");
    }

    #[test]
    fn ordered_message_that_is_handed_out_before_the_barrier_is_caught_in_words() {
        let lie = order::Mutation::ReleaseNotKept;
        let outcome = run_ordered(order::scene_of(lie), Some(lie), MOST);
        let (property, _) = outcome.found.broken.unwrap();
        assert!(property.starts_with("P3:"), "{property}");
        let last = outcome.steps.last().unwrap();
        assert!(last.contains("enters its handler with m1"), "{last}");
    }

    #[test]
    fn message_that_waits_behind_a_false_proof_is_caught() {
        let lie = Mutation::HandlersLeftOut;
        let (property, _) = run(scene_of(lie), Some(lie), MOST).found.broken.unwrap();
        assert!(property.starts_with("P1:"), "{property}");
    }
}
