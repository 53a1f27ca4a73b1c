//! Gates about who is connected to the brokers.

use std::collections::{BTreeMap, BTreeSet};

use crossfade::{
    Side,
    backend::{ConnectedClient, GroupMembers},
};
use serde_json::json;

use super::{Code, Gate, Scene};

/// Clients that a message names; the numbers have all of them.
const NAMED: usize = 5;

/// Consumers of the topic's groups on a side that are no registered instances.
pub(super) fn consumers(scene: &Scene<'_>, side: Side) -> Gate {
    let known = scene.members.client_ids();
    let mut strangers: BTreeMap<&str, Vec<&ConnectedClient>> = BTreeMap::new();
    let mut managed = 0_usize;
    for (name, group) in &scene.facts.side(side).groups {
        for client in &group.members.clients {
            if known.contains(client.client_id.as_str()) {
                managed += 1;
            } else {
                strangers.entry(name).or_default().push(client);
            }
        }
    }
    let count: usize = strangers.values().map(Vec::len).sum();
    let code = Code::on(side, Code::UnmanagedConsumers, Code::ConsumersOnTarget);
    Gate::new(
        code,
        strangers.is_empty(),
        if strangers.is_empty() {
            format!("{managed} consumers are connected on the {side}, all of them registered instances")
        } else {
            let all = strangers.iter();
            let named = all.flat_map(|(group, clients)| {
                clients
                    .iter()
                    .map(move |client| format!("{} at {} in {group}", client.client_id, client.address))
            });
            let do_what = match side {
                Side::Source => "start them with the SDK, or stop them",
                Side::Target => "stop them: on the target they would take messages from the instances that move",
            };
            format!(
                "{count} consumers on the {side} are no registered instances: {}: {do_what}. All of them: crossfade topic clients {}",
                shortened(named),
                scene.row.plan.topic
            )
        },
        json!({"managed": managed, "unmanaged": strangers}),
    )
    .closed_by(strangers.keys().map(|group| (*group, 0)))
}

pub(super) fn broadcast(scene: &Scene<'_>) -> Gate {
    let groups = groups_that(scene, |members| members.broadcasting);
    Gate::new(
        Code::BroadcastGroups,
        groups.is_empty(),
        if groups.is_empty() {
            "no group broadcasts".to_owned()
        } else {
            format!(
                "these groups broadcast and keep their offsets on their clients, so that nobody can prove that they have read everything: {}. Their owner may accept that by an override",
                join(&groups)
            )
        },
        json!({"broadcasting": groups}),
    )
    .closed_by(groups.into_iter().map(|group| (group, 0)))
}

pub(super) fn pop(scene: &Scene<'_>) -> Gate {
    let groups = groups_that(scene, |members| members.pop);
    Gate::new(
        Code::PopGroups,
        groups.is_empty(),
        if groups.is_empty() {
            "no group consumes by POP".to_owned()
        } else {
            format!(
                "these groups consume by POP, so their offsets prove nothing: {}. Let them pull until the topic has moved",
                join(&groups)
            )
        },
        json!({"pop": groups}),
    )
    .closed_by(groups.into_iter().map(|group| (group, 0)))
}

fn groups_that<'a>(scene: &Scene<'a>, is: impl Fn(&GroupMembers) -> bool) -> BTreeSet<&'a str> {
    let sides = scene.facts.sides.iter();
    let groups = sides.flat_map(|side| &side.groups);
    groups
        .filter(|(_, group)| is(&group.members))
        .map(|(name, _)| &**name)
        .collect()
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The first few, and how many more there are.
pub(super) fn shortened(names: impl Iterator<Item = String>) -> String {
    let mut named: Vec<String> = names.collect();
    let more = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}
