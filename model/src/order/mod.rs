//! Ordered topics: keys change sides in `DualWrite` while producers send, consumers read by the stamps of messages, and anything fails.
//!
//! Four processes: two producers, one in each lease mode, and one group with a consumer for each side. Two keys, on both sides of the middle weight.

mod mutation;
mod plan;
mod plane;
mod process;
mod state;
mod told;

use crossfade::stage::{BUCKETS, TopicPlan, bucket_of};
use crossfade_control_plane::coordinator::Standing;

pub use self::{
    mutation::{ALL, Entry, Mutation},
    plan::{FAMILIES, Family, Faults, Scene, WIDE, scene_of},
    state::{Act, State},
};
use self::{
    plane::{Brief, Input, PlaneId, Planes, Report, Task},
    state::{Process, Queue, Run, Send},
};
use crate::engine;

/// The producers: the first goes on without its lease, the second stops.
const PRODUCERS: usize = 2;
/// The processes: producers, then the consumer of the source and that of the target.
const SLOTS: usize = 4;
/// Messages, at most.
const MESSAGES: usize = 3;
/// Records of a queue, at most: a send may be stored more than once.
const CAPACITY: usize = 5;

/// The world of one exploration.
#[derive(Debug)]
pub struct World {
    scene: Scene,
    planes: Planes,
    lie: Option<Mutation>,
    /// The keys: the first is on the target from half of the weight on, the second only at all of it.
    keys: [u8; 2],
}

/// Collects what can happen.
type Out = Vec<(Act, State)>;

impl World {
    /// The world of a scene, with one rule switched off or none.
    #[must_use]
    pub fn new(scene: Scene, lie: Option<Mutation>) -> Self {
        let half = |key: &u8| usize::from(bucket_of(&[*key]) >= BUCKETS / 2);
        let key = |wanted: usize| (b'a'..=b'z').find(|key| half(key) == wanted);
        World {
            scene,
            planes: Planes::new(),
            lie,
            // There are both among the letters.
            keys: [0, 1].map(|half| key(half).unwrap_or_default()),
        }
    }

    /// How many different control planes were met.
    #[must_use]
    pub fn planes(&self) -> usize {
        self.planes.len()
    }

    fn lies(&self, mutation: Mutation) -> bool {
        self.lie == Some(mutation)
    }

    fn brief(&self, state: &State) -> Brief {
        *self.planes.brief(state.plane)
    }

    fn plan(&self, process: &Process) -> &TopicPlan {
        self.planes.plan(process.plan)
    }

    /// Tells the control plane something.
    fn tell(&mut self, state: &mut State, input: Input) {
        let frozen = self.brief(state).frozen;
        state.plane = self.planes.take(state.plane, input);
        if self.lies(Mutation::AcksNotAwaited) {
            for slot in 0..PRODUCERS {
                let brief = self.brief(state);
                if brief.standing[slot] == Some(Standing::Live) {
                    let acked = Some(brief.revision);
                    let claimed = Input::Sync(Report { slot, acked });
                    state.plane = self.planes.take(state.plane, claimed);
                }
            }
        }
        let brief = self.brief(state);
        if self.lies(Mutation::EndsReadEarly) && brief.frozen && !frozen {
            state.early = Some(state.queues[brief.leaves].len);
        }
    }

    /// Whether a process and the control plane reach each other.
    fn reaches(&self, state: &State, slot: usize) -> bool {
        let process = &state.processes[slot];
        self.brief(state).up && process.run == Run::Up && !process.cut
    }

    fn control_plane(&mut self, state: &State, out: &mut Out) {
        let brief = self.brief(state);
        if !brief.up {
            let mut next = *state;
            self.tell(&mut next, Input::Restart);
            out.push((Act::PlaneRestarts, next));
            return;
        }
        if let Some(weight) = self.scene.weights.get(usize::from(state.decided)) {
            let mut next = *state;
            next.decided += 1;
            self.tell(&mut next, Input::Decide(*weight));
            out.push((Act::Decide(*weight), next));
        }
        for slot in 0..SLOTS {
            let run = state.processes[slot].run;
            let unlisted = run == Run::Frozen && self.lies(Mutation::ListsBelieved);
            let gone = run == Run::Dead || unlisted;
            if gone && brief.standing[slot] == Some(Standing::Lost) {
                let mut next = *state;
                self.tell(&mut next, Input::Gone(slot));
                out.push((Act::Gone(slot), next));
            }
        }
        match brief.task {
            Task::None => {}
            Task::Look => {
                let mut next = *state;
                let seen = self.seen(state);
                self.tell(&mut next, Input::Looked(seen));
                out.push((Act::Looked, next));
            }
            Task::ReadEnds(side) => match state.read {
                None => {
                    let mut next = *state;
                    let end = state.early.unwrap_or(state.queues[side].len);
                    next.read = Some(end);
                    out.push((Act::EndsRead(end), next));
                }
                Some(end) => {
                    let mut next = *state;
                    next.read = None;
                    self.tell(&mut next, Input::Ends(end));
                    out.push((Act::EndsTold, next));
                }
            },
        }
        let stands_still = brief.frozen && self.lies(Mutation::FreezeNotCalledOff);
        if brief.frozen && !stands_still && state.faults > 0 && self.scene.kinds.slow {
            let mut next = *state;
            next.faults -= 1;
            self.tell(&mut next, Input::FreezeEnds);
            out.push((Act::FreezeEnds, next));
        }
        if state.faults > 0 && self.scene.kinds.plane {
            let mut next = *state;
            next.faults -= 1;
            next.read = None;
            self.tell(&mut next, Input::Crash);
            out.push((Act::PlaneCrashes, next));
        }
        if !stands_still {
            self.leases(state, &brief, out);
        }
    }

