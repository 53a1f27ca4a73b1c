//! Topics that are managed no more.

use crossfade::{
    Access,
    backend::{TopicDescription, TopicSettings},
    control::wire::LeaseMode,
};

use super::*;

#[test]
fn topic_that_has_moved_comes_back_where_it_is_with_its_own_configuration() {
    let mut world = World::with_apps([LeaseMode::Stop; 2]);
    world.advance(Stage::TargetOnly);
    world.run(60);
    for app in &mut world.apps {
        app.alive = false;
    }
    world.run(100);
    let topic: Arc<str> = TOPIC.into();
    world
        .command(Command::Remove {
            topic: Arc::clone(&topic),
        })
        .unwrap();
    world.published.clear();
    let sealed = TopicSettings {
        queues: 0,
        saved: json!(null),
    };
    let described = [Access::Sealed, Access::Open].map(|access| {
        let settings = if access == Access::Open {
            settings()
        } else {
            sealed.clone()
        };
        Some(TopicDescription {
            settings,
            access,
            disagreement: None,
            queues: (0..QUEUES).map(queue_id).collect(),
            message_type: None,
        })
    });
    let groups = vec![GROUP.into()];
    world
        .command(Command::Add {
            accepted: None,
            topic,
            groups,
            weight: None,
            routing: Routing::Unordered,
            described,
        })
        .unwrap();
    world.run(20);
    let view = world.view();
    assert!(view.settled);
    assert_eq!(view.stage, Stage::TargetOnly);
    assert_eq!(world.access, [Access::Sealed, Access::Open]);
    let restored = world.stored[&(Kind::Topic, TOPIC.to_owned())].value.clone();
    let row: TopicRecord = serde_json::from_value(restored).unwrap();
    assert_eq!(row.settings, [settings(), settings()]);
}

#[test]
fn removal_is_repeated_until_the_target_is_open_again() {
    let topic: Arc<str> = TOPIC.into();
    let remove = || Command::Remove {
        topic: TOPIC.into(),
    };
    for crash in [false, true] {
        let mut world = World::with_apps([LeaseMode::Stop; 2]);
        for app in &mut world.apps {
            app.alive = false;
        }
        world.run(100);
        world.answers_lost = true;
        world.command(remove()).unwrap();
        world.run(60);
        assert!(world.in_flight.len() > 1);
        assert_eq!(world.in_flight[0], (Side::Target, Access::Open));
        let view = world.view();
        assert_eq!((view.leaving, view.settled), (true, false));
        // Asking again asks for nothing new; a move is refused.
        world.command(remove()).unwrap();
        let advance = Command::Advance {
            topic: Arc::clone(&topic),
            to: None,
            terms: Terms::waiting(),
        };
        assert_eq!(world.command(advance).unwrap_err().code, "conflict");
        world.in_flight.clear();
        world.answers_lost = false;
        if crash {
            world.restart();
        }
        // A lease, during which a new start listens, and the change itself.
        world.run(100);
        assert!(world.coordinator.topic(TOPIC, world.now).is_none());
        assert_eq!(world.access, [Access::Open; 2]);
        assert!(!world.stored.contains_key(&(Kind::Topic, TOPIC.to_owned())));
        assert_eq!(world.audited("remove"), 1);
    }
}

#[test]
fn cancelled_removal_keeps_the_topic_and_its_seal() {
    let mut world = World::with_apps([LeaseMode::Stop; 2]);
    for app in &mut world.apps {
        app.alive = false;
    }
    world.run(100);
    world.answers_lost = true;
    let topic: Arc<str> = TOPIC.into();
    world
        .command(Command::Remove {
            topic: Arc::clone(&topic),
        })
        .unwrap();
    world.run(3);
    world.answers_lost = false;
    world.command(Command::Cancel { topic }).unwrap();
    world.land();
    world.run(60);
    assert!(world.view().settled);
    assert_eq!(world.access, [Access::Open, Access::Sealed]);
}

#[test]
fn topic_that_had_moved_comes_back_with_what_its_source_was_proved_to_hold() {
    let mut world = World::with_apps([LeaseMode::Stop; 2]);
    world.advance(Stage::TargetOnly);
    world.run(60);
    let key = (Kind::Topic, TOPIC.to_owned());
    let proved = world.stored[&key].value["proof"].clone();
    assert!(proved.is_object());
    for app in &mut world.apps {
        app.alive = false;
    }
    world.run(100);
    let topic = || Arc::<str>::from(TOPIC);
    world.command(Command::Remove { topic: topic() }).unwrap();
    assert!(!world.stored.contains_key(&key));
    let stage = world.coordinator.begins_at(TOPIC, &world.described());
    assert_eq!(stage, Stage::TargetOnly);
    world.published.clear();
    world.add();
    let row = &world.stored[&key].value;
    assert_eq!(
        (&row["goal"], &row["proof"]),
        (&json!("target_only"), &proved)
    );
}

#[test]
fn topic_that_had_not_moved_comes_back_as_a_new_one() {
    let mut world = World::with_apps([LeaseMode::Stop; 2]);
    for app in &mut world.apps {
        app.alive = false;
    }
    world.run(100);
    world
        .command(Command::Remove {
            topic: TOPIC.into(),
        })
        .unwrap();
    world.run(10);
    let key = (Kind::Topic, TOPIC.to_owned());
    assert!(!world.stored.contains_key(&key));
    // Its target was open meanwhile.
    let stage = world.coordinator.begins_at(TOPIC, &world.described());
    assert_eq!(stage, Stage::SourceOnly);
    world.published.clear();
    world.add();
    assert_eq!(world.stored[&key].value["proof"], Value::Null);
}
