//! Ordered topics: keys are frozen, and change sides behind a barrier.

use crossfade::{backend::ConnectedClient, control::wire::LeaseMode, stage::Weight};

use super::*;

const SOURCE: usize = 0;
const TARGET: usize = 1;

impl World {
    fn ordered() -> Self {
        World::with_apps_of(Routing::Ordered, [LeaseMode::Continue; 2])
    }

    /// In `DualWrite`, with this share of the target.
    fn in_dual_write(basis_points: u32) -> Self {
        let mut world = World::ordered();
        world.weight(basis_points);
        world.advance(Stage::DualWrite);
        world.run(60);
        assert!(world.view().settled, "{:?}", world.view());
        assert_eq!(world.plan().weight, share(basis_points));
        world
    }

    fn plan(&self) -> TopicPlan {
        self.coordinator.topics[TOPIC].record.plan.clone()
    }

    fn weight(&mut self, basis_points: u32) {
        self.command(Command::SetWeight {
            topic: TOPIC.into(),
            weight: share(basis_points),
        })
        .unwrap();
    }

    fn cancel(&mut self) {
        self.command(Command::Cancel {
            topic: TOPIC.into(),
        })
        .unwrap();
    }

    /// What the driver has done by now.
    fn work_is_done(&mut self) {
        for work in std::mem::take(&mut self.work) {
            let event = self.perform(work);
            let _ = self.handle(event);
        }
    }

    /// Rounds until the keys are frozen, and no further.
    fn until_frozen(&mut self) {
        for _ in 0..400 {
            if self.plan().frozen().is_some() {
                return;
            }
            for index in 0..self.apps.len() {
                if self.apps[index].alive {
                    self.sync(index);
                }
            }
            self.work_is_done();
            if self.plan().frozen().is_some() {
                return;
            }
            self.pass(Duration::from_millis(600));
        }
        panic!("no freeze: {:?}", self.view());
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let _ = self.handle(Event::Tick);
    }

    /// What must hold whenever the ends of the side being left are read.
    pub(super) fn check_barrier(&self) {
        let plan = self.plan();
        let frozen = plan.frozen().map(|frozen| frozen.revision);
        if frozen == Some(plan.revision) {
            let live = self.apps.iter().filter(|app| app.alive);
            assert!(live.into_iter().all(|app| app.applied == plan.revision));
        }
    }

    fn words(&self) -> String {
        self.view().keys.unwrap().message
    }

    /// The shares that were published in `DualWrite`, each once.
    fn shares(&self) -> Vec<u16> {
        let rows = self.published.iter();
        let rows = rows.filter(|plan| plan.stage == Stage::DualWrite);
        let mut shares: Vec<u16> = rows.map(|plan| plan.weight.basis_points()).collect();
        shares.dedup();
        shares
    }
}

fn share(basis_points: u32) -> Weight {
    Weight::from_basis_points(basis_points).unwrap()
}

#[test]
fn topic_walks_to_the_end_and_back_and_its_keys_change_sides_in_dual_write_only() {
    let mut world = World::ordered();
    world.advance(Stage::TargetOnly);
    world.run(80);
    assert_eq!(world.view().stage, Stage::TargetOnly, "{:?}", world.view());
    assert!(world.view().settled);
    world.rollback(Stage::SourceOnly);
    world.run(80);
    assert_eq!(world.view().stage, Stage::SourceOnly, "{:?}", world.view());
    assert!(world.view().settled);
    assert_eq!(world.shares(), [0, 10_000, 0]);
    // Eight steps, and there and back a freeze and a move.
    assert_eq!(world.published.len(), 1 + 8 + 4);
    let stages = world.published.windows(2);
    for pair in stages.filter(|pair| pair[0].stage != pair[1].stage) {
        assert_eq!(pair[0].share(), pair[1].share(), "{pair:?}");
    }
}

