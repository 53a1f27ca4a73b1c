//! The JSON of `POST /v1/sync` and `GET /v1/plan`, shared with the control plane. Unknown fields are ignored.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    side::{Revision, Side},
    stage::TopicPlan,
};

/// The version of this format.
pub const VERSION: u32 = 1;
/// The largest document that is parsed, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// The longest name of a topic in a row that is no plan, in bytes; no broker takes a longer one.
const MAX_TOPIC_BYTES: usize = 255;
/// The longest part of somebody else's words that is reported.
const MAX_REASON_CHARS: usize = 200;

/// What an instance tells the control plane.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SyncRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The instance's name: stable over restarts.
    pub instance: String,
    /// The id of this process life: 32 hexadecimal digits.
    pub incarnation: String,
    /// Grows with every request of an incarnation. A request that was given up and overtaken by a later one is told by its lower number and must
    /// not be taken; 0 from a client that does not count.
    #[serde(default)]
    pub sequence: u64,
    /// What the instance does when its lease is over.
    #[serde(default)]
    pub lease_mode: LeaseMode,
    /// The ids under which the brokers list this instance.
    #[serde(default)]
    pub client_ids: Vec<String>,
    /// Everything the instance does, not only what is new.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// The highest revision of the control plane that the instance has seen: the cursor of the poll. 0 asks for all plans.
    #[serde(default)]
    pub known_revision: Revision,
    /// "I have fully applied this revision", by topic.
    #[serde(default)]
    pub acks: BTreeMap<Arc<str>, Revision>,
    /// Totals since the process started.
    #[serde(default)]
    pub counters: Vec<Counters>,
    /// Plans that were not adopted since the last answered request.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// How long the control plane may keep the request open, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// The instance ends in good order: all its sends have ended, its consumers have left. The last request of an incarnation.
    #[serde(default)]
    pub leaving: bool,
}

/// What an instance does when it has no contact for a lease.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseMode {
    /// Keep the last plan for ever.
    #[default]
    Continue,
    /// Refuse sends and pause deliveries.
    Stop,
}

/// What an instance does with one topic.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Role {
    /// The topic.
    pub topic: Arc<str>,
    /// It sends to it.
    #[serde(default)]
    pub produces: bool,
    /// It consumes it in these groups, sorted.
    #[serde(default)]
    pub consumes: Vec<ConsumerState>,
}

/// One group membership of an instance.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConsumerState {
    /// The group.
    pub group: Arc<str>,
    /// The sides on which it is subscribed and assigned.
    #[serde(default)]
    pub sides: Vec<SideState>,
}

/// The most queues that one member of a group names.
pub const MAX_QUEUE_IDS: usize = 1_024;

/// One side of a group membership.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SideState {
    /// The side.
    pub side: Side,
    /// How many queues are assigned to this instance.
    pub queues: u32,
    /// Their names, sorted, `broker:number`; none when there are more than [`MAX_QUEUE_IDS`]. Two members that count one queue both, as
    /// happens while a group is shared out anew, are told apart by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue_ids: Vec<String>,
    /// Queues that stand at a message which this instance cannot read, at most [`MAX_UNREADABLE`]; older instances do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// The most messages that cannot be read which one member of a group names on one side.
pub const MAX_UNREADABLE: usize = 8;

/// A message that an instance cannot read. Its queue stands there, and nothing behind it is handled.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unreadable {
    /// The queue, `broker:number`; one of the group's retry topic begins with `%RETRY%`.
    pub queue: String,
    /// The first offset that has not been read.
    pub offset: u64,
    /// What is wrong, in words.
    pub reason: String,
}

impl Unreadable {
    /// With as much of the reason as is reported.
    #[must_use]
    pub fn new(queue: String, offset: u64, reason: &str) -> Self {
        Unreadable {
            queue,
            offset,
            reason: reason.chars().take(MAX_REASON_CHARS).collect(),
        }
    }
}

