//! Gates about what a side still owes, and what an operator has given up of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crossfade::{
    Access, Side,
    backend::{Backlog, QueueId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    super::{
        facts::SideFacts,
        row::{Abandoned, Proved, TopicRecord},
    },
    Code, Gate, Scene, readers,
};

/// What a side owes to one group, part by part.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Owed {
    /// In the topic.
    pub waiting: u64,
    /// In the group's retry topic.
    pub retry: u64,
    /// Not yet due; `None` when that cannot be known.
    pub delayed: Option<u64>,
    /// Transactional messages without an end; `None` when that cannot be known.
    pub half: Option<u64>,
}

impl Owed {
    fn of(backlog: &Backlog) -> Self {
        Owed {
            waiting: backlog.waiting(),
            retry: backlog.retrying(),
            delayed: backlog.delayed,
            half: backlog.half,
        }
    }

    /// All that is known to be owed.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.retry,
            self.delayed.unwrap_or(0),
            self.half.unwrap_or(0),
        ]
        .into_iter()
        .fold(self.waiting, u64::saturating_add)
    }

    fn words(&self) -> String {
        let part = |part: Option<u64>| part.map_or("unknown".to_owned(), |part| part.to_string());
        format!(
            "{} waiting, {} retry, {} delayed, {} half",
            self.waiting,
            self.retry,
            part(self.delayed),
            part(self.half)
        )
    }
}

pub(super) fn drained(scene: &Scene<'_>, side: Side) -> Gate {
    let facts = scene.facts.side(side);
    let all: BTreeMap<&Arc<str>, Owed> = facts
        .backlogs
        .iter()
        .map(|(group, backlog)| (group, Owed::of(backlog)))
        .collect();
    let owed: Vec<(&Arc<str>, Owed)> = all
        .iter()
        .map(|(group, owed)| (*group, *owed))
        .filter(|(_, owed)| owed.total() > 0)
        .collect();
    let sum = facts.owed();
    let stands = readers::unreadable(scene, side);
    Gate::new(
        drained_code(side),
        owed.is_empty(),
        if owed.is_empty() {
            format!("the {side} owes nothing to {} groups", all.len())
        } else {
            let named: Vec<String> = owed
                .iter()
                .map(|(group, owed)| format!("{group}: {}", owed.words()))
                .collect();
            format!(
                "the {side} still owes {sum} messages ({}): {}",
                named.join("; "),
                stands
                    .words()
                    .unwrap_or_else(|| "wait until the groups have consumed them".to_owned())
            )
        },
        stands.beside(json!({"owed": sum, "groups": all})),
    )
    .closed_by(owed.into_iter().map(|(group, owed)| (group, owed.total())))
}

pub(super) fn known(scene: &Scene<'_>, side: Side) -> Gate {
    let facts = scene.facts.side(side);
    let unknown = unknown(scene.row, facts);
    Gate::new(
        known_code(side),
        unknown.is_empty(),
        if unknown.is_empty() {
            format!(
                "it is known what the {side} owes to {} groups",
                facts.backlogs.len()
            )
        } else {
            format!(
                "it cannot be known what the {side} owes: {}. A group that does not exist there can be created again; what the brokers cannot tell, only its owner can accept",
                unknown.join(", ")
            )
        },
        json!({"groups": facts.backlogs.len(), "unknown": unknown}),
    )
    .closed_by(unknown.into_iter().map(|part| (part, 0)))
}

/// All that nobody can tell: unknown, not nothing.
fn unknown(row: &TopicRecord, facts: &SideFacts) -> Vec<String> {
    let missing = row
        .groups
        .iter()
        .filter(|group| !facts.backlogs.contains_key(*group));
    let missing = missing.map(|group| format!("{group}: everything"));
    missing.chain(unknown_parts(facts)).collect()
}

/// Parts of what is owed to the groups that exist.
fn unknown_parts(facts: &SideFacts) -> Vec<String> {
    let groups = facts.backlogs.iter();
    groups.flat_map(parts_of).collect()
}

fn parts_of((group, backlog): (&Arc<str>, &Backlog)) -> Vec<String> {
    let parts = backlog.unknown().into_iter();
    parts.map(|part| format!("{group}: {part}")).collect()
}

/// Messages owed on a side beyond what an operator has given up there; where it was proved that nothing is: beyond that proof.
pub(in super::super) fn beyond(row: &TopicRecord, side: Side, facts: &SideFacts) -> u64 {
    let over = concerned(row, side, facts).map(|(group, backlog)| match proved(row, side) {
        Some(proved) => {
            // What was given up in the queues lies below the ends of the proof.
            let before = row.abandoned.as_ref().filter(|left| left.side == side);
            let before = before.and_then(|left| left.groups.get(group));
            let pending = before.map(|left| Owed {
                waiting: 0,
                retry: 0,
                ..*left
            });
            let since = proved.owed_since(group, backlog).total();
            since.saturating_sub(pending.as_ref().map_or(0, Owed::total))
        }
        None => {
            let given_up = given_up(row, side, group);
            Owed::of(backlog).total().saturating_sub(given_up)
        }
    });
    over.fold(0, u64::saturating_add)
}

/// The groups that a side may owe something: all, or once it was proved that nothing is, the managed ones and those that were there.
fn concerned<'a>(
    row: &'a TopicRecord,
    side: Side,
    facts: &'a SideFacts,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Backlog)> {
    let proved = proved(row, side);
    facts.backlogs.iter().filter(move |(group, _)| {
        let was_there = proved.is_none_or(|proved| proved.groups.contains_key(*group));
        was_there || row.groups.contains(group)
    })
}

