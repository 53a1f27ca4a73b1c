//! One topic on its way: what is wanted, what is known, and the next thing to do.

mod outcome;
mod seal;

use std::time::Duration;

use crossfade::{Access, Side, stage::Stage};

use self::{
    outcome::Failed,
    seal::{Proof, sealed_side},
};
use super::{
    accounting::Accounting,
    event::Config,
    facts::Facts,
    gate::{self, Gate, Limits, Scene},
    membership::Membership,
    order::{Order, Why},
    row::{TopicRecord, share_to},
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

    /// Looks begun before this prove nothing.
    pub(super) fn changed(&self) -> Duration {
        self.changed
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