/// What an instance has done with one topic under one revision.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// The topic.
    pub topic: Arc<str>,
    /// The plan's revision: of the send, or the one in force at the handling.
    pub revision: Revision,
    /// By side: source, target.
    pub sent: [u64; 2],
    /// Sends that ended with an error, by the side tried last.
    pub send_errors: [u64; 2],
    /// Tries that were repeated on the same side: each may be stored beside the one that counts. Not by revision: the whole total is in the
    /// topic's last row.
    #[serde(default)]
    pub retries: [u64; 2],
    /// Handled with success.
    pub handled: [u64; 2],
    /// Dropped as duplicates.
    pub duplicates: [u64; 2],
}

/// A plan that was not adopted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refused {
    /// The topic.
    pub topic: Arc<str>,
    /// The plan's revision.
    pub revision: Revision,
    /// Why, in words.
    pub reason: String,
}

/// What the control plane answers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SyncResponse {
    /// Which control plane decided: grows with every start. A lower one never follows a higher one. 0 for a source that decides nothing.
    #[serde(default)]
    pub epoch: u64,
    /// The plans.
    #[serde(flatten)]
    pub plans: PlanDocument,
    /// How long the instance counts as alive after the request was *sent* (on the instance's side) or received (on the
    /// control plane's, which adds a margin), in milliseconds. 0: no lease.
    #[serde(default)]
    pub lease_ms: u64,
}

/// Plans, as every source gives them: the body of `GET /v1/plan`, of a plan file, and of the file on disk. Read row by row: one that is no plan
/// costs only itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(from = "Rows")]
pub struct PlanDocument {
    /// [`VERSION`].
    pub version: u32,
    /// The control plane's revision when this was written.
    pub revision: Revision,
    /// The clusters' addresses, without credentials.
    #[serde(skip_serializing_if = "Clusters::is_empty")]
    pub clusters: Clusters,
    /// The plans that changed, or all.
    pub plans: Vec<TopicPlan>,
    /// Rows that are no plan: a stage, a weight or a routing that this library does not know, a field that is missing. Never written.
    #[serde(skip_serializing)]
    pub malformed: Vec<Refused>,
    /// Topics that are no longer managed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Arc<str>>,
}

/// A document before its rows are judged.
#[derive(Deserialize)]
struct Rows {
    version: u32,
    revision: Revision,
    #[serde(default)]
    clusters: Clusters,
    #[serde(default)]
    plans: Vec<serde_json::Value>,
    #[serde(default)]
    removed: Vec<Arc<str>>,
}

impl From<Rows> for PlanDocument {
    fn from(rows: Rows) -> Self {
        let mut document = PlanDocument {
            version: rows.version,
            revision: rows.revision,
            clusters: rows.clusters,
            removed: rows.removed,
            ..PlanDocument::default()
        };
        for row in rows.plans {
            match TopicPlan::deserialize(&row) {
                Ok(plan) => document.plans.push(plan),
                Err(error) => document.malformed.push(Refused::row(&row, &error)),
            }
        }
        document
    }
}

impl Refused {
    /// The topic is empty and the revision 0 where the row does not say them.
    fn row(row: &serde_json::Value, error: &serde_json::Error) -> Refused {
        let topic = row.get("topic").and_then(serde_json::Value::as_str);
        let revision = row.get("revision").and_then(serde_json::Value::as_u64);
        // It may repeat a whole field.
        let why: String = error.to_string().chars().take(MAX_REASON_CHARS).collect();
        Refused {
            topic: topic
                .filter(|topic| topic.len() <= MAX_TOPIC_BYTES)
                .unwrap_or_default()
                .into(),
            revision: Revision(revision.unwrap_or_default()),
            reason: format!("the row is no plan that this library can read: {why}"),
        }
    }
}

/// The addresses of both clusters.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Clusters {
    /// `rocketmq://host:port;host:port`, `memory://name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// As `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Clusters {
    /// No address at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source.is_none() && self.target.is_none()
    }
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// A stable word: `invalid_request`, `unauthorized`, `forbidden`, `not_found`, `superseded`, `blocked`, `conflict`, `unavailable`.
    pub code: String,
    /// What, where, and what to do.
    pub message: String,
    /// The gates that are not passed, where that is the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<serde_json::Value>,
}
