//! What must hold at every moment, and what rest is.

use crossfade::{
    Side,
    control::{ContactState, wire::LeaseMode},
};
use crossfade_control_plane::coordinator::Standing;

use crate::{
    fleet::SLOTS,
    plane::{Brief, unread},
    send::sides,
    state::{Message, Place, Process, Run, Send, State},
    world::World,
};

impl World {
    /// The property that a state breaks.
    pub(crate) fn breaks(&self, state: &State) -> Option<&'static str> {
        if state.broken.is_some() {
            return state.broken;
        }
        let brief = self.brief(state);
        let sealed = unread(brief.stage).filter(|_| brief.claims);
        if sealed.is_some_and(|side| !state.is_sealed(side)) {
            return Some(
                "W: an end stage is called sealed and proved, and its unread side takes sends",
            );
        }
        if state.shut(brief.known()) {
            return Some("P4: the plan in force writes to a side that is sealed");
        }
        self.loses(state, sealed)
            .or_else(|| self.mixes(state, &brief))
            .or_else(|| self.deceives(state, &brief))
    }

    fn loses(&self, state: &State, sealed: Option<Side>) -> Option<&'static str> {
        for message in state.messages.iter().flatten().filter(|one| one.acked) {
            if message.at.contains(&Place::Skipped) {
                return Some("P1: a group begins behind a message that was acked");
            }
            let open = message.at.iter().any(|at| at.is_open());
            if open && sealed == Some(message.side) && !message.late {
                return Some(
                    "P1: an end stage is called sealed and proved, and an acked message waits on its unread side",
                );
            }
            for (group, at) in message.at.iter().enumerate() {
                if at.is_open() && self.is_blind(state, group, message) {
                    return Some(
                        "P1: the consumers of a group run, cut off, and read the other side for ever",
                    );
                }
            }
        }
        None
    }

    /// All running consumers of a group are cut off for ever, and none will read the side of a message.
    fn is_blind(&self, state: &State, group: usize, message: &Message) -> bool {
        let mut running = false;
        for slot in self.consumers(group).filter(|slot| state.is_up(*slot)) {
            let process = &state.processes[slot];
            let mut later = *process;
            later.contact = self.without_lease(slot);
            if !process.cut || self.wants(&later, message.side) {
                return false;
            }
            // One that stops is no reader by its own choice.
            running |= later.contact != ContactState::Stopped;
        }
        running
    }

    /// Only neighbouring stages coexist.
    fn mixes(&self, state: &State, brief: &Brief) -> Option<&'static str> {
        for slot in 0..SLOTS {
            let process = &state.processes[slot];
            let (Some(plan), true) = (process.plan, process.member && process.run == Run::Up)
            else {
                continue;
            };
            let far =
                |stage: crossfade::stage::Stage| (stage as u8).abs_diff(brief.stage as u8) > 1;
            let Some(acked) = process.acked else { continue };
            if far(plan.stage) {
                return Some("N: a member acts by a plan that is two stages away");
            }
            if routed(process).is_some_and(|one| one.revision < acked && far(one.stage)) {
                return Some("N: a member's send is under way by a plan that is two stages away");
            }
            // In mode `stop` a consumer leaves by its own lease, and comes back.
            let life = self.scene.fleet.slots[slot];
            let stays = life.group.is_some() && life.lease_mode == LeaseMode::Continue;
            if stays && sides(brief.known()).any(|side| !process.reads[side.index()]) {
                return Some("N: the plan in force writes to a side that a member does not read");
            }
        }
        None
    }

    /// Nobody is called harmless who can act, except by an operator's word.
    fn deceives(&self, state: &State, brief: &Brief) -> Option<&'static str> {
        let acts = |slot: &usize| {
            let process = &state.processes[*slot];
            process.run == Run::Up && !process.slept && process.contact != ContactState::Stopped
        };
        let harmless = |slot: &usize| brief.standing[*slot] == Some(Standing::Harmless);
        let called = (0..SLOTS).filter(harmless).any(|slot| acts(&slot));
        called.then_some("P5: an instance that runs and acts is called harmless")
    }

    fn consumers(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        let slots = &self.scene.fleet.slots;
        (0..SLOTS).filter(move |slot| slots[*slot].group == Some(group))
    }

    /// The topic has settled, each send has an end, and each acked message is handled; or a group has no member that reads, which the gates name,
    /// and nothing waits where nobody would look.
    pub(crate) fn rests(&self, state: &State) -> bool {
        let brief = self.brief(state);
        if !brief.up || state.late.is_some() {
            return false;
        }
        let sent = |process: &Process| process.run != Run::Up || process.send == Send::None;
        let acked = || state.messages.iter().flatten().filter(|one| one.acked);
        let handled = acked().all(|message| !message.at.iter().any(|at| at.is_open()));
        if brief.settled && handled && state.processes.iter().all(sent) {
            return true;
        }
        let named = (0..self.scene.fleet.groups()).any(|group| {
            let reads = |slot: usize| {
                let process = &state.processes[slot];
                process.run == Run::Up && process.contact != ContactState::Stopped && process.member
            };
            !self.consumers(group).any(reads)
        });
        // The first step forward unseals the target before it is published, and waits, by name, until every group has a reader.
        let on_the_way = brief.heading.is_some_and(|next| unread(next).is_none());
        let unread = unread(brief.stage).filter(|_| !on_the_way);
        let read = |message: &Message| {
            unread != Some(message.side) || message.at.iter().all(|at| !at.is_open())
        };
        named && acked().all(read)
    }
}

/// The plan of the send under way.
fn routed(process: &Process) -> Option<crate::state::Known> {
    match process.send {
        Send::None => None,
        Send::Routed(one) | Send::Unanswered(one, _) | Send::Waits(one) => Some(one.plan),
        Send::Half(plan, _) => Some(plan),
    }
}
