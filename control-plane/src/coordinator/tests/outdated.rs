//! A store that was restored from an older copy.

use crossfade::{Access, control::wire::LeaseMode};

use super::*;

/// A topic that has moved, and a copy of the store from before.
struct Moved {
    world: World,
    copy: BTreeMap<(Kind, String), Record>,
    newest: BTreeMap<(Kind, String), Record>,
    revision: Revision,
    access: [Access; 2],
}

impl Moved {
    fn new() -> Self {
        let mut world = World::with_apps([LeaseMode::Continue; 2]);
        let copy = world.stored.clone();
        world.advance(Stage::TargetOnly);
        world.run(60);
        assert!(world.view().settled);
        Moved {
            copy,
            newest: world.stored.clone(),
            revision: world.coordinator.revision(),
            access: world.access,
            world,
        }
    }

    /// Starts on the copy.
    fn restored(mut self) -> Self {
        self.world.stored = self.copy.clone();
        self.world.published.clear();
        self.world.restart();
        self
    }

    /// The brokers answer and time passes, and no instance asks.
    fn wait(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            for work in std::mem::take(&mut self.world.work) {
                assert!(matches!(work, Work::Inspect { .. }), "{work:?}");
                let seen = self.world.perform(work);
                let _ = self.world.handle(seen);
            }
            self.world.now += Duration::from_secs(1);
            let _ = self.world.handle(Event::Tick);
        }
        assert_eq!(self.world.access, self.access);
        // The plan that the copy holds, when its row is written anew, and no other.
        assert!(self.world.published.len() < 2);
    }

    fn hear(&mut self, request: SyncRequest) {
        self.world.handle(Event::Sync(request)).unwrap();
    }
}

fn advance() -> Command {
    Command::Advance {
        topic: TOPIC.into(),
        to: None,
        terms: Terms::waiting(),
    }
}

#[test]
fn store_older_than_what_an_instance_knows_changes_nothing_and_says_so() {
    let mut moved = Moved::new().restored();
    // The brokers answer before anybody has asked.
    moved.wait(Duration::from_secs(30));
    moved.hear(SyncRequest {
        known_revision: moved.revision,
        ..consumes(GROUP, 1, moved.revision.0)
    });
    moved.wait(Duration::from_secs(100));
    let why = moved.world.coordinator.outdated().unwrap();
    assert!(why.contains("reader knows revision"), "{why}");
    let view = moved.world.view();
    assert_eq!(
        (view.trouble, view.settled, view.ready),
        (Some(why), false, false)
    );
    assert_eq!(moved.world.command(advance()).unwrap_err().code, "conflict");

    moved.world.stored = moved.newest.clone();
    moved.world.restart();
    moved.world.run(100);
    assert_eq!(moved.world.coordinator.outdated(), None);
    assert!(moved.world.view().settled);
    assert_eq!(moved.world.access, moved.access);
}

#[test]
fn instance_that_has_only_its_plans_on_disk_is_known_by_what_it_has_applied() {
    let mut moved = Moved::new().restored();
    moved.hear(consumes(GROUP, 1, moved.revision.0));
    assert!(moved.world.coordinator.outdated().is_some());
    moved.wait(Duration::from_secs(100));
}

#[test]
fn plan_that_is_newer_than_the_stored_one_is_known_behind_a_counter_that_has_gone_on() {
    let mut moved = Moved::new().restored();
    let key = (Kind::Meta, META_KEY.to_owned());
    let counter = moved.world.stored.get_mut(&key).unwrap();
    counter.value["revision"] = json!(moved.revision.0 + 100);
    moved.world.restart();
    moved.hear(consumes(GROUP, 1, moved.revision.0));
    assert!(moved.world.coordinator.outdated().is_some());
}