/// Groups that were not there when a side was proved, and what is owed to them by the brokers' offsets.
pub(in super::super) fn strangers<'a>(
    row: &TopicRecord,
    side: Side,
    facts: &'a SideFacts,
) -> Vec<(&'a Arc<str>, u64)> {
    let known: BTreeSet<&Arc<str>> = concerned(row, side, facts)
        .map(|(group, _)| group)
        .collect();
    let strange = facts.backlogs.iter();
    strange
        .filter(|(group, _)| !known.contains(group))
        .map(|(group, backlog)| (group, Owed::of(backlog).total()))
        .filter(|(_, owed)| *owed > 0)
        .collect()
}

/// Everything is known, and nothing is owed, except what an operator has given up; where it was proved before, since that proof.
pub(in super::super) fn settles(row: &TopicRecord, side: Side, facts: &SideFacts) -> bool {
    let mut unknown = concerned(row, side, facts).flat_map(parts_of);
    facts.unknown.is_empty()
        && unknown.all(|part| accepts_unknown(row, side, &part))
        && beyond(row, side, facts) == 0
}

/// Whether two looks at a side have found the same: ends, committed offsets, and what is owed. What else a group does, in its other topics say, is none of
/// this topic's.
pub(in super::super) fn same(one: &SideFacts, other: &SideFacts) -> bool {
    measures(one).eq(measures(other))
}

/// Of a group: its name, the end and the committed offset of every queue of the topic, and what it is owed.
type Measure<'a> = (&'a Arc<str>, Vec<(&'a QueueId, u64, Option<u64>)>, Owed);

fn measures(facts: &SideFacts) -> impl Iterator<Item = Measure<'_>> {
    facts.backlogs.iter().map(|(group, backlog)| {
        let lines = backlog.queues.iter();
        let lines = lines.map(|line| (&line.queue, line.end, line.committed));
        (group, lines.collect(), Owed::of(backlog))
    })
}

fn proved(row: &TopicRecord, side: Side) -> Option<&Proved> {
    row.proved.as_ref().filter(|proved| proved.side == side)
}

fn given_up(row: &TopicRecord, side: Side, group: &str) -> u64 {
    let before = row.abandoned.as_ref().filter(|left| left.side == side);
    let before = before.and_then(|left| left.groups.get(group));
    let now = row
        .overrides
        .iter()
        .filter(|one| one.gate == drained_code(side).as_str())
        .filter_map(|one| one.accepted.get(group).copied())
        .max();
    before.map_or(0, Owed::total).max(now.unwrap_or(0))
}

fn accepts_unknown(row: &TopicRecord, side: Side, part: &String) -> bool {
    let before = row.abandoned.as_ref().filter(|left| left.side == side);
    before.is_some_and(|left| left.unknown.contains(part))
        || row
            .overrides
            .iter()
            .filter(|one| one.gate == known_code(side).as_str())
            .any(|one| one.accepted.contains_key(part))
}

/// What is given up by publishing an end stage on these facts; `None` when nothing is.
pub(in super::super) fn left_behind(
    row: &TopicRecord,
    side: Side,
    facts: &SideFacts,
) -> Option<Abandoned> {
    let unknown = unknown(row, facts);
    let groups: BTreeMap<Arc<str>, Owed> = facts
        .backlogs
        .iter()
        .map(|(group, backlog)| (Arc::clone(group), Owed::of(backlog)))
        .filter(|(_, owed)| owed.total() > 0)
        .collect();
    let about = [drained_code(side).as_str(), known_code(side).as_str()];
    let overrides = row.overrides.iter();
    let by = overrides.filter(|one| about.contains(&one.gate.as_str()));
    (!groups.is_empty() || !unknown.is_empty()).then(|| Abandoned {
        side,
        groups,
        unknown,
        by: by.cloned().collect(),
    })
}

/// Where the seal of a side stands: a gate of the stage, not of a look. `looks` counts those that were equal.
pub(in super::super) fn sealed(
    side: Side,
    access: Option<Access>,
    looks: u32,
    wanted: u32,
) -> Gate {
    let sealed = access == Some(Access::Sealed);
    let passed = sealed && looks >= wanted;
    let access = access.map_or("unknown".to_owned(), |access| access.to_string());
    Gate::new(
        Code::on(side, Code::SourceSealed, Code::TargetSealed),
        passed,
        if passed {
            format!("the {side} is sealed, and {looks} looks under the seal found the same")
        } else if sealed {
            format!(
                "the {side} is sealed; {looks} of {wanted} looks under the seal have found the same and nothing owed"
            )
        } else {
            format!("the {side} is {access}: it is sealed once a first look has found nothing owed")
        },
        json!({"access": access, "looks": looks, "looks_wanted": wanted}),
    )
}

fn drained_code(side: Side) -> Code {
    Code::on(side, Code::SourceDrained, Code::TargetDrained)
}

fn known_code(side: Side) -> Code {
    Code::on(side, Code::SourceBacklogKnown, Code::TargetBacklogKnown)
}

impl Abandoned {
    /// As numbers, for the audit log.
    #[must_use]
    pub fn numbers(&self) -> Value {
        json!({"side": self.side, "groups": self.groups, "unknown": self.unknown})
    }
}
