//! Gates about who reads the target, and how far behind.

use std::{collections::BTreeSet, sync::Arc};

use crossfade::{Side, control::wire::Unreadable};
use serde_json::{Value, json};

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

/// Messages that live instances cannot read: their queues stand there, and waiting does not help.
pub(super) struct Stands {
    words: Vec<String>,
    numbers: Vec<Value>,
}

pub(super) fn unreadable(scene: &Scene<'_>, side: Side) -> Stands {
    let members = scene.members;
    let told = members.unreadable(&scene.row.plan.topic, side, scene.now);
    let (words, numbers) = told
        .map(|(instance, group, one)| {
            let Unreadable {
                queue,
                offset,
                reason,
            } = one;
            (
                format!("{group} at offset {offset} of {queue} ({instance}: {reason})"),
                json!({"instance": instance, "group": group, "queue": queue, "offset": offset, "reason": reason}),
            )
        })
        .unzip();
    Stands { words, numbers }
}

impl Stands {
    /// `None` when there are none.
    pub(super) fn words(&self) -> Option<String> {
        (!self.words.is_empty()).then(|| {
            format!(
                "these queues stand at a message that cannot be read, and nothing behind it is handled: {}. Let a client of the group take it that can read it, or set the group's offset past it",
                super::clients::shortened(self.words.iter().cloned())
            )
        })
    }

    /// Adds them to the numbers of a gate, where there are some.
    pub(super) fn beside(self, mut numbers: Value) -> Value {
        if !self.numbers.is_empty() {
            numbers["unreadable"] = self.numbers.into();
        }
        numbers
    }
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
    let stands = unreadable(scene, Side::Target);
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
                "more than {limit} messages behind on the target: {}. {}",
                named.join(", "),
                stands.words().unwrap_or_else(|| {
                    "Wait until they have caught up, or lower the weight".to_owned()
                })
            )
        },
        stands.beside(json!({"limit": limit, "groups": lags})),
    )
    .closed_by(over.into_iter().map(|(group, _)| (group, 0)))
}
