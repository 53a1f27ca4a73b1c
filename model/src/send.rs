//! Sends: routed by the plan, and after each failed try on by the SDK's own table of rules.

use std::sync::LazyLock;

use crossfade::{
    Access, Error, ErrorKind, Persisted, Side,
    control::ContactState,
    send_rules::{Failure, Next, after},
};

use crate::{
    fleet::GROUPS,
    mutation::Mutation,
    plane::unread,
    state::{Act, Known, Message, Place, Run, Send, State, Try},
    world::{Out, World},
};

/// What a seal answers.
static SEALED: LazyLock<Error> = LazyLock::new(|| {
    Error::new(ErrorKind::Sealed, "send", "the topic takes no sends here")
        .with_persisted(Persisted::No)
});
/// What no answer is.
static LOST: LazyLock<Error> = LazyLock::new(|| {
    Error::new(ErrorKind::Timeout, "send", "no answer").with_persisted(Persisted::Maybe)
});

/// A draw that goes to the target at any weight, and one that goes to the source.
const DRAWS: [u32; 2] = [0, u32::MAX];

impl World {
    pub(crate) fn send(&mut self, state: &State, slot: usize, out: &mut Out) {
        let life = self.scene.fleet.slots[slot];
        let Ok(who) = u8::try_from(slot) else { return };
        if !life.produces {
            return;
        }
        let process = &state.processes[slot];
        // An unmanaged writer knows no plan.
        let plan = match life.unmanaged {
            Some(_) => Some(self.brief(state).known()),
            None => process.plan,
        };
        match process.send {
            Send::None => {
                let may = state.sends > 0 && !self.has_stopped(state, slot);
                let Some(plan) = plan.filter(|_| may) else {
                    return;
                };
                let routes = sides(plan).filter(|_| life.unmanaged.is_none());
                for side in routes.chain(life.unmanaged) {
                    let mut next = *state;
                    next.sends -= 1;
                    next.processes[slot].send = Send::Routed(Try {
                        plan,
                        side,
                        refused: [false; 2],
                        copy: None,
                        strayed: false,
                    });
                    out.push((Act::Routes(who, side), next));
                }
            }
            Send::Routed(one) => self.arrives(state, slot, one, out),
            Send::Unanswered(one, copy) => {
                let mut next = *state;
                let mut again = Try {
                    copy: Some(copy),
                    ..one
                };
                match after(self.failure(state, slot, &again, &LOST)) {
                    Next::SameSide { .. } => {}
                    _ => again.side = again.side.other(),
                }
                if self.lies(Mutation::AmbiguousSendRetriedElsewhere) {
                    again.side = again.side.other();
                    again.strayed = true;
                }
                next.processes[slot].send = Send::Routed(again);
                out.push((Act::TriesAgain(who), next));
            }
            Send::Half(..) => {
                let mut next = *state;
                self.commit(&mut next, slot);
                out.push((Act::Commits(who), next));
            }
            Send::Waits(one) => {
                if let Some(newer) = process
                    .plan
                    .filter(|newer| newer.revision > one.plan.revision)
                {
                    for side in sides(newer) {
                        let mut next = *state;
                        next.processes[slot].send = Send::Routed(Try {
                            plan: newer,
                            side,
                            ..one
                        });
                        out.push((Act::GoesOn(who), next));
                    }
                }
                let mut next = *state;
                next.processes[slot].send = Send::None;
                out.push((Act::GivesUp(who), next));
            }
        }
    }

    /// Its lease is over in mode `stop`, or another process has its name: nothing goes out.
    pub(crate) fn has_stopped(&self, state: &State, slot: usize) -> bool {
        let contact = state.processes[slot].contact;
        matches!(contact, ContactState::Stopped | ContactState::Superseded)
    }

