//! What a control plane is told, in its own words.

use std::{sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::{Backlog, ConnectedClient, GroupMembers, QueueBacklog, QueueId},
    control::wire::{self, ConsumerState, Refused, Role, SideState, SyncRequest},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use crossfade_control_plane::coordinator::{Actor, Command, Event, Facts, GroupFacts, SideFacts};

use super::{Look, Report, Seen, TOPIC};
use crate::fleet::{Fleet, MESSAGES};

/// A plan of the topic.
#[must_use]
pub fn plan(stage: Stage, revision: u64, previous: u64) -> TopicPlan {
    TopicPlan {
        topic: TOPIC.into(),
        stage,
        weight: half(),
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(previous),
    }
}

pub(super) fn half() -> Weight {
    Weight::from_basis_points(5_000).unwrap_or_default()
}

pub(super) fn command(command: Command) -> Event {
    Event::Command {
        actor: Actor {
            name: "ann".into(),
            role: "operator".into(),
        },
        command,
    }
}

pub(super) fn group_name(group: usize) -> Arc<str> {
    format!("group-{group}").into()
}

pub(super) fn name_of(name: usize) -> String {
    format!("instance-{name}")
}

pub(super) fn incarnation(slot: usize) -> String {
    format!("{slot:032}")
}

fn client_id(slot: usize) -> String {
    format!("client-{slot}")
}

fn queue_id(queue: usize) -> QueueId {
    QueueId {
        broker: "broker".into(),
        queue: u32::try_from(queue).unwrap_or(0),
    }
}

pub(super) fn request(report: Report, fleet: &Fleet) -> SyncRequest {
    let slot = &fleet.slots[report.slot];
    let topic: Arc<str> = TOPIC.into();
    let sides = Side::BOTH
        .into_iter()
        .filter(|side| report.assigned[side.index()])
        .map(|side| SideState {
            side,
            queues: u32::try_from(MESSAGES).unwrap_or(1),
            queue_ids: (0..MESSAGES)
                .map(|queue| queue_id(queue).to_string())
                .collect(),
            unreadable: Vec::new(),
        });
    let consumes = slot.group.map(|group| ConsumerState {
        group: group_name(group),
        sides: sides.collect(),
    });
    SyncRequest {
        version: wire::VERSION,
        instance: name_of(fleet.name(report.slot)),
        incarnation: incarnation(report.slot),
        lease_mode: slot.lease_mode,
        client_ids: vec![client_id(report.slot)],
        roles: vec![Role {
            topic: Arc::clone(&topic),
            produces: slot.produces,
            consumes: consumes.into_iter().collect(),
        }],
        acks: report
            .acked
            .map(|acked| (Arc::clone(&topic), Revision(acked)))
            .into_iter()
            .collect(),
        refused: report
            .refused
            .map(|revision| Refused {
                topic,
                revision: Revision(revision),
                reason: "two stages away".into(),
            })
            .into_iter()
            .collect(),
        ..SyncRequest::default()
    }
}

pub(super) fn facts(look: Look, begun: Duration, fleet: &Fleet) -> Facts {
    let listed = |slot: &usize| look.listed >> slot & 1 == 1;
    let client = |slot: usize| ConnectedClient {
        client_id: client_id(slot),
        ..ConnectedClient::default()
    };
    let slots = || 0..fleet.slots.len();
    let producers: Vec<_> = slots()
        .filter(|slot| fleet.slots[*slot].produces && listed(slot))
        .map(client)
        .collect();
    let members = |group: usize| GroupFacts {
        exists: true,
        members: GroupMembers {
            clients: slots()
                .filter(|slot| fleet.slots[*slot].group == Some(group) && listed(slot))
                .map(client)
                .collect(),
            ..GroupMembers::default()
        },
    };
    let sides = Side::BOTH.map(|side| {
        if look.silent == Some(side) {
            return SideFacts {
                unknown: vec!["no answer".into()],
                ..SideFacts::default()
            };
        }
        let seen = look.sides[side.index()];
        let access = look.access[side.index()];
        let groups = || (0..fleet.groups()).map(|group| (group_name(group), group));
        SideFacts {
            access: Some(access),
            queues: match access {
                Access::Sealed => Default::default(),
                _ => (0..MESSAGES).map(queue_id).collect(),
            },
            ends: (0..MESSAGES)
                .map(|queue| (queue_id(queue), u64::from(seen.ends[queue])))
                .collect(),
            groups: groups()
                .map(|(name, group)| (name, members(group)))
                .collect(),
            backlogs: groups()
                .map(|(name, group)| (name, backlog(&seen, group)))
                .collect(),
            producers: Some(producers.clone()),
            ..SideFacts::default()
        }
    });
    Facts { begun, sides }
}

fn backlog(seen: &Seen, group: usize) -> Backlog {
    let line = |queue: usize, end: u64, committed: u64| QueueBacklog {
        queue: queue_id(queue),
        min: 0,
        end,
        committed: Some(committed),
    };
    let topic = (0..MESSAGES).map(|queue| {
        let passed = seen.passed[group][queue];
        line(queue, u64::from(seen.ends[queue]), u64::from(passed))
    });
    let retry = (0..MESSAGES).map(|queue| {
        let (end, passed) = seen.retries[group][queue];
        line(queue, u64::from(end), u64::from(passed))
    });
    Backlog {
        queues: topic.collect(),
        retry: retry.collect(),
        delayed: Some(u64::from(seen.delayed[group])),
        half: Some(u64::from(seen.half)),
        dead_letters: Some(0),
        retry_of_others: 0,
    }
}
