//! One topic on its way: what is wanted, what is known, and the next thing to do.

use std::time::Duration;

use crossfade::{
    Access, Revision, Side,
    stage::{Stage, TopicPlan},
};

use super::{
    accounting::Accounting,
    event::Config,
    facts::Facts,
    fingerprint::debug,
    gate::{self, Gate, Limits, Scene},
    membership::{Membership, Timing},
    order::{Order, Why},
    row::{Proved, Reopening, TopicRecord, share_to},
};

/// A managed topic.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) record: TopicRecord,
    /// What writers may do, as the brokers have confirmed it; `None` until they were asked.
    pub(super) access: [Option<Access>; 2],
    /// The last look.
    pub(super) facts: Option<Facts>,
    /// The token of the work under way.
    pub(super) work: Option<u64>,
    /// What is wrong, as the last look or the last failure said.
    pub(super) trouble: Option<String>,
    /// The last work that failed, until it is done or not wanted any more.
    failed: Option<(Failed, String)>,
    /// No work before this time: a failed one is not repeated at once, and a change of access without an answer is waited out.
    not_before: Duration,
    /// When the plan or an access changed last: older looks prove nothing.
    changed: Duration,
    proof: Option<Proof>,
    offsets_committed: bool,
    /// Who writes, as far as offsets and reports tell.
    pub(super) writes: Accounting,
    limits: Limits,
    /// What is known of the freeze in force, and when the next may be.
    pub(super) order: Order,
    /// Somebody wants a look that was begun after this time.
    pub(super) look_wanted: Duration,
}

/// Looks under the confirmed seal that found the same offsets and nothing owed.
#[derive(Clone, Debug)]
struct Proof {
    side: Side,
    last: Facts,
    looks: u32,
}

/// Work that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failed {
    Access(Side, Access),
    FirstOffsets,
}

/// Two: one alone is no snapshot, because a delayed message can fall due between two of its reads.
const LOOKS: u32 = 2;
/// How long failed work waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The next thing to do for a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Nothing, until something happens or the time comes to look again.
    Rest,
    /// Look at the brokers.
    Look,
    /// Change what writers may do on a side.
    Access(Side, Access),
    /// Commit the groups' first offsets on the target.
    FirstOffsets,
    /// Read the ends of the side that the frozen keys leave.
    ReadEnds(Side),
    /// Publish the topic's next row.
    Publish(Row),
    /// It is as it was before it was added: let go of it.
    Release,
}

/// What the next row of a topic is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Row {
    /// A stage, or of an unordered topic the same one with another weight.
    Stage(Stage),
    /// Keys that are to change sides are frozen.
    Freeze,
    /// The frozen keys change sides.
    Move,
    /// The frozen keys stay where they are.
    Abort(Why),
}