#[test]
fn weight_moves_the_keys_between_the_old_share_and_the_new_one() {
    let mut world = World::in_dual_write(3_000);
    for (next, from, buckets) in [
        (6_000, Side::Source, (3_000, 6_000)),
        (1_000, Side::Target, (1_000, 6_000)),
    ] {
        world.end = [7, 9];
        world.weight(next);
        world.until_frozen();
        let plan = world.plan();
        let frozen = plan.frozen().unwrap();
        assert_eq!(
            (frozen.from, frozen.buckets.from, frozen.buckets.to),
            (from, buckets.0, buckets.1)
        );
        assert_eq!(frozen.revision, plan.revision);
        world.run(6);
        let plan = world.plan();
        assert_eq!(plan.weight, share(next));
        let moved = plan.moves.last().unwrap();
        assert_eq!(moved.revision, plan.revision);
        let ends: Vec<u64> = moved
            .barrier
            .iter()
            .flatten()
            .map(|queue| queue.end_offset)
            .collect();
        assert_eq!(ends, [world.end[from.index()]]);
        assert!(world.view().settled);
    }
}

#[test]
fn weight_set_before_dual_write_is_moved_to_there_and_not_published_by_the_step() {
    let world = World::in_dual_write(3_000);
    assert_eq!(world.shares(), [0, 3_000]);
}

#[test]
fn freeze_waits_for_a_small_lag_and_for_retries_and_says_the_numbers() {
    let mut world = World::in_dual_write(0);
    let limit = Limits::default().moving_lag;
    let cases = [
        (limit + 1, 0, "moving_lag", "billing 1001"),
        (0, 2, "moving_retries", "billing 2 retries"),
    ];
    for (owed, retrying, code, words) in cases {
        world.end[SOURCE] = owed;
        world.owed[SOURCE] = owed;
        world.retrying[SOURCE] = retrying;
        world.busy = retrying > 0;
        world.weight(3_000);
        world.run(10);
        assert_eq!(world.plan().frozen(), None);
        let keys = world.view().keys.unwrap();
        let blocked: Vec<&str> = keys
            .gates
            .iter()
            .filter(|gate| gate.blocks())
            .map(|gate| &*gate.code)
            .collect();
        assert_eq!(blocked, [code]);
        assert!(keys.message.contains(words), "{}", keys.message);
        assert!(!world.view().settled);
        world.weight(0);
        world.run(3);
    }
    world.retrying = [0; 2];
    world.weight(3_000);
    world.run(20);
    assert_eq!(world.plan().weight, share(3_000));
}

#[test]
fn advance_without_wait_is_refused_with_the_lag_and_an_override_goes_on_without_it() {
    let mut world = World::in_dual_write(0);
    let owed = Limits::default().moving_lag + 5;
    world.end[SOURCE] = owed;
    world.owed[SOURCE] = owed;
    world.run(20);
    let advance = |overrides| Command::Advance {
        topic: TOPIC.into(),
        to: Some(Stage::Draining),
        terms: Terms {
            overrides,
            ..Terms::default()
        },
    };
    let refusal = world.command(advance(Vec::new())).unwrap_err();
    let closed: Vec<&str> = refusal
        .gates
        .iter()
        .filter(|gate| gate.blocks())
        .map(|gate| &*gate.code)
        .collect();
    assert_eq!(closed, ["moving_lag"]);
    let asked = AskedOverride {
        gate: "moving_lag".into(),
        reason: "the keys may wait".into(),
    };
    world.command(advance(vec![asked])).unwrap();
    world.run(30);
    assert_eq!(world.view().stage, Stage::Draining);
}

#[test]
fn move_is_published_when_all_have_applied_the_freeze_and_the_ends_were_read_after_that() {
    let mut world = World::in_dual_write(0);
    world.weight(3_000);
    world.until_frozen();
    let freeze = world.plan();
    // The consumer has applied it, the producer has not: nothing is read, and nothing moves.
    world.sync(1);
    world.apps[0].stuck = true;
    world.sync(0);
    assert!(world.work.is_empty());
    assert!(
        world
            .words()
            .contains("freezing keys 0.00 % .. 30.00 % on the source"),
        "{}",
        world.words()
    );
    assert!(
        world.words().contains("waiting for acks of producer"),
        "{}",
        world.words()
    );
    world.store_message(Side::Source);
    world.apps[0].stuck = false;
    world.sync(0);
    assert!(
        matches!(world.work.front(), Some(Work::ReadEnds { side: Side::Source, frozen, .. }) if *frozen == freeze.revision)
    );
    assert_eq!(world.plan(), freeze, "not before the ends are known");
    world.work_is_done();
    let moved = world.plan();
    assert_eq!(moved.previous_revision, freeze.revision);
    assert_eq!(moved.weight, share(3_000));
    assert_eq!(moved.moves[0].barrier.as_ref().unwrap()[0].end_offset, 1);
}

