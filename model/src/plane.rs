//! The control plane under exploration: the coordinator's own code, its store, its clock and the work under way.
//!
//! A coordinator is large and slow to copy, and few of its states are different. So each different one is kept once and known by its number; what an
//! input makes of it is computed once and remembered.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Access, Revision, Side,
    backend::{Backlog, ConnectedClient, GroupMembers, QueueBacklog, QueueId, TopicSettings},
    control::wire::{self, ConsumerState, Refused, Role, SideState, SyncRequest},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use crossfade_control_plane::{
    coordinator::{
        Actor, Answer, Command, Config, Coordinator, Event, Facts, GroupFacts, Limits, META_KEY,
        SideFacts, Standing, Terms, Timing, TopicRecord, Work,
    },
    record::{Kind, Record},
};
use foldhash::{fast, quality::FixedState};
use serde_json::json;

use crate::{
    fleet::{Fleet, GROUPS, MESSAGES, SLOTS},
    mutation::Mutation,
};

/// The topic.
const TOPIC: &str = "orders";
/// The revision at the start.
pub const FIRST: u64 = 10;
/// A lease with its margin. Everything else together is shorter than half of it.
const LEASE: Duration = Duration::from_secs(1_000_000_000);
/// How long a change without an answer may still land.
const BOUND: Duration = Duration::from_secs(1_000);

/// A control plane, by number.
pub type PlaneId = u32;

/// What an instance says in one request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Report {
    /// Who.
    pub slot: usize,
    /// The revision that it has applied.
    pub acked: Option<u64>,
    /// Whether it has queues assigned, by side.
    pub assigned: [bool; 2],
    /// The revision that it refuses.
    pub refused: Option<u64>,
}

/// What one look saw of one side; each message is alone in its queue.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seen {
    /// The topic's queues that have their message.
    pub ends: [bool; MESSAGES],
    /// Those that a group has passed.
    pub passed: [[bool; MESSAGES]; GROUPS],
    /// How often each message has come to a group's retry topic, and how often it was passed there.
    pub retries: [[(u8, u8); MESSAGES]; GROUPS],
    /// Not yet due.
    pub delayed: [u8; GROUPS],
    /// Without an end.
    pub half: u8,
}

/// A whole look.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Look {
    /// What each side let writers do when it began.
    pub access: [Access; 2],
    /// What was seen.
    pub sides: [Seen; 2],
    /// Instances that the brokers list, one bit each.
    pub listed: u8,
    /// A side that did not answer.
    pub silent: Option<Side>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Decision {
    /// One stage on.
    Advance,
    /// One stage back.
    Rollback,
    /// Stay.
    Cancel,
}

/// What happens to a control plane.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Input {
    /// A request.
    Sync(Report),
    /// An operator decides.
    Decide(Decision),
    /// An operator says that a lost instance is gone.
    Gone(usize),
    /// The look under way begins.
    LookBegins,
    /// It is over.
    Looked(Look),
    /// The change of access under way is over, with an answer or without.
    Accessed(bool),
    /// The first offsets are committed.
    FirstOffsets,
    /// A lease passes, in which these have said again what they say now.
    LeasePasses([Option<Report>; SLOTS]),
    /// The time of a change without an answer is over.
    BoundPasses,
    /// The process dies.
    Crash,
    /// It starts again from its store.
    Restart,
}

/// The work under way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Task {
    /// Nothing, or the control plane is down.
    None,
    /// A look, which has begun or not.
    Look(bool),
    /// A change of access.
    Access(Side, Access),
    /// The groups' first offsets on the target.
    FirstOffsets,
}

/// What the world sees of a control plane.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// It runs.
    pub up: bool,
    /// The plan in force.
    pub stage: Stage,
    /// Its revision.
    pub revision: u64,
    /// The one before.
    pub previous: u64,
    /// Where the topic is to go.
    pub goal: Stage,
    /// The stage that the step under way leads to.
    pub heading: Option<Stage>,
    /// How often it has reopened a drain by itself.
    pub reopened: u64,
    /// The control plane calls the topic settled.
    pub settled: bool,
    /// It calls the unread side of an end stage sealed and proved.
    pub claims: bool,
    /// Looks of the proof so far.
    pub looks: u64,
    /// It waits until a change without an answer is over.
    pub waits: bool,
    /// The work under way.
    pub task: Task,
    /// What it holds of each instance; none when it does not know it or has superseded it.
    pub standing: [Option<Standing>; SLOTS],
}

