//! The gates of a step: each with a stable code, a sentence, and the numbers behind it. All of them are pure: rows, reports and facts in, gates out.

mod clients;
mod clusters;
mod code;
mod delays;
mod drain;
mod instances;
mod order;
mod presence;
mod readers;
mod writes;

use std::{collections::BTreeMap, time::Duration};

use crossfade::{Side, stage::Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use code::{Code, Entry, Policy};
pub use drain::Owed;

pub(super) use drain::{beyond, left_behind, same, settles, strangers};

use super::{
    accounting::Accounting,
    facts::Facts,
    membership::Membership,
    row::{Override, TopicRecord},
};

/// What gates compare with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Most messages that a group may lag on the target when the source is closed. Default 10 000.
    pub target_lag: u64,
    /// Most messages that may wait for a group on the side that ordering keys are to leave: the moved keys wait for them. Default 1 000.
    pub moving_lag: u64,
    /// Whether writes are accounted for: without it, unmanaged ones are not seen, and the gates about them are notes. Default: yes.
    pub accounting: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            target_lag: 10_000,
            moving_lag: 1_000,
            accounting: true,
        }
    }
}

/// One condition of a step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Gate {
    /// Stable; never renamed. See [`Code`].
    pub code: String,
    /// Whether it holds.
    pub passed: bool,
    /// It only tells: the step may be taken without it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub note: bool,
    /// What holds or what is missing, and what to do.
    pub message: String,
    /// The numbers and names behind it.
    pub numbers: Value,
    /// What keeps it closed, by name, with the number that an override would accept; 0 where the name alone counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closed_by: BTreeMap<String, u64>,
    /// An operator goes on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
}

impl Gate {
    fn new(code: Code, passed: bool, message: impl Into<String>, numbers: Value) -> Self {
        Gate {
            code: code.as_str().into(),
            passed,
            note: code.entry().policy == Policy::Note,
            message: message.into(),
            numbers,
            closed_by: BTreeMap::new(),
            overridden: None,
        }
    }

    fn closed_by<N: ToString>(mut self, names: impl IntoIterator<Item = (N, u64)>) -> Self {
        let names = names.into_iter();
        self.closed_by = names
            .map(|(name, count)| (name.to_string(), count))
            .collect();
        self
    }

    /// The step is not taken because of it.
    #[must_use]
    pub fn blocks(&self) -> bool {
        !self.passed && !self.note && self.overridden.is_none()
    }
}

/// Whether a step may be taken.
pub(super) fn passed(gates: &[Gate]) -> bool {
    !gates.iter().any(Gate::blocks)
}

/// All that gates are decided from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) row: &'a TopicRecord,
    pub(super) members: &'a Membership,
    pub(super) facts: &'a Facts,
    pub(super) writes: &'a Accounting,
    pub(super) limits: &'a Limits,
    pub(super) now: Duration,
}

/// The gates that need no look at the brokers: everybody has applied the revision in force.
pub(super) fn of_instances(row: &TopicRecord, members: &Membership, now: Duration) -> Vec<Gate> {
    instances::gates(row, members, now)
}

/// Whether all of these are passed; decided after each event, so without their sentences.
pub(super) fn applied(row: &TopicRecord, members: &Membership, now: Duration) -> bool {
    instances::applied(row, members, now)
}

/// The gates of the step from the topic's stage to `next` that a look at the brokers decides, with the overrides in force.
pub(super) fn of_step(scene: &Scene<'_>, next: Stage) -> Vec<Gate> {
    let codes = Code::of_step(scene.row.plan.stage, next);
    judged(scene, codes, None).collect()
}

/// The gates of a move of keys away from a side, with the overrides in force.
pub(super) fn of_move(scene: &Scene<'_>, from: Side) -> Vec<Gate> {
    judged(scene, Code::of_move(), Some(from)).collect()
}

/// Whether all of these are passed; those behind the first that is not are not looked at.
pub(super) fn is_open(scene: &Scene<'_>, next: Stage) -> bool {
    let codes = Code::of_step(scene.row.plan.stage, next);
    !judged(scene, codes, None).any(|gate| gate.blocks())
}