#[test]
fn freeze_that_is_not_applied_in_time_is_called_off_and_tried_again_after_growing_pauses() {
    let mut world = World::in_dual_write(0);
    world.weight(3_000);
    let mut begun = Vec::new();
    for _ in 0..3 {
        world.until_frozen();
        begun.push(world.now);
        world.apps[0].stuck = true;
        world.sync(1);
        world.pass(Timing::default().freeze);
        let plan = world.plan();
        assert_eq!((plan.frozen(), plan.weight), (None, Weight::ZERO));
        assert_ne!(
            world.apps[0].applied, plan.previous_revision,
            "nobody was waited for"
        );
        let entry = world
            .audit
            .iter()
            .rev()
            .find(|entry| entry.action == "publish")
            .unwrap();
        assert!(entry.reason.contains("producer"), "{}", entry.reason);
        // Rule 3 as ever: nothing more before it has applied the newest row.
        world.run(20);
        assert_eq!(world.plan(), plan);
        assert!(world.failed().contains(&"instances_acked".to_owned()));
        assert!(
            world.words().contains("waiting for acks of producer"),
            "{}",
            world.words()
        );
        world.apps[0].stuck = false;
    }
    world.until_frozen();
    world.run(6);
    assert_eq!(world.plan().weight, share(3_000));
    // A success: the next one does not wait.
    let now = world.now;
    world.weight(6_000);
    world.until_frozen();
    assert!(world.now - now < Duration::from_secs(2));
}

#[test]
fn pauses_between_freezes_double_up_to_half_a_minute() {
    let mut world = World::in_dual_write(0);
    world.ends_fail = true;
    world.weight(3_000);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        world.until_frozen();
        for index in [0, 1] {
            world.sync(index);
        }
        world.work_is_done();
        assert_eq!(world.plan().frozen(), None);
        let ended = world.now;
        world.until_frozen();
        pauses.push((world.now - ended).as_secs_f64());
        world.pass(Timing::default().freeze);
    }
    let (first, last) = (pauses[0], pauses[7]);
    assert!((1.0..3.0).contains(&first), "{pauses:?}");
    assert!((30.0..33.0).contains(&last), "{pauses:?}");
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(
        world
            .view()
            .trouble
            .unwrap()
            .contains("a broker does not answer")
    );
}

#[test]
fn ends_that_do_not_come_call_the_freeze_off_and_come_too_late_for_the_next() {
    let mut world = World::in_dual_write(0);
    world.weight(3_000);
    world.until_frozen();
    for index in [0, 1] {
        world.sync(index);
    }
    let hangs = world.work.pop_front().unwrap();
    assert!(matches!(hangs, Work::ReadEnds { .. }));
    world.pass(Timing::default().freeze);
    assert_eq!(world.plan().frozen(), None);
    let entry = world
        .audit
        .iter()
        .rev()
        .find(|entry| entry.action == "publish")
        .unwrap();
    assert!(
        entry.reason.contains("not known within 5 s"),
        "{}",
        entry.reason
    );
    // The answer to the old question decides nothing, whenever it comes.
    let late = world.perform(hangs);
    let _ = world.handle(late);
    world.until_frozen();
    let freeze = world.plan();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.plan(), freeze);
}

#[test]
fn producer_that_is_lost_in_a_freeze_calls_it_off_and_is_waited_for_by_name() {
    let mut world = World::in_dual_write(0);
    world.weight(3_000);
    // It answers no more; the keys are frozen while it still counts as alive.
    world.until_frozen();
    world.apps[0].alive = false;
    world.sync(1);
    world.pass(Timing::default().freeze);
    let plan = world.plan();
    assert_eq!((plan.frozen(), plan.weight), (None, Weight::ZERO));
    world.run(100);
    assert_eq!(world.plan(), plan);
    let gates = world.view().gates;
    let lost = gates
        .iter()
        .find(|gate| gate.code == "instances_lost")
        .unwrap();
    assert!(
        lost.message.contains("producer") && lost.message.contains("confirm-gone"),
        "{}",
        lost.message
    );
    world
        .command(Command::ConfirmGone {
            instance: "producer".into(),
            reason: "its host is off".into(),
        })
        .unwrap();
    world.run(20);
    assert_eq!(world.plan().weight, share(3_000));
}

