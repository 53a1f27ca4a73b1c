//! Gates about what exists on each side, and whether both sides agree.

use std::{collections::BTreeSet, sync::Arc};

use crossfade::Side;
use serde_json::json;

use super::{Code, Gate, Scene};

/// For a topic that nobody has added.
pub(in super::super) fn unmanaged(topic: &str) -> Gate {
    Gate::new(
        Code::TopicManaged,
        false,
        format!("topic {topic} is not managed: crossfade topic add {topic} --group G,..."),
        json!({"topic": topic}),
    )
}

pub(super) fn topic(scene: &Scene<'_>, side: Side) -> Gate {
    // A sealed topic has no queues to be seen: its own configuration has them.
    let queues = scene.row.settings[side.index()].queues;
    let present = scene.facts.side(side).access.is_some() && queues > 0;
    let unknown = is_unknown(scene, side);
    Gate::new(
        Code::on(side, Code::TopicOnSource, Code::TopicOnTarget),
        present,
        if present {
            format!("the topic exists on the {side} with {queues} queues")
        } else if unknown {
            format!("not known whether the topic exists: {}", silent(side))
        } else {
            format!("the topic does not exist on the {side}, or has no queues: create it there")
        },
        json!({"queues": queues}),
    )
}

pub(super) fn groups(scene: &Scene<'_>, side: Side) -> Gate {
    let found = &scene.facts.side(side).groups;
    let managed = &scene.row.groups;
    let missing: Vec<&str> = managed
        .iter()
        .filter(|group| !found.get(*group).is_some_and(|group| group.exists))
        .map(|group| &**group)
        .collect();
    Gate::new(
        Code::on(side, Code::GroupsOnSource, Code::GroupsOnTarget),
        missing.is_empty(),
        if missing.is_empty() {
            format!("all {} groups exist on the {side}", managed.len())
        } else if is_unknown(scene, side) {
            format!(
                "not known whether the groups {} exist: {}",
                missing.join(", "),
                silent(side)
            )
        } else {
            format!(
                "missing on the {side}: create the groups {} (mqadmin updateSubGroup)",
                missing.join(", ")
            )
        },
        json!({"groups": managed.len(), "missing": missing}),
    )
    .closed_by(missing.into_iter().map(|group| (group, 0)))
}

/// The look at the side was not complete.
fn is_unknown(scene: &Scene<'_>, side: Side) -> bool {
    !scene.facts.side(side).unknown.is_empty()
}

fn silent(side: Side) -> String {
    format!("the {side} did not answer in full (clusters_answer says why)")
}

/// The groups that belong to the topic on a side: those that exist of the managed ones, and all others that read it or have offsets in it.
fn belonging(scene: &Scene<'_>, side: Side) -> BTreeSet<Arc<str>> {
    let facts = scene.facts.side(side);
    let existing = facts.groups.iter().filter(|(_, group)| group.exists);
    let existing = existing.map(|(name, _)| Arc::clone(name));
    existing.chain(facts.backlogs.keys().cloned()).collect()
}

pub(super) fn group_count(scene: &Scene<'_>) -> Gate {
    let [source, target] = Side::BOTH.map(|side| belonging(scene, side));
    let one_sided: Vec<String> = source
        .symmetric_difference(&target)
        .map(|group| {
            let side = if source.contains(group) {
                Side::Source
            } else {
                Side::Target
            };
            format!("{group} ({side} only)")
        })
        .collect();
    let names: Vec<Arc<str>> = source.symmetric_difference(&target).cloned().collect();
    Gate::new(
        Code::GroupCount,
        one_sided.is_empty(),
        if one_sided.is_empty() {
            format!("the same {} groups on both sides", source.len())
        } else if let Some(side) = Side::BOTH.into_iter().find(|side| is_unknown(scene, *side)) {
            format!("not known: {}", silent(side))
        } else {
            format!(
                "{} groups on the source, {} on the target: {}. Create what is missing, or stop what does not belong to the topic",
                source.len(),
                target.len(),
                one_sided.join(", ")
            )
        },
        json!({"source": source.len(), "target": target.len(), "managed": scene.row.groups.len(), "one_sided": names}),
    )
    .closed_by(names.into_iter().map(|group| (group, 0)))
}

