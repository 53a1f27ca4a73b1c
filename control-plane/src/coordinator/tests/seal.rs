//! What lands behind a seal, and what is owed under it.

use crossfade::{Access, control::wire::LeaseMode};

use super::*;

#[test]
fn message_that_slips_in_behind_the_seal_is_drained_before_the_end_stage() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::TargetOnly);
    for _ in 0..100 {
        world.round();
        if world.access[0] == Access::Sealed {
            break;
        }
    }
    assert_eq!(world.view().stage, Stage::Draining);
    world.store_message(Side::Source);
    world.run(4);
    assert_eq!(
        (world.view().stage, world.access[0]),
        (Stage::Draining, Access::Closed)
    );
    world.owed[0] = 0;
    world.run(10);
    assert_eq!(world.view().stage, Stage::TargetOnly);
}

#[test]
fn message_behind_a_seal_is_readable_again_although_an_instance_is_lost() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::TargetOnly);
    while world.access[0] != Access::Sealed {
        world.round();
    }
    assert_eq!(world.view().stage, Stage::Draining);
    world.apps[0].alive = false;
    // It is lost by the time that the next look is over.
    world.now += Timing::default().lease + Timing::default().margin;
    world.store_message(Side::Source);
    world.run(6);
    assert!(world.failed().contains(&"instances_lost".to_owned()));
    assert_eq!(world.access[0], Access::Closed);
    // And stays so: to seal it takes everybody.
    world.owed[0] = 0;
    world.run(120);
    let stage = world.view().stage;
    assert_eq!((stage, world.access[0]), (Stage::Draining, Access::Closed));
}

#[test]
fn retries_and_dead_letters_of_a_groups_other_topics_hold_nothing_up() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.busy = true;
    world.advance(Stage::TargetOnly);
    world.run(80);
    let view = world.view();
    assert_eq!((view.stage, view.settled), (Stage::TargetOnly, true));
}

#[test]
fn new_group_on_a_settled_sealed_side_is_named_and_does_not_reopen_it() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.end[0] = 1_000;
    world.advance(Stage::TargetOnly);
    world.run(80);
    assert!(world.view().settled);
    world.stranger = true;
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        world.run(80);
        let view = world.view();
        assert_eq!(
            (view.stage, view.settled),
            (Stage::TargetOnly, true),
            "{restarted}"
        );
        let trouble = view.trouble.unwrap_or_default();
        assert!(trouble.contains("console (1000 messages)"), "{trouble}");
        assert_eq!(world.audited("reopen"), 0);
    }
    // What lands there now is owed to the group of the proof, and read for it.
    world.store_message(Side::Source);
    while world.view().stage == Stage::TargetOnly {
        world.round();
    }
    assert_eq!(world.audited("reopen"), 1);
}

#[test]
fn group_that_came_to_the_sealed_target_later_is_owed_what_landed_since() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let row = &world.stored[&(Kind::Topic, TOPIC.to_owned())].value;
    let mut row: TopicRecord = serde_json::from_value(row.clone()).unwrap();
    // It was proved before the group was made there.
    row.proved.as_mut().unwrap().groups.clear();
    let row = put(Kind::Topic, TOPIC, &row);
    world.stored.insert((Kind::Topic, TOPIC.to_owned()), row);
    world.restart();
    world.run(80);
    assert!(world.view().settled);
    world.store_message(Side::Target);
    while world.view().stage == Stage::SourceOnly {
        world.round();
    }
    assert_eq!(world.audited("reopen"), 1);
}

#[test]
fn message_that_slips_in_while_a_step_back_is_cancelled_reopens_the_drain_by_itself() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::TargetOnly);
    world.run(60);
    assert!(world.view().settled);
    world.rollback(Stage::Draining);
    while world.access[0] == Access::Sealed {
        world.round();
    }
    assert_eq!(world.view().stage, Stage::TargetOnly);
    world.store_message(Side::Source);
    world
        .command(Command::Cancel {
            topic: TOPIC.into(),
        })
        .unwrap();
    world.run(3);
    assert!(!world.view().settled);
    while world.view().stage == Stage::TargetOnly {
        world.round();
    }
    assert_eq!(world.audited("reopen"), 1);
    world.owed[0] = 0;
    world.run(40);
    let view = world.view();
    assert_eq!((view.stage, view.settled), (Stage::TargetOnly, true));
}

#[test]
fn late_commit_under_a_settled_seal_reopens_the_drain_by_itself() {
    for (to, side) in [
        (Stage::TargetOnly, Side::Source),
        (Stage::SourceOnly, Side::Target),
    ] {
        let mut world = World::with_apps([LeaseMode::Continue; 2]);
        world.advance(Stage::TargetOnly);
        world.run(60);
        if to == Stage::SourceOnly {
            world.rollback(to);
            world.run(60);
        }
        assert!(world.view().settled);
        // A transaction's end passes the seal.
        world.store_message(side);
        world.now += Duration::from_secs(20);
        let mut seen = false;
        for _ in 0..60 {
            world.round();
            if world.view().stage != to {
                seen = true;
                world.owed[side.index()] = 0;
            }
        }
        let view = world.view();
        assert_eq!((seen, view.stage, view.settled), (true, to, true));
        assert_eq!(world.audited("reopen"), 1);
    }
}

#[test]
fn what_the_target_had_before_the_topic_was_added_is_named_and_does_not_move_it() {
    let mut world = World::new();
    world.store_message(Side::Target);
    world.start("producer", "1", true, LeaseMode::Continue);
    world.start("consumer", "1", false, LeaseMode::Continue);
    world.run(60);
    let view = world.view();
    assert_eq!((view.stage, view.settled), (Stage::SourceOnly, false));
    assert!(
        view.trouble
            .is_some_and(|trouble| trouble.contains("advance"))
    );
    assert_eq!(world.audited("reopen"), 0);
}

#[test]
fn message_that_slips_in_while_the_first_step_is_cancelled_reopens_the_drain_by_itself() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::DualRead);
    while world.access[1] == Access::Sealed {
        world.round();
    }
    assert_eq!(world.view().stage, Stage::SourceOnly);
    world.store_message(Side::Target);
    world
        .command(Command::Cancel {
            topic: TOPIC.into(),
        })
        .unwrap();
    while world.view().stage == Stage::SourceOnly {
        world.round();
    }
    assert_eq!(world.audited("reopen"), 1);
    world.owed[1] = 0;
    world.run(40);
    let view = world.view();
    assert_eq!((view.stage, view.settled), (Stage::SourceOnly, true));
}

/// Found by the model checker: the source alone is read, the message lies on the target, and the step that would have it read waits for a reader.
#[test]
fn message_on_the_unsealed_target_waits_by_name_until_its_group_has_a_consumer_again() {
    let mut world = World::with_apps([LeaseMode::Continue, LeaseMode::Stop]);
    world.advance(Stage::DualRead);
    while world.access[1] == Access::Sealed {
        world.round();
    }
    world.store_message(Side::Target);
    world.apps[1].alive = false;
    world.now += Timing::default().lease + Timing::default().margin;
    world.run(100);
    let view = world.view();
    assert_eq!((view.stage, view.settled), (Stage::SourceOnly, false));
    assert_eq!(world.failed(), ["roles_registered"]);
    world.start("consumer", "2", false, LeaseMode::Stop);
    world.run(100);
    assert_eq!(world.view().stage, Stage::DualRead);
}