#[test]
fn lists_of_the_brokers_never_prove_a_producer_of_an_ordered_topic_harmless() {
    for (routing, standing) in [
        (Routing::Unordered, Standing::Harmless),
        (Routing::Ordered, Standing::Lost),
    ] {
        let mut world = World::with_apps_of(routing, [LeaseMode::Continue; 2]);
        world.producers = Some(vec![ConnectedClient::default()]);
        world.apps[0].alive = false;
        world.start("producer", "2", true, LeaseMode::Continue);
        world.run(200);
        let found = world.coordinator.instances(world.now).into_iter();
        let old = found
            .into_iter()
            .find(|view| view.incarnation == "producer-1");
        let old = old.unwrap();
        assert_eq!(old.standing, standing);
        if routing == Routing::Ordered {
            assert!(!old.superseded);
            let gates = world.view().gates;
            let lost = gates
                .iter()
                .find(|gate| gate.code == "instances_lost")
                .unwrap();
            assert!(
                lost.message.contains("no broker's list proves"),
                "{}",
                lost.message
            );
        }
    }
}

#[test]
fn lease_mode_stop_proves_a_producer_of_an_ordered_topic_harmless() {
    let mut world = World::with_apps_of(Routing::Ordered, [LeaseMode::Stop, LeaseMode::Continue]);
    world.apps[0].alive = false;
    world.advance(Stage::DualRead);
    world.run(100);
    assert_eq!(world.view().stage, Stage::DualRead);
}

#[test]
fn cancel_in_a_freeze_calls_it_off_at_once_and_keeps_the_share() {
    for of_a_step in [true, false] {
        let mut world = World::in_dual_write(2_000);
        match of_a_step {
            true => world.advance(Stage::Draining),
            false => world.weight(6_000),
        }
        world.until_frozen();
        world.cancel();
        let plan = world.plan();
        assert_eq!((plan.frozen(), plan.weight), (None, share(2_000)));
        world.run(20);
        assert_eq!(world.plan(), plan);
        assert!(world.view().settled);
        assert_eq!(world.view().goal, Stage::DualWrite);
    }
}

#[test]
fn other_goal_in_a_freeze_calls_it_off_and_moves_the_other_way() {
    let mut world = World::in_dual_write(2_000);
    world.advance(Stage::Draining);
    world.until_frozen();
    world.rollback(Stage::DualRead);
    assert_eq!(world.plan().frozen(), None);
    world.run(30);
    assert_eq!(world.view().stage, Stage::DualRead);
    assert_eq!(world.shares(), [0, 2_000, 0]);
}

#[test]
fn control_plane_that_starts_anew_in_a_freeze_waits_for_acks_again_or_calls_it_off() {
    for answers in [true, false] {
        let mut world = World::in_dual_write(0);
        world.weight(3_000);
        world.until_frozen();
        for index in [0, 1] {
            world.sync(index);
        }
        world.work.clear();
        let freeze = world.plan();
        world.restart();
        assert_eq!(world.plan(), freeze);
        world.pass(Duration::from_secs(1));
        assert!(
            !world
                .work
                .iter()
                .any(|work| matches!(work, Work::ReadEnds { .. })),
            "acks are lost"
        );
        world.apps[0].stuck = !answers;
        if !answers {
            world.apps[0].alive = false;
        }
        world.run(70);
        let next = world
            .published
            .iter()
            .find(|plan| plan.previous_revision == freeze.revision)
            .unwrap();
        assert_eq!(next.frozen(), None);
        let wanted = if answers { share(3_000) } else { Weight::ZERO };
        assert_eq!(next.weight, wanted);
    }
}

