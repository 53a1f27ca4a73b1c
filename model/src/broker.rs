//! The two brokers: messages on their way, and what a look sees of them.

use crossfade::Side;

use crate::{
    fleet::MESSAGES,
    mutation::Mutation,
    plane::{Brief, Input, Look, Seen, Task, unread},
    state::{Act, Message, Place, Run, Send, State},
    world::{Out, World},
};

/// The parts of a look, in the order in which they are read: the topic, the retry topics, what is delayed or half.
pub(crate) const PARTS: u8 = 3;

impl World {
    /// Messages move by themselves.
    pub(crate) fn brokers(&mut self, state: &State, out: &mut Out) {
        for (number, message) in (0_u8..).zip(&state.messages) {
            let Some(message) = message else { continue };
            let index = usize::from(number);
            let later = |at: &Place| matches!(at, Place::Delayed | Place::Backoff);
            if message.at.iter().any(later) {
                let mut next = *state;
                let lag = self.lag(state, message.side);
                if let Some(message) = &mut next.messages[index] {
                    message.fall_due(lag);
                }
                out.push((Act::FallsDue(number), next));
            }
            if message.lag != 0 {
                let mut next = *state;
                if let Some(message) = &mut next.messages[index] {
                    message.lag = 0;
                }
                out.push((Act::Dispatched(number), next));
            }
            let kept = state.processes.iter().any(|process| {
                process.run == Run::Up
                    && matches!(process.send, Send::Half(_, copy) if copy == number)
            });
            if message.at.contains(&Place::Half) && !kept {
                let mut next = *state;
                if let Some(message) = &mut next.messages[index] {
                    for at in message.at.iter_mut().filter(|at| **at == Place::Half) {
                        *at = Place::GivenUp;
                    }
                }
                out.push((Act::TransactionGivenUp(number), next));
            }
        }
    }

    /// The look under way goes on. On the side whose emptiness is asked it reads one place after the other, and whatever happens happens between.
    pub(crate) fn look(&mut self, state: &State, brief: &Brief, out: &mut Out) {
        let begun = matches!(brief.task, Task::Look(true));
        if !begun && state.faults > 0 && self.scene.bounds.kinds.silent {
            for side in Side::BOTH {
                self.silence(state, side, out);
            }
        }
        let side = match (state.seen, brief.critical()) {
            (Some((side, ..)), _) => side,
            (None, Some(side)) => side,
            (None, None) => {
                // Nothing is decided by what either side owes: one step.
                let mut next = *state;
                if !begun {
                    self.tell(&mut next, Input::LookBegins);
                }
                self.finish(&mut next, None);
                out.push((Act::Look(PARTS), next));
                return;
            }
        };
        if state.parts == 0 && !self.is_dispatched(state, brief, side) {
            return;
        }
        let mut next = *state;
        if !begun {
            self.tell(&mut next, Input::LookBegins);
        }
        let (_, mut seen, access) = next.seen.unwrap_or((side, Seen::default(), next.shown));
        self.see(&mut seen, state, side, next.parts);
        next.seen = Some((side, seen, access));
        next.parts += 1;
        if next.parts == PARTS || self.copies(brief, side) {
            self.finish(&mut next, Some((side, brief)));
        }
        out.push((Act::Look(state.parts), next));
    }

    fn is_dispatched(&self, state: &State, brief: &Brief, side: Side) -> bool {
        let waits = match self.lie {
            Some(Mutation::DispatchNotAwaited) => false,
            Some(Mutation::DispatchAwaitedOnce) => brief.looks == 0,
            _ => true,
        };
        let mut messages = state.messages.iter().flatten();
        !waits || messages.all(|message| message.side != side || message.lag == 0)
    }

    /// The second look under the seal is no look.
    fn copies(&self, brief: &Brief, side: Side) -> bool {
        self.lies(Mutation::OneLookUnderTheSeal)
            && brief.looks == 1
            && Some(side) == brief.critical()
    }

    /// The look is over: what it saw is told.
    fn finish(&mut self, state: &mut State, asked: Option<(Side, &Brief)>) {
        let mut look = Look {
            access: state.seen.map_or(state.shown, |(.., access)| access),
            sides: Side::BOTH.map(|side| self.see_all(state, side)),
            listed: self.listed(state),
            silent: None,
        };
        if let (Some((side, mut seen, _)), Some((_, brief))) = (state.seen, asked) {
            if self.copies(brief, side) {
                seen = self.planes.last_seen(state.plane, side).unwrap_or(seen);
            }
            if self.hides(brief, side) {
                seen = Seen::default();
            }
            look.sides[side.index()] = seen;
        }
        state.end_look();
        self.tell(state, Input::Looked(look));
    }