#[test]
fn after_a_start_nothing_is_changed_before_all_that_are_stored_were_heard() {
    let mut moved = Moved::new().restored();
    let view = moved.world.view();
    assert_eq!((view.stage, view.trouble), (Stage::SourceOnly, None));
    moved.world.advance(Stage::TargetOnly);
    let trouble = moved.world.view().trouble.unwrap();
    assert!(
        trouble.contains("listens to consumer, producer first"),
        "{trouble}"
    );
    let remove = Command::Remove {
        topic: TOPIC.into(),
    };
    let refused = moved.world.command(remove).unwrap_err();
    assert_eq!(refused.code, "unavailable");
    assert!(refused.message.contains("just read"), "{refused:?}");
    moved.wait(Duration::from_secs(35));
    // Whoever could act has been heard, or has lost its lease.
    assert!(moved.world.coordinator.listening(moved.world.now).is_some());
    moved.world.now += Duration::from_secs(2);
    let _ = moved.world.handle(Event::Tick);
    assert_eq!(moved.world.coordinator.listening(moved.world.now), None);
}

#[test]
fn restart_goes_on_once_all_that_are_stored_were_heard_and_others_could_have_asked() {
    let mut moved = Moved::new();
    moved.world.restart();
    moved.world.sync(0);
    moved.world.now += Timing::default().reconnect;
    let _ = moved.world.handle(Event::Tick);
    assert!(moved.world.coordinator.listening(moved.world.now).is_some());
    moved.world.sync(1);
    assert_eq!(moved.world.coordinator.listening(moved.world.now), None);

    moved.world.restart();
    for app in [0, 1] {
        moved.world.sync(app);
    }
    assert!(moved.world.coordinator.listening(moved.world.now).is_some());
}

#[test]
fn instance_that_leaves_is_no_reason_to_stop_listening() {
    let mut moved = Moved::new().restored();
    moved.world.sync(0);
    let leaves = SyncRequest {
        instance: "consumer".into(),
        incarnation: moved.world.apps[1].incarnation.clone(),
        leaving: true,
        ..consumes(GROUP, 1, 0)
    };
    moved.hear(leaves.clone());
    moved.world.now += Timing::default().reconnect;
    let _ = moved.world.handle(Event::Tick);
    assert!(moved.world.coordinator.listening(moved.world.now).is_some());
    // What it says last counts too.
    let mut moved = moved.restored();
    moved.hear(SyncRequest {
        known_revision: moved.revision,
        ..leaves
    });
    assert!(moved.world.coordinator.outdated().is_some());
}

#[test]
fn what_an_instance_knows_holds_everything_up_until_an_operator_says_that_it_is_gone() {
    let mut moved = Moved::new();
    let stranger = SyncRequest {
        known_revision: Revision(1_000),
        ..consumes("strangers", 1, 1_000)
    };
    moved.hear(stranger.clone());
    assert_eq!(moved.world.command(advance()).unwrap_err().code, "conflict");
    let gone = || Command::ConfirmGone {
        instance: "reader".into(),
        reason: "it belongs to another fleet".into(),
    };
    assert_eq!(moved.world.command(gone()).unwrap_err().code, "conflict");
    // Neither a request that tells less nor its farewell takes back what it knows.
    moved.hear(consumes("strangers", 2, 0));
    moved.hear(SyncRequest {
        leaving: true,
        sequence: 3,
        ..stranger
    });
    assert!(moved.world.coordinator.outdated().is_some());
    moved.world.command(gone()).unwrap();
    assert_eq!(moved.world.coordinator.outdated(), None);
    assert_eq!(moved.world.audited("confirm_gone"), 1);
    assert_eq!(moved.world.command(gone()).unwrap_err().code, "not_found");
}

#[test]
fn older_store_keeps_its_plans_to_itself() {
    let mut moved = Moved::new().restored();
    moved.hear(consumes(GROUP, 1, moved.revision.0));
    let coordinator = &moved.world.coordinator;
    assert!(coordinator.news(Revision(0)).is_err());
    // Whoever runs is answered, and goes on with what it has.
    for known in [1, moved.revision.0] {
        let news = coordinator.news(Revision(known)).unwrap();
        assert_eq!((news.revision, news.plans.len()), (Revision(known), 0));
    }
}
