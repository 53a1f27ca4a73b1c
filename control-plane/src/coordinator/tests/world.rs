//! A control plane, its store and its instances.

use std::collections::VecDeque;

use crossfade::{
    Access,
    backend::{ConnectedClient, TopicDescription, TopicSettings},
    control::wire::{ConsumerState, LeaseMode, Role, SideState},
};

use super::*;

#[derive(Clone)]
pub(super) struct App {
    pub(super) name: &'static str,
    pub(super) incarnation: String,
    pub(super) lease_mode: LeaseMode,
    pub(super) produces: bool,
    pub(super) applied: Revision,
    pub(super) alive: bool,
    /// It asks, and applies nothing new.
    pub(super) stuck: bool,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) coordinator: Coordinator,
    pub(super) stored: BTreeMap<(Kind, String), Record>,
    pub(super) audit: Vec<AuditEntry>,
    pub(super) now: Duration,
    pub(super) epoch: u64,
    pub(super) work: VecDeque<Work>,
    pub(super) access: [Access; 2],
    /// On one broker of a side it is something else.
    pub(super) mixed: [bool; 2],
    pub(super) grown: [Option<TopicSettings>; 2],
    /// What each side owes to the group.
    pub(super) owed: [u64; 2],
    /// A group that nobody manages is on the source, and has read nothing.
    pub(super) stranger: bool,
    /// The group's other topic keeps its retry topic and its dead letters busy; with every look they move on.
    pub(super) busy: bool,
    pub(super) end: [u64; 2],
    pub(super) apps: Vec<App>,
    pub(super) published: Vec<TopicPlan>,
    /// Those that the brokers list.
    pub(super) producers: Option<Vec<ConnectedClient>>,
    /// Changes of access get no answer; they land when the test says so.
    pub(super) answers_lost: bool,
    /// The control plane crashes right after it has stored this event's change, with the work not begun.
    pub(super) crash_at: Option<usize>,
    pub(super) events: usize,
    pub(super) in_flight: Vec<(Side, Access)>,
    pub(super) routing: Routing,
    /// The ends of a side cannot be read.
    pub(super) ends_fail: bool,
    /// Retries that each side owes to the group.
    pub(super) retrying: [u64; 2],
}

impl World {
    pub(super) fn new() -> Self {
        World::of(Routing::Unordered)
    }

    pub(super) fn of(routing: Routing) -> Self {
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
            routing,
            ends_fail: false,
            retrying: [0; 2],
        };
        world.add();
        world
    }

    /// The topic as both clusters have it now.
    pub(super) fn described(&self) -> [Option<TopicDescription>; 2] {
        self.access.map(|access| {
            Some(TopicDescription {
                settings: settings(),
                access,
                disagreement: None,
                queues: (0..QUEUES).map(queue_id).collect(),
                message_type: None,
            })
        })
    }

    pub(super) fn add(&mut self) {
        let described = self.described();
        self.command(Command::Add {
            accepted: None,
            topic: TOPIC.into(),
            groups: vec![GROUP.into()],
            weight: None,
            routing: self.routing,
            described,
        })
        .unwrap();
    }

    pub(super) fn with_apps(modes: [LeaseMode; 2]) -> Self {
        World::with_apps_of(Routing::Unordered, modes)
    }

    pub(super) fn with_apps_of(routing: Routing, modes: [LeaseMode; 2]) -> Self {
        let mut world = World::of(routing);
        for (name, produces, lease_mode) in
            [("producer", true, modes[0]), ("consumer", false, modes[1])]
        {
            world.start(name, "1", produces, lease_mode);
        }
        world.run(40);
        assert!(world.view().settled);
        world
    }

    pub(super) fn start(
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
            stuck: false,
        });
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let event = Event::Command {
            actor: Actor {
                name: "ann".into(),
                role: "operator".into(),
            },
            command,
        };
        self.handle(event).map(|_| ())
    }

    pub(super) fn advance(&mut self, to: Stage) {
        self.command(Command::Advance {
            topic: TOPIC.into(),
            to: Some(to),
            terms: Terms::waiting(),
        })
        .unwrap();
    }

    pub(super) fn rollback(&mut self, to: Stage) {
        self.command(Command::Rollback {
            topic: TOPIC.into(),
            to: Some(to),
            terms: Terms::waiting(),
        })
        .unwrap();
    }

    pub(super) fn handle(&mut self, event: Event) -> Result<Answer, Refusal> {
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
    pub(super) fn check_publication(&mut self, plan: TopicPlan) {
        let Some(last) = self.published.last() else {
            return self.published.push(plan);
        };
        if last.revision == plan.revision {
            return;
        }
        assert!(plan.revision > last.revision);
        assert_eq!(
            crossfade::stage::adopt(Some(last), &plan).unwrap(),
            crossfade::stage::Adoption::Adopt
        );
        assert_eq!(plan.previous_revision, last.revision);
        assert!(
            plan.stage == last.stage || plan.stage.is_neighbour(last.stage),
            "{last:?} {plan:?}"
        );
        // Nobody is waited for when a freeze is called off.
        let is_aborted =
            last.frozen().is_some() && plan.frozen().is_none() && plan.share() == last.share();
        let waits_for = self.apps.iter().filter(|_| !is_aborted);
        for app in waits_for.filter(|app| app.alive && app.applied != Revision(0)) {
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
    pub(super) fn round(&mut self) {
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

    pub(super) fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.round();
        }
    }

    pub(super) fn sync(&mut self, index: usize) {
        let app = &mut self.apps[index];
        let newest = self
            .coordinator
            .plans_after(Revision(0))
            .plans
            .pop()
            .unwrap();
        let plan = match app.stuck {
            true => self
                .published
                .iter()
                .find(|plan| plan.revision == app.applied),
            false => None,
        };
        let plan = plan.cloned().unwrap_or(newest);
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

    pub(super) fn audited(&self, action: &str) -> usize {
        let entries = self.audit.iter();
        entries.filter(|entry| entry.action == action).count()
    }

    pub(super) fn restart(&mut self) {
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

    pub(super) fn view(&self) -> TopicView {
        self.coordinator.topic(TOPIC, self.now).unwrap()
    }

    pub(super) fn failed(&self) -> Vec<String> {
        self.view()
            .gates
            .into_iter()
            .filter(Gate::blocks)
            .map(|gate| gate.code)
            .collect()
    }
}

/// A request of an instance that consumes in this group.
pub(super) fn consumes(group: &str, sequence: u64, acked: u64) -> SyncRequest {
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
