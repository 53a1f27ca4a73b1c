//! The world: what can happen at one moment. The control plane's part is here; instances, sends and brokers have files of their own.

use crossfade::{Access, Side, control::ContactState, stage::Stage};
use crossfade_control_plane::coordinator::Standing;

use crate::{
    engine,
    fleet::{Begins, MESSAGES, SLOTS, Scene},
    mutation::Mutation,
    plane::{Brief, Decision, FIRST, Input, Look, PlaneId, Planes, Report, Task, unread},
    state::{Act, Known, Process, Run, Send, State},
};

/// The world of one exploration.
#[derive(Debug)]
pub struct World {
    pub(crate) scene: Scene,
    pub(crate) planes: Planes,
    pub(crate) lie: Option<Mutation>,
}

/// Collects what can happen.
pub(crate) type Out = Vec<(Act, State)>;

impl World {
    /// The world of a scene, with one rule switched off or none.
    #[must_use]
    pub fn new(scene: Scene, lie: Option<Mutation>) -> Self {
        World {
            scene,
            planes: Planes::new(scene.fleet, lie),
            lie,
        }
    }

    /// How many different control planes were met.
    #[must_use]
    pub fn planes(&self) -> usize {
        self.planes.len()
    }

    pub(crate) fn lies(&self, mutation: Mutation) -> bool {
        self.lie == Some(mutation)
    }

    /// What the world sees of the control plane.
    pub fn brief(&self, state: &State) -> Brief {
        *self.planes.brief(state.plane)
    }

    /// Tells the control plane something, and notes what it now thinks of the members.
    pub(crate) fn tell(&mut self, state: &mut State, input: Input) -> bool {
        let before = *self.planes.brief(state.plane);
        let (plane, superseded) = self.planes.take(state.plane, input);
        state.plane = plane;
        if self.lies(Mutation::AcksNotAwaited) {
            self.claim_acks(state);
        }
        let plane = state.plane;
        let after = *self.planes.brief(plane);
        for (slot, process) in state.processes.iter_mut().enumerate() {
            let ended = match after.standing[slot] {
                Some(Standing::Harmless) => true,
                Some(Standing::Live | Standing::Lost) => false,
                // Only where the control plane itself has ended it: a store that forgets does not.
                None => after.up && before.standing[slot].is_some(),
            };
            if ended {
                process.member = false;
                process.acked = None;
            }
        }
        superseded
    }

    /// Each producer is said to have applied whatever is published.
    fn claim_acks(&mut self, state: &mut State) {
        for slot in 0..SLOTS {
            let brief = self.brief(state);
            let live = brief.standing[slot] == Some(Standing::Live);
            if live && self.scene.fleet.slots[slot].produces {
                let claimed = Report {
                    acked: Some(brief.revision),
                    ..self.report(state, slot)
                };
                state.plane = self.planes.take(state.plane, Input::Sync(claimed)).0;
            }
        }
    }

    /// Whether a process and the control plane reach each other.
    pub(crate) fn reaches(&self, state: &State, slot: usize) -> bool {
        let process = &state.processes[slot];
        self.brief(state).up && process.run == Run::Up && !process.cut
    }

    fn control_plane(&mut self, state: &State, out: &mut Out) {
        let brief = self.brief(state);
        let may_fail = state.faults > 0;
        if !brief.up {
            let mut next = *state;
            self.tell(&mut next, Input::Restart);
            out.push((Act::PlaneRestarts, next));
        } else {
            self.operators(state, &brief, out);
            self.work(state, &brief, out);
            if may_fail && self.scene.bounds.kinds.plane && state.late.is_none() {
                let mut next = *state;
                next.faults -= 1;
                self.crash(&mut next);
                out.push((Act::PlaneCrashes, next));
            }
        }
        if let Some((side, access)) = state.late {
            let mut next = *state;
            next.late = None;
            next.set_access(side, access);
            out.push((Act::LateAccess, next));
        }
        let quiet = brief.up && brief.waits;
        if quiet || (state.late.is_some() && self.lies(Mutation::ChangeUnderWayTakenForDone)) {
            let mut next = *state;
            next.late = None;
            self.tell(&mut next, Input::BoundPasses);
            out.push((Act::BoundPasses, next));
        }
        self.leases(state, &brief, out);
    }

    /// What was sent to the brokers may still be done.
    pub(crate) fn crash(&mut self, state: &mut State) {
        if let Task::Access(side, access) = self.brief(state).task
            && !std::mem::take(&mut state.made)
        {
            state.late = Some((side, access));
        }
        state.end_look();
        self.tell(state, Input::Crash);
    }