pub(super) fn groups_known(scene: &Scene<'_>) -> Gate {
    let row = scene.row;
    let registered = scene
        .members
        .of_topic(&row.plan.topic)
        .filter_map(|member| member.record.consumes.get(&row.plan.topic))
        .flatten();
    let source = &scene.facts.side(Side::Source).backlogs;
    let reading: BTreeSet<&Arc<str>> = source.keys().chain(registered).collect();
    let unknown: Vec<&str> = reading
        .into_iter()
        .filter(|group| !row.groups.contains(*group))
        .map(|group| &**group)
        .collect();
    Gate::new(
        Code::GroupsKnown,
        unknown.is_empty(),
        if unknown.is_empty() {
            "every group that reads the topic on the source is managed".to_owned()
        } else {
            format!(
                "these groups read the topic on the source and are not managed: {0}. Remove the topic and add it with --group {0} too",
                unknown.join(",")
            )
        },
        json!({"managed": row.groups.len(), "unmanaged": unknown}),
    )
    .closed_by(unknown.into_iter().map(|group| (group, 0)))
}

/// What a topic that does not say what it takes is compared as.
const ANYTHING: [&str; 3] = ["NORMAL", "MIXED", "UNSPECIFIED"];
/// What an unordered topic may take as well.
const UNORDERED: [&str; 2] = ["DELAY", "TRANSACTION"];
/// What only an ordered topic may take.
const ORDERED: &str = "FIFO";

pub(super) fn message_type(scene: &Scene<'_>) -> Gate {
    let ordered = scene.row.is_ordered();
    let [source, target] = Side::BOTH.map(|side| scene.facts.side(side).message_type.as_deref());
    let takes_anything = |kind: &str| ANYTHING.contains(&kind) || (ordered && kind == ORDERED);
    let fits = |kind: &str| takes_anything(kind) || (!ordered && UNORDERED.contains(&kind));
    // RocketMQ 4.x knows no types: there, a topic of any type says nothing.
    let alike = match (source, target) {
        (Some(source), Some(target)) => source == target,
        (None, None) => true,
        (Some(one), None) | (None, Some(one)) => takes_anything(one),
    };
    let misfit = [source, target]
        .into_iter()
        .flatten()
        .find(|kind| !fits(kind));
    let passed = alike && misfit.is_none();
    let name = |kind: Option<&str>| kind.unwrap_or("not declared").to_owned();
    let (source, target) = (name(source), name(target));
    Gate::new(
        Code::MessageType,
        passed,
        if passed {
            format!("source {source}, target {target}")
        } else if let Some(misfit) = misfit {
            match misfit {
                ORDERED => format!(
                    "the topic takes {misfit} messages, whose order would not be kept: remove it and add it with --ordered, or say that nobody relies on the order"
                ),
                _ if UNORDERED.contains(&misfit) => format!(
                    "the topic is added with --ordered and takes {misfit} messages: neither delayed messages nor transactions are kept in order. Remove the topic and add it without --ordered, or say that it carries none"
                ),
                _ => format!(
                    "the topic takes {misfit} messages on one side, which is not carried: batches of a queue.type BatchCQ cannot be read, and brokers that declare several types have to be made to declare one (mqadmin updateTopic -a +message.type=...). Nothing is lost if it is overridden: a queue stands at what cannot be read"
                ),
            }
        } else {
            format!(
                "the source takes {source} messages, the target {target}: give the target's topic the source's type (mqadmin updateTopic -a +message.type=...), or say that every message fits"
            )
        },
        json!({"source": source, "target": target}),
    )
    .closed_by((!passed).then(|| (format!("{source}/{target}"), 0)))
}

pub(super) fn queues(scene: &Scene<'_>) -> Gate {
    let [source, target] = [0, 1].map(|side: usize| scene.row.settings[side].queues);
    let enough = target >= source && target > 0;
    Gate::new(
        Code::QueuesOnTarget,
        enough,
        if enough {
            format!("the target has {target} queues, the source {source}")
        } else {
            format!(
                "the target has {target} queues, the source {source}: fewer consumers than now would get a share. Give the target as many, then remove the topic and add it again"
            )
        },
        json!({"source": source, "target": target}),
    )
    .closed_by((!enough).then_some(("target", u64::from(source.saturating_sub(target)))))
}
