//! What the coordinator is told, and what it decides.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::{QueueId, TopicDescription, TopicSettings},
    control::wire::{Clusters, SyncRequest},
    stage::{Routing, Stage, Weight},
};

use serde::{Deserialize, Serialize};

use super::{
    facts::Facts,
    gate::{self, Gate, Limits},
    timing::Timing,
};
use crate::record::Change;

/// What a coordinator is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// How long things last.
    pub timing: Timing,
    /// What gates compare with.
    pub limits: Limits,
    /// Which start of the control plane this is.
    pub epoch: u64,
    /// The clusters' addresses, without credentials.
    pub clusters: Clusters,
    /// Whether a store may be continued under other addresses: the same clusters, reached in another way.
    pub accept_new_addresses: bool,
}

/// Who gives a command.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The name, as far as the API knows one.
    pub name: String,
    /// The role of the token.
    pub role: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An instance asks.
    Sync(SyncRequest),
    /// Time has passed.
    Tick,
    /// Somebody wants to decide on what is true now: look at these topics again.
    LookAgain {
        /// The topics; unknown ones are passed over.
        topics: Vec<Arc<str>>,
    },
    /// An operator asks.
    Command {
        /// Who.
        actor: Actor,
        /// What.
        command: Command,
    },
    /// A look is over.
    Facts {
        /// The topic.
        topic: Arc<str>,
        /// Of the work.
        token: u64,
        /// What was seen.
        facts: Facts,
    },
    /// A change of permissions is over.
    AccessChanged {
        /// The topic.
        topic: Arc<str>,
        /// The side.
        side: Side,
        /// What was asked for.
        access: Access,
        /// Of the work.
        token: u64,
        /// Confirmed by every broker, or why not.
        result: Result<(), String>,
    },
    /// The groups' first offsets are committed.
    FirstOffsets {
        /// The topic.
        topic: Arc<str>,
        /// Of the work.
        token: u64,
        /// Or why not.
        result: Result<(), String>,
    },
    /// The ends of the side that frozen keys leave were read.
    Ends {
        /// The topic.
        topic: Arc<str>,
        /// Of the work.
        token: u64,
        /// The revision that froze the keys.
        frozen: Revision,
        /// One past the last message of every queue, or why that is not known.
        result: Result<BTreeMap<QueueId, u64>, String>,
    },
}

/// What an operator asks for.
// A handful an hour: their size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Command {
    /// Manage a topic, from `SourceOnly`; one that had moved and was removed goes on from `TargetOnly`.
    Add {
        /// The topic.
        topic: Arc<str>,
        /// The groups that move with it.
        groups: Vec<Arc<str>>,
        /// The weight for `DualWrite`; 50 % when absent.
        weight: Option<Weight>,
        /// Whether its ordering keys stay in order while it moves. For good: only a topic that was removed can come back with another routing.
        routing: Routing,
        /// What the brokers said of it, source and target.
        described: [Option<TopicDescription>; 2],
        /// Why its target may be sealed although somebody uses it; kept in the audit log.
        accepted: Option<String>,
    },
    /// Go on, to the next stage or as far as `to`.
    Advance {
        /// The topic.
        topic: Arc<str>,
        /// Where to.
        to: Option<Stage>,
        /// Whether closed gates are waited for, and which ones are gone without.
        terms: Terms,
    },
    /// Go back, to the stage before or as far as `to`.
    Rollback {
        /// The topic.
        topic: Arc<str>,
        /// Where to.
        to: Option<Stage>,
        /// Whether closed gates are waited for, and which ones are gone without.
        terms: Terms,
    },
    /// Stay where it is.
    Cancel {
        /// The topic.
        topic: Arc<str>,
    },
    /// Set the weight for `DualWrite`.
    SetWeight {
        /// The topic.
        topic: Arc<str>,
        /// The target's share.
        weight: Weight,
    },
    /// Manage it no more.
    Remove {
        /// The topic.
        topic: Arc<str>,
    },
    /// The lost processes under a name are gone.
    ConfirmGone {
        /// The name.
        instance: String,
        /// How the operator knows.
        reason: String,
    },
}

/// How a topic is to be moved.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Store the goal although gates of the next step are closed, and take each step once its gates are open. Without it, closed gates refuse
    /// the command.
    pub wait: bool,
    /// Gates to go on without.
    pub overrides: Vec<AskedOverride>,
    /// Decide on nothing that was seen before this time.
    pub since: Duration,
}

impl Terms {
    /// Wait for every gate.
    #[must_use]
    pub fn waiting() -> Self {
        Terms {
            wait: true,
            ..Terms::default()
        }
    }
}

/// An operator wants to go on without a gate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AskedOverride {
    /// The gate's code.
    pub gate: String,
    /// Why. Kept in the audit log.
    pub reason: String,
}

/// Work for the driver; its outcome comes back as an event with the same token.
#[derive(Clone, Debug)]
pub enum Work {
    /// Open, close or seal.
    SetAccess {
        /// The topic.
        topic: Arc<str>,
        /// The side.
        side: Side,
        /// Its own configuration.
        settings: TopicSettings,
        /// What to make of it.
        access: Access,
        /// For the answer.
        token: u64,
    },
    /// Look at both sides.
    Inspect {
        /// The topic.
        topic: Arc<str>,
        /// For the answer.
        token: u64,
        /// The managed groups.
        groups: Vec<Arc<str>>,
        /// Its own configuration on both sides.
        settings: [TopicSettings; 2],
        /// Whether a gate of the next step asks for the delay levels.
        delays: bool,
    },
    /// Commit first offsets where a group has none.
    CommitFirstOffsets {
        /// The topic.
        topic: Arc<str>,
        /// The side.
        side: Side,
        /// The groups.
        groups: Vec<Arc<str>>,
        /// Its own configuration there.
        settings: TopicSettings,
        /// For the answer.
        token: u64,
    },
    /// Read the ends of the side that frozen keys leave, after the brokers have dispatched what they had taken when the work began.
    ReadEnds {
        /// The topic.
        topic: Arc<str>,
        /// The side.
        side: Side,
        /// Its own configuration there, as far as the last look knew it.
        settings: TopicSettings,
        /// The revision that froze the keys.
        frozen: Revision,
        /// For the answer.
        token: u64,
    },
}

/// What to do, in this order: store the change, answer, start the work, wake whoever waits for plans.
#[derive(Debug, Default)]
pub struct Step {
    /// To be stored whole before anything else is done.
    pub change: Change,
    /// For whoever sent the event.
    pub answer: Option<Result<Answer, Refusal>>,
    /// To be started.
    pub work: Vec<Work>,
    /// Plans have changed.
    pub wake: bool,
    /// A topic's trouble has begun, in words, or is over.
    pub trouble: Option<(Arc<str>, Option<String>)>,
}

/// A command or a request was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Answer with the plans, or that a newer process runs under this name.
    Sync {
        /// A newer process runs under this name.
        superseded: bool,
    },
    /// It is so now, or on its way.
    Done,
}

/// A command was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// `invalid_request`, `not_found`, `conflict`, `blocked`, `unavailable`.
    pub code: &'static str,
    /// What, where, and what to do.
    pub message: String,
    /// The gates behind it.
    pub gates: Vec<Gate>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            code,
            message: message.into(),
            gates: Vec::new(),
        }
    }

    pub(crate) fn unknown(topic: &str) -> Self {
        let gate = gate::of_unknown_topic(topic);
        Refusal {
            gates: vec![gate.clone()],
            ..Refusal::new("not_found", format!("there is no topic {topic} here"))
        }
    }
}