    fn operators(&mut self, state: &State, brief: &Brief, out: &mut Out) {
        let asked = brief.revision - FIRST + u64::from(brief.goal != brief.stage);
        let mut decisions = Vec::new();
        if brief.goal != brief.stage {
            decisions.push(Decision::Cancel);
        } else if asked < self.scene.bounds.changes && brief.reopened <= 1 {
            if brief.stage != Stage::TargetOnly {
                decisions.push(Decision::Advance);
            }
            if brief.stage != Stage::SourceOnly {
                decisions.push(Decision::Rollback);
            }
        }
        for decision in decisions {
            let mut next = *state;
            self.tell(&mut next, Input::Decide(decision));
            out.push((Act::Decide(decision), next));
        }
        for (slot, name) in (0_u8..).zip(0..SLOTS) {
            if brief.standing[name] == Some(Standing::Lost) {
                let mut next = *state;
                self.tell(&mut next, Input::Gone(name));
                out.push((Act::Gone(slot), next));
            }
        }
    }

    fn work(&mut self, state: &State, brief: &Brief, out: &mut Out) {
        let may_fail = state.faults > 0;
        let kinds = self.scene.bounds.kinds;
        match brief.task {
            Task::None => {}
            Task::Look(_) => self.look(state, brief, out),
            Task::FirstOffsets => {
                let mut next = *state;
                if self.lies(Mutation::FirstOffsetLatest) && !state.first_offsets {
                    next.skip_all(Side::Target);
                }
                next.first_offsets = true;
                self.tell(&mut next, Input::FirstOffsets);
                out.push((Act::FirstOffsets, next));
            }
            Task::Access(side, access) => {
                if state.made {
                    let mut next = *state;
                    next.made = false;
                    self.tell(&mut next, Input::Accessed(true));
                    out.push((Act::AccessAnswered, next));
                } else {
                    let mut next = *state;
                    next.made = true;
                    let unseals = state.access[side.index()] == Access::Sealed;
                    if self.lies(Mutation::SealOnlyCloses) && access == Access::Sealed {
                        next.shown[side.index()] = access;
                    } else if self.lies(Mutation::UnsealOnlyReported) && unseals {
                        next.shown[side.index()] = access;
                        next.late = Some((side, access));
                    } else {
                        next.set_access(side, access);
                    }
                    out.push((Act::AccessMade, next));
                }
                if may_fail && kinds.answer && state.late.is_none() {
                    let mut next = *state;
                    next.faults -= 1;
                    if !std::mem::take(&mut next.made) {
                        next.late = Some((side, access));
                    }
                    let taken = self.lies(Mutation::ChangeUnderWayTakenForDone);
                    if taken {
                        next.shown[side.index()] = access;
                    }
                    self.tell(&mut next, Input::Accessed(taken));
                    out.push((Act::AccessUnanswered, next));
                }
            }
        }
    }

    /// All leases of those that are out of contact end; the others renew theirs meanwhile. A control plane that has just started has listened for long
    /// enough.
    fn leases(&mut self, state: &State, brief: &Brief, out: &mut Out) {
        let ends = |slot: usize| {
            let process = &state.processes[slot];
            let seen = brief.standing[slot] == Some(Standing::Live);
            let own = process.contact == ContactState::Valid
                && matches!(process.run, Run::Up | Run::Frozen)
                && process.member;
            (seen || own) && !self.reaches(state, slot)
        };
        if !(0..SLOTS).any(ends) && !brief.listens {
            return;
        }
        let mut next = *state;
        if brief.up {
            // The time of a change without an answer is over long before.
            next.late = None;
            let mut reports = [None; SLOTS];
            for (slot, report) in reports.iter_mut().enumerate() {
                let renews = self.reaches(state, slot) && brief.standing[slot].is_some();
                *report = renews.then(|| self.report(state, slot));
            }
            self.tell(&mut next, Input::LeasePasses(reports));
            for (slot, report) in reports.into_iter().enumerate() {
                if let Some(report) = report {
                    self.answered(&mut next, slot, report);
                }
            }
        }
        for slot in 0..SLOTS {
            let process = &mut next.processes[slot];
            let unreached = !brief.up || process.run != Run::Up || process.cut;
            if unreached && process.contact == ContactState::Valid && process.plan.is_some() {
                process.contact = self.without_lease(slot);
            }
        }
        out.push((Act::LeasePasses, next));
    }

