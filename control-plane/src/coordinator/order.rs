//! Ordered topics: their keys change sides inside `DualWrite` only, by rows of their own. One row freezes the keys; once everybody has applied it, the ends
//! of the side being left are read; the next row has them as the barrier and the new share.
//!
//! A freeze makes senders wait, so it is short: whatever does not come in time calls it off, by a row that waits for nobody, because it only restores what
//! both rows before it write to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Revision, Side,
    backend::QueueId,
    stage::{Move, QueueBarrier, Stage, TopicPlan, Weight},
};

use super::{
    facts::Facts,
    gate,
    membership::{Member, Membership, Standing},
    row::TopicRecord,
    timing::Timing,
    topic::{Next, Row, Topic},
};

/// Moves that a plan carries at most.
pub(super) const MAX_MOVES: usize = 16;
/// The pause after a freeze that was called off doubles up to so many times the first.
const LONGEST_PAUSE: u32 = 30;

/// Why a freeze is called off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// The goal or the weight has changed.
    NotWanted,
    /// An instance is out of contact.
    Lost,
    /// Somebody has not applied it in time.
    NotApplied,
    /// The brokers have not told the ends in time.
    NoEnds,
}

/// What is known of the freeze in force, and when the next one may be. None of it outlives a restart: acks are asked for anew then, and ends are read anew.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Acks and ends are waited for until then: senders may be waiting since the freeze began.
    until: Duration,
    /// Ends were asked for.
    asked: bool,
    /// What the brokers said.
    ends: Option<Result<BTreeMap<QueueId, u64>, String>>,
    /// No freeze before this.
    again: Duration,
    /// The next pause.
    pause: Duration,
    /// Why the last freeze was called off.
    called_off: Option<String>,
    timing: Timing,
}

impl Order {
    pub(super) fn new(timing: &Timing, now: Duration) -> Self {
        Order {
            until: now + timing.freeze,
            asked: false,
            ends: None,
            again: Duration::ZERO,
            pause: timing.freeze_again,
            called_off: None,
            timing: *timing,
        }
    }

    /// Something else is wanted: what failed before says nothing about it.
    pub(super) fn relax(&mut self) {
        self.again = Duration::ZERO;
        self.pause = self.timing.freeze_again;
        self.called_off = None;
    }

    /// Why the last freeze was called off, until one succeeds.
    pub(super) fn called_off(&self) -> Option<String> {
        self.called_off.clone()
    }

    /// No freeze before this.
    pub(super) fn again(&self) -> Duration {
        self.again
    }
}

impl Topic {
    /// What to do while keys are frozen: nothing else is done for the topic meanwhile.
    pub(super) fn in_freeze(&self, frozen: &Move, members: &Membership, now: Duration) -> Next {
        let abort = |why| Next::Publish(Row::Abort(why));
        if self.record.wanted_move() != Some((frozen.buckets, frozen.from)) {
            return abort(Why::NotWanted);
        }
        if of_standing(&self.record, members, Standing::Lost, now)
            .next()
            .is_some()
        {
            return abort(Why::Lost);
        }
        let applied = gate::applied(&self.record, members, now);
        match &self.order.ends {
            Some(Ok(_)) if applied => Next::Publish(Row::Move),
            Some(Err(_)) => abort(Why::NoEnds),
            _ if now < self.order.until => {
                // A look that is under way keeps the ends from being asked for.
                let asks = applied && !self.order.asked && self.work.is_none();
                match asks {
                    true => Next::ReadEnds(frozen.from),
                    false => Next::Rest,
                }
            }
            None if applied || self.order.asked => abort(Why::NoEnds),
            // Whoever came since the ends were read holds these keys from the beginning, and has what was left of the time.
            _ => abort(Why::NotApplied),
        }
    }

    /// What to do when keys are to leave a side and everybody has applied the plan in force.
    pub(super) fn next_of_move(
        &self,
        from: Side,
        members: &Membership,
        now: Duration,
        look_again: Next,
    ) -> Next {
        if now < self.order.again || look_again == Next::Look {
            // Nothing is decided on what was true while the topic was at rest.
            return look_again;
        }
        let Some(facts) = self.fresh_facts() else {
            return Next::Look;
        };
        let scene = self.scene(&self.record, members, facts, now);
        match gate::move_is_open(&scene, from) {
            true => Next::Publish(Row::Freeze),
            false => look_again,
        }
    }

