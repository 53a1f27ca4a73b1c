//! Answers that are missing, and crashes of the control plane.

use crossfade::{Access, control::wire::LeaseMode};

use super::*;

#[test]
fn seal_without_an_answer_is_waited_out_before_anything_is_published_or_undone() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::Draining);
    world.run(40);
    world.answers_lost = true;
    world.advance(Stage::TargetOnly);
    world.run(4);
    assert_eq!(world.in_flight, [(Side::Source, Access::Sealed)]);
    world.answers_lost = false;
    // Back to where writes go to both: the seal must not land on a side that healthy producers write to.
    world.rollback(Stage::DualWrite);
    let published = world.published.len();
    let bound = Timing::default().change_bound;
    let over = world.now + bound;
    while world.now + Duration::from_millis(1_200) < over {
        world.round();
        assert_eq!(world.published.len(), published);
    }
    world.land();
    world.run(20);
    assert_eq!(world.view().stage, Stage::DualWrite);
    assert_eq!(world.access, [Access::Open; 2]);
}

#[test]
fn change_that_was_under_way_at_a_crash_is_waited_out_after_the_restart() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.answers_lost = true;
    world.advance(Stage::DualRead);
    while world.in_flight.is_empty() {
        world.round();
    }
    world.answers_lost = false;
    let in_flight = std::mem::take(&mut world.in_flight);
    world.restart();
    world.in_flight = in_flight;
    let over = world.now + Timing::default().change_bound;
    let published = world.published.len();
    while world.now + Duration::from_millis(700) < over {
        world.round();
        assert_eq!(world.published.len(), published);
        assert!(world.work.is_empty(), "{:?}", world.work);
    }
    world.land();
    world.run(40);
    assert_eq!(world.view().stage, Stage::DualRead);
}

#[test]
fn crash_of_the_control_plane_after_any_event_of_a_whole_walk_and_back_changes_nothing() {
    let walk = |crash_at| {
        let mut world = World::with_apps([LeaseMode::Continue; 2]);
        world.events = 0;
        world.crash_at = crash_at;
        for to in [Stage::TargetOnly, Stage::SourceOnly] {
            let command = match to {
                Stage::TargetOnly => Command::Advance {
                    topic: TOPIC.into(),
                    to: Some(to),
                    terms: Terms::waiting(),
                },
                _ => Command::Rollback {
                    topic: TOPIC.into(),
                    to: Some(to),
                    terms: Terms::waiting(),
                },
            };
            world.command(command).unwrap();
            let rounds = (0..200).take_while(|_| {
                world.round();
                !(world.view().stage == to && world.view().settled)
            });
            assert!(rounds.count() < 200, "{crash_at:?}: {:?}", world.view());
        }
        assert_eq!(world.published.len(), 9, "{crash_at:?}");
        world.events
    };
    for crash_at in 1..=walk(None) {
        walk(Some(crash_at));
    }
}
