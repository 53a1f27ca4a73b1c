//! One control plane: the coordinator, its store, its clock and the work under way.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crossfade::{backend::TopicSettings, stage::Stage};
use crossfade_control_plane::{
    coordinator::{
        Answer, Command, Config, Coordinator, Event, Limits, META_KEY, Terms, Timing, TopicRecord,
        Work,
    },
    record::{Change, Kind, Record},
};
use foldhash::quality::FixedState;
use serde_json::json;

use super::{
    Brief, Decision, FIRST, Input, Look, TOPIC, Task,
    told::{command, facts, group_name, half, incarnation, name_of, plan, request},
    unread,
};
use crate::{
    fleet::{Fleet, MESSAGES, SLOTS},
    mutation::Mutation,
};

/// A lease with its margin. Everything else together is shorter than half of it.
const LEASE: Duration = Duration::from_secs(1_000_000_000);

/// How long a change without an answer may still land.
const BOUND: Duration = Duration::from_secs(1_000);

/// What is stored. Few inputs change it, so most control planes share theirs.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    rows: BTreeMap<(Kind, String), Record>,
    print: u64,
}

impl Store {
    pub(crate) fn new(rows: BTreeMap<(Kind, String), Record>) -> Self {
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

    /// The store after a change; the same one where nothing changes.
    pub(crate) fn changed(before: &Arc<Store>, change: Change) -> Arc<Store> {
        if change.puts.is_empty() && change.deletes.is_empty() {
            return Arc::clone(before);
        }
        let mut rows = before.rows.clone();
        for record in change.puts {
            rows.insert((record.kind, record.key.clone()), record);
        }
        for key in change.deletes {
            rows.remove(&key);
        }
        Arc::new(Store::new(rows))
    }

    pub(crate) fn topic(&self, name: &str) -> Option<TopicRecord> {
        let row = self.rows.get(&(Kind::Topic, name.to_owned()))?;
        serde_json::from_value(row.value.clone()).ok()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.rows.values().cloned().collect()
    }

    pub(crate) fn print(&self) -> u64 {
        self.print
    }
}

#[derive(Clone, Debug)]
pub(super) struct Plane {
    coordinator: Option<Coordinator>,
    store: Arc<Store>,
    now: Duration,
    work: Option<Arc<Work>>,
    begun: Option<Duration>,
    /// What the last look saw, for a mutation that says it again.
    pub(super) last: Option<Look>,
    /// What a mutation keeps over a crash.
    kept: Option<(Coordinator, Arc<Work>)>,
    epoch: u64,
}

impl Plane {
    /// One that has just started on a store in which the topic rests in `stage`.
    pub(super) fn start(stage: Stage, fleet: &Fleet, lie: Option<Mutation>) -> Self {
        let settings = || TopicSettings {
            queues: u32::try_from(MESSAGES).unwrap_or(1),
            saved: json!({}),
        };
        let record = TopicRecord::new(
            plan(stage, FIRST, FIRST - 1),
            half(),
            (0..fleet.groups()).map(group_name).collect(),
            [settings(), settings()],
        );
        // As it is written, so that writing it anew changes nothing.
        let meta = json!({"revision": FIRST, "removed": [], "kept": [], "clusters": {}});
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
        plane.restart(lie);
        // It has listened to nobody for a lease, as after each start.
        plane.now += LEASE + Duration::from_secs(1);
        plane.handle(Event::Tick, lie);
        plane
    }

    pub(super) fn take(&mut self, input: Input, fleet: &Fleet, lie: Option<Mutation>) -> bool {
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
        let mut change = step.change;
        if lie == Some(Mutation::MembershipNotStored) {
            change.puts.retain(|record| record.kind != Kind::Instance);
        }
        if lie == Some(Mutation::ChangeUnderWayNotStored) {
            for row in &mut change.puts {
                row.value
                    .as_object_mut()
                    .and_then(|row| row.remove("changing"));
            }
        }
        self.store = Store::changed(&self.store, change);
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
        let records = self.store.records();
        // Rows that it has written itself can be read.
        self.coordinator = Coordinator::restore(config, records, self.now).ok();
        self.handle(Event::Tick, lie);
    }

    fn done(&mut self) -> Option<u64> {
        match *self.work.take()? {
            Work::SetAccess { token, .. }
            | Work::Inspect { token, .. }
            | Work::CommitFirstOffsets { token, .. }
            | Work::ReadEnds { token, .. } => Some(token),
        }
    }

    fn task(&self) -> Task {
        match self.work.as_deref() {
            // The topic here is unordered: no keys are frozen.
            None | Some(Work::ReadEnds { .. }) => Task::None,
            Some(Work::Inspect { .. }) => Task::Look(self.begun.is_some()),
            Some(Work::SetAccess { side, access, .. }) => Task::Access(*side, *access),
            Some(Work::CommitFirstOffsets { .. }) => Task::FirstOffsets,
        }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = FixedState::with_seed(1).build_hasher();
        hasher.write_u64(self.store.print());
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

    pub(super) fn brief(&self, fleet: &Fleet) -> Brief {
        let row = self.store.topic(TOPIC);
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
            listens: coordinator.is_some_and(|known| known.listening(self.now).is_some()),
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
        reconnect: Duration::ZERO,
        forget: LEASE * 1_000,
        freeze: BOUND,
        freeze_again: Duration::ZERO,
    }
}
