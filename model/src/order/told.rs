//! What the control plane of an ordered topic is told, in its own words.

use std::{sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::{Backlog, QueueBacklog, QueueId},
    control::wire::{self, ConsumerState, LeaseMode, Role, SideState, SyncRequest},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use crossfade_control_plane::coordinator::{
    Actor, Command, Event, Facts, GroupFacts, SideFacts, Timing,
};

use super::{PRODUCERS, plane::Report};

/// The topic.
pub(super) const TOPIC: &str = "orders";
/// Its group.
pub(super) const GROUP: &str = "group";
/// The revision at the start.
pub(super) const FIRST: u64 = 10;
/// A lease with its margin. Everything else together is shorter than half of it.
pub(super) const LEASE: Duration = Duration::from_secs(1_000_000_000);
/// How long a freeze may last.
const FREEZE: Duration = Duration::from_secs(1_000);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn first_plan() -> TopicPlan {
    TopicPlan {
        topic: TOPIC.into(),
        stage: Stage::DualWrite,
        weight: Weight::ZERO,
        routing: Routing::Ordered,
        moves: Vec::new(),
        revision: Revision(FIRST),
        previous_revision: Revision(FIRST - 1),
    }
}

pub(super) fn weight(share: u16) -> Weight {
    Weight::from_basis_points(share.into()).unwrap_or_default()
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

pub(super) fn name_of(slot: usize) -> String {
    format!("instance-{slot}")
}

pub(super) fn queue_id() -> QueueId {
    QueueId {
        broker: "broker".into(),
        queue: 0,
    }
}

pub(super) fn request(report: Report) -> SyncRequest {
    let slot = report.slot;
    let topic: Arc<str> = TOPIC.into();
    let consumer = ConsumerState {
        group: GROUP.into(),
        sides: Side::BOTH
            .into_iter()
            .filter(|side| slot == PRODUCERS + side.index())
            .map(|side| SideState {
                side,
                queues: 1,
                queue_ids: vec![queue_id().to_string()],
                unreadable: Vec::new(),
            })
            .collect(),
    };
    let produces = slot < PRODUCERS;
    SyncRequest {
        version: wire::VERSION,
        instance: name_of(slot),
        incarnation: format!("{slot:032}"),
        lease_mode: match slot + 1 == PRODUCERS {
            true => LeaseMode::Stop,
            false => LeaseMode::Continue,
        },
        client_ids: vec![format!("client-{slot}")],
        roles: vec![Role {
            topic: Arc::clone(&topic),
            produces,
            consumes: (!produces).then_some(consumer).into_iter().collect(),
        }],
        acks: report
            .acked
            .map(|acked| (topic, Revision(acked)))
            .into_iter()
            .collect(),
        ..SyncRequest::default()
    }
}

/// Brokers list nobody: about producers that proves nothing, and of consumers an operator tells.
pub(super) fn facts(seen: [(u8, u8); 2], begun: Duration) -> Facts {
    let sides = seen.map(|(end, committed)| {
        let line = QueueBacklog {
            queue: queue_id(),
            min: 0,
            end: end.into(),
            committed: Some(committed.into()),
        };
        let backlog = Backlog {
            queues: vec![line],
            delayed: Some(0),
            half: Some(0),
            dead_letters: Some(0),
            ..Backlog::default()
        };
        let group = GroupFacts {
            exists: true,
            ..GroupFacts::default()
        };
        SideFacts {
            access: Some(Access::Open),
            queues: [queue_id()].into(),
            ends: [(queue_id(), end.into())].into(),
            groups: [(GROUP.into(), group)].into(),
            backlogs: [(GROUP.into(), backlog)].into(),
            ..SideFacts::default()
        }
    });
    Facts { begun, sides }
}

pub(super) fn timing() -> Timing {
    Timing {
        lease: LEASE,
        margin: Duration::ZERO,
        inspect_moving: LOOK,
        inspect_resting: LOOK,
        change_bound: Duration::ZERO,
        // A consumer that does not run is not listed, and gone for that only after longer than any run lasts.
        relist: LEASE * 1_000,
        reconnect: Duration::ZERO,
        forget: LEASE * 1_000,
        freeze: FREEZE,
        freeze_again: Duration::ZERO,
    }
}