impl Brief {
    /// The side whose emptiness is asked: the one that is not read, or will not be.
    #[must_use]
    pub fn critical(&self) -> Option<Side> {
        match self.heading {
            Some(next) => unread(next),
            None => unread(self.stage),
        }
    }
}

/// The side that an end stage does not read.
#[must_use]
pub fn unread(stage: Stage) -> Option<Side> {
    Side::BOTH
        .into_iter()
        .find(|side| stage.access(*side) == Access::Sealed)
}

/// What is stored. Few inputs change it, so most control planes share theirs.
#[derive(Clone, Debug)]
struct Store {
    rows: BTreeMap<(Kind, String), Record>,
    print: u64,
}

impl Store {
    fn new(rows: BTreeMap<(Kind, String), Record>) -> Self {
        let mut hasher = FixedState::with_seed(2).build_hasher();
        for ((_, key), row) in &rows {
            hasher.write(key.as_bytes());
            hasher.write(row.value.to_string().as_bytes());
        }
        Store {
            rows,
            print: hasher.finish(),
        }
    }

    fn topic(&self) -> Option<TopicRecord> {
        let row = self.rows.get(&(Kind::Topic, TOPIC.to_owned()))?;
        serde_json::from_value(row.value.clone()).ok()
    }
}

#[derive(Clone, Debug)]
struct Plane {
    coordinator: Option<Coordinator>,
    store: Arc<Store>,
    now: Duration,
    work: Option<Arc<Work>>,
    begun: Option<Duration>,
    /// What the last look saw, for a mutation that says it again.
    last: Option<Look>,
    /// What a mutation keeps over a crash.
    kept: Option<(Coordinator, Arc<Work>)>,
    epoch: u64,
}

/// All control planes that were met.
#[derive(Debug)]
pub struct Planes {
    fleet: Fleet,
    lie: Option<Mutation>,
    kept: Vec<(Plane, Brief)>,
    numbers: HashMap<u64, PlaneId, fast::FixedState>,
    next: HashMap<(PlaneId, Input), (PlaneId, bool), fast::FixedState>,
}

impl Planes {
    /// Nothing met yet.
    #[must_use]
    pub fn new(fleet: Fleet, lie: Option<Mutation>) -> Self {
        Planes {
            fleet,
            lie,
            kept: Vec::new(),
            numbers: HashMap::default(),
            next: HashMap::default(),
        }
    }

    /// How many different ones were met.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// None was met.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What the world sees of one.
    #[must_use]
    pub fn brief(&self, id: PlaneId) -> &Brief {
        &self.kept[id as usize].1
    }

    /// What the last look at a side saw.
    #[must_use]
    pub fn last_seen(&self, id: PlaneId, side: Side) -> Option<Seen> {
        let last = self.kept[id as usize].0.last;
        last.map(|look| look.sides[side.index()])
    }

    /// One that has just started on a store in which the topic rests in `stage`.
    pub fn start(&mut self, stage: Stage) -> PlaneId {
        let settings = || TopicSettings {
            queues: u32::try_from(MESSAGES).unwrap_or(1),
            saved: json!({}),
        };
        let record = TopicRecord {
            plan: plan(stage, FIRST, FIRST - 1),
            goal: stage,
            weight: half(),
            groups: (0..self.fleet.groups()).map(group_name).collect(),
            settings: [settings(), settings()],
            changing: None,
            reopening: None,
            reopened: 0,
            proved: None,
            leaving: false,
            overrides: Vec::new(),
            abandoned: None,
        };
        // As it is written, so that writing it anew changes nothing.
        let meta = json!({"revision": FIRST, "removed": [], "released": [], "clusters": {}});
        let rows = [
            (Kind::Topic, TOPIC, json!(record)),
            (Kind::Meta, META_KEY, meta),
        ];
        let rows = rows.map(|(kind, key, value)| {
            let key = key.to_owned();
            ((kind, key.clone()), Record { kind, key, value })
        });
        let mut plane = Plane {
            coordinator: None,
            store: Arc::new(Store::new(rows.into())),
            now: Duration::from_secs(1),
            work: None,
            begun: None,
            last: None,
            kept: None,
            epoch: 0,
        };
        plane.restart(self.lie);
        self.keep(plane)
    }

    /// What an input makes of one, and whether the answer was that another process has the name.
    pub fn take(&mut self, id: PlaneId, input: Input) -> (PlaneId, bool) {
        if let Some(known) = self.next.get(&(id, input)) {
            return *known;
        }
        let mut plane = self.kept[id as usize].0.clone();
        let superseded = plane.take(input, &self.fleet, self.lie);
        let next = (self.keep(plane), superseded);
        self.next.insert((id, input), next);
        next
    }

