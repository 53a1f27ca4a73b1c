//! Instances: what the SDK does between a control plane and two clusters, by its own rules.

use std::sync::LazyLock;

use crossfade::{
    Side,
    control::{ContactState, wire::LeaseMode},
    stage::{Stage, TopicPlan, adopt},
};

use crate::{
    fleet::{Begins, SLOTS},
    mutation::Mutation,
    plane::{Input, Report, plan},
    state::{Act, Known, Place, Process, Run, Send, State},
    world::{Out, World},
};

/// What the rules say of each stage; revisions do not matter to them.
static PLANS: LazyLock<[TopicPlan; 5]> =
    LazyLock::new(|| Stage::ALL.map(|stage| plan(stage, 1, 0)));

impl Known {
    /// A plan for its rules only.
    pub(crate) fn rules(self) -> &'static TopicPlan {
        &PLANS[self.stage as usize]
    }

    /// The plan itself.
    pub(crate) fn plan(self) -> TopicPlan {
        plan(self.stage, self.revision.into(), self.previous.into())
    }
}

impl World {
    pub(crate) fn process(&mut self, state: &State, slot: usize, out: &mut Out) {
        let Ok(who) = u8::try_from(slot) else { return };
        if self.scene.fleet.slots[slot].unmanaged.is_some() {
            self.send(state, slot, out);
            return;
        }
        match state.processes[slot].run {
            Run::Off => self.starts(state, slot, out),
            Run::Dead => {}
            Run::Frozen => {
                let mut next = *state;
                next.processes[slot].run = Run::Up;
                out.push((Act::Wakes(who), next));
                if state.has_messages(who) {
                    let mut next = *state;
                    next.take_back(who);
                    out.push((Act::TakenBack(who), next));
                }
            }
            Run::Up => {
                self.faults(state, slot, out);
                if self.reaches(state, slot) {
                    let mut next = *state;
                    self.sync(&mut next, slot);
                    out.push((Act::Syncs(who), next));
                    let unknown = self.brief(state).standing[slot].is_none();
                    let may_fail = state.faults > 0 && state.late.is_none();
                    if unknown && may_fail && self.scene.bounds.kinds.plane {
                        let mut next = *state;
                        next.faults -= 1;
                        let report = self.report(&next, slot);
                        self.tell(&mut next, Input::Sync(report));
                        self.crash(&mut next);
                        out.push((Act::SyncsUnanswered(who), next));
                    }
                }
                self.consume(state, slot, out);
                self.send(state, slot, out);
            }
        }
    }

    fn starts(&mut self, state: &State, slot: usize, out: &mut Out) {
        let Ok(who) = u8::try_from(slot) else { return };
        let before = match self.scene.fleet.slots[slot].begins {
            Begins::Running => return,
            Begins::Late => None,
            Begins::After(before) => Some(before),
        };
        let ran = |before: usize| matches!(state.processes[before].run, Run::Dead | Run::Frozen);
        if !before.is_none_or(ran) {
            return;
        }
        let up = self.brief(state).up;
        if up {
            let mut next = *state;
            next.processes[slot].run = Run::Up;
            self.sync(&mut next, slot);
            out.push((Act::Starts(who), next));
        }
        let Some(known) = before.and_then(|before| state.disk[before]) else {
            return;
        };
        let mut next = *state;
        let process = &mut next.processes[slot];
        process.run = Run::Up;
        process.plan = Some(known);
        process.contact = self.without_lease(slot);
        if !up {
            out.push((Act::StartsFromDisk(who), next));
        }
        if state.faults > 0 && self.scene.bounds.kinds.disk {
            next.faults -= 1;
            next.processes[slot].cut = true;
            out.push((Act::StartsFromDiskForGood(who), next));
        }
    }

    /// What an instance is without its lease.
    pub(crate) fn without_lease(&self, slot: usize) -> ContactState {
        match self.scene.fleet.slots[slot].lease_mode {
            LeaseMode::Stop if !self.lies(Mutation::StopLeaseNotKept) => ContactState::Stopped,
            LeaseMode::Stop | LeaseMode::Continue => ContactState::Lost,
        }
    }

