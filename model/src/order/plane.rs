//! The control plane of an ordered topic under exploration: the coordinator's own code, kept once for each different state.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    backend::TopicSettings,
    stage::{TopicPlan, Weight},
};
use crossfade_control_plane::{
    coordinator::{
        Command, Config, Coordinator, Event, Limits, META_KEY, Standing, TopicRecord, Work,
    },
    record::{Kind, Record},
};
use foldhash::{fast, quality::FixedState};
use serde_json::json;

use super::{
    SLOTS,
    told::{
        FIRST, GROUP, LEASE, TOPIC, command, facts, first_plan, name_of, queue_id, request, timing,
        weight,
    },
};
use crate::plane::Store;

/// A control plane, by number.
pub(super) type PlaneId = u32;

/// What an instance says in one request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Report {
    pub(super) slot: usize,
    /// The revision that it has applied.
    pub(super) acked: Option<u64>,
}

/// What happens to a control plane.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Input {
    Sync(Report),
    Decide(u16),
    Gone(usize),
    /// A look: of each side the end and what the group has committed.
    Looked([(u8, u8); 2]),
    /// The end of the side being left.
    Ends(u8),
    LeasePasses([Option<Report>; SLOTS]),
    /// The freeze in force has lasted too long.
    FreezeEnds,
    Crash,
    Restart,
}

/// The work under way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Task {
    None,
    Look,
    /// Of this side.
    ReadEnds(usize),
}

/// What the world sees of a control plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brief {
    pub(super) up: bool,
    /// The plan in force, by number.
    pub(super) plan: u16,
    pub(super) revision: u64,
    /// Keys are frozen.
    pub(super) frozen: bool,
    /// The side that they leave.
    pub(super) leaves: usize,
    pub(super) settled: bool,
    pub(super) listens: bool,
    pub(super) task: Task,
    pub(super) standing: [Option<Standing>; SLOTS],
}

/// All control planes and all plans that were met.
#[derive(Debug, Default)]
pub(super) struct Planes {
    kept: Vec<(Plane, Brief)>,
    plans: Vec<TopicPlan>,
    numbers: HashMap<u64, PlaneId, fast::FixedState>,
    next: HashMap<(PlaneId, Input), PlaneId, fast::FixedState>,
}

impl Planes {
    pub(super) fn new() -> Self {
        Planes::default()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn brief(&self, id: PlaneId) -> &Brief {
        &self.kept[id as usize].1
    }

    pub(super) fn plan(&self, number: u16) -> &TopicPlan {
        &self.plans[usize::from(number)]
    }

    /// One that has just started on a store in which an ordered topic rests in `DualWrite`, with all keys on the source.
    pub(super) fn start(&mut self) -> PlaneId {
        let plane = Plane::start();
        self.keep(plane)
    }

    /// What an input makes of one.
    pub(super) fn take(&mut self, id: PlaneId, input: Input) -> PlaneId {
        if let Some(known) = self.next.get(&(id, input)) {
            return *known;
        }
        let mut plane = self.kept[id as usize].0.clone();
        plane.take(input);
        let next = self.keep(plane);
        self.next.insert((id, input), next);
        next
    }

    fn keep(&mut self, plane: Plane) -> PlaneId {
        let print = plane.fingerprint();
        if let Some(known) = self.numbers.get(&print) {
            return *known;
        }
        let id = PlaneId::try_from(self.kept.len()).unwrap_or(PlaneId::MAX);
        let brief = self.see(&plane);
        self.kept.push((plane, brief));
        self.numbers.insert(print, id);
        id
    }

    fn see(&mut self, plane: &Plane) -> Brief {
        let row = plane.store.topic(TOPIC);
        let plan = row.map_or_else(first_plan, |row| row.plan);
        let known = self.plans.iter().position(|one| *one == plan);
        let number = known.unwrap_or(self.plans.len());
        let frozen = plan.frozen().map(|frozen| frozen.from.index());
        let coordinator = plane.coordinator.as_ref();
        let view = coordinator.and_then(|known| known.topic(TOPIC, plane.now));
        let mut standing = [None; SLOTS];
        for instance in coordinator
            .iter()
            .flat_map(|known| known.instances(plane.now))
        {
            let slot = (0..SLOTS).find(|slot| name_of(*slot) == instance.instance);
            if let Some(slot) = slot {
                standing[slot] = Some(instance.standing);
            }
        }
        let brief = Brief {
            up: coordinator.is_some(),
            plan: u16::try_from(number).unwrap_or(u16::MAX),
            revision: plan.revision.0,
            frozen: frozen.is_some(),
            leaves: frozen.unwrap_or(0),
            settled: view.is_some_and(|view| view.settled),
            listens: coordinator.is_some_and(|known| known.listening(plane.now).is_some()),
            task: plane.task(),
            standing,
        };
        if known.is_none() {
            self.plans.push(plan);
        }
        brief
    }
}

#[derive(Clone, Debug)]
struct Plane {
    coordinator: Option<Coordinator>,
    store: Arc<Store>,
    now: Duration,
    work: Option<Arc<Work>>,
    epoch: u64,
}

impl Plane {
    fn start() -> Self {
        let settings = || TopicSettings {
            queues: 1,
            saved: json!({}),
        };
        let record = TopicRecord::new(
            first_plan(),
            Weight::ZERO,
            vec![GROUP.into()],
            [settings(), settings()],
        );
        // As it is written, so that writing it anew changes nothing.
        let meta = json!({"revision": FIRST, "removed": [], "kept": [], "clusters": {}});
        let rows = [
            (Kind::Topic, TOPIC, json!(record)),
            (Kind::Meta, META_KEY, meta),
        ];
        let rows: BTreeMap<_, _> = rows
            .map(|(kind, key, value)| {
                let key = key.to_owned();
                ((kind, key.clone()), Record { kind, key, value })
            })
            .into();
        let mut plane = Plane {
            coordinator: None,
            store: Arc::new(Store::new(rows)),
            now: Duration::from_secs(1),
            work: None,
            epoch: 0,
        };
        plane.take(Input::Restart);
        // It has listened to nobody for a lease, as after each start.
        plane.now += LEASE + Duration::from_secs(1);
        plane.handle(Event::Tick);
        plane.looks();
        plane
    }

