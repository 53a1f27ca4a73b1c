//! The coordinator against a small world: two brokers, instances that apply plans late, work that fails, restarts from the store.

use std::collections::VecDeque;

use crossfade::{
    Access,
    backend::{
        Backlog, ConnectedClient, GroupMembers, QueueBacklog, QueueId, TopicDescription,
        TopicSettings,
    },
    control::wire::{ConsumerState, LeaseMode, Role, SideState},
    stage::Weight,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const QUEUES: u32 = 4;

struct App {
    name: &'static str,
    incarnation: String,
    lease_mode: LeaseMode,
    produces: bool,
    applied: Revision,
    alive: bool,
}

struct World {
    coordinator: Coordinator,
    stored: BTreeMap<(Kind, String), Record>,
    audit: Vec<AuditEntry>,
    now: Duration,
    epoch: u64,
    work: VecDeque<Work>,
    access: [Access; 2],
    /// On one broker of a side it is something else.
    mixed: [bool; 2],
    grown: [Option<TopicSettings>; 2],
    /// What each side owes to the group.
    owed: [u64; 2],
    /// A group that nobody manages is on the source, and has read nothing.
    stranger: bool,
    /// The group's other topic keeps its retry topic and its dead letters busy; with every look they move on.
    busy: bool,
    end: [u64; 2],
    apps: Vec<App>,
    published: Vec<TopicPlan>,
    /// Those that the brokers list.
    producers: Option<Vec<ConnectedClient>>,
    /// Changes of access get no answer; they land when the test says so.
    answers_lost: bool,
    /// The control plane crashes right after it has stored this event's change, with the work not begun.
    crash_at: Option<usize>,
    events: usize,
    in_flight: Vec<(Side, Access)>,
}

impl World {
    fn new() -> Self {
        let mut world = World {
            coordinator: Coordinator::restore(Config::default(), Vec::new(), Duration::ZERO)
                .unwrap(),
            stored: BTreeMap::new(),
            audit: Vec::new(),
            now: Duration::ZERO,
            epoch: 1,
            work: VecDeque::new(),
            access: [Access::Open; 2],
            mixed: [false; 2],
            grown: [None, None],
            owed: [0; 2],
            stranger: false,
            busy: false,
            end: [0; 2],
            apps: Vec::new(),
            published: Vec::new(),
            producers: None,
            answers_lost: false,
            crash_at: None,
            events: 0,
            in_flight: Vec::new(),
        };
        let described = Side::BOTH.map(|_| {
            Some(TopicDescription {
                settings: settings(),
                access: Access::Open,
                disagreement: None,
                queues: (0..QUEUES).map(queue_id).collect(),
                message_type: None,
            })
        });
        world
            .command(Command::Add {
                topic: TOPIC.into(),
                groups: vec![GROUP.into()],
                weight: None,
                described,
            })
            .unwrap();
        world
    }

    fn with_apps(modes: [LeaseMode; 2]) -> Self {
        let mut world = World::new();
        for (name, produces, lease_mode) in
            [("producer", true, modes[0]), ("consumer", false, modes[1])]
        {
            world.start(name, "1", produces, lease_mode);
        }
        world.run(40);
        assert!(world.view().settled);
        world
    }

    fn start(
        &mut self,
        name: &'static str,
        incarnation: &str,
        produces: bool,
        lease_mode: LeaseMode,
    ) {
        let incarnation = format!("{name}-{incarnation}");
        self.apps.push(App {
            name,
            incarnation,
            lease_mode,
            produces,
            applied: Revision(0),
            alive: true,
        });
    }

    fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let event = Event::Command {
            actor: Actor {
                name: "ann".into(),
                role: "operator".into(),
            },
            command,
        };
        self.handle(event).map(|_| ())
    }

    fn advance(&mut self, to: Stage) {
        self.command(Command::Advance {
            topic: TOPIC.into(),
            to: Some(to),
            terms: Terms::waiting(),
        })
        .unwrap();
    }

    fn rollback(&mut self, to: Stage) {
        self.command(Command::Rollback {
            topic: TOPIC.into(),
            to: Some(to),
            terms: Terms::waiting(),
        })
        .unwrap();
    }

    fn handle(&mut self, event: Event) -> Result<Answer, Refusal> {
        let step = self.coordinator.handle(event, self.now);
        for record in step.change.puts {
            if record.kind == Kind::Topic {
                let row: TopicRecord = serde_json::from_value(record.value.clone()).unwrap();
                self.check_publication(row.plan);
            }
            self.stored
                .insert((record.kind, record.key.clone()), record);
        }
        for key in step.change.deletes {
            self.stored.remove(&key);
        }
        self.audit.extend(step.change.audit);
        self.events += 1;
        if self.crash_at == Some(self.events) {
            self.restart();
            return step.answer.unwrap_or(Ok(Answer::Done));
        }
        self.work.extend(step.work);
        step.answer.unwrap_or(Ok(Answer::Done))
    }

    /// What must hold whenever a stage is published.
    fn check_publication(&mut self, plan: TopicPlan) {
        let Some(last) = self.published.last() else {
            return self.published.push(plan);
        };
        if last.revision == plan.revision {
            return;
        }
        assert!(plan.revision > last.revision);
        assert_eq!(plan.previous_revision, last.revision);
        assert!(
            plan.stage == last.stage || plan.stage.is_neighbour(last.stage),
            "{last:?} {plan:?}"
        );
        for app in self
            .apps
            .iter()
            .filter(|app| app.alive && app.applied != Revision(0))
        {
            assert_eq!(
                app.applied, last.revision,
                "{} had not applied {last:?}",
                app.name
            );
        }
        if plan.stage != last.stage {
            for side in Side::BOTH {
                let (access, wanted) = (self.access[side.index()], plan.stage.access(side));
                match wanted {
                    Access::Sealed => {
                        assert_eq!(access, Access::Sealed, "{plan:?}");
                        assert_eq!(self.owed[side.index()], 0, "{plan:?}");
                    }
                    _ => assert!(access <= wanted, "{side} is {access} in {plan:?}"),
                }
            }
        }
        self.published.push(plan);
    }

    /// One round: apps sync and apply, the driver works, time passes.
    fn round(&mut self) {
        for index in 0..self.apps.len() {
            if self.apps[index].alive {
                self.sync(index);
            }
        }
        for _ in 0..self.work.len() {
            let Some(work) = self.work.pop_front() else {
                break;
            };
            let event = self.perform(work);
            let _ = self.handle(event);
        }
        self.now += Duration::from_millis(600);
        let _ = self.handle(Event::Tick);
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.round();
        }
    }

    fn sync(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let plan = self
            .coordinator
            .plans_after(Revision(0))
            .plans
            .pop()
            .unwrap();
        let first_contact = app.applied == Revision(0);
        let sides = Side::BOTH
            .into_iter()
            .filter(|side| plan.read_plan().includes(*side));
        let role = Role {
            topic: TOPIC.into(),
            produces: app.produces,
            consumes: if app.produces {
                Vec::new()
            } else {
                vec![ConsumerState {
                    group: GROUP.into(),
                    sides: sides
                        .map(|side| SideState {
                            side,
                            queues: QUEUES,
                            queue_ids: (0..QUEUES).map(|id| queue_id(id).to_string()).collect(),
                            unreadable: Vec::new(),
                        })
                        .collect(),
                }]
            },
        };
        let request = SyncRequest {
            version: wire::VERSION,
            instance: app.name.into(),
            incarnation: app.incarnation.clone(),
            lease_mode: app.lease_mode,
            client_ids: vec![format!("{}@source", app.name)],
            roles: vec![role],
            acks: if first_contact {
                BTreeMap::new()
            } else {
                [(TOPIC.into(), plan.revision)].into()
            },
            ..SyncRequest::default()
        };
        app.applied = plan.revision;
        let _ = self.handle(Event::Sync(request));
    }

    fn perform(&mut self, work: Work) -> Event {
        match work {
            Work::Inspect { topic, token, .. } => {
                let sides = Side::BOTH.map(|side| self.look(side));
                Event::Facts {
                    topic,
                    token,
                    facts: Facts {
                        begun: self.now,
                        sides,
                    },
                }
            }
            Work::SetAccess {
                topic,
                side,
                access,
                token,
                ..
            } => {
                let result = if self.answers_lost {
                    self.in_flight.push((side, access));
                    Err("no answer".to_owned())
                } else {
                    self.access[side.index()] = access;
                    self.mixed[side.index()] = false;
                    Ok(())
                };
                Event::AccessChanged {
                    topic,
                    side,
                    access,
                    token,
                    result,
                }
            }
            Work::CommitFirstOffsets { topic, token, .. } => Event::FirstOffsets {
                topic,
                token,
                result: Ok(()),
            },
        }
    }

    fn look(&self, side: Side) -> SideFacts {
        let access = self.access[side.index()];
        let (end, owed) = (self.end[side.index()], self.owed[side.index()]);
        let queue = QueueBacklog {
            queue: queue_id(0),
            min: 0,
            end,
            committed: Some(end - owed),
        };
        let tick = u64::from(self.busy) * u64::try_from(self.now.as_millis()).unwrap();
        let retry = QueueBacklog {
            queue: queue_id(0),
            min: tick / 2,
            end: tick,
            committed: Some(tick.saturating_sub(2)),
        };
        let backlog = Backlog {
            queues: vec![queue.clone()],
            retry_of_others: retry.owed(),
            retry: vec![retry],
            delayed: Some(0),
            half: Some(0),
            dead_letters: Some(tick),
        };
        let mut backlogs = BTreeMap::from([(GROUP.into(), backlog)]);
        if self.stranger && side == Side::Source {
            let unread = QueueBacklog {
                committed: None,
                ..queue
            };
            let backlog = Backlog {
                queues: vec![unread],
                delayed: Some(0),
                half: Some(0),
                ..Backlog::default()
            };
            backlogs.insert("console".into(), backlog);
        }
        SideFacts {
            unknown: Vec::new(),
            access: Some(access),
            disagreement: self.mixed[side.index()].then(|| "a: open, b: sealed".into()),
            grown: self.grown[side.index()].clone(),
            queues: (0..if access == Access::Sealed { 0 } else { QUEUES })
                .map(queue_id)
                .collect(),
            ends: [(queue_id(0), end)].into(),
            groups: [(GROUP.into(), group(&[]))].into(),
            backlogs,
            producers: self.producers.clone(),
            ..SideFacts::default()
        }
    }

    fn store_message(&mut self, side: Side) {
        self.end[side.index()] += 1;
        self.owed[side.index()] += 1;
    }

    /// What got no answer lands after all.
    fn land(&mut self) {
        for (side, access) in self.in_flight.drain(..) {
            self.access[side.index()] = access;
        }
    }

    fn audited(&self, action: &str) -> usize {
        let entries = self.audit.iter();
        entries.filter(|entry| entry.action == action).count()
    }

    fn restart(&mut self) {
        self.epoch += 1;
        let config = Config {
            epoch: self.epoch,
            ..Config::default()
        };
        let records = self.stored.values().cloned().collect();
        self.coordinator = Coordinator::restore(config, records, self.now).unwrap();
        // The old driver's work may still reach the brokers, but its answers reach nobody.
        for work in std::mem::take(&mut self.work) {
            let late = self.perform(work);
            let _ = self.handle(late);
        }
    }

    fn view(&self) -> TopicView {
        self.coordinator.topic(TOPIC, self.now).unwrap()
    }

    fn failed(&self) -> Vec<String> {
        self.view()
            .gates
            .into_iter()
            .filter(Gate::blocks)
            .map(|gate| gate.code)
            .collect()
    }
}