    fn faults(&mut self, state: &State, slot: usize, out: &mut Out) {
        let Ok(who) = u8::try_from(slot) else { return };
        let kinds = self.scene.bounds.kinds;
        if state.faults == 0 {
            return;
        }
        let mut next = *state;
        next.faults -= 1;
        if kinds.crash {
            let mut next = next;
            next.take_back(who);
            let process = &mut next.processes[slot];
            process.run = Run::Dead;
            process.send = Send::None;
            process.reads = [false; 2];
            out.push((Act::Crashes(who), next));
        }
        if kinds.freeze {
            let mut next = next;
            next.processes[slot].run = Run::Frozen;
            next.processes[slot].slept = true;
            out.push((Act::Freezes(who), next));
        }
        if kinds.cut && !state.processes[slot].cut {
            next.processes[slot].cut = true;
            out.push((Act::IsCutOff(who), next));
        }
    }

    /// One request and its answer. The coordinator takes the request and stores what it changes; the answer brings the newest plan.
    pub(crate) fn sync(&mut self, state: &mut State, slot: usize) {
        let report = self.report(state, slot);
        if self.tell(state, Input::Sync(report)) {
            state.processes[slot].contact = ContactState::Superseded;
            state.processes[slot].member = false;
            return;
        }
        self.answered(state, slot, report);
    }

    /// The answer brings the newest plan.
    pub(crate) fn answered(&self, state: &mut State, slot: usize, report: Report) {
        let published = self.brief(state).known();
        let process = &mut state.processes[slot];
        let far = process
            .plan
            .is_some_and(|known| (known.stage as u8).abs_diff(published.stage as u8) > 1);
        let refuses = far && self.lie == Some(Mutation::TwoStagesAwayRefused);
        let fits = process.plan == Some(published) || {
            let current = process.plan.map(Known::plan);
            adopt(current.as_ref(), &published.plan()).is_ok()
        };
        if fits && !refuses {
            process.plan = Some(published);
            process.note_applied();
            state.disk[self.scene.fleet.name(slot)] = Some(published);
        }
        process.contact = ContactState::Valid;
        process.slept = false;
        if !process.member {
            process.acked = None;
        }
        process.member = true;
        process.acked = process
            .acked
            .max(report.acked.and_then(|acked| u8::try_from(acked).ok()));
    }

    /// What an instance says of itself now.
    pub(crate) fn report(&self, state: &State, slot: usize) -> Report {
        let process = &state.processes[slot];
        let brief = self.brief(state);
        let early = self.lies(Mutation::ConsumerAcksUnsubscribed);
        let assigned = Side::BOTH.map(|side| {
            let wants = process.plan.is_some_and(|known| known.reads(side));
            let reads = process.reads[side.index()] || (early && wants);
            reads && !state.is_sealed(side)
        });
        let acked = process
            .plan
            .filter(|known| self.applied(process, *known, slot));
        let acked = acked.map(|known| u64::from(known.revision));
        let far = process.plan.filter(|known| {
            self.lies(Mutation::TwoStagesAwayRefused)
                && (known.stage as u8).abs_diff(brief.stage as u8) > 1
        });
        Report {
            slot,
            acked,
            assigned,
            refused: far.map(|_| brief.revision),
        }
    }

    /// The whole meaning of an ack: no send under an older plan is without an end, each side that the plan reads is subscribed, and each other one
    /// is stopped.
    fn applied(&self, process: &Process, known: Known, slot: usize) -> bool {
        let routed = match process.send {
            Send::None => None,
            Send::Routed(one) | Send::Unanswered(one, _) | Send::Waits(one) => Some(one.plan),
            Send::Half(plan, _) => Some(plan),
        };
        let sent = routed.is_none_or(|plan| plan == known);
        let consumes = self.scene.fleet.slots[slot].group.is_some();
        let read = process.applied == Some(known.revision);
        (sent || self.lies(Mutation::ProducerAcksWithOldSend))
            && (!consumes || read || self.lies(Mutation::ConsumerAcksUnsubscribed))
    }