    fn failure<'a>(&self, state: &State, slot: usize, one: &Try, error: &'a Error) -> Failure<'a> {
        let newest = state.processes[slot].plan;
        Failure {
            error,
            tries: 1,
            turned_away: 0,
            max_tries: 4,
            maybe_stored: one.copy.is_some(),
            other_sealed: one.refused[one.side.other().index()],
            ordered: false,
            write_plan: one.plan.writes(),
            newer_plan: newest.is_some_and(|newest| newest.revision > one.plan.revision),
            fail_over: true,
        }
    }

    /// The request reaches its broker.
    fn arrives(&mut self, state: &State, slot: usize, one: Try, out: &mut Out) {
        let Ok(who) = u8::try_from(slot) else { return };
        if state.is_sealed(one.side) {
            self.is_refused(state, slot, one, out);
            return;
        }
        let kinds = self.scene.bounds.kinds;
        let mut ended = *state;
        ended.processes[slot].send = Send::None;
        let same = one.copy.filter(|copy| {
            let first = ended.messages[usize::from(*copy)];
            first.is_some_and(|first| first.side == one.side)
        });
        if let Some(copy) = same {
            // The second copy lies beside the first, with the same key: whoever handles one has handled the other.
            if let Some(message) = &mut ended.messages[usize::from(copy)] {
                message.acked = true;
            }
            out.push((Act::Arrives(who), ended));
            return;
        }
        if !state.messages.contains(&None) {
            // No room for another one within the bounds.
            return;
        }
        if one.strayed && one.copy.is_some() {
            ended.broken =
                Some("ONCE: one send is stored on both sides, and no seal had refused it");
        }
        let mut next = ended;
        self.store(&mut next, one.side, true, Place::Waiting);
        out.push((Act::Arrives(who), next));
        if state.faults == 0 {
            return;
        }
        ended.faults -= 1;
        if kinds.delayed {
            let mut next = ended;
            self.store(&mut next, one.side, true, Place::Delayed);
            out.push((Act::ArrivesDelayed(who), next));
        }
        let managed = self.scene.fleet.slots[slot].unmanaged.is_none();
        if kinds.answer && managed {
            let mut next = ended;
            if let Some(copy) = self.store(&mut next, one.side, false, Place::Waiting) {
                next.processes[slot].send = Send::Unanswered(one, copy);
                out.push((Act::ArrivesUnanswered(who), next));
            }
        }
        if kinds.half && managed {
            let mut next = ended;
            if let Some(copy) = self.store(&mut next, one.side, false, Place::Half) {
                next.processes[slot].send = Send::Half(one.plan, copy);
                out.push((Act::ArrivesHalf(who), next));
            }
        }
    }

    fn is_refused(&mut self, state: &State, slot: usize, one: Try, out: &mut Out) {
        let Ok(who) = u8::try_from(slot) else { return };
        if self.scene.fleet.slots[slot].unmanaged.is_some() {
            // Its caller sees the error, and may try again.
            let mut next = *state;
            next.processes[slot].send = Send::None;
            next.sends += 1;
            out.push((Act::IsRefused(who), next));
            return;
        }
        if self.has_stopped(state, slot) {
            let mut next = *state;
            next.processes[slot].send = Send::None;
            out.push((Act::IsRefused(who), next));
            return;
        }
        let mut refused = one;
        refused.refused[one.side.index()] = true;
        let mut decided = after(self.failure(state, slot, &refused, &SEALED));
        if self.lies(Mutation::RefusedSendWaitsForAPlan) && decided == Next::OtherSide {
            decided = Next::AwaitPlan;
        }
        let mut put = |act: Act, send: Send, broken: Option<&'static str>| {
            let mut next = *state;
            next.processes[slot].send = send;
            next.broken = broken;
            out.push((act, next));
        };
        match decided {
            Next::Reroute => {
                let plan = state.processes[slot].plan.unwrap_or(one.plan);
                for side in sides(plan) {
                    let again = Try {
                        plan,
                        side,
                        ..refused
                    };
                    put(Act::IsRerouted(who, side), Send::Routed(again), None);
                }
            }
            Next::OtherSide => {
                let side = one.side.other();
                put(
                    Act::IsRefused(who),
                    Send::Routed(Try { side, ..refused }),
                    None,
                );
            }
            _ => {
                let published = self.brief(state);
                let newer = published.revision > u64::from(one.plan.revision);
                let refreshes = newer && self.reaches(state, slot);
                let member = state.processes[slot].member;
                let untried = !refused.refused[one.side.other().index()];
                let broken = if refreshes {
                    None
                } else if member {
                    Some(
                        "P4: a member's send is refused, and no other side or newer plan is to be had",
                    )
                } else if untried {
                    Some(
                        "P4: a refused send waits for a control plane that it does not reach, and the other side was not tried",
                    )
                } else {
                    None
                };
                put(Act::IsRefused(who), Send::Waits(refused), broken);
            }
        }
    }

    fn commit(&self, state: &mut State, slot: usize) {
        let Send::Half(_, copy) = state.processes[slot].send else {
            return;
        };
        state.processes[slot].send = Send::None;
        let Some(message) = state.messages[usize::from(copy)] else {
            return;
        };
        let lag = self.lag(state, message.side);
        if let Some(message) = &mut state.messages[usize::from(copy)] {
            message.acked = true;
            message.late = message.at.contains(&Place::GivenUp);
            message.lag |= lag;
            for at in &mut message.at {
                if matches!(at, Place::Half | Place::GivenUp) {
                    *at = Place::Waiting;
                }
            }
        }
    }

    fn store(&self, state: &mut State, side: Side, acked: bool, place: Place) -> Option<u8> {
        let free = state.messages.iter().position(Option::is_none)?;
        let groups = self.scene.fleet.groups();
        let mut at = [Place::NotOwed; GROUPS];
        at[..groups].fill(place);
        state.messages[free] = Some(Message {
            side,
            acked,
            late: false,
            lag: self.lag(state, side),
            at,
            retries: [0; GROUPS],
        });
        u8::try_from(free).ok()
    }

    /// What lags behind in the broker's dispatch. It is looked at only where somebody asks whether a side is empty.
    pub(crate) fn lag(&self, state: &State, side: Side) -> u8 {
        let brief = self.brief(state);
        let asked = brief.critical() == Some(side) || unread(brief.stage) == Some(side);
        match asked {
            true => (1 << self.scene.fleet.groups()) - 1,
            false => 0,
        }
    }
}

impl Known {
    /// Where the plan's writes go.
    pub(crate) fn writes(self) -> crossfade::stage::WritePlan {
        self.rules().write_plan()
    }
}

/// The sides to which a plan may send a message.
pub(crate) fn sides(plan: Known) -> impl Iterator<Item = Side> {
    let writes = plan.writes();
    let drawn = DRAWS.map(|draw| writes.side(None, || draw));
    Side::BOTH
        .into_iter()
        .filter(move |side| drawn.contains(side))
}

impl State {
    /// Sides to which the published plan writes and which refuse it.
    pub(crate) fn shut(&self, plan: Known) -> bool {
        sides(plan).any(|side| self.access[side.index()] == Access::Sealed)
    }

    pub(crate) fn is_up(&self, slot: usize) -> bool {
        self.processes[slot].run == Run::Up
    }
}
