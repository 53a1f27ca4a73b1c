//! Where an ordered topic's keys are on their way from one side to the other, as people and the API see it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossfade::{
    Revision, Side,
    stage::{Buckets, Move, Weight},
};
use serde::{Deserialize, Serialize};

use super::{
    gate::{self, Gate},
    membership::Membership,
    order,
    topic::Topic,
};

/// The keys of an ordered topic.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeysView {
    /// The target's share that is published.
    pub share_basis_points: Weight,
    /// The target's share that is wanted. The keys between the two are to change sides.
    pub wanted_basis_points: Weight,
    /// Their senders wait: the keys are frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Buckets>,
    /// Where that stands, in words.
    pub message: String,
    /// The gates of the move that is wanted and not begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// The moves that the plan keeps, because some group has or may have messages to handle before their barriers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveView>,
}

/// A move of keys that has been published.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MoveView {
    /// The side that they left.
    pub from: Side,
    /// The keys.
    pub buckets: Buckets,
    /// When it was published.
    pub revision: Revision,
    /// Messages that each group has still to handle before the barrier, as of the last look; `null` when that is not known.
    pub left: BTreeMap<Arc<str>, Option<u64>>,
}

impl KeysView {
    pub(super) fn new(topic: &Topic, members: &Membership, now: Duration) -> Option<Self> {
        let row = &topic.record;
        if !row.is_ordered() {
            return None;
        }
        let facts = topic.facts.as_ref();
        let groups = order::groups(row, members);
        let released = row.plan.moves.iter().filter(|moving| !moving.is_frozen());
        let moves = released.map(|moving| MoveView {
            from: moving.from,
            buckets: moving.buckets,
            revision: moving.revision,
            left: groups
                .iter()
                .map(|group| (Arc::clone(group), order::left(moving, group, facts)))
                .collect(),
        });
        let moves: Vec<MoveView> = moves.collect();
        let gates = gates(topic, members, now);
        Some(KeysView {
            share_basis_points: row.plan.share(),
            wanted_basis_points: row.wanted_share(),
            frozen: row.plan.frozen().map(|frozen| frozen.buckets),
            message: words(topic, members, now, &gates, &moves),
            gates,
            moves,
        })
    }
}

/// Of the move that is wanted and not begun.
fn gates(topic: &Topic, members: &Membership, now: Duration) -> Vec<Gate> {
    let wanted = topic.record.wanted_move();
    let idle = topic.record.plan.frozen().is_none();
    match (wanted.filter(|_| idle), &topic.facts) {
        (Some((_, from)), Some(facts)) => {
            gate::of_move(&topic.scene(&topic.record, members, facts, now), from)
        }
        _ => Vec::new(),
    }
}

fn words(
    topic: &Topic,
    members: &Membership,
    now: Duration,
    gates: &[Gate],
    moves: &[MoveView],
) -> String {
    let row = &topic.record;
    let waited_for = || order::waited_for(row, members, now).join(", ");
    if let Some(frozen) = row.plan.frozen() {
        let begun = format!("freezing keys {} on the {}", span(frozen), frozen.from);
        return match waited_for() {
            waited if waited.is_empty() => {
                format!("{begun}: reading the ends of its queues")
            }
            waited => format!("{begun}: waiting for acks of {waited}"),
        };
    }
    if let Some((buckets, from)) = row.wanted_move() {
        let keys = Move::freeze(from, buckets, row.plan.revision);
        let wanted = format!("keys {} are to leave the {from}", span(&keys));
        let waited = waited_for();
        let closed: Vec<&str> = gates
            .iter()
            .filter(|gate| gate.blocks())
            .map(|gate| gate.message.as_str())
            .collect();
        return if !gate::applied(row, members, now) {
            match waited.is_empty() {
                true => format!("{wanted}: an instance is out of contact or refuses the plan"),
                false => format!("{wanted}: waiting for acks of {waited}"),
            }
        } else if !closed.is_empty() {
            format!("{wanted}: {}", closed.join("; "))
        } else if now < topic.order.again() {
            let left = topic.order.again().saturating_sub(now).as_secs_f64();
            format!("{wanted}: tried again in {left:.1} s, after a freeze that was called off")
        } else {
            format!("{wanted}: waiting for a look at the brokers")
        };
    }
    let behind = moves.iter().flat_map(|moving| {
        let left = moving.left.iter().filter(|(_, left)| **left != Some(0));
        left.map(|(group, left)| match left {
            Some(left) => format!(
                "group {group} is {left} messages before the barrier on the {}",
                moving.from
            ),
            None => format!(
                "it is not known where group {group} is on the {}",
                moving.from
            ),
        })
    });
    let behind: Vec<String> = behind.collect();
    match behind.is_empty() {
        true => "no key is on its way".to_owned(),
        false => format!("moved; {}", behind.join("; ")),
    }
}

/// `30.00 % .. 60.00 %`.
fn span(moving: &Move) -> String {
    let share = |bucket: u16| Weight::from_basis_points(bucket.into()).unwrap_or(Weight::FULL);
    let Buckets { from, to, .. } = moving.buckets;
    format!("{} .. {}", share(from), share(to))
}