    fn take(&mut self, input: Input) {
        self.happens(input);
        self.looks();
    }

    /// Where nothing else is under way the next look begins.
    fn looks(&mut self) {
        let frozen = self
            .store
            .topic(TOPIC)
            .is_some_and(|row| row.plan.frozen().is_some());
        let due = self.coordinator.as_ref().and_then(Coordinator::next_tick);
        if let Some(due) = due.filter(|due| !frozen && *due > self.now) {
            self.now = due;
            self.handle(Event::Tick);
        }
    }

    fn happens(&mut self, input: Input) {
        let event = match input {
            Input::Sync(report) => Event::Sync(request(report)),
            Input::Decide(share) => command(Command::SetWeight {
                topic: TOPIC.into(),
                weight: weight(share),
            }),
            Input::Gone(slot) => command(Command::ConfirmGone {
                instance: name_of(slot),
                reason: "switched off".into(),
            }),
            Input::Looked(seen) => {
                let Some(Work::Inspect { token, .. }) = self.work.take().as_deref().cloned() else {
                    return;
                };
                let begun = self.now;
                // Whatever it makes of it happens later.
                self.now += Duration::from_millis(1);
                Event::Facts {
                    topic: TOPIC.into(),
                    token,
                    facts: facts(seen, begun),
                }
            }
            Input::Ends(end) => {
                let work = self.work.take();
                let Some(Work::ReadEnds { frozen, token, .. }) = work.as_deref() else {
                    return;
                };
                Event::Ends {
                    topic: TOPIC.into(),
                    token: *token,
                    frozen: *frozen,
                    result: Ok([(queue_id(), end.into())].into()),
                }
            }
            Input::LeasePasses(reports) => {
                for _ in 0..2 {
                    self.now += LEASE / 2 + Duration::from_secs(1);
                    for report in reports.into_iter().flatten() {
                        self.handle(Event::Sync(request(report)));
                    }
                }
                Event::Tick
            }
            Input::FreezeEnds => {
                let due = self.coordinator.as_ref().and_then(Coordinator::next_tick);
                self.now = self.now.max(due.unwrap_or_default());
                Event::Tick
            }
            Input::Crash => {
                self.coordinator = None;
                self.work = None;
                return;
            }
            Input::Restart => {
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
                let records = self.store.records();
                // Rows that it has written itself can be read.
                self.coordinator = Coordinator::restore(config, records, self.now).ok();
                Event::Tick
            }
        };
        self.handle(event);
    }

    /// Decide, store, then act: the order of the server's driver.
    fn handle(&mut self, event: Event) {
        let Some(coordinator) = &mut self.coordinator else {
            return;
        };
        let step = coordinator.handle(event, self.now);
        self.store = Store::changed(&self.store, step.change);
        // One piece of work at a time for a topic.
        let next = step.work.into_iter().next().map(Arc::new);
        self.work = next.or(self.work.take());
    }

    fn task(&self) -> Task {
        match self.work.as_deref() {
            Some(Work::Inspect { .. }) => Task::Look,
            Some(Work::ReadEnds { side, .. }) => Task::ReadEnds(side.index()),
            // Both sides are open, and stay so.
            None | Some(Work::SetAccess { .. } | Work::CommitFirstOffsets { .. }) => Task::None,
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::with_seed(1).build_hasher();
        hasher.write_u64(self.store.print());
        self.task().hash(&mut hasher);
        if let Some(Work::ReadEnds { frozen, .. }) = self.work.as_deref() {
            frozen.hash(&mut hasher);
        }
        if let Some(coordinator) = &self.coordinator {
            let looks = self.task() == Task::Look;
            coordinator.fingerprint(self.now, looks.then_some(self.now), &mut hasher);
        }
        hasher.finish()
    }
}