fn queue_id(queue: u32) -> QueueId {
    QueueId {
        broker: "b".into(),
        queue,
    }
}

/// A group that exists, with these members.
fn group(client_ids: &[&str]) -> GroupFacts {
    let clients = client_ids.iter().map(|id| ConnectedClient {
        client_id: (*id).to_owned(),
        ..ConnectedClient::default()
    });
    GroupFacts {
        exists: true,
        members: GroupMembers {
            clients: clients.collect(),
            ..GroupMembers::default()
        },
    }
}

fn settings() -> TopicSettings {
    TopicSettings {
        queues: QUEUES,
        saved: json!({"read": QUEUES, "write": QUEUES, "perm": 6}),
    }
}

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

fn consumes(group: &str, sequence: u64, acked: u64) -> SyncRequest {
    SyncRequest {
        version: wire::VERSION,
        instance: "reader".into(),
        incarnation: "reader-1".into(),
        sequence,
        client_ids: vec!["reader@source".into()],
        roles: vec![Role {
            topic: TOPIC.into(),
            produces: false,
            consumes: vec![ConsumerState {
                group: group.into(),
                sides: Vec::new(),
            }],
        }],
        acks: [(TOPIC.into(), Revision(acked))].into(),
        ..SyncRequest::default()
    }
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
        members.note_clients(&topic.into(), &look(now, listed, unknown), |_| true);
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

#[test]
fn removed_topic_comes_back_with_its_own_configuration_although_a_side_is_sealed() {
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
            topic,
            groups,
            weight: None,
            described,
        })
        .unwrap();
    world.run(20);
    assert!(world.view().settled);
    assert_eq!(world.access, [Access::Open, Access::Sealed]);
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
        world.run(60);
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
fn store_of_other_clusters_is_refused_unless_their_addresses_are_new() {
    let world = World::with_apps([LeaseMode::Continue; 2]);
    let records = || world.stored.values().cloned().collect::<Vec<_>>();
    let mut config = Config {
        clusters: Clusters {
            source: Some("memory://a".into()),
            target: Some("memory://b".into()),
        },
        ..Config::default()
    };
    assert!(Coordinator::restore(config.clone(), records(), world.now).is_err());
    config.accept_new_addresses = true;
    assert!(Coordinator::restore(config, records(), world.now).is_ok());
}

