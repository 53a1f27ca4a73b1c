//! What happens to a topic: looks, changes of access, publications.

use std::time::Duration;

use crossfade::{Access, Side, stage::TopicPlan};

use super::{Topic, seal::sealed_side};
use crate::coordinator::{facts::Facts, gate, row::Proved, timing::Timing};

/// Work that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    Access(Side, Access),
    FirstOffsets,
}

/// How long failed work waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Topic {
    pub(in super::super) fn looked(&mut self, facts: Facts) {
        for side in Side::BOTH {
            if let Some(grown) = &facts.side(side).grown {
                self.record.settings[side.index()].clone_from(grown);
                self.offsets_committed = false;
            }
        }
        if facts.begun >= self.changed {
            // Begun after the bound of whatever was on its way: what is seen now stays.
            self.record.changing = None;
        }
        for side in Side::BOTH {
            let seen = facts.side(side);
            if seen.unknown.is_empty() && seen.access != self.access[side.index()] {
                // Somebody else changed it, or this is the first look.
                self.access[side.index()] = seen.access;
                self.proof = None;
            }
        }
        let sealed = Side::BOTH
            .into_iter()
            .find(|side| self.has_access(*side, Access::Sealed));
        self.proof = sealed.and_then(|side| self.prove(side, &facts));
        self.watch_the_seal(&facts);
        // Somebody else may have done it.
        self.failed.take_if(|(failed, _)| match *failed {
            Failed::Access(side, access) => {
                let seen = facts.side(side);
                seen.access == Some(access) && seen.disagreement.is_none()
            }
            Failed::FirstOffsets => false,
        });
        let mut unknown = facts.sides.iter().flat_map(|side| &side.unknown);
        self.trouble = unknown
            .next()
            .or(self.failed.as_ref().map(|(_, why)| why))
            .cloned()
            .or_else(|| self.order.called_off())
            .or_else(|| self.owed_behind_the_seal(&facts));
        self.facts = Some(facts);
    }

    pub(in super::super) fn access_changed(
        &mut self,
        side: Side,
        access: Access,
        result: Result<(), String>,
        timing: &Timing,
        now: Duration,
    ) {
        self.void_proof(now);
        // The offsets must be there before anybody connects, and after every unseal.
        self.offsets_committed = false;
        match result {
            Ok(()) => {
                self.access[side.index()] = Some(access);
                self.record.changing = None;
                self.succeeded();
            }
            Err(reason) => {
                // It may have changed on some brokers, and may still change on others: nothing is proved, published or undone until
                // that is over; then they are asked.
                self.access[side.index()] = None;
                self.failed(Failed::Access(side, access), reason);
                self.not_before = now + timing.change_bound;
                self.changed = self.not_before;
            }
        }
    }

    pub(in super::super) fn first_offsets(&mut self, result: Result<(), String>, now: Duration) {
        match result {
            Ok(()) => {
                self.offsets_committed = true;
                self.succeeded();
            }
            Err(reason) => {
                self.failed(Failed::FirstOffsets, reason);
                self.not_before = now + RETRY;
            }
        }
    }

    fn succeeded(&mut self) {
        self.failed = None;
        self.trouble = None;
    }

    fn failed(&mut self, what: Failed, why: String) {
        self.trouble = Some(why.clone());
        self.failed = Some((what, why));
    }

    /// Another goal: what failed on the way to the last one is not wanted any more.
    pub(in super::super) fn goal_changes(&mut self, now: Duration) {
        self.failed = None;
        self.order.relax();
        self.void_proof(now);
    }

    pub(in super::super) fn published(&mut self, plan: TopicPlan, now: Duration) {
        let same_stage = plan.stage == self.record.plan.stage;
        self.record.reopening = None;
        self.record.plan = plan;
        self.changed = now;
        self.failed = None;
        if !same_stage {
            self.offsets_committed = false;
            let sealed = sealed_side(self.stage()).zip(self.proof.as_ref());
            self.record.abandoned = sealed.and_then(|(side, proof)| {
                gate::left_behind(&self.record, side, proof.last.side(side))
            });
            self.record.proved =
                sealed.map(|(side, proof)| Proved::of(side, proof.last.side(side)));
            self.record.overrides.clear();
        }
    }

    /// A cancel, a change of permissions or of the goal: what was proved holds no more.
    pub(in super::super) fn void_proof(&mut self, now: Duration) {
        self.proof = None;
        self.changed = now;
    }
}
