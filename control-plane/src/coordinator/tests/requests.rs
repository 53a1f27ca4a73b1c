//! What instances say: late, twice, of groups that are not managed.

use crossfade::control::wire::LeaseMode;

use super::*;

#[test]
fn restarted_process_supersedes_the_old_one_only_when_that_is_gone() {
    let mut world = World::with_apps([LeaseMode::Stop, LeaseMode::Continue]);
    world.apps[0].alive = false;
    world.start("producer", "2", true, LeaseMode::Stop);
    world.run(2);
    assert_eq!(world.coordinator.instances(world.now).len(), 3);
    world.run(100);
    let old = world
        .coordinator
        .instances(world.now)
        .into_iter()
        .find(|view| view.incarnation == "producer-1");
    assert!(old.unwrap().superseded);
    let request = SyncRequest {
        instance: "producer".into(),
        incarnation: "producer-1".into(),
        ..SyncRequest::default()
    };
    assert_eq!(
        world.handle(Event::Sync(request)).unwrap(),
        Answer::Sync { superseded: true }
    );
}

#[test]
fn overtaken_request_changes_neither_acks_nor_roles() {
    let mut world = World::new();
    let acked = |world: &World| {
        let members = &world.coordinator.members;
        members.iter().next().and_then(|member| member.acked(TOPIC))
    };
    let _ = world.handle(Event::Sync(consumes(GROUP, 2, 5)));
    let late = SyncRequest {
        roles: Vec::new(),
        ..consumes(GROUP, 1, 4)
    };
    let _ = world.handle(Event::Sync(late));
    assert_eq!(acked(&world), Some(Revision(5)));
    assert_eq!(world.coordinator.members.of_topic(TOPIC).count(), 1);
    // A repetition of the same one, a newer one and one of a client that does not count are taken.
    for (sequence, ack) in [(2, 6), (3, 7), (0, 8)] {
        let _ = world.handle(Event::Sync(consumes(GROUP, sequence, ack)));
        assert_eq!(acked(&world), Some(Revision(ack)));
    }
}

#[test]
fn overtaken_request_of_an_instance_that_has_left_does_not_bring_it_back() {
    let mut world = World::new();
    let _ = world.handle(Event::Sync(consumes(GROUP, 1, 1)));
    let farewell = SyncRequest {
        leaving: true,
        ..consumes(GROUP, 3, 1)
    };
    for late in [farewell.clone(), consumes(GROUP, 2, 1), farewell] {
        let _ = world.handle(Event::Sync(late));
        assert!(world.coordinator.instances(world.now).is_empty());
    }
}

#[test]
fn registered_group_that_is_not_managed_blocks_the_dual_read() {
    let mut world = World::new();
    let revision = world.coordinator.revision();
    let _ = world.handle(Event::Sync(consumes("unmanaged", 1, revision.0)));
    world.advance(Stage::DualRead);
    world.run(10);
    assert_eq!(world.view().stage, Stage::SourceOnly);
    assert!(world.failed().contains(&"groups_known".to_owned()));
}

#[test]
fn group_that_is_gone_leaves_what_it_is_owed_unknown() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::Draining);
    world.run(60);
    assert_eq!(world.view().stage, Stage::Draining);
    let mut sides = Side::BOTH.map(|side| world.look(side));
    sides[Side::Source.index()].backlogs.clear();
    let facts = Facts {
        begun: world.now,
        sides,
    };
    let record = &world.coordinator.topics[TOPIC].record;
    let scene = gate::Scene {
        row: record,
        members: &world.coordinator.members,
        facts: &facts,
        writes: &world.coordinator.topics[TOPIC].writes,
        limits: &Limits::default(),
        now: world.now,
    };
    let gates = gate::of_step(&scene, Stage::TargetOnly);
    let failed: Vec<&str> = gates
        .iter()
        .filter(|gate| gate.blocks())
        .map(|gate| &*gate.code)
        .collect();
    assert_eq!(failed, ["source_backlog_known"]);
}