#[test]
fn commands_that_make_no_sense_are_refused_with_a_code() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    let topic = || Arc::<str>::from(TOPIC);
    let cases = [
        (
            Command::Advance {
                topic: "nobody".into(),
                to: None,
                terms: Terms::waiting(),
            },
            "not_found",
        ),
        (
            Command::Advance {
                topic: topic(),
                to: Some(Stage::SourceOnly),
                terms: Terms::waiting(),
            },
            "conflict",
        ),
        (
            Command::Rollback {
                topic: topic(),
                to: None,
                terms: Terms::waiting(),
            },
            "conflict",
        ),
        (Command::Remove { topic: topic() }, "conflict"),
        (
            Command::Add {
                topic: topic(),
                groups: vec![GROUP.into()],
                weight: None,
                described: [None, None],
            },
            "conflict",
        ),
        (
            Command::Add {
                topic: "new".into(),
                groups: vec![GROUP.into()],
                weight: None,
                described: [None, None],
            },
            "not_found",
        ),
        (
            Command::Add {
                topic: "new".into(),
                groups: Vec::new(),
                weight: None,
                described: [None, None],
            },
            "invalid_request",
        ),
        (
            Command::ConfirmGone {
                instance: "nobody".into(),
                reason: "gone".into(),
            },
            "not_found",
        ),
    ];
    for (command, code) in cases {
        let text = format!("{command:?}");
        assert_eq!(world.command(command).unwrap_err().code, code, "{text}");
    }
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
