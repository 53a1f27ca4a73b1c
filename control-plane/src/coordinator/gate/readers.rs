//! Gates about who reads the target, and how far behind.

use std::{collections::BTreeSet, sync::Arc};

use crossfade::Side;
use serde_json::json;

use super::{Code, Gate, Scene};

/// Every queue of the target is read in every group by a live instance: what is written there does not wait for a reader that never comes.
pub(super) fn subscribed(scene: &Scene<'_>) -> Gate {
    let row = scene.row;
    let queues: BTreeSet<String> = scene
        .facts
        .side(Side::Target)
        .queues
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut short: Vec<(&Arc<str>, Vec<&str>)> = Vec::new();
    let mut assigned = serde_json::Map::new();
    for group in &row.groups {
        let read = scene
            .members
            .assigned_ids(&row.plan.topic, group, Side::Target, scene.now);
        let unread: Vec<&str> = queues
            .iter()
            .map(String::as_str)
            .filter(|queue| !read.contains(queue))
            .collect();
        assigned.insert(
            group.to_string(),
            json!({"read": read.len(), "unread": unread}),
        );
        if queues.is_empty() || !unread.is_empty() {
            short.push((group, unread));
        }
    }
    let message = if short.is_empty() {
        format!(
            "every group reads all {} queues of the target",
            queues.len()
        )
    } else if queues.is_empty() {
        "the target's queues cannot be seen yet".to_owned()
    } else {
        let named = short.iter().map(|(group, unread)| {
            let listed = unread.iter().map(|queue| (*queue).to_owned());
            let listed = super::clients::shortened(listed);
            format!("{group} ({} of {}: {listed})", unread.len(), queues.len())
        });
        format!(
            "no live instance of these groups reads these queues of the target: {}. Start more consumers, or stop unmanaged ones",
            named.collect::<Vec<_>>().join("; ")
        )
    };
    Gate::new(
        Code::GroupsSubscribedTarget,
        short.is_empty(),
        message,
        json!({"queues": queues.len(), "groups": assigned}),
    )
    .closed_by(short.into_iter().map(|(group, _)| (group, 0)))
}

pub(super) fn lag(scene: &Scene<'_>) -> Gate {
    let limit = scene.limits.target_lag;
    let backlogs = &scene.facts.side(Side::Target).backlogs;
    let lags: serde_json::Map<String, serde_json::Value> = backlogs
        .iter()
        .map(|(group, backlog)| (group.to_string(), json!(backlog.total())))
        .collect();
    let over: Vec<(&Arc<str>, u64)> = backlogs
        .iter()
        .map(|(group, backlog)| (group, backlog.total()))
        .filter(|(_, lag)| *lag > limit)
        .collect();
    Gate::new(
        Code::TargetLag,
        over.is_empty(),
        if over.is_empty() {
            format!("no group lags by more than {limit} messages on the target")
        } else {
            let named: Vec<String> = over
                .iter()
                .map(|(group, lag)| format!("{group} by {lag}"))
                .collect();
            format!(
                "more than {limit} messages behind on the target: {}. Wait until they have caught up, or lower the weight",
                named.join(", ")
            )
        },
        json!({"limit": limit, "groups": lags}),
    )
    .closed_by(over.into_iter().map(|(group, _)| (group, 0)))
}
