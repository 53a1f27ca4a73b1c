//! Steps, there and back.

use crossfade::{Access, backend::TopicSettings, control::wire::LeaseMode, stage::Weight};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

#[test]
fn topic_that_was_not_looked_at_yet_says_what_it_waits_for() {
    let mut world = World::new();
    assert_eq!(world.failed(), ["clusters_answer"]);
    world.run(3);
    assert!(!world.failed().contains(&"clusters_answer".to_owned()));
}

#[test]
fn added_topic_settles_with_the_target_sealed() {
    let mut world = World::new();
    world.run(10);
    assert!(world.view().settled);
    assert_eq!(world.access, [Access::Open, Access::Sealed]);
}

#[test]
fn topic_walks_to_the_end_and_back_one_step_at_a_time() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::TargetOnly);
    world.run(60);
    assert_eq!(
        (world.view().stage, world.view().settled),
        (Stage::TargetOnly, true)
    );
    assert_eq!(world.access, [Access::Sealed, Access::Open]);
    world.rollback(Stage::SourceOnly);
    world.run(60);
    assert_eq!(
        (world.view().stage, world.view().settled),
        (Stage::SourceOnly, true)
    );
    assert_eq!(world.access, [Access::Open, Access::Sealed]);
    assert_eq!(world.published.len(), 9);
}

#[test]
fn draining_waits_for_the_backlog_and_says_how_much_is_owed() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::Draining);
    world.run(40);
    world.owed[0] = 3;
    world.end[0] = 3;
    world.advance(Stage::TargetOnly);
    world.run(10);
    assert_eq!(world.view().stage, Stage::Draining);
    assert_eq!(world.failed(), ["source_drained"]);
    assert_eq!(world.view().owed[0], Some(3));
    world.owed[0] = 0;
    world.run(10);
    assert_eq!(world.view().stage, Stage::TargetOnly);
}

#[test]
fn brokers_that_disagree_are_put_right_in_every_stage() {
    let stages = [
        Stage::DualRead,
        Stage::DualWrite,
        Stage::Draining,
        Stage::TargetOnly,
    ];
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    for stage in stages {
        world.advance(stage);
        world.run(60);
        for side in Side::BOTH {
            assert!(world.view().settled, "{stage}");
            let changes = world.audited("access");
            world.mixed[side.index()] = true;
            world.run(30);
            assert!(!world.mixed[side.index()], "{side} in {stage}");
            assert!(world.view().settled, "{side} in {stage}");
            assert_eq!(world.audited("access"), changes + 1, "{side} in {stage}");
        }
    }
}

#[test]
fn queues_that_a_topic_has_got_are_kept_and_put_back() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let more = TopicSettings {
        queues: 2 * QUEUES,
        saved: json!({"read": 2 * QUEUES}),
    };
    world.grown = [Some(more.clone()), Some(more.clone())];
    world.run(30);
    world.grown = [None, None];
    let row = &world.stored[&(Kind::Topic, TOPIC.to_owned())].value;
    let row: TopicRecord = serde_json::from_value(row.clone()).unwrap();
    assert_eq!(row.settings, [more.clone(), more.clone()]);
    assert_eq!(world.audited("grow"), 1);
    world.advance(Stage::Draining);
    for _ in 0..200 {
        world.round();
        for work in &world.work {
            if let Work::SetAccess { settings, .. } = work {
                assert_eq!(*settings, more);
            }
        }
    }
    assert_eq!(world.view().stage, Stage::Draining);
}

#[test]
fn cancelled_step_puts_the_seal_back_and_proves_it_again() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::DualRead);
    for _ in 0..100 {
        if world.access[1] == Access::Closed {
            break;
        }
        world.round();
    }
    world
        .command(Command::Cancel {
            topic: TOPIC.into(),
        })
        .unwrap();
    assert!(!world.view().settled);
    world.run(10);
    if world.view().stage == Stage::SourceOnly {
        assert_eq!(world.access[1], Access::Sealed);
    }
    assert!(world.view().settled);
}

