//! What the brokers said of one topic, both sides, at one time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Access, Side,
    backend::{Backlog, ConnectedClient, DelayLevels, GroupMembers, QueueId, TopicSettings},
};
use serde::{Serialize, Serializer};

/// One look at both clusters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// When the look was begun, on the coordinator's clock.
    #[serde(skip)]
    pub begun: Duration,
    /// Source, target.
    pub sides: [SideFacts; 2],
}

impl Facts {
    /// One side's facts.
    #[must_use]
    pub fn side(&self, side: Side) -> &SideFacts {
        &self.sides[side.index()]
    }
}

/// One look at one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SideFacts {
    /// What could not be found out, in words. Nothing below is complete while there is any.
    pub unknown: Vec<String>,
    /// What writers may do; `None` when the topic does not exist. Where the brokers disagree: what the most open one lets them do.
    pub access: Option<Access>,
    /// The sentence that says how the brokers disagree about the access: then it has to be set again.
    pub disagreement: Option<String>,
    /// The topic's own configuration, where it has got queues or brokers since it was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grown: Option<TopicSettings>,
    /// RocketMQ 5.x `message.type`, where set.
    pub message_type: Option<String>,
    /// What each broker is configured to take the numbered delays for; none where messages may wait for any time.
    pub delays: Arc<BTreeMap<String, DelayLevels>>,
    /// Why that is not known, in words. All else may be known all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delays_unknown: Option<Arc<String>>,
    /// The topic's queues as they are now; none under a seal.
    pub queues: BTreeSet<QueueId>,
    /// One past the last message of every queue of the topic, also under a seal.
    #[serde(serialize_with = "by_name")]
    pub ends: BTreeMap<QueueId, u64>,
    /// The managed groups, and every other group that reads the topic.
    pub groups: BTreeMap<Arc<str>, GroupFacts>,
    /// What is owed to each group: the managed ones and any other that has offsets or members here.
    pub backlogs: BTreeMap<Arc<str>, Backlog>,
    /// Every producer of the cluster that the brokers list, of whatever topic; `None` when they list none.
    pub producers: Option<Vec<ConnectedClient>>,
}

/// One group on one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GroupFacts {
    /// Whether every broker knows it.
    pub exists: bool,
    /// Who consumes, and how.
    #[serde(flatten)]
    pub members: GroupMembers,
}

impl SideFacts {
    /// Whether a consumer or a producer of this side has one of these client ids.
    #[must_use]
    pub fn lists_any(&self, client_ids: &BTreeSet<String>) -> bool {
        self.listed(client_ids).next().is_some()
    }

    /// Those of these client ids that a consumer or a producer of this side has.
    pub fn listed(&self, client_ids: &BTreeSet<String>) -> impl Iterator<Item = &str> {
        let groups = self.groups.values();
        let consumers = groups.flat_map(|group| &group.members.clients);
        consumers
            .chain(self.producers.iter().flatten())
            .map(|client| client.client_id.as_str())
            .filter(|id| client_ids.contains(*id))
    }

    /// Messages that the topic has ever been given here.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.ends
            .values()
            .fold(0, |sum, end| sum.saturating_add(*end))
    }

    /// Messages owed to all groups.
    #[must_use]
    pub fn owed(&self) -> u64 {
        let owed = self.backlogs.values().map(Backlog::total);
        owed.fold(0, u64::saturating_add)
    }
}

/// Queues are structures, and JSON's keys are text.
fn by_name<S: Serializer>(ends: &BTreeMap<QueueId, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(ends.iter().map(|(queue, end)| (queue.to_string(), end)))
}
