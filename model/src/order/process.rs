//! Producers and consumers of an ordered topic, by the SDK's own rules: `route`, `adopt`, `holds`, `is_passed`.

use crossfade::{
    Revision, Side,
    stage::{Route, adopt, bucket_of},
};
use crossfade_control_plane::coordinator::Standing;

use super::{
    CAPACITY, MESSAGES, Out, PRODUCERS, World,
    mutation::Mutation,
    plane::{Input, Report},
    state::{Act, Process, Record, Run, Send, State, Try},
};

impl World {
    pub(super) fn process(&mut self, state: &State, slot: usize, out: &mut Out) {
        match state.processes[slot].run {
            Run::Dead => {
                // A successor that starts beside a process which is not known to be gone is another instance.
                let standing = self.brief(state).standing[slot];
                if matches!(standing, None | Some(Standing::Harmless)) {
                    let mut next = *state;
                    next.processes[slot].run = Run::Up;
                    next.processes[slot].blind = true;
                    out.push((Act::Restarts(slot), next));
                }
            }
            Run::Frozen => {
                let mut next = *state;
                next.processes[slot].run = Run::Up;
                out.push((Act::Wakes(slot), next));
            }
            Run::Up => {
                self.faults(state, slot, out);
                if self.reaches(state, slot) {
                    let mut next = *state;
                    self.sync(&mut next, slot);
                    out.push((Act::Syncs(slot), next));
                }
                match slot < PRODUCERS {
                    true => self.produce(state, slot, out),
                    false => self.consume(state, slot, out),
                }
            }
        }
    }

    /// Which of the keys a message has.
    fn key(&self, message: u8) -> u8 {
        let key = self.scene.keys.get(usize::from(message));
        key.copied().unwrap_or_default()
    }

    /// That key itself.
    fn name(&self, message: u8) -> u8 {
        self.keys[usize::from(self.key(message))]
    }

    fn faults(&self, state: &State, slot: usize, out: &mut Out) {
        if state.faults == 0 {
            return;
        }
        let kinds = self.scene.kinds;
        let mut failed = *state;
        failed.faults -= 1;
        if kinds.crash {
            let mut next = failed;
            next.processes[slot] = Process {
                run: Run::Dead,
                over: false,
                send: Send::None,
                ..next.processes[slot]
            };
            out.push((Act::Crashes(slot), next));
        }
        if kinds.freeze {
            let mut next = failed;
            next.processes[slot].run = Run::Frozen;
            out.push((Act::Freezes(slot), next));
        }
        if kinds.cut && !state.processes[slot].cut {
            let mut next = failed;
            next.processes[slot].cut = true;
            out.push((Act::IsCutOff(slot), next));
        }
    }

    /// One request and its answer.
    pub(super) fn sync(&mut self, state: &mut State, slot: usize) {
        let report = self.report(state, slot);
        self.tell(state, Input::Sync(report));
        self.answered(state, slot);
    }

    /// The answer brings the newest plan.
    pub(super) fn answered(&self, state: &mut State, slot: usize) {
        let newest = self.brief(state).plan;
        let process = &mut state.processes[slot];
        let current = self.planes.plan(process.plan);
        if adopt(Some(current), self.planes.plan(newest)).is_err() {
            state.broken = Some("ADOPT: an instance refuses a plan of the control plane");
        }
        process.plan = newest;
        process.over = false;
        process.blind = false;
    }

    /// What an instance says of itself now: a producer has applied its plan when no send under another one is without an end.
    pub(super) fn report(&self, state: &State, slot: usize) -> Report {
        let process = &state.processes[slot];
        let routed = match process.send {
            Send::None | Send::Held(_) => process.plan,
            Send::Routed(one) | Send::Unanswered(one) => one.plan,
        };
        let applied = routed == process.plan || self.lies(Mutation::ProducerAcksWithOldSend);
        let revision = self.plan(process).revision.0;
        Report {
            slot,
            acked: applied.then_some(revision),
        }
    }

    /// In mode stop nothing is a success that outlives the lease.
    pub(super) fn lease_ends(&self, process: &mut Process) {
        if process.run == Run::Dead {
            return;
        }
        process.over = true;
        let kept = self.lies(Mutation::LateAnswerIsSuccess);
        process.send = match process.send {
            Send::Routed(one) => Send::Routed(Try { late: !kept, ..one }),
            Send::Unanswered(one) if !kept => Send::Held(one.message),
            other => other,
        };
    }