#[test]
fn crash_of_the_control_plane_after_any_event_of_a_walk_with_weights_and_back_changes_nothing() {
    let rest = World::in_dual_write(0);
    let walk = |crash_at| {
        let mut world = rest.clone();
        world.events = 0;
        world.crash_at = crash_at;
        let mut go = |to: Stage, command: Command| {
            world.command(command).unwrap();
            let rounds = (0..200).take_while(|_| {
                world.round();
                !(world.view().stage == to && world.view().settled)
            });
            assert!(rounds.count() < 200, "{crash_at:?}: {:?}", world.view());
        };
        let topic = || Arc::<str>::from(TOPIC);
        let weight = Command::SetWeight {
            topic: topic(),
            weight: share(4_000),
        };
        go(Stage::DualWrite, weight);
        let advance = Command::Advance {
            topic: topic(),
            to: Some(Stage::Draining),
            terms: Terms::waiting(),
        };
        go(Stage::Draining, advance);
        let rollback = Command::Rollback {
            topic: topic(),
            to: Some(Stage::DualRead),
            terms: Terms::waiting(),
        };
        go(Stage::DualRead, rollback);
        assert_eq!(world.shares(), [0, 4_000, 10_000, 0], "{crash_at:?}");
        world.events
    };
    for crash_at in 1..=walk(None) {
        walk(Some(crash_at));
    }
}

#[test]
fn several_moves_are_kept_until_their_barriers_are_passed_and_dropped_by_the_next_row() {
    let mut world = World::in_dual_write(0);
    // The group handles nothing for now.
    world.end = [5, 8];
    world.owed = [5, 8];
    for (basis_points, moves) in [(3_000, 1), (6_000, 2), (1_000, 3)] {
        world.weight(basis_points);
        world.run(20);
        assert_eq!(world.plan().weight, share(basis_points));
        assert_eq!(world.plan().moves.len(), moves);
    }
    assert!(
        world
            .words()
            .contains("billing is 5 messages before the barrier on the source"),
        "{}",
        world.words()
    );
    assert!(
        world.view().settled,
        "a move that is not passed keeps nobody waiting"
    );
    // Everything on the source is handled: no row is published for that alone.
    world.owed[SOURCE] = 0;
    let rows = world.published.len();
    world.run(40);
    assert_eq!(world.published.len(), rows);
    assert_eq!(world.plan().moves.len(), 3);
    // The next row drops the two that left the source, and keeps the one that left the target.
    world.weight(2_000);
    world.until_frozen();
    let moves = world.plan().moves;
    assert_eq!(moves.len(), 2);
    assert_eq!((moves[0].from, moves[1].from), (Side::Target, Side::Source));
    assert!(!moves[0].is_frozen() && moves[1].is_frozen());
    world.owed[TARGET] = 1;
    world.run(20);
    assert_eq!(
        world.plan().moves.len(),
        2,
        "one message before the barrier"
    );
}

#[test]
fn end_stage_drops_every_move() {
    let mut world = World::in_dual_write(0);
    world.end[TARGET] = 6;
    world.owed[TARGET] = 6;
    for basis_points in [3_000, 0, 3_000] {
        world.weight(basis_points);
        world.run(20);
    }
    assert!(!world.plan().moves.is_empty());
    world.advance(Stage::TargetOnly);
    world.run(60);
    assert_eq!(world.view().stage, Stage::TargetOnly);
    assert_eq!(world.plan().moves, []);
    let before = world.published.iter().rev().nth(1).unwrap();
    assert!(
        !before.moves.is_empty(),
        "the group has not passed the target's barrier"
    );
}

#[test]
fn plan_does_not_grow_beyond_its_bound_of_moves() {
    let mut world = World::in_dual_write(0);
    world.end[SOURCE] = 1;
    world.owed = [1, 1];
    world.end[TARGET] = 1;
    for round in 1..=order::MAX_MOVES + 1 {
        world.weight(if round % 2 == 0 { 0 } else { 3_000 });
        world.run(20);
    }
    assert_eq!(world.plan().moves.len(), order::MAX_MOVES);
    assert!(world.words().contains("16 at most"), "{}", world.words());
    world.owed = [0; 2];
    world.run(20);
    assert_eq!(world.plan().moves.len(), 1);
}

#[test]
fn unordered_topic_changes_its_weight_without_a_freeze() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.advance(Stage::DualWrite);
    world.run(40);
    world.weight(3_000);
    world.run(4);
    assert_eq!(world.plan().weight, share(3_000));
    assert!(world.published.iter().all(|plan| plan.moves.is_empty()));
    assert!(world.view().keys.is_none());
}
