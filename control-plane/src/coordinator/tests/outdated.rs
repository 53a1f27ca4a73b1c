//! A store that was restored from an older copy.

use crossfade::control::wire::LeaseMode;

use super::*;

#[test]
fn store_older_than_what_an_instance_knows_changes_nothing_and_says_so() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let backup = world.stored.clone();
    world.advance(Stage::TargetOnly);
    world.run(60);
    assert!(world.view().settled);
    let (newest, revision) = (world.stored.clone(), world.coordinator.revision());
    let access = world.access;

    world.stored = backup;
    world.restart();
    // A first look at most has begun before anybody has asked.
    let known = SyncRequest {
        known_revision: revision,
        ..consumes(GROUP, 1, revision.0)
    };
    world.handle(Event::Sync(known)).unwrap();
    for _ in 0..100 {
        for work in std::mem::take(&mut world.work) {
            assert!(matches!(work, Work::Inspect { .. }), "{work:?}");
            let seen = world.perform(work);
            let _ = world.handle(seen);
        }
        world.now += Duration::from_secs(1);
        let _ = world.handle(Event::Tick);
    }
    assert_eq!(world.access, access);
    let why = world.coordinator.outdated().unwrap();
    assert!(why.contains("reader knows revision"), "{why}");
    let view = world.view();
    assert_eq!(
        (view.trouble, view.settled, view.ready),
        (Some(why), false, false)
    );
    let advance = Command::Advance {
        topic: TOPIC.into(),
        to: None,
        terms: Terms::waiting(),
    };
    assert_eq!(world.command(advance).unwrap_err().code, "conflict");

    world.stored = newest;
    world.restart();
    world.run(60);
    assert_eq!(world.coordinator.outdated(), None);
    assert!(world.view().settled);
    assert_eq!(world.access, access);
}