    fn hides(&self, brief: &Brief, side: Side) -> bool {
        let at_rest = brief.heading.is_none() && unread(brief.stage) == Some(side);
        match self.lie {
            Some(Mutation::NoReverseDrain) => side == Side::Target,
            Some(Mutation::SealedAgainUnproved) => at_rest && !brief.claims,
            Some(Mutation::NoWatchOverTheSeal) => at_rest && brief.claims,
            _ => false,
        }
    }

    fn silence(&mut self, state: &State, side: Side, out: &mut Out) {
        let mut next = *state;
        next.faults -= 1;
        self.tell(&mut next, Input::LookBegins);
        let mut look = Look {
            access: next.shown,
            sides: Side::BOTH.map(|side| self.see_all(&next, side)),
            listed: self.listed(&next),
            silent: Some(side),
        };
        if self.lies(Mutation::SilenceTakenForEmpty) {
            look.silent = None;
            look.sides[side.index()] = Seen::default();
        }
        next.end_look();
        self.tell(&mut next, Input::Looked(look));
        out.push((Act::Silent(side), next));
    }

    /// Which instances the brokers list: those that run. A frozen one is dropped after a while.
    pub(crate) fn listed(&self, state: &State) -> u8 {
        let hidden = self.lies(Mutation::LostInstanceUnlisted);
        let listed = state
            .connected()
            .filter(|slot| !(hidden && state.processes[*slot].cut));
        // Instances that an operator has called gone are no unmanaged clients here: whoever meets that gate may override it.
        let known = listed.filter(|slot| self.brief(state).standing[*slot].is_some());
        known.fold(0, |bits, slot| bits | 1 << slot)
    }

    pub(crate) fn see_all(&self, state: &State, side: Side) -> Seen {
        let mut seen = Seen::default();
        for part in 0..PARTS {
            self.see(&mut seen, state, side, part);
        }
        seen
    }

    fn see(&self, seen: &mut Seen, state: &State, side: Side, part: u8) {
        let groups = self.scene.fleet.groups();
        for (number, message) in state.messages.iter().enumerate().take(MESSAGES) {
            let Some(message) = message.filter(|message| message.side == side) else {
                continue;
            };
            for group in 0..groups {
                let at = message.at[group];
                let lags = message.lag >> group & 1 == 1;
                match part {
                    0 => {
                        let before = matches!(at, Place::Delayed | Place::Half | Place::GivenUp);
                        seen.ends[number] |= !(before || lags && at == Place::Waiting);
                        let handled =
                            matches!(at, Place::Handled(_)) && self.lies(Mutation::HandlersLeftOut);
                        let owed = matches!(at, Place::Waiting | Place::Handled(_));
                        seen.passed[group][number] = !before && (!owed || handled);
                    }
                    1 if !self.lies(Mutation::RetryLeftOut) => {
                        let come = message.retries[group];
                        let handled = matches!(at, Place::HandledAgain(_))
                            && self.lies(Mutation::HandlersLeftOut);
                        let owed = matches!(at, Place::Retry | Place::HandledAgain(_)) && !handled;
                        let shown = come - u8::from(lags && at == Place::Retry);
                        seen.retries[group][number] = (shown, come - u8::from(owed));
                    }
                    2 => {
                        let later = matches!(at, Place::Delayed | Place::Backoff) && !lags;
                        if !self.lies(Mutation::DelayedLeftOut) {
                            seen.delayed[group] += u8::from(later);
                        }
                    }
                    _ => {}
                }
            }
            let half = part == 2 && message.at.contains(&Place::Half);
            seen.half += u8::from(half && !self.lies(Mutation::HalfLeftOut));
        }
    }
}

impl Message {
    fn fall_due(&mut self, lag: u8) {
        for group in 0..self.at.len() {
            match self.at[group] {
                Place::Delayed => self.at[group] = Place::Waiting,
                Place::Backoff => {
                    self.at[group] = Place::Retry;
                    self.retries[group] += 1;
                }
                _ => continue,
            }
            self.lag |= lag & 1 << group;
        }
    }
}

impl State {
    /// The groups begin at the end of a side.
    pub(crate) fn skip_all(&mut self, side: Side) {
        for message in self.messages.iter_mut().flatten() {
            for at in &mut message.at {
                if message.side == side && *at == Place::Waiting {
                    *at = Place::Skipped;
                }
            }
        }
    }
}