/// Whether all gates of a move of keys away from a side are passed.
pub(super) fn move_is_open(scene: &Scene<'_>, from: Side) -> bool {
    !judged(scene, Code::of_move(), Some(from)).any(|gate| gate.blocks())
}

/// `from` is the side that keys are to leave, where the gates are about such a move.
fn judged(
    scene: &Scene<'_>,
    codes: &'static [Code],
    from: Option<Side>,
) -> impl Iterator<Item = Gate> {
    let gates = codes.iter().map(move |code| match (code, from) {
        (Code::MovingLag, Some(from)) => order::lag(scene, from),
        (Code::MovingRetries, Some(from)) => order::retries(scene, from),
        _ => gate(*code, scene),
    });
    gates.map(|mut gate| {
        if !gate.passed {
            let overrides = scene.row.overrides.iter();
            let never = scene.row.is_ordered() && gate.code == Code::BroadcastGroups.as_str();
            if never {
                gate.message += ". No override is accepted for an ordered topic: keys that are moved wait until every group is known to have read what lies before them";
                return gate;
            }
            gate.overridden = overrides.clone().find(|one| one.covers(&gate)).cloned();
            if gate.overridden.is_none() && overrides.clone().any(|one| one.gate == gate.code) {
                gate.message += " (the override accepted less than this: give it again)";
            }
        }
        gate
    })
}

fn gate(code: Code, scene: &Scene<'_>) -> Gate {
    use Side::{Source, Target};
    match code {
        Code::ClustersAnswer => clusters::answer(scene),
        Code::Permissions => clusters::permissions(scene),
        Code::TopicOnSource => presence::topic(scene, Source),
        Code::TopicOnTarget => presence::topic(scene, Target),
        Code::GroupsOnSource => presence::groups(scene, Source),
        Code::GroupsOnTarget => presence::groups(scene, Target),
        Code::GroupCount => presence::group_count(scene),
        Code::GroupsKnown => presence::groups_known(scene),
        Code::MessageType => presence::message_type(scene),
        Code::DelayLevels => delays::levels(scene),
        Code::QueuesOnTarget => presence::queues(scene),
        Code::RolesRegistered => instances::roles(scene),
        Code::ProducersRegistered => instances::producers(scene),
        Code::ConsumersOnTarget => clients::consumers(scene, Target),
        Code::UnmanagedConsumers => clients::consumers(scene, Source),
        Code::BroadcastGroups => clients::broadcast(scene),
        Code::PopGroups => clients::pop(scene),
        Code::UnmanagedProducers => writes::unmanaged(scene),
        Code::SourceQuiet => writes::quiet(scene, Source),
        Code::TargetQuiet => writes::quiet(scene, Target),
        Code::SourceIdle => writes::idle(scene, Source),
        Code::TargetIdle => writes::idle(scene, Target),
        Code::TargetWriteErrors => writes::errors(scene),
        Code::GroupsSubscribedTarget => readers::subscribed(scene),
        Code::TargetLag => readers::lag(scene),
        Code::SourceDrained => drain::drained(scene, Source),
        Code::TargetDrained => drain::drained(scene, Target),
        Code::SourceBacklogKnown => drain::known(scene, Source),
        Code::TargetBacklogKnown => drain::known(scene, Target),
        Code::MovesPassed => order::moves(scene),
        // These do not come from a look: `of_instances`, `of_seal` and the refusal of an unknown topic make them.
        Code::InstancesAcked
        | Code::InstancesLost
        | Code::PlansRefused
        | Code::TopicManaged
        | Code::SourceSealed
        | Code::TargetSealed
        // And these need the side that keys are to leave.
        | Code::MovingLag
        | Code::MovingRetries => Gate::new(code, false, code.entry().about, Value::Null),
    }
}

pub(super) use clusters::{not_looked_since, not_looked_yet};
pub(super) use delays::asked_for as asks_for_delays;
pub(super) use drain::sealed as of_seal;
pub(super) use presence::unmanaged as of_unknown_topic;

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
