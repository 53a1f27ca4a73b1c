//! Instances out of contact, and what proves them harmless.

use crossfade::{
    backend::Backlog,
    control::wire::{LeaseMode, Role},
};

use super::*;

#[test]
fn lost_instance_blocks_by_name_until_an_operator_confirms() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.apps[0].alive = false;
    // It had applied the last revision within its lease, so one step is safe beside it, and a second is not.
    world.advance(Stage::DualWrite);
    world.run(120);
    assert_eq!(world.view().stage, Stage::DualRead);
    assert_eq!(world.failed(), ["instances_lost"]);
    let gone = |reason: &str| Command::ConfirmGone {
        instance: "producer".into(),
        reason: reason.into(),
    };
    assert_eq!(
        world.command(gone(" ")).unwrap_err().code,
        "invalid_request"
    );
    world.command(gone("its host was scrapped")).unwrap();
    world.run(10);
    assert_eq!(world.view().stage, Stage::DualWrite);
    assert!(
        world
            .audit
            .iter()
            .any(|entry| entry.action == "confirm_gone" && !entry.reason.is_empty())
    );
}

#[test]
fn live_instance_cannot_be_confirmed_gone() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let command = Command::ConfirmGone {
        instance: "producer".into(),
        reason: "a guess".into(),
    };
    assert_eq!(world.command(command).unwrap_err().code, "conflict");
}

#[test]
fn confirming_an_instance_that_brokers_still_list_says_so() {
    for listed in [false, true] {
        let mut world = World::with_apps([LeaseMode::Continue; 2]);
        let id = if listed { "producer@source" } else { "other" };
        world.producers = Some(group(&[id]).members.clients);
        world.apps[0].alive = false;
        // Out of contact, and not for so long that silence alone would prove anything.
        world.run(70);
        let signs = world.coordinator.still_listed("producer", world.now);
        assert_eq!(signs.len(), if listed { 2 } else { 0 }, "{signs:?}");
        assert!(signs.iter().all(|sign| sign.contains("producer@source")));
        let gone = Command::ConfirmGone {
            instance: "producer".into(),
            reason: "so they say".into(),
        };
        world.command(gone).unwrap();
        let entry = world.audit.last().unwrap();
        assert_eq!(entry.action, "confirm_gone");
        assert_eq!(entry.after["still_listed"].is_array(), listed);
    }
}

#[test]
fn instance_in_mode_stop_is_harmless_after_its_lease() {
    let mut world = World::with_apps([LeaseMode::Stop, LeaseMode::Continue]);
    world.apps[0].alive = false;
    world.advance(Stage::DualWrite);
    world.run(40);
    assert_eq!(world.view().stage, Stage::DualRead, "35 s have not passed");
    world.run(60);
    assert_eq!(world.view().stage, Stage::DualWrite);
}

#[test]
fn lost_instance_that_no_broker_lists_is_harmless_where_brokers_list_such_instances() {
    let cases = [
        // The consumer; the producer, where brokers list no producers, others than it, and it.
        (1, None, false),
        (0, None, true),
        (0, Some("other@source"), false),
        (0, Some("producer@source"), true),
    ];
    for (dead, listed, blocks) in cases {
        let mut world = World::with_apps([LeaseMode::Continue; 2]);
        world.producers = listed.map(|id| group(&[id]).members.clients);
        world.apps[dead].alive = false;
        world.advance(Stage::DualRead);
        world.run(120);
        assert_eq!(
            world.failed().contains(&"instances_lost".to_owned()),
            blocks,
            "{listed:?}"
        );
    }
}

#[test]
fn lost_consumer_of_a_group_that_was_not_looked_at_blocks() {
    let mut world = World::new();
    let revision = world.coordinator.revision();
    let _ = world.handle(Event::Sync(consumes("unmanaged", 1, revision.0)));
    world.run(120);
    assert!(world.failed().contains(&"instances_lost".to_owned()));
}

#[test]
fn lost_consumer_of_several_topics_is_harmless_once_a_look_at_each_has_not_found_it() {
    let timing = Timing::default();
    let mut members = Membership::restore(timing, Vec::new(), Duration::ZERO);
    let mut request = consumes(GROUP, 1, 1);
    let mut second = request.roles[0].clone();
    second.topic = "invoices".into();
    request.roles.push(second);
    members.sync(&request, Duration::ZERO);
    let over = timing.lease + timing.margin + Duration::from_secs(1);
    let look = |now: Duration, listed: bool, unknown: &[&str]| {
        let side = SideFacts {
            unknown: unknown.iter().map(|what| (*what).to_owned()).collect(),
            backlogs: [(GROUP.into(), Backlog::default())].into(),
            groups: [(
                GROUP.into(),
                group(if listed { &["reader@source"] } else { &[] }),
            )]
            .into(),
            ..SideFacts::default()
        };
        Facts {
            begun: now,
            sides: [side.clone(), side],
        }
    };
    let mut standing = |second, topic: &str, listed, unknown: &[&str]| {
        let now = over + Duration::from_secs(second);
        members.note_clients(&topic.into(), &look(now, listed, unknown), |_| {
            Some(Routing::Unordered)
        });
        let member = members.iter().next().unwrap();
        member.standing(&timing, now)
    };
    let relist = timing.relist.as_secs();
    for second in [0, relist] {
        assert_eq!(standing(second, TOPIC, false, &[]), Standing::Lost);
    }
    // Whoever is listed for one topic lives, and is not gone from the other.
    let mut now = relist + 1;
    assert_eq!(standing(now, "invoices", true, &[]), Standing::Lost);
    for topic in ["invoices", TOPIC] {
        assert_eq!(standing(now, topic, false, &[]), Standing::Lost);
    }
    // Brokers that are just back from a restart list nobody yet: silence has to last, without a gap.
    now += relist - 1;
    for topic in ["invoices", TOPIC] {
        assert_eq!(standing(now, topic, false, &[]), Standing::Lost);
        assert_eq!(standing(now, topic, false, &["no answer"]), Standing::Lost);
    }
    now += 1;
    for second in [now, now + relist - 1] {
        for topic in ["invoices", TOPIC] {
            assert_eq!(standing(second, topic, false, &[]), Standing::Lost);
        }
    }
    now += relist;
    assert_eq!(standing(now, "invoices", false, &[]), Standing::Lost);
    assert_eq!(standing(now, TOPIC, false, &[]), Standing::Harmless);
    // What was proved stays so while a broker does not answer.
    let harmless = standing(now + 1, TOPIC, false, &["no answer"]);
    assert_eq!(harmless, Standing::Harmless);
}

#[test]
fn role_in_a_topic_that_is_not_managed_keeps_nobody_lost() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let mut request = consumes(GROUP, 1, 0);
    let elsewhere = Role {
        topic: "elsewhere".into(),
        ..request.roles[0].clone()
    };
    request.roles.push(elsewhere);
    let _ = world.handle(Event::Sync(request));
    let standing = |world: &World| {
        let instances = world.coordinator.instances(world.now).into_iter();
        let mut readers = instances.filter(|view| view.instance == "reader");
        readers.next().unwrap().standing
    };
    world.run(70);
    assert_eq!(standing(&world), Standing::Lost);
    world.run(90);
    assert_eq!(standing(&world), Standing::Harmless);
}