    /// When the freeze in force is called off.
    pub(super) fn freeze_due(&self) -> Option<Duration> {
        self.record.plan.frozen()?;
        Some(self.order.until)
    }

    /// After a start: a freeze that was found has the time of a new one, from the moment on when something may be done about it.
    pub(super) fn freeze_goes_on(&mut self, now: Duration) {
        self.order.until = now + self.order.timing.freeze;
    }

    /// The ends are asked for: the revision of the freeze they are for.
    pub(super) fn ends_asked(&mut self) -> Revision {
        self.order.asked = true;
        self.record.plan.revision
    }

    /// What the brokers said; of an earlier freeze it says nothing.
    pub(super) fn ends_read(
        &mut self,
        frozen: Revision,
        result: Result<BTreeMap<QueueId, u64>, String>,
    ) {
        let plan = &self.record.plan;
        if plan.frozen().is_some() && plan.revision == frozen {
            self.order.ends = Some(result);
        }
    }

    /// What decides about its keys from `now` on: how far a freeze is, when the next may be, and which moves the next row leaves out.
    pub(super) fn fingerprint_of_keys(
        &self,
        members: &Membership,
        now: Duration,
    ) -> impl std::fmt::Debug {
        let order = &self.order;
        let kept = not_passed(&self.record, members, self.facts.as_ref());
        let kept: Vec<Revision> = kept.map(|moving| moving.revision).collect();
        let freeze = self.record.plan.frozen().map(|_| {
            let ends = order.ends.as_ref().map(|ends| ends.clone().ok());
            (now >= order.until, order.asked, ends)
        });
        (freeze, now >= order.again, order.pause, kept)
    }

    /// The row that follows the one in force.
    pub(super) fn following(
        &self,
        row: Row,
        revision: Revision,
        members: &Membership,
    ) -> TopicPlan {
        let before = &self.record.plan;
        let facts = self.facts.as_ref();
        let mut moves: Vec<Move> = not_passed(&self.record, members, facts).cloned().collect();
        let mut stage = before.stage;
        let mut weight = match self.record.is_ordered() {
            // No step moves keys.
            true => before.share(),
            false => self.record.weight,
        };
        match row {
            Row::Stage(next) => {
                stage = next;
                if matches!(next, Stage::SourceOnly | Stage::TargetOnly) {
                    // The proof that the side being left owes nothing covers every barrier.
                    moves.clear();
                }
            }
            Row::Freeze => {
                let wanted = self.record.wanted_move();
                moves.extend(wanted.map(|(buckets, from)| Move::freeze(from, buckets, revision)));
            }
            Row::Move => {
                let ends = self.order.ends.as_ref().and_then(|ends| ends.as_ref().ok());
                // Without ends nothing is moved: the row is that of a freeze called off.
                if let (Some(frozen), Some(ends)) = (before.frozen(), ends) {
                    moves.push(frozen.released(revision, barrier(ends)));
                    weight = beyond(frozen);
                }
            }
            Row::Abort(_) => {}
        }
        TopicPlan {
            stage,
            weight,
            moves,
            revision,
            previous_revision: before.revision,
            ..before.clone()
        }
    }

    /// A row is about to be published: what that means for freezes, and in words why one is called off.
    pub(super) fn turns(&mut self, row: Row, members: &Membership, now: Duration) -> String {
        let mut reason = String::new();
        match row {
            Row::Stage(_) => {}
            Row::Freeze => self.order.until = now + self.order.timing.freeze,
            Row::Move => self.order.relax(),
            Row::Abort(why) => {
                reason = self.why(why, members, now);
                if why == Why::NotWanted {
                    self.order.relax();
                } else {
                    let longest = self.order.timing.freeze_again * LONGEST_PAUSE;
                    self.order.again = now + self.order.pause;
                    self.order.pause = (self.order.pause * 2).min(longest);
                    self.order.called_off = Some(format!(
                        "the keys stay where they are for now: {reason}. Their move is tried again"
                    ));
                }
            }
        }
        self.order.asked = false;
        self.order.ends = None;
        reason
    }