    fn keep(&mut self, plane: Plane) -> PlaneId {
        let print = plane.fingerprint();
        if let Some(known) = self.numbers.get(&print) {
            return *known;
        }
        let id = PlaneId::try_from(self.kept.len()).unwrap_or(PlaneId::MAX);
        let brief = plane.brief(&self.fleet);
        self.kept.push((plane, brief));
        self.numbers.insert(print, id);
        id
    }
}

impl Plane {
    fn take(&mut self, input: Input, fleet: &Fleet, lie: Option<Mutation>) -> bool {
        let event = match input {
            Input::Sync(report) => Event::Sync(request(report, fleet)),
            Input::Decide(decision) => command(match decision {
                Decision::Advance => Command::Advance {
                    topic: TOPIC.into(),
                    to: None,
                    terms: Terms::waiting(),
                },
                Decision::Rollback => Command::Rollback {
                    topic: TOPIC.into(),
                    to: None,
                    terms: Terms::waiting(),
                },
                Decision::Cancel => Command::Cancel {
                    topic: TOPIC.into(),
                },
            }),
            Input::Gone(slot) => command(Command::ConfirmGone {
                instance: name_of(fleet.name(slot)),
                reason: "switched off".into(),
            }),
            Input::LookBegins => {
                self.begun = Some(self.now);
                // Whatever happens from here on happens later.
                self.now += Duration::from_millis(1);
                return false;
            }
            Input::Looked(look) => {
                let begun = self.begun.take().unwrap_or(self.now);
                self.last = Some(look);
                let Some(token) = self.done() else {
                    return false;
                };
                Event::Facts {
                    topic: TOPIC.into(),
                    token,
                    facts: facts(look, begun, fleet),
                }
            }
            Input::Accessed(answered) => {
                let Some(work) = self.work.take() else {
                    return false;
                };
                let Work::SetAccess {
                    side,
                    access,
                    token,
                    ..
                } = *work
                else {
                    return false;
                };
                let result = match answered {
                    true => Ok(()),
                    false => Err("no answer".to_owned()),
                };
                Event::AccessChanged {
                    topic: TOPIC.into(),
                    side,
                    access,
                    token,
                    result,
                }
            }
            Input::FirstOffsets => {
                let Some(token) = self.done() else {
                    return false;
                };
                Event::FirstOffsets {
                    topic: TOPIC.into(),
                    token,
                    result: Ok(()),
                }
            }
            Input::LeasePasses(reports) => {
                for _ in 0..2 {
                    self.now += LEASE / 2 + Duration::from_secs(1);
                    for report in reports.into_iter().flatten() {
                        self.handle(Event::Sync(request(report, fleet)), lie);
                    }
                }
                Event::Tick
            }
            Input::BoundPasses => {
                let due = self.coordinator.as_ref().and_then(Coordinator::next_tick);
                self.now = self.now.max(due.unwrap_or_default());
                Event::Tick
            }
            Input::Crash => {
                self.begun = None;
                if lie == Some(Mutation::MemoryKeptOverRestart) {
                    self.kept = self.coordinator.take().zip(self.work.take());
                }
                self.coordinator = None;
                self.work = None;
                return false;
            }
            Input::Restart => {
                if let Some((coordinator, work)) = self.kept.take() {
                    self.coordinator = Some(coordinator);
                    self.work = Some(work);
                } else {
                    self.restart(lie);
                }
                return false;
            }
        };
        self.handle(event, lie)
    }

    /// Decide, store, then act: the order of the server's driver.
    fn handle(&mut self, event: Event, lie: Option<Mutation>) -> bool {
        let Some(coordinator) = &mut self.coordinator else {
            return false;
        };
        let step = coordinator.handle(event, self.now);
        let change = step.change;
        if !change.puts.is_empty() || !change.deletes.is_empty() {
            let mut rows = self.store.rows.clone();
            for mut record in change.puts {
                if lie == Some(Mutation::MembershipNotStored) && record.kind == Kind::Instance {
                    continue;
                }
                if lie == Some(Mutation::ChangeUnderWayNotStored)
                    && let Some(row) = record.value.as_object_mut()
                {
                    row.remove("changing");
                }
                rows.insert((record.kind, record.key.clone()), record);
            }
            for key in change.deletes {
                rows.remove(&key);
            }
            self.store = Arc::new(Store::new(rows));
        }
        // One piece of work at a time for a topic.
        self.work = step
            .work
            .into_iter()
            .next()
            .map(Arc::new)
            .or(self.work.take());
        matches!(step.answer, Some(Ok(Answer::Sync { superseded: true })))
    }

