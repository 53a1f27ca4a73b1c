//! Gates about keys of an ordered topic that are to change sides.

use std::{collections::BTreeMap, sync::Arc};

use crossfade::{Side, backend::Backlog};
use serde_json::json;

use super::{
    super::order::{self, MAX_MOVES},
    Code, Gate, Scene, readers,
};

/// A group and what a side owes to it.
type Owed<'a> = (Arc<str>, &'a Backlog);

/// What the side being left owes to each group that reads the topic, and the groups of which that is not known.
fn backlogs<'a>(scene: &'a Scene<'_>, from: Side) -> (Vec<Owed<'a>>, Vec<Arc<str>>) {
    let facts = scene.facts.side(from);
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for group in order::groups(scene.row, scene.members) {
        match facts.backlogs.get(&group) {
            Some(backlog) if facts.unknown.is_empty() => known.push((group, backlog)),
            _ => unknown.push(group),
        }
    }
    (known, unknown)
}

/// Keys wait on their new side until every group has passed what lies on the old one: little must lie there.
pub(super) fn lag(scene: &Scene<'_>, from: Side) -> Gate {
    let limit = scene.limits.moving_lag;
    let (known, unknown) = backlogs(scene, from);
    let waiting: BTreeMap<&Arc<str>, u64> = known
        .iter()
        .map(|(group, backlog)| (group, backlog.waiting()))
        .collect();
    let over: Vec<(&Arc<str>, u64)> = waiting
        .iter()
        .map(|(group, waiting)| (*group, *waiting))
        .filter(|(_, waiting)| *waiting > limit)
        .collect();
    let stands = readers::unreadable(scene, from);
    Gate::new(
        Code::MovingLag,
        over.is_empty() && unknown.is_empty(),
        if !unknown.is_empty() {
            not_known(from, &unknown)
        } else if over.is_empty() {
            format!("no group has more than {limit} messages waiting on the {from}, which keys are to leave")
        } else {
            let named = over.iter().map(|(group, waiting)| format!("{group} {waiting}"));
            format!(
                "more than {limit} messages wait on the {from}, which keys are to leave; they would wait on the other side until these are handled: {}. {}",
                super::clients::shortened(named),
                stands.words().unwrap_or_else(|| "Wait until the groups have caught up".to_owned())
            )
        },
        stands.beside(json!({"side": from, "limit": limit, "groups": waiting, "unknown": unknown})),
    )
    .closed_by(over.into_iter().map(|(group, waiting)| (group.to_string(), waiting)).chain(names(&unknown)))
}

/// A barrier covers the topic's queues only: what comes back from a retry topic or out of a delay would be handled after its successors.
pub(super) fn retries(scene: &Scene<'_>, from: Side) -> Gate {
    let (known, unknown) = backlogs(scene, from);
    let mut pending = BTreeMap::new();
    let mut uncounted = unknown;
    for (group, backlog) in &known {
        match backlog.delayed {
            Some(delayed) => drop(pending.insert(group, (backlog.retrying(), delayed))),
            None => uncounted.push(Arc::clone(group)),
        }
    }
    let numbers: BTreeMap<_, _> = pending
        .iter()
        .map(|(group, (retry, delayed))| (*group, json!({"retry": retry, "delayed": delayed})))
        .collect();
    let owed: Vec<(&Arc<str>, u64, u64)> = pending
        .iter()
        .map(|(group, (retry, delayed))| (*group, *retry, *delayed))
        .filter(|(_, retry, delayed)| retry.saturating_add(*delayed) > 0)
        .collect();
    Gate::new(
        Code::MovingRetries,
        owed.is_empty() && uncounted.is_empty(),
        if !uncounted.is_empty() {
            not_known(from, &uncounted)
        } else if owed.is_empty() {
            format!("no retry and no delayed message waits on the {from}, which keys are to leave")
        } else {
            let named = owed
                .iter()
                .map(|(group, retry, delayed)| format!("{group} {retry} retries, {delayed} delayed"));
            format!(
                "messages wait on the {from} outside of its queues, where no barrier covers them, and would be handled after those that follow them: {}. Wait until they are handled",
                super::clients::shortened(named)
            )
        },
        json!({"side": from, "groups": numbers, "unknown": uncounted}),
    )
    .closed_by(
        owed.into_iter()
            .map(|(group, retry, delayed)| (group.to_string(), retry.saturating_add(delayed)))
            .chain(names(&uncounted)),
    )
}

/// A plan carries every move that somebody has not passed; it must not grow for ever.
pub(super) fn moves(scene: &Scene<'_>) -> Gate {
    let kept = order::not_passed(scene.row, scene.members, Some(scene.facts)).count();
    let passed = kept < MAX_MOVES;
    Gate::new(
        Code::MovesPassed,
        passed,
        if passed {
            format!("{kept} earlier moves of keys wait for their barriers, of {MAX_MOVES} at most")
        } else {
            format!(
                "{kept} earlier moves of keys wait for their barriers, and a plan carries {MAX_MOVES} at most: wait until the groups have caught up (crossfade topic show {})",
                scene.row.plan.topic
            )
        },
        json!({"kept": kept, "limit": MAX_MOVES}),
    )
}

fn not_known(from: Side, groups: &[Arc<str>]) -> String {
    let named = groups.iter().map(ToString::to_string);
    format!(
        "it is not known what the {from} owes to {}, and unknown blocks",
        super::clients::shortened(named)
    )
}

fn names(groups: &[Arc<str>]) -> impl Iterator<Item = (String, u64)> {
    groups.iter().map(|group| (group.to_string(), 0))
}
