//! The proof that a sealed side owes nothing, and the watch over that side afterwards.

use crossfade::{Access, Revision, Side, stage::Stage};

use super::{Topic, inner};
use crate::coordinator::{
    facts::Facts,
    fingerprint::debug,
    gate::{self, Gate},
    row::{Proved, Reopening},
};

/// Looks under the confirmed seal that found the same offsets and nothing owed.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) side: Side,
    pub(super) last: Facts,
    looks: u32,
}

/// Two: one alone is no snapshot, because a delayed message can fall due between two of its reads.
const LOOKS: u32 = 2;
impl Topic {
    /// How far the seal and its proof are, where the stage or the step under way asks for one.
    pub(in super::super) fn seal_gate(&self) -> Option<Gate> {
        let stage = self.heading().unwrap_or(self.stage());
        let side = sealed_side(stage)?;
        let looks = self.proof.as_ref().filter(|proof| proof.side == side);
        let looks = looks.map_or(0, |proof| proof.looks);
        Some(gate::of_seal(side, self.access[side.index()], looks, LOOKS))
    }

    /// The side that is sealed on the way to `next`, where something got in between the first look and the seal: it has to be read before anything else,
    /// whoever is lost meanwhile. To open a side for readers takes nobody's ack.
    pub(super) fn slipped_in(&self, next: Stage) -> Option<Side> {
        let side = sealed_side(next).filter(|side| self.has_access(*side, Access::Sealed))?;
        let facts = self.fresh_facts()?;
        (gate::beyond(&self.record, side, facts.side(side)) > 0).then_some(side)
    }

    pub(super) fn is_proved(&self, side: Side) -> bool {
        self.proof
            .as_ref()
            .is_some_and(|proof| proof.side == side && proof.looks >= LOOKS)
    }

    /// The standing watch over the unread side of an end stage: what landed there after the proof has to be read, so the step back is taken. It starts
    /// from the proof's own offsets, so nothing falls between, and who comes later is not fed what others have read.
    pub(super) fn watch_the_seal(&mut self, facts: &Facts) {
        let at_rest = self.stage() == self.record.goal && self.record.reopening.is_none();
        let Some(side) = sealed_side(self.stage()).filter(|_| at_rest) else {
            return;
        };
        if self.record.proved.is_none() && self.is_proved(side) {
            self.record.proved = Some(Proved::of(side, facts.side(side)));
        }
        // A topic that moved was proved too, by a control plane that did not note it yet.
        if self.record.proved.is_none() && self.record.plan.previous_revision == Revision(0) {
            return;
        }
        let seen = facts.side(side);
        let settled = facts.begun >= self.changed && self.has_access(side, Access::Sealed);
        let owed = gate::beyond(&self.record, side, seen);
        if settled && seen.unknown.is_empty() && owed > 0 {
            self.record.reopening = Some(Reopening {
                side,
                messages: owed,
            });
            self.record.reopened += 1;
        }
    }

    /// What a settled end stage must not have, in words.
    pub(super) fn owed_behind_the_seal(&self, facts: &Facts) -> Option<String> {
        let stage = self.stage();
        let side = sealed_side(stage).filter(|_| stage == self.record.goal)?;
        let owed = gate::beyond(&self.record, side, facts.side(side));
        if owed == 0 {
            return self.strangers_behind_the_seal(side, facts);
        }
        let topic = &self.record.plan.topic;
        Some(match (&self.record.reopening, inner(stage)) {
            (Some(_), Some(inner)) => format!(
                "{owed} messages landed on the sealed {side} after it was proved empty: the topic goes back to {inner} to have them read, and then on again"
            ),
            _ => {
                let word = match stage {
                    Stage::SourceOnly => "advance",
                    _ => "rollback",
                };
                format!(
                    "the {side} is sealed and owes {owed} messages from before the topic was added: `crossfade topic {word} {topic}` has them read"
                )
            }
        })
    }

    /// Groups that came to the sealed side after it was proved. What lies there was handled by those that it was meant for.
    fn strangers_behind_the_seal(&self, side: Side, facts: &Facts) -> Option<String> {
        let strangers = gate::strangers(&self.record, side, facts.side(side));
        let named: Vec<String> = strangers
            .iter()
            .map(|(group, owed)| format!("{group} ({owed} messages)"))
            .collect();
        (!named.is_empty()).then(|| {
            format!(
                "groups that were not there when the sealed {side} was proved empty have not read what lies there: {}. It is not read for them; if it is to be, reset their offsets after a rollback, else delete them there",
                named.join(", ")
            )
        })
    }

    pub(super) fn prove(&mut self, side: Side, facts: &Facts) -> Option<Proof> {
        if facts.begun < self.changed || !gate::settles(&self.record, side, facts.side(side)) {
            return None;
        }
        let looks = match self.proof.take() {
            Some(proof)
                if proof.side == side && gate::same(proof.last.side(side), facts.side(side)) =>
            {
                proof.looks.saturating_add(1)
            }
            _ => 1,
        };
        Some(Proof {
            side,
            last: facts.clone(),
            looks,
        })
    }

    pub(in super::super) fn fingerprint_of_proof(&self, into: &mut impl std::hash::Hasher) {
        let proof = self.proof.as_ref();
        let proof = proof.map(|proof| {
            let found = &proof.last.side(proof.side).backlogs;
            (proof.side, proof.looks.min(LOOKS), found)
        });
        let failed: Vec<_> = Side::BOTH.map(|side| self.writes.errors(side)).into();
        debug(&(proof, self.offsets_committed, failed), into);
    }
}

/// The side that an end stage does not read.
pub(super) fn sealed_side(stage: Stage) -> Option<Side> {
    Side::BOTH
        .into_iter()
        .find(|side| stage.access(*side) == Access::Sealed)
}