    fn restart(&mut self, lie: Option<Mutation>) {
        self.epoch += 1;
        let config = Config {
            timing: timing(),
            limits: Limits {
                accounting: false,
                ..Limits::default()
            },
            epoch: self.epoch,
            ..Config::default()
        };
        let records = self.store.rows.values().cloned().collect();
        // Rows that it has written itself can be read.
        self.coordinator = Coordinator::restore(config, records, self.now).ok();
        self.handle(Event::Tick, lie);
    }

    fn done(&mut self) -> Option<u64> {
        match *self.work.take()? {
            Work::SetAccess { token, .. }
            | Work::Inspect { token, .. }
            | Work::CommitFirstOffsets { token, .. } => Some(token),
        }
    }

    fn task(&self) -> Task {
        match self.work.as_deref() {
            None => Task::None,
            Some(Work::Inspect { .. }) => Task::Look(self.begun.is_some()),
            Some(Work::SetAccess { side, access, .. }) => Task::Access(*side, *access),
            Some(Work::CommitFirstOffsets { .. }) => Task::FirstOffsets,
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::with_seed(1).build_hasher();
        hasher.write_u64(self.store.print);
        self.task().hash(&mut hasher);
        let kept = self.kept.as_ref().map(|(coordinator, _)| coordinator);
        if let Some(coordinator) = self.coordinator.as_ref().or(kept) {
            // A look that has not begun begins later than everything that was.
            let looks = matches!(self.task(), Task::Look(_));
            let look = looks.then(|| self.begun.unwrap_or(self.now));
            coordinator.fingerprint(self.now, look, &mut hasher);
        }
        hasher.finish()
    }

    fn brief(&self, fleet: &Fleet) -> Brief {
        let row = self.store.topic();
        let plan = row
            .as_ref()
            .map_or_else(|| plan(Stage::SourceOnly, 0, 0), |row| row.plan.clone());
        let goal = row.as_ref().map_or(plan.stage, |row| row.goal);
        let reopened = row.as_ref().map_or(0, |row| row.reopened);
        let reopening = row.is_some_and(|row| row.reopening.is_some());
        let inner = plan.stage.toward(Stage::DualWrite);
        let heading = plan.stage.toward(goal);
        let heading = heading.or(inner.filter(|_| reopening));
        let coordinator = self.coordinator.as_ref();
        let view = coordinator.and_then(|known| known.topic(TOPIC, self.now));
        let seal = view.as_ref().and_then(|view| view.seal.as_ref());
        let at_rest = heading.is_none() && unread(plan.stage).is_some();
        let mut standing = [None; SLOTS];
        for instance in coordinator
            .iter()
            .flat_map(|known| known.instances(self.now))
        {
            let slot = (0..SLOTS).find(|slot| incarnation(*slot) == instance.incarnation);
            if let Some(slot) = slot.filter(|slot| *slot < fleet.slots.len())
                && !instance.superseded
            {
                standing[slot] = Some(instance.standing);
            }
        }
        Brief {
            up: coordinator.is_some(),
            stage: plan.stage,
            revision: plan.revision.0,
            previous: plan.previous_revision.0,
            goal,
            heading,
            reopened,
            settled: view.as_ref().is_some_and(|view| view.settled),
            claims: at_rest && seal.is_some_and(|seal| seal.passed),
            looks: seal.map_or(0, |seal| seal.numbers["looks"].as_u64().unwrap_or(0).min(2)),
            waits: coordinator
                .and_then(Coordinator::next_tick)
                .is_some_and(|due| due > self.now),
            task: self.task(),
            standing,
        }
    }
}

fn timing() -> Timing {
    Timing {
        lease: LEASE,
        margin: Duration::ZERO,
        // A look may begin at any time.
        inspect_moving: Duration::ZERO,
        inspect_resting: Duration::ZERO,
        change_bound: BOUND,
        // No broker is restarted here.
        relist: Duration::ZERO,
        forget: LEASE * 1_000,
    }
}

/// A plan of the topic.
#[must_use]
pub fn plan(stage: Stage, revision: u64, previous: u64) -> TopicPlan {
    TopicPlan {
        topic: TOPIC.into(),
        stage,
        weight: half(),
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(previous),
    }
}

fn half() -> Weight {
    Weight::from_basis_points(5_000).unwrap_or_default()
}

fn command(command: Command) -> Event {
    Event::Command {
        actor: Actor {
            name: "ann".into(),
            role: "operator".into(),
        },
        command,
    }
}

fn group_name(group: usize) -> Arc<str> {
    format!("group-{group}").into()
}

fn name_of(name: usize) -> String {
    format!("instance-{name}")
}

fn incarnation(slot: usize) -> String {
    format!("{slot:032}")
}

fn client_id(slot: usize) -> String {
    format!("client-{slot}")
}

fn queue_id(queue: usize) -> QueueId {
    QueueId {
        broker: "broker".into(),
        queue: u32::try_from(queue).unwrap_or(0),
    }
}

fn request(report: Report, fleet: &Fleet) -> SyncRequest {
    let slot = &fleet.slots[report.slot];
    let topic: Arc<str> = TOPIC.into();
    let sides = Side::BOTH
        .into_iter()
        .filter(|side| report.assigned[side.index()])
        .map(|side| SideState {
            side,
            queues: u32::try_from(MESSAGES).unwrap_or(1),
            queue_ids: (0..MESSAGES)
                .map(|queue| queue_id(queue).to_string())
                .collect(),
            unreadable: Vec::new(),
        });
    let consumes = slot.group.map(|group| ConsumerState {
        group: group_name(group),
        sides: sides.collect(),
    });
    SyncRequest {
        version: wire::VERSION,
        instance: name_of(fleet.name(report.slot)),
        incarnation: incarnation(report.slot),
        lease_mode: slot.lease_mode,
        client_ids: vec![client_id(report.slot)],
        roles: vec![Role {
            topic: Arc::clone(&topic),
            produces: slot.produces,
            consumes: consumes.into_iter().collect(),
        }],
        acks: report
            .acked
            .map(|acked| (Arc::clone(&topic), Revision(acked)))
            .into_iter()
            .collect(),
        refused: report
            .refused
            .map(|revision| Refused {
                topic,
                revision: Revision(revision),
                reason: "two stages away".into(),
            })
            .into_iter()
            .collect(),
        ..SyncRequest::default()
    }
}

fn facts(look: Look, begun: Duration, fleet: &Fleet) -> Facts {
    let listed = |slot: &usize| look.listed >> slot & 1 == 1;
    let client = |slot: usize| ConnectedClient {
        client_id: client_id(slot),
        ..ConnectedClient::default()
    };
    let slots = || 0..fleet.slots.len();
    let producers: Vec<_> = slots()
        .filter(|slot| fleet.slots[*slot].produces && listed(slot))
        .map(client)
        .collect();
    let members = |group: usize| GroupFacts {
        exists: true,
        members: GroupMembers {
            clients: slots()
                .filter(|slot| fleet.slots[*slot].group == Some(group) && listed(slot))
                .map(client)
                .collect(),
            ..GroupMembers::default()
        },
    };
    let sides = Side::BOTH.map(|side| {
        if look.silent == Some(side) {
            return SideFacts {
                unknown: vec!["no answer".into()],
                ..SideFacts::default()
            };
        }
        let seen = look.sides[side.index()];
        let access = look.access[side.index()];
        let groups = || (0..fleet.groups()).map(|group| (group_name(group), group));
        SideFacts {
            access: Some(access),
            queues: match access {
                Access::Sealed => Default::default(),
                _ => (0..MESSAGES).map(queue_id).collect(),
            },
            ends: (0..MESSAGES)
                .map(|queue| (queue_id(queue), u64::from(seen.ends[queue])))
                .collect(),
            groups: groups()
                .map(|(name, group)| (name, members(group)))
                .collect(),
            backlogs: groups()
                .map(|(name, group)| (name, backlog(&seen, group)))
                .collect(),
            producers: Some(producers.clone()),
            ..SideFacts::default()
        }
    });
    Facts { begun, sides }
}

fn backlog(seen: &Seen, group: usize) -> Backlog {
    let line = |queue: usize, end: u64, committed: u64| QueueBacklog {
        queue: queue_id(queue),
        min: 0,
        end,
        committed: Some(committed),
    };
    let topic = (0..MESSAGES).map(|queue| {
        let passed = seen.passed[group][queue];
        line(queue, u64::from(seen.ends[queue]), u64::from(passed))
    });
    let retry = (0..MESSAGES).map(|queue| {
        let (end, passed) = seen.retries[group][queue];
        line(queue, u64::from(end), u64::from(passed))
    });
    Backlog {
        queues: topic.collect(),
        retry: retry.collect(),
        delayed: Some(u64::from(seen.delayed[group])),
        half: Some(u64::from(seen.half)),
        dead_letters: Some(0),
        retry_of_others: 0,
    }
}