    /// One that rests: everybody who runs at the start has applied the plan, both sides are as the stage says, and the control plane knows it.
    fn settle(&mut self, plane: PlaneId) -> State {
        let from = self.scene.from;
        let mut state = State::new(plane, from, &self.scene);
        for slot in 0..SLOTS {
            let life = self.scene.fleet.slots[slot];
            let process = &mut state.processes[slot];
            if life.unmanaged.is_some() {
                process.run = Run::Up;
                process.cut = true;
            } else if life.begins == Begins::Running {
                process.run = Run::Up;
                self.sync(&mut state, slot);
                let process = &mut state.processes[slot];
                if life.group.is_some() {
                    let unread = unread(from);
                    process.reads = Side::BOTH.map(|side| Some(side) != unread);
                    process.note_applied();
                }
                self.sync(&mut state, slot);
            }
        }
        // Two looks under the seal prove it; the first one of all finds how things are.
        for _ in 0..8 {
            if let Task::Look(_) = self.brief(&state).task {
                self.tell(&mut state, Input::LookBegins);
                let look = self.whole_look(&state);
                self.tell(&mut state, Input::Looked(look));
            }
        }
        for slot in 0..SLOTS {
            if self.reaches(&state, slot) {
                self.sync(&mut state, slot);
            }
        }
        state
    }

    fn whole_look(&self, state: &State) -> Look {
        Look {
            access: state.shown,
            sides: Side::BOTH.map(|side| self.see_all(state, side)),
            listed: self.listed(state),
            silent: None,
        }
    }
}

impl engine::World for World {
    type State = State;
    type Act = Act;

    fn start(&mut self) -> State {
        let plane = self.planes.start(self.scene.from);
        self.settle(plane)
    }

    fn next(&mut self, state: &State, out: &mut Out) {
        self.control_plane(state, out);
        for slot in 0..SLOTS {
            self.process(state, slot, out);
        }
        self.brokers(state, out);
    }

    fn broken(&mut self, state: &State) -> Option<&'static str> {
        self.breaks(state)
    }

    fn is_rest(&mut self, state: &State) -> bool {
        self.rests(state)
    }

    fn helps(&self, act: Act) -> bool {
        !matches!(
            act,
            Act::Decide(_)
                | Act::Silent(_)
                | Act::AccessUnanswered
                | Act::PlaneCrashes
                | Act::Starts(_)
                | Act::StartsFromDisk(_)
                | Act::StartsFromDiskForGood(_)
                | Act::SyncsUnanswered(_)
                | Act::Crashes(_)
                | Act::Freezes(_)
                | Act::Wakes(_)
                | Act::IsCutOff(_)
                | Act::Fails(..)
                | Act::Routes(..)
                | Act::ArrivesDelayed(_)
                | Act::ArrivesUnanswered(_)
                | Act::ArrivesHalf(_)
        )
    }
}

impl State {
    fn new(plane: PlaneId, from: Stage, scene: &Scene) -> State {
        let access = Side::BOTH.map(|side| from.access(side));
        let nobody = Process {
            run: Run::Off,
            plan: None,
            contact: ContactState::Lost,
            cut: false,
            slept: false,
            member: false,
            acked: None,
            applied: None,
            reads: [false; 2],
            send: Send::None,
        };
        State {
            plane,
            parts: 0,
            seen: None,
            made: false,
            late: None,
            access,
            shown: access,
            first_offsets: from != Stage::SourceOnly,
            processes: [nobody; SLOTS],
            messages: [None; MESSAGES],
            sends: scene.bounds.sends,
            faults: scene.bounds.faults,
            disk: [None; SLOTS],
            broken: None,
        }
    }

    pub(crate) fn set_access(&mut self, side: Side, access: Access) {
        self.access[side.index()] = access;
        self.shown[side.index()] = access;
    }

    pub(crate) fn is_sealed(&self, side: Side) -> bool {
        self.access[side.index()] == Access::Sealed
    }

    pub(crate) fn end_look(&mut self) {
        self.parts = 0;
        self.seen = None;
    }
}

impl Brief {
    /// The plan in force, as an answer brings it.
    pub(crate) fn known(&self) -> Known {
        let number = |revision: u64| u8::try_from(revision).unwrap_or(u8::MAX);
        Known {
            stage: self.stage,
            revision: number(self.revision),
            previous: number(self.previous),
        }
    }
}