impl Topic {
    pub(super) fn new(record: TopicRecord, config: &Config, now: Duration) -> Self {
        let timing = &config.timing;
        // What an earlier control plane sent may still land.
        let quiet = match record.changing {
            Some(_) => now + timing.change_bound,
            None => now,
        };
        Topic {
            record,
            access: [None; 2],
            facts: None,
            work: None,
            trouble: None,
            failed: None,
            not_before: quiet,
            changed: quiet,
            proof: None,
            offsets_committed: false,
            writes: Accounting::new(timing.inspect_resting),
            limits: config.limits,
            order: Order::new(timing, now),
            look_wanted: Duration::ZERO,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.record.plan.stage
    }

    /// The step that `check` speaks of: toward the goal, or forward when the goal is reached.
    pub(super) fn next_stage(&self) -> Option<Stage> {
        self.heading()
            .or_else(|| self.stage().toward(Stage::TargetOnly))
    }

    /// The published stage is the goal, everybody has applied it, both sides are as it says, and the unread side is proved to owe nothing.
    pub(super) fn is_settled(&self, members: &Membership, now: Duration) -> bool {
        self.stage() == self.record.goal
            && !self.record.leaving
            && self.share_is_published()
            && Side::BOTH.into_iter().all(|side| {
                self.has_access(side, self.stage().access(side)) && !self.is_mixed(side)
            })
            && sealed_side(self.stage()).is_none_or(|side| self.is_proved(side))
            && gate::applied(&self.record, members, now)
    }

    /// Every gate of the next step, from the last look.
    pub(super) fn gates(&self, members: &Membership, now: Duration) -> Vec<Gate> {
        self.gates_to(
            self.next_stage(),
            &self.record,
            members,
            Duration::ZERO,
            now,
        )
    }

    /// Every gate of the step to `next`, with the overrides of `row`, from a look begun at `since` or later.
    pub(super) fn gates_to(
        &self,
        next: Option<Stage>,
        row: &TopicRecord,
        members: &Membership,
        since: Duration,
        now: Duration,
    ) -> Vec<Gate> {
        let mut gates = gate::of_instances(row, members, now);
        match (&self.facts, next) {
            (None, _) => gates.push(gate::not_looked_yet()),
            (Some(facts), _) if facts.begun < since => {
                gates.push(gate::not_looked_since(now.saturating_sub(facts.begun)));
            }
            (Some(facts), Some(next)) => {
                let scene = self.scene(row, members, facts, now);
                let keys = share_to(next).and_then(|share| row.move_to(share));
                if let Some((_, from)) = keys {
                    gates.extend(gate::of_move(&scene, from));
                }
                let step = gate::of_step(&scene, next).into_iter();
                let asked = |one: &Gate| gates.iter().any(|gate| gate.code == one.code);
                let step: Vec<Gate> = step.filter(|one| !asked(one)).collect();
                gates.extend(step);
            }
            (Some(_), None) => {}
        }
        gates
    }

    pub(super) fn scene<'a>(
        &'a self,
        row: &'a TopicRecord,
        members: &'a Membership,
        facts: &'a Facts,
        now: Duration,
    ) -> Scene<'a> {
        Scene {
            row,
            members,
            facts,
            writes: &self.writes,
            limits: &self.limits,
            now,
        }
    }

    /// How far the seal and its proof are, where the stage or the step under way asks for one.
    pub(super) fn seal_gate(&self) -> Option<Gate> {
        let stage = self.heading().unwrap_or(self.stage());
        let side = sealed_side(stage)?;
        let looks = self.proof.as_ref().filter(|proof| proof.side == side);
        let looks = looks.map_or(0, |proof| proof.looks);
        Some(gate::of_seal(side, self.access[side.index()], looks, LOOKS))
    }

    /// What to do now. Order forward: publish, acks, close, drain, seal, proof, publish. Order back: open, confirm, publish.
    pub(super) fn next(&self, members: &Membership, now: Duration) -> Next {
        if let Some(frozen) = self.record.plan.frozen() {
            return self.in_freeze(frozen, members, now);
        }
        if self.work.is_some() || now < self.not_before {
            return Next::Rest;
        }
        if self.record.leaving {
            return self.leave(members, now);
        }
        let stage = self.stage();
        let next = self.heading();
        let look_again = if self.look_is_due(members, now) {
            Next::Look
        } else {
            Next::Rest
        };
        if self.access.contains(&None) {
            return look_again;
        }
        let applied = gate::applied(&self.record, members, now);
        for side in Side::BOTH {
            let here = stage.access(side);
            let on_the_way = next.is_some_and(|next| self.has_access(side, next.access(side)));
            if (self.has_access(side, here) || on_the_way) && !self.is_mixed(side) {
                continue;
            }
            let tighter = self.access[side.index()] < Some(here);
            return if tighter && !applied {
                look_again
            } else {
                Next::Access(side, here)
            };
        }
        if let Some(side) = next.and_then(|next| self.slipped_in(next)) {
            return Next::Access(side, stage.access(side));
        }
        if !applied {
            return look_again;
        }
        if !self.share_is_published() {
            return match self.record.wanted_move() {
                Some((_, from)) => self.next_of_move(from, members, now, look_again),
                None => Next::Publish(Row::Stage(stage)),
            };
        }
        let Some(next) = next else {
            let unproved = sealed_side(stage).is_some_and(|side| !self.is_proved(side));
            let owes_nothing = |side| {
                self.facts
                    .as_ref()
                    .is_some_and(|facts| gate::settles(&self.record, side, facts.side(side)))
            };
            return match sealed_side(stage) {
                Some(side) if unproved && owes_nothing(side) => Next::Look,
                _ => look_again,
            };
        };
        let Some(facts) = self.fresh_facts() else {
            return Next::Look;
        };
        let scene = self.scene(&self.record, members, facts, now);
        if !gate::is_open(&scene, next) {
            return look_again;
        }
        for side in Side::BOTH {
            if self.access[side.index()] > Some(next.access(side)) {
                return Next::Access(side, next.access(side));
            }
        }
        if stage == Stage::SourceOnly && !self.offsets_committed {
            return Next::FirstOffsets;
        }
        match sealed_side(next) {
            Some(side) if !self.has_access(side, Access::Sealed) => {
                Next::Access(side, Access::Sealed)
            }
            Some(side) if !self.is_proved(side) => Next::Look,
            _ => Next::Publish(Row::Stage(next)),
        }
    }

    /// As [`Self::next`], but nothing is changed.
    pub(super) fn next_look(&self, members: &Membership, now: Duration) -> Next {
        let idle = self.work.is_none() && now >= self.not_before;
        match idle && self.look_is_due(members, now) {
            true => Next::Look,
            false => Next::Rest,
        }
    }

    /// Opens the target as it was, and lets go of the topic once the brokers have confirmed it.
    fn leave(&self, members: &Membership, now: Duration) -> Next {
        let target = Side::Target;
        match self.access[target.index()] {
            Some(Access::Open) if !self.is_mixed(target) => Next::Release,
            Some(_) => Next::Access(target, Access::Open),
            None if self.look_is_due(members, now) => Next::Look,
            None => Next::Rest,
        }
    }

    /// When [`Self::next`] may say something else by time alone.
    pub(super) fn due(&self, members: &Membership) -> Duration {
        let looked = self
            .facts
            .as_ref()
            .map_or(Duration::ZERO, |facts| facts.begun);
        (looked + self.interval(members)).max(self.not_before)
    }

    /// The stage to go to: toward the goal, or out of an end stage whose unread side owes something.
    fn heading(&self) -> Option<Stage> {
        let stage = self.stage();
        stage.toward(self.record.goal).or_else(|| {
            self.record.reopening?;
            inner(stage)
        })
    }

    pub(super) fn looked(&mut self, facts: Facts) {
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

    /// The standing watch over the unread side of an end stage: what landed there after the proof has to be read, so the step back is taken. It starts
    /// from the proof's own offsets, so nothing falls between, and who comes later is not fed what others have read.
    fn watch_the_seal(&mut self, facts: &Facts) {
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
    fn owed_behind_the_seal(&self, facts: &Facts) -> Option<String> {
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

    fn prove(&mut self, side: Side, facts: &Facts) -> Option<Proof> {
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

    pub(super) fn access_changed(
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

    pub(super) fn first_offsets(&mut self, result: Result<(), String>, now: Duration) {
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
    pub(super) fn goal_changes(&mut self, now: Duration) {
        self.failed = None;
        self.order.relax();
        self.void_proof(now);
    }

    pub(super) fn published(&mut self, plan: TopicPlan, now: Duration) {
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
    pub(super) fn void_proof(&mut self, now: Duration) {
        self.proof = None;
        self.changed = now;
    }

    /// Looks begun before this prove nothing.
    pub(super) fn changed(&self) -> Duration {
        self.changed
    }

    pub(super) fn fingerprint_of_proof(&self, into: &mut impl std::hash::Hasher) {
        let proof = self.proof.as_ref();
        let proof = proof.map(|proof| {
            let found = &proof.last.side(proof.side).backlogs;
            (proof.side, proof.looks.min(LOOKS), found)
        });
        let failed: Vec<_> = Side::BOTH.map(|side| self.writes.errors(side)).into();
        debug(&(proof, self.offsets_committed, failed), into);
    }

    fn has_access(&self, side: Side, access: Access) -> bool {
        self.access[side.index()] == Some(access)
    }

    /// The brokers disagree about the access: on some a writer may do less than on the most open one.
    fn is_mixed(&self, side: Side) -> bool {
        let facts = self.fresh_facts();
        facts.is_some_and(|facts| facts.side(side).disagreement.is_some())
    }

    /// The last look, unless the plan or an access has changed since.
    pub(super) fn fresh_facts(&self) -> Option<&Facts> {
        let facts = self.facts.as_ref();
        facts.filter(|facts| facts.begun >= self.changed)
    }

    /// The side that is sealed on the way to `next`, where something got in between the first look and the seal: it has to be read before anything else,
    /// whoever is lost meanwhile. To open a side for readers takes nobody's ack.
    fn slipped_in(&self, next: Stage) -> Option<Side> {
        let side = sealed_side(next).filter(|side| self.has_access(*side, Access::Sealed))?;
        let facts = self.fresh_facts()?;
        (gate::beyond(&self.record, side, facts.side(side)) > 0).then_some(side)
    }

    fn is_proved(&self, side: Side) -> bool {
        self.proof
            .as_ref()
            .is_some_and(|proof| proof.side == side && proof.looks >= LOOKS)
    }

    fn share_is_published(&self) -> bool {
        let plan = &self.record.plan;
        plan.frozen().is_none() && plan.share() == self.record.wanted_share()
    }

    fn look_is_due(&self, members: &Membership, now: Duration) -> bool {
        self.facts.as_ref().is_none_or(|facts| {
            facts.begun < self.look_wanted || now >= facts.begun + self.interval(members)
        })
    }

    fn interval(&self, members: &Membership) -> Duration {
        let moves_keys = self.record.is_ordered() && !self.share_is_published();
        if self.stage() == self.record.goal && !self.access.contains(&None) && !moves_keys {
            members.timing.inspect_resting
        } else {
            members.timing.inspect_moving
        }
    }
}

/// The stage before an end stage, in which both sides are read.
fn inner(stage: Stage) -> Option<Stage> {
    stage.toward(Stage::DualWrite)
}

/// The side that an end stage does not read.
fn sealed_side(stage: Stage) -> Option<Side> {
    Side::BOTH
        .into_iter()
        .find(|side| stage.access(*side) == Access::Sealed)
}