    fn produce(&self, state: &State, slot: usize, out: &mut Out) {
        let process = &state.processes[slot];
        let holds = process.over || process.blind && !self.lies(Mutation::BlindProducerSends);
        let put = |send: Send| {
            let mut next = *state;
            next.processes[slot].send = send;
            next
        };
        match process.send {
            Send::None if !holds => {
                let message = state.called;
                let Some(key) = self.scene.keys.get(usize::from(message)) else {
                    return;
                };
                let mut next = put(self.routed(process, message));
                next.called += 1;
                let earlier =
                    (0..message).filter(|one| state.is_acked(*one) && self.key(*one) == *key);
                next.before[usize::from(message)] = earlier.fold(0, |set, one| set | 1 << one);
                out.push((Act::Calls(slot, *key), next));
            }
            Send::Held(message) if !holds => {
                if let Send::Routed(one) = self.routed(process, message) {
                    out.push((Act::Routes(slot, one.side), put(Send::Routed(one))));
                }
            }
            Send::Routed(one) if usize::from(state.queues[one.side].len) < CAPACITY => {
                let mut stored = *state;
                let revision = self.planes.plan(one.plan).revision.0;
                stored.append(one, revision);
                let mut next = stored;
                if one.late {
                    next.processes[slot].send = Send::Held(one.message);
                } else {
                    next.acked |= 1 << one.message;
                    next.processes[slot].send = Send::None;
                }
                out.push((Act::Arrives(slot), next));
                if state.faults > 0 && self.scene.kinds.answer {
                    let mut next = stored;
                    next.faults -= 1;
                    next.processes[slot].send = match one.late {
                        true => Send::Held(one.message),
                        false => Send::Unanswered(one),
                    };
                    out.push((Act::ArrivesUnanswered(slot), next));
                    let unanswered = next.processes[slot].send;
                    let mut next = put(unanswered);
                    next.faults -= 1;
                    out.push((Act::IsLost(slot), next));
                }
            }
            Send::Unanswered(one) => {
                let elsewhere = self.lies(Mutation::AmbiguousSendRetriedElsewhere);
                let side = if elsewhere { 1 - one.side } else { one.side };
                out.push((
                    Act::TriesAgain(slot),
                    put(Send::Routed(Try { side, ..one })),
                ));
            }
            _ => {}
        }
    }

    /// By the plan, or held.
    fn routed(&self, process: &Process, message: u8) -> Send {
        let plan = self.plan(process);
        let name = [self.name(message)];
        let side = match plan.route(Some(&name), || 0) {
            Route::To(side) => side,
            Route::Held if self.lies(Mutation::FreezeNotKept) => {
                plan.write_plan().side(Some(&name), || 0)
            }
            Route::Held => return Send::Held(message),
        };
        Send::Routed(Try {
            message,
            side: side.index(),
            plan: process.plan,
            late: false,
        })
    }

    /// A handler is entered, and ends, in one step: whether it may be entered depends on what was handled, and while a handler runs its message counts as
    /// not handled just as it did before.
    fn consume(&self, state: &State, slot: usize, out: &mut Out) {
        let side = slot - PRODUCERS;
        let process = &state.processes[slot];
        let queue = &state.queues[side];
        let head = queue.at[usize::from(queue.committed).min(CAPACITY - 1)].message;
        if queue.committed < queue.len && state.is_handled(head) {
            let mut next = *state;
            next.commit(side);
            out.push((Act::Passes(slot), next));
        }
        for place in queue.committed..queue.len {
            let record = queue.at[usize::from(place)];
            let key = self.key(record.message);
            // A key's messages of one queue are handled one after the other.
            let mut earlier = (queue.committed..place).map(|at| queue.at[usize::from(at)].message);
            let is_first = earlier.all(|one| self.key(one) != key || state.is_handled(one));
            let handled = state.is_handled(record.message);
            if !is_first || handled || !self.released(state, process, side, record) {
                continue;
            }
            let mut next = *state;
            if state.before[usize::from(record.message)] & !state.handled != 0 {
                next.broken = Some(
                    "P3: a handler is entered before a message of the same key that was acknowledged earlier",
                );
            }
            next.handled |= 1 << record.message;
            next.commit(side);
            out.push((Act::Handles(slot, record.message), next));
        }
    }

    /// Whether the consumer of a side may hand a record out.
    fn released(&self, state: &State, process: &Process, side: usize, record: Record) -> bool {
        let plan = self.plan(process);
        let revision = record.revision.into();
        if plan.revision.0 < revision && !self.lies(Mutation::OlderPlanHandles) {
            return false;
        }
        if self.lies(Mutation::ReleaseNotKept) {
            return true;
        }
        let bucket = bucket_of(&[self.name(record.message)]);
        let committed = state.queues[1 - side].committed;
        let mut moves = plan.moves.iter();
        moves.all(|moving| {
            !moving.holds(Side::BOTH[side], bucket, Revision(revision))
                || moving.is_passed(|_| Some(committed.into()))
        })
    }
}

impl State {
    fn is_acked(&self, message: u8) -> bool {
        self.acked >> message & 1 == 1
    }

    fn is_handled(&self, message: u8) -> bool {
        self.handled >> message & 1 == 1
    }

    fn append(&mut self, one: Try, revision: u64) {
        let queue = &mut self.queues[one.side];
        queue.at[usize::from(queue.len)] = Record {
            message: one.message,
            revision: u8::try_from(revision).unwrap_or(u8::MAX),
        };
        queue.len += 1;
    }

    /// What lies behind the offset of the group, and what went before messages and is handled, decides nothing any more.
    pub(super) fn forget(&mut self) {
        for queue in &mut self.queues {
            queue.at[..usize::from(queue.committed)].fill(Record::default());
        }
        for before in &mut self.before {
            *before &= !self.handled;
        }
    }

    /// A group's offset passes whatever was handled.
    fn commit(&mut self, side: usize) {
        let handled = self.handled;
        let queue = &mut self.queues[side];
        while queue.committed < queue.len
            && handled >> queue.at[usize::from(queue.committed)].message & 1 == 1
        {
            queue.committed += 1;
        }
    }
}

// Messages are bits of a byte.
const _: () = assert!(MESSAGES <= 8);