#[test]
fn weight_is_published_once_the_last_change_is_applied() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::DualWrite);
    world.run(30);
    let weight = Weight::from_basis_points(3_000).unwrap();
    world
        .command(Command::SetWeight {
            topic: TOPIC.into(),
            weight,
        })
        .unwrap();
    world.run(5);
    let last = world.published.last().unwrap();
    assert_eq!((last.stage, last.weight), (Stage::DualWrite, weight));
}

#[test]
fn asking_twice_is_asking_once_and_a_decided_step_can_be_taken_back() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let topic = || Arc::<str>::from(TOPIC);
    for _ in 0..2 {
        let advance = Command::Advance {
            topic: topic(),
            to: None,
            terms: Terms::waiting(),
        };
        world.command(advance).unwrap();
        assert_eq!(world.view().goal, Stage::DualRead);
    }
    let rollback = Command::Rollback {
        topic: topic(),
        to: None,
        terms: Terms::waiting(),
    };
    world.command(rollback).unwrap();
    assert_eq!(world.view().goal, Stage::SourceOnly);
}

#[test]
fn goal_that_is_reached_or_on_its_way_is_asked_for_again_without_an_error() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let go = |to: Stage, forward: bool| {
        let (topic, to) = (TOPIC.into(), Some(to));
        // Without waiting: a closed gate would refuse another word.
        let terms = Terms {
            wait: false,
            ..Terms::waiting()
        };
        match forward {
            true => Command::Advance { topic, to, terms },
            false => Command::Rollback { topic, to, terms },
        }
    };
    for forward in [true, false] {
        world.command(go(Stage::SourceOnly, forward)).unwrap();
    }
    world.advance(Stage::TargetOnly);
    world.command(go(Stage::TargetOnly, true)).unwrap();
    assert_eq!(world.view().goal, Stage::TargetOnly);
    // What is being left is not reached.
    let left = world.command(go(Stage::SourceOnly, true)).unwrap_err();
    assert!(left.message.contains("topic cancel"), "{}", left.message);
}

/// Invariants are checked at every publication: see `check_publication`.
#[test]
fn random_walks_with_restarts_lost_instances_and_late_messages_keep_the_rules() {
    for seed in 0..60 {
        let mut world = World::with_apps([LeaseMode::Stop; 2]);
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..150 {
            match random.random_range(0..14) {
                0 => {
                    let to = Stage::ALL[random.random_range(0..5)];
                    let topic: Arc<str> = TOPIC.into();
                    let _ = world.command(Command::Advance {
                        topic: Arc::clone(&topic),
                        to: Some(to),
                        terms: Terms::waiting(),
                    });
                    let _ = world.command(Command::Rollback {
                        topic,
                        to: Some(to),
                        terms: Terms::waiting(),
                    });
                }
                1 => world.restart(),
                2 => {
                    let _ = world.command(Command::Cancel {
                        topic: TOPIC.into(),
                    });
                }
                3 => {
                    let app = random.random_range(0..world.apps.len());
                    world.apps[app].alive = false;
                }
                4 => {
                    for app in &mut world.apps {
                        app.alive = true;
                    }
                }
                5 => {
                    // A late write lands wherever the broker still takes it.
                    let side = Side::BOTH[random.random_range(0..2)];
                    if world.access[side.index()] != Access::Sealed {
                        world.store_message(side);
                    }
                }
                6 | 7 => {
                    for side in Side::BOTH {
                        if world.access[side.index()] != Access::Sealed {
                            world.owed[side.index()] = 0;
                        }
                    }
                }
                _ => world.round(),
            }
        }
        // With everybody back and the backlog handled, every walk can be finished.
        for app in &mut world.apps {
            app.alive = true;
        }
        let _ = world.command(Command::Advance {
            topic: TOPIC.into(),
            to: Some(Stage::TargetOnly),
            terms: Terms::waiting(),
        });
        for _ in 0..80 {
            world.round();
            for side in Side::BOTH {
                if world.access[side.index()] != Access::Sealed {
                    world.owed[side.index()] = 0;
                }
            }
        }
        assert_eq!(
            world.view().stage,
            Stage::TargetOnly,
            "seed {seed}: {:?}",
            world.failed()
        );
    }
}