    /// Whether a consumer wants to read a side.
    pub(crate) fn wants(&self, process: &Process, side: Side) -> bool {
        let Some(known) = process.plan else {
            return false;
        };
        if self.lies(Mutation::BlindConsumerReadsItsPlan) {
            return known.reads(side);
        }
        process.contact.reads(known.rules().read_plan(), side)
    }

    fn consume(&self, state: &State, slot: usize, out: &mut Out) {
        let Some(group) = self.scene.fleet.slots[slot].group else {
            return;
        };
        let Ok(who) = u8::try_from(slot) else { return };
        let process = &state.processes[slot];
        for side in Side::BOTH {
            let reads = process.reads[side.index()];
            let wants = self.wants(process, side);
            let barred = state.is_sealed(side) && self.lies(Mutation::SealedSideNotSubscribable);
            if wants && !reads && !barred {
                let mut next = *state;
                next.processes[slot].reads[side.index()] = true;
                next.processes[slot].note_applied();
                out.push((Act::Subscribes(who, side), next));
            }
            let busy = state.messages.iter().flatten().any(|message| {
                message.side == side
                    && matches!(message.at[group], Place::Handled(by) | Place::HandledAgain(by) if by == who)
            });
            if !wants && reads && !busy {
                let mut next = *state;
                next.processes[slot].reads[side.index()] = false;
                next.processes[slot].note_applied();
                out.push((Act::Unsubscribes(who, side), next));
            }
        }
        let pauses = self.has_stopped(state, slot);
        for (number, message) in (0_u8..).zip(&state.messages) {
            let Some(message) = message else { continue };
            let index = usize::from(number);
            let put = |place: Place| {
                let mut next = *state;
                if let Some(message) = &mut next.messages[index] {
                    message.at[group] = place;
                }
                next
            };
            let given =
                process.reads[message.side.index()] && !pauses && message.lag >> group & 1 == 0;
            match message.at[group] {
                Place::Waiting if given && !state.is_sealed(message.side) => {
                    out.push((Act::IsGiven(who, number), put(Place::Handled(who))));
                }
                Place::Retry if given => {
                    out.push((Act::IsGiven(who, number), put(Place::HandledAgain(who))));
                }
                Place::Handled(by) | Place::HandledAgain(by) if by == who => {
                    out.push((Act::Handles(who, number), put(Place::Done)));
                    if self.scene.bounds.kinds.handler && state.faults > 0 {
                        let mut next = put(Place::Backoff);
                        next.faults -= 1;
                        let lag = self.lag(state, message.side) & 1 << group;
                        if let Some(message) = &mut next.messages[index] {
                            message.lag |= lag;
                        }
                        out.push((Act::Fails(who, number), next));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Process {
    /// Notes whether the sides are as the plan says.
    pub(crate) fn note_applied(&mut self) {
        let Some(known) = self.plan else { return };
        let reads = |side: Side| self.reads[side.index()] == known.reads(side);
        if Side::BOTH.into_iter().all(reads) {
            self.applied = Some(known.revision);
        }
    }
}

impl Known {
    /// Whether the plan reads a side.
    pub(crate) fn reads(self, side: Side) -> bool {
        self.rules().read_plan().includes(side)
    }
}

impl State {
    fn has_messages(&self, who: u8) -> bool {
        let places = self
            .messages
            .iter()
            .flatten()
            .flat_map(|message| message.at);
        let mut places = places.into_iter();
        places.any(|at| matches!(at, Place::Handled(by) | Place::HandledAgain(by) if by == who))
    }

    /// What a process had in its handlers is delivered again.
    fn take_back(&mut self, who: u8) {
        for message in self.messages.iter_mut().flatten() {
            for at in &mut message.at {
                match *at {
                    Place::Handled(by) if by == who => *at = Place::Waiting,
                    Place::HandledAgain(by) if by == who => *at = Place::Retry,
                    _ => {}
                }
            }
        }
    }

    /// The processes that the brokers would list.
    pub(crate) fn connected(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SLOTS).filter(|slot| self.processes[*slot].run == Run::Up)
    }
}