    fn why(&self, why: Why, members: &Membership, now: Duration) -> String {
        let named = |standing| {
            let names = of_standing(&self.record, members, standing, now);
            names.map(Member::name).collect::<Vec<_>>().join(", ")
        };
        let bound = self.order.timing.freeze.as_secs_f64();
        match why {
            Why::NotWanted => "another goal or weight is wanted".to_owned(),
            Why::Lost => format!(
                "out of contact while they were frozen: {}",
                named(Standing::Lost)
            ),
            Why::NotApplied => format!(
                "not every instance has applied their freeze within {bound} s: {}",
                waited_for(&self.record, members, now).join(", ")
            ),
            Why::NoEnds => match &self.order.ends {
                Some(Err(why)) => {
                    format!("the ends of the side that they leave could not be read: {why}")
                }
                _ => {
                    format!("the ends of the side that they leave were not known within {bound} s")
                }
            },
        }
    }
}

/// Live instances that have not applied the plan in force.
pub(super) fn waited_for(row: &TopicRecord, members: &Membership, now: Duration) -> Vec<String> {
    let plan = &row.plan;
    of_standing(row, members, Standing::Live, now)
        .filter(|member| member.acked(&plan.topic) != Some(plan.revision))
        .map(Member::name)
        .collect()
}

fn of_standing<'a>(
    row: &'a TopicRecord,
    members: &'a Membership,
    standing: Standing,
    now: Duration,
) -> impl Iterator<Item = &'a Member> {
    let all = members.of_topic(&row.plan.topic);
    all.filter(move |member| member.standing(&members.timing, now) == standing)
}

/// The groups whose consumers read by this topic's plan.
pub(super) fn groups(row: &TopicRecord, members: &Membership) -> BTreeSet<Arc<str>> {
    let topic = &row.plan.topic;
    let registered = members.of_topic(topic);
    let registered = registered.filter_map(|member| member.record.consumes.get(topic));
    let managed = row.groups.iter();
    managed.chain(registered.flatten()).cloned().collect()
}

/// The released moves that some group has not passed, as far as a look tells. Offsets only grow, so an old look keeps a move for longer, and never
/// for too short.
pub(super) fn not_passed<'a>(
    row: &'a TopicRecord,
    members: &Membership,
    facts: Option<&'a Facts>,
) -> impl Iterator<Item = &'a Move> {
    let groups = match row.plan.moves.is_empty() {
        true => BTreeSet::new(),
        false => groups(row, members),
    };
    let released = row.plan.moves.iter().filter(|moving| !moving.is_frozen());
    released.filter(move |moving| {
        groups
            .iter()
            .any(|group| left(moving, group, facts) != Some(0))
    })
}

/// Messages that a group has still to handle before a move's barrier; `None` when nobody knows.
pub(super) fn left(moving: &Move, group: &str, facts: Option<&Facts>) -> Option<u64> {
    let side = facts?.side(moving.from);
    let backlog = side.backlogs.get(group)?;
    let committed = |queue: &QueueBarrier| {
        let id = queue.id();
        let mut lines = backlog.queues.iter();
        lines
            .find(|line| line.queue == id)
            .and_then(|line| line.committed)
    };
    if moving.is_passed(committed) {
        return Some(0);
    }
    let left = moving.barrier.iter().flatten().map(|queue| {
        let passed = committed(queue).unwrap_or(0);
        queue.end_offset.saturating_sub(passed)
    });
    Some(left.fold(0, u64::saturating_add))
}

/// The target's share once these keys have left their side.
fn beyond(moving: &Move) -> Weight {
    let share = match moving.from {
        Side::Source => moving.buckets.to,
        Side::Target => moving.buckets.from,
    };
    // Buckets end where the weights do.
    Weight::from_basis_points(share.into()).unwrap_or(Weight::FULL)
}

fn barrier(ends: &BTreeMap<QueueId, u64>) -> Vec<QueueBarrier> {
    let queues = ends.iter().map(|(queue, end)| QueueBarrier {
        broker: queue.broker.to_string(),
        queue: queue.queue,
        end_offset: *end,
    });
    queues.collect()
}