    /// What a look tells: of each side the last barrier that the group has passed. Nothing else that it could tell decides anything here, and so one
    /// look is like another until a barrier is passed.
    fn seen(&self, state: &State) -> [(u8, u8); 2] {
        let brief = self.brief(state);
        let plan = self.planes.plan(brief.plan);
        let all = self.lies(Mutation::MovesForgotten);
        [0, 1].map(|side| {
            let moves = plan
                .moves
                .iter()
                .filter(|moving| moving.from.index() == side);
            let barriers = moves.flat_map(|moving| moving.barrier.iter().flatten());
            let ends = barriers.filter_map(|queue| u8::try_from(queue.end_offset).ok());
            let passed = ends.filter(|end| all || *end <= state.queues[side].committed);
            let passed = passed.max().unwrap_or(0);
            (passed, passed)
        })
    }

    /// All leases of those that are out of contact end; the others renew theirs meanwhile.
    fn leases(&mut self, state: &State, brief: &Brief, out: &mut Out) {
        let ends = |slot: usize| {
            brief.standing[slot] == Some(Standing::Live) && !self.reaches(state, slot)
        };
        if !(0..SLOTS).any(ends) && !brief.listens {
            return;
        }
        let mut next = *state;
        let mut reports = [None; SLOTS];
        for (slot, report) in reports.iter_mut().enumerate() {
            let renews = self.reaches(state, slot) && brief.standing[slot].is_some();
            *report = renews.then(|| self.report(state, slot));
        }
        self.tell(&mut next, Input::LeasePasses(reports));
        for (slot, report) in reports.iter().enumerate() {
            if report.is_some() {
                self.answered(&mut next, slot);
            }
            if !self.reaches(state, slot) && self.scene.stops(slot) {
                self.lease_ends(&mut next.processes[slot]);
            }
        }
        out.push((Act::LeasePasses, next));
    }
}

impl engine::World for World {
    type State = State;
    type Act = Act;

    fn start(&mut self) -> State {
        let plane = self.planes.start();
        let mut state = State::new(plane, self.planes.brief(plane).plan, self.scene.faults);
        for slot in 0..SLOTS {
            self.sync(&mut state, slot);
        }
        for slot in 0..SLOTS {
            self.sync(&mut state, slot);
        }
        if self.brief(&state).task == Task::Look {
            self.tell(&mut state, Input::Looked([(0, 0); 2]));
        }
        state
    }

    fn next(&mut self, state: &State, out: &mut Out) {
        self.control_plane(state, out);
        for slot in 0..SLOTS {
            self.process(state, slot, out);
        }
        for (_, next) in out {
            next.forget();
        }
    }

    fn broken(&mut self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn is_rest(&mut self, state: &State) -> bool {
        let brief = self.brief(state);
        // Whoever stands still or never comes back is what blocks, by name.
        let named = |process: &Process| process.run == Run::Frozen || process.cut;
        let ended = |process: &Process| {
            process.run == Run::Dead || named(process) || process.send == Send::None
        };
        let reads = state.acked & !state.handled == 0;
        brief.up
            && !brief.frozen
            && (reads || state.processes[PRODUCERS..].iter().any(named))
            && state.processes[..PRODUCERS].iter().all(ended)
            && (brief.settled || state.processes.iter().any(named))
    }

    fn helps(&self, act: Act) -> bool {
        !matches!(
            act,
            Act::Decide(_)
                | Act::PlaneCrashes
                | Act::FreezeEnds
                | Act::Calls(..)
                | Act::ArrivesUnanswered(_)
                | Act::IsLost(_)
                | Act::Crashes(_)
                | Act::Freezes(_)
                | Act::Wakes(_)
                | Act::IsCutOff(_)
        )
    }
}

impl State {
    fn new(plane: PlaneId, plan: u16, faults: u8) -> State {
        let process = Process {
            run: Run::Up,
            plan,
            cut: false,
            over: false,
            blind: false,
            send: Send::None,
        };
        State {
            plane,
            read: None,
            early: None,
            decided: 0,
            processes: [process; SLOTS],
            queues: [Queue::default(); 2],
            called: 0,
            before: [0; MESSAGES],
            acked: 0,
            handled: 0,
            faults,
            broken: None,
        }
    }
}
