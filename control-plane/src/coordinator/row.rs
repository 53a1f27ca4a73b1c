//! What is stored of a topic.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use crossfade::{
    Access, Side,
    backend::{Backlog, QueueBacklog, QueueId, TopicSettings},
    stage::{Buckets, Routing, Stage, TopicPlan, Weight},
};
use serde::{Deserialize, Serialize};

use super::{
    facts::SideFacts,
    gate::{Gate, Owed},
};

/// A topic's row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TopicRecord {
    /// The plan in force.
    pub plan: TopicPlan,
    /// Where an operator wants it.
    pub goal: Stage,
    /// The weight for `DualWrite`.
    #[serde(rename = "weight_basis_points")]
    pub weight: Weight,
    /// The groups that move with it, sorted.
    pub groups: Vec<Arc<str>>,
    /// The topic's own configuration on both sides, as it was when it was added: put back exactly.
    pub settings: [TopicSettings; 2],
    /// A change of access that may still land: stored before it is sent, so that a restart waits for its end too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changing: Option<Changing>,
    /// What landed behind the seal of an end stage, while the step back that has it read is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopening: Option<Reopening>,
    /// How often that happened.
    #[serde(default)]
    pub reopened: u64,
    /// Of an end stage: where its unread side was proved to owe nothing. What a topic had on its target before is not this move's to read.
    #[serde(rename = "proof", default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<Proved>,
    /// It is being removed: its target is opened as it was, and once the brokers have confirmed that it is managed no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Gates of the next step that an operator goes on without; gone once the step is taken or the goal changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What was still owed when an end stage was published by override; gone once that side is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<Abandoned>,
}

impl TopicRecord {
    /// A topic that rests in the stage of its plan: nothing is under way.
    #[must_use]
    pub fn new(
        plan: TopicPlan,
        weight: Weight,
        groups: Vec<Arc<str>>,
        settings: [TopicSettings; 2],
    ) -> Self {
        TopicRecord {
            goal: plan.stage,
            plan,
            weight,
            groups,
            settings,
            changing: None,
            reopening: None,
            reopened: 0,
            proved: None,
            leaving: false,
            overrides: Vec::new(),
            abandoned: None,
        }
    }

    /// Whether its keys change sides by freeze, barrier and move only.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.plan.routing == Routing::Ordered
    }

    /// The target's share that is wanted now. In `DualWrite` an ordered topic's keys are moved to the end that the goal lies beyond, because no step moves
    /// any; everywhere else its share is the stage's own.
    #[must_use]
    pub fn wanted_share(&self) -> Weight {
        match self.plan.stage {
            Stage::DualWrite if self.is_ordered() => share_to(self.goal).unwrap_or(self.weight),
            Stage::DualWrite => self.weight,
            _ => self.plan.share(),
        }
    }

    /// The keys that are to change sides, and the side that they leave.
    #[must_use]
    pub fn wanted_move(&self) -> Option<(Buckets, Side)> {
        self.move_to(self.wanted_share())
    }

    /// The keys that change sides on the way to a share of the target.
    #[must_use]
    pub(super) fn move_to(&self, share: Weight) -> Option<(Buckets, Side)> {
        let moves = self.is_ordered() && self.plan.stage == Stage::DualWrite;
        let between = || Buckets::between(self.plan.weight, share);
        moves.then(between).flatten()
    }
}

/// The target's share at which an ordered topic leaves `DualWrite` for a stage beyond it.
pub(super) fn share_to(goal: Stage) -> Option<Weight> {
    match goal.cmp(&Stage::DualWrite) {
        Ordering::Less => Some(Weight::ZERO),
        Ordering::Equal => None,
        Ordering::Greater => Some(Weight::FULL),
    }
}

/// An operator goes on without a gate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Override {
    /// The gate's code.
    pub gate: String,
    /// Why. Kept in the audit log.
    pub reason: String,
    /// Who.
    pub by: String,
    /// What kept the gate closed when it was given, by name, with its number: more than that closes the gate again.
    pub accepted: BTreeMap<String, u64>,
}

impl Override {
    /// Whether a closed gate asks for nothing more than what was accepted.
    #[must_use]
    pub fn covers(&self, gate: &Gate) -> bool {
        let mut names = gate.closed_by.iter();
        self.gate == gate.code
            && names.all(|(name, count)| self.accepted.get(name).is_some_and(|most| count <= most))
    }
}

/// Messages that a side still owed when it was left by override.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Abandoned {
    /// The side.
    pub side: Side,
    /// By group, part by part.
    pub groups: BTreeMap<Arc<str>, Owed>,
    /// What nobody could tell.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// By whose word, and why.
    pub by: Vec<Override>,
}

impl Abandoned {
    /// Messages that are known to be left.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let groups = self.groups.values().map(Owed::total);
        groups.fold(0, u64::saturating_add)
    }
}

/// Where the unread side of an end stage was proved to owe nothing to anybody: the watch over its seal goes on from here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proved {
    /// The side.
    pub side: Side,
    /// One past the last message of every queue of the topic.
    pub ends: Vec<(QueueId, u64)>,
    /// The groups that were looked at, with the ends of their retry topics. One that comes later has no part in what lies there.
    pub groups: BTreeMap<Arc<str>, Vec<(QueueId, u64)>>,
}

impl Proved {
    /// As the last look of the proof found it.
    #[must_use]
    pub fn of(side: Side, facts: &SideFacts) -> Self {
        let retry = |backlog: &Backlog| {
            let lines = backlog.retry.iter();
            lines.map(|line| (line.queue.clone(), line.end)).collect()
        };
        let (ends, groups) = (facts.ends.iter(), facts.backlogs.iter());
        Proved {
            side,
            ends: ends.map(|(queue, end)| (queue.clone(), *end)).collect(),
            groups: groups
                .map(|(group, backlog)| (Arc::clone(group), retry(backlog)))
                .collect(),
        }
    }

    /// What is owed to a group beyond what the proof has seen, part by part.
    #[must_use]
    pub fn owed_since(&self, group: &str, backlog: &Backlog) -> Owed {
        let retry = self.groups.get(group).map_or(&[][..], Vec::as_slice);
        Owed {
            waiting: above(&backlog.queues, &self.ends),
            retry: above(&backlog.retry, retry).min(backlog.retrying()),
            delayed: backlog.delayed,
            half: backlog.half,
        }
    }
}

/// Messages that are owed and lie at or above these ends.
fn above(lines: &[QueueBacklog], ends: &[(QueueId, u64)]) -> u64 {
    let since = lines.iter().map(|line| {
        let seen = ends.iter().find(|(queue, _)| *queue == line.queue);
        let seen = seen.map_or(0, |(_, end)| *end);
        line.owed().min(line.end.saturating_sub(seen))
    });
    since.fold(0, u64::saturating_add)
}

/// A change of what writers may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Changing {
    /// Where.
    pub side: Side,
    /// What is wanted.
    pub access: Access,
}

/// Messages behind the seal of an end stage.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reopening {
    /// The side that is not read.
    pub side: Side,
    /// How many were owed there when it was seen.
    pub messages: u64,
}
