//! Topics and instances as people and the API see them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::ConnectedClient,
    control::wire::LeaseMode,
    stage::{Routing, Stage, Weight},
};
use serde::{Deserialize, Serialize};

use super::{
    facts::Facts,
    gate::{self, Gate},
    keys::KeysView,
    membership::{Member, Membership, Standing},
    row::{Abandoned, Override},
    timing::Timing,
    topic::Topic,
};

/// One topic.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TopicView {
    /// The name.
    pub topic: Arc<str>,
    /// The stage published.
    pub stage: Stage,
    /// Where an operator wants it.
    pub goal: Stage,
    /// The stage is the goal, applied by everybody, and both sides are as it says.
    pub settled: bool,
    /// The next step that the gates are about; `None` at the end.
    pub next: Option<Stage>,
    /// Whether every gate of the next step is passed.
    pub ready: bool,
    /// The weight for `DualWrite`.
    pub weight_basis_points: Weight,
    /// How messages find their side.
    #[serde(default)]
    pub routing: Routing,
    /// Of an ordered topic: where its keys are on their way from one side to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysView>,
    /// Of the plan.
    pub revision: Revision,
    /// The groups that move with it.
    pub groups: Vec<Arc<str>>,
    /// Source and target, as the brokers have confirmed it.
    pub access: [Option<Access>; 2],
    /// Messages that each side owes, as of the last look.
    pub owed: [Option<u64>; 2],
    /// Sent to each side, by the instances that are known now.
    pub sent: [u64; 2],
    /// Handled from each side.
    pub handled: [u64; 2],
    /// The gates of the next step.
    pub gates: Vec<Gate>,
    /// What went wrong last, until something goes right.
    pub trouble: Option<String>,
    /// Where the seal and its proof are, where the stage or the step under way asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Gate>,
    /// It is being removed, and waits for its target to be open again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Gates that an operator goes on without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What was still owed when the stage was published by override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<Abandoned>,
    /// The age of the last look, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_ms_ago: Option<u64>,
}

impl TopicView {
    pub(super) fn new(topic: &Topic, members: &Membership, now: Duration) -> Self {
        let gates = topic.gates(members, now);
        TopicView::with(topic, members, topic.next_stage(), gates, now)
    }

    pub(super) fn with(
        topic: &Topic,
        members: &Membership,
        next: Option<Stage>,
        gates: Vec<Gate>,
        now: Duration,
    ) -> Self {
        let plan = &topic.record.plan;
        let looked = topic.facts.as_ref().map(|facts| facts.begun);
        let mut sent = [0; 2];
        let mut handled = [0; 2];
        let counters = members.iter().flat_map(|member| &member.counters);
        for row in counters.filter(|row| row.topic == plan.topic) {
            for side in Side::BOTH.map(Side::index) {
                sent[side] += row.sent[side];
                handled[side] += row.handled[side];
            }
        }
        TopicView {
            topic: Arc::clone(&plan.topic),
            stage: plan.stage,
            goal: topic.record.goal,
            settled: topic.is_settled(members, now),
            next,
            ready: topic.facts.is_some() && gate::passed(&gates),
            weight_basis_points: topic.record.weight,
            routing: plan.routing,
            keys: KeysView::new(topic, members, now),
            revision: plan.revision,
            groups: topic.record.groups.clone(),
            access: topic.access,
            owed: Side::BOTH.map(|side| topic.facts.as_ref().map(|facts| facts.side(side).owed())),
            sent,
            handled,
            gates,
            trouble: topic.trouble.clone(),
            seal: topic.seal_gate(),
            leaving: topic.record.leaving,
            overrides: topic.record.overrides.clone(),
            abandoned: topic.record.abandoned.clone(),
            looked_ms_ago: looked.map(|begun| milliseconds(now.saturating_sub(begun))),
        }
    }
}

/// A client that the brokers list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClientView {
    /// Where it is connected.
    pub side: Side,
    /// What it is listed as.
    pub kind: ClientKind,
    /// The id, the address, the group, and what else the brokers tell.
    #[serde(flatten)]
    pub client: ConnectedClient,
    /// The registered instance that it belongs to; `None` for an unmanaged client.
    pub instance: Option<String>,
}

/// What a broker lists a client as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// In one of the topic's consumer groups.
    Consumer,
    /// In a producer group; of whatever topic, because brokers do not tell.
    Producer,
}

/// Everybody that the last look found, the unmanaged first.
pub(super) fn clients(
    facts: Option<&Facts>,
    members: &Membership,
    now: Duration,
) -> Vec<ClientView> {
    let mut found = Vec::new();
    let looked = facts.map(|facts| milliseconds(now.saturating_sub(facts.begun)));
    for side in Side::BOTH {
        let Some(facts) = facts.map(|facts| facts.side(side)) else {
            continue;
        };
        let consumers = facts.groups.iter().flat_map(|(name, group)| {
            let clients = group.members.clients.iter();
            clients.map(move |client| ConnectedClient {
                group: name.to_string(),
                // Brokers do not tell when they last heard of a consumer: they listed it in the last look.
                last_seen_ms: client.last_seen_ms.or(looked),
                ..client.clone()
            })
        });
        let consumers = consumers.map(|client| (ClientKind::Consumer, client));
        let producers = facts.producers.iter().flatten().cloned();
        let producers = producers.map(|client| (ClientKind::Producer, client));
        found.extend(consumers.chain(producers).map(|(kind, client)| ClientView {
            side,
            kind,
            instance: members.instance_of(&client.client_id),
            client,
        }));
    }
    found.sort_by_key(|one| (one.instance.is_some(), one.side.index(), one.kind));
    found
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One instance.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InstanceView {
    /// The name.
    pub instance: String,
    /// The process life.
    pub incarnation: String,
    /// Whether it may still act.
    pub standing: Standing,
    /// A newer process runs under its name.
    pub superseded: bool,
    /// What it does when its lease is over.
    pub lease_mode: LeaseMode,
    /// Since its last request, in milliseconds.
    pub silent_ms: u64,
    /// Topics it sends to.
    pub produces: Vec<Arc<str>>,
    /// Topics and groups it consumes.
    pub consumes: Vec<(Arc<str>, BTreeSet<Arc<str>>)>,
    /// The ids that the brokers list.
    pub client_ids: BTreeSet<String>,
}

impl InstanceView {
    pub(super) fn new(member: &Member, timing: &Timing, now: Duration) -> Self {
        let record = &member.record;
        InstanceView {
            instance: record.instance.clone(),
            incarnation: record.incarnation.clone(),
            standing: member.standing(timing, now),
            superseded: record.superseded,
            lease_mode: record.lease_mode,
            silent_ms: milliseconds(now.saturating_sub(member.heard)),
            produces: record.produces.iter().cloned().collect(),
            consumes: record.consumes.clone().into_iter().collect(),
            client_ids: record.client_ids.clone(),
        }
    }
}
