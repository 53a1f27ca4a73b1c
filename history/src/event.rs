//! What one process did with one topic: a header, then events in the order in which they happened.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Begins a stream: one process life of an instance in one role. A restarted process begins another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The instance's name.
    pub instance: String,
    /// Names this process life. Streams with the same instance and incarnation are of one process, which lives and dies as one.
    pub incarnation: String,
    /// What it does.
    pub role: Role,
    /// The topic.
    pub topic: String,
    /// Names the clock of all `at_us` of the stream: times are compared as they are between streams of one clock (Linux: the boot id of the
    /// machine), and by `started_unix_ms` otherwise. Empty: one clock for all streams that say nothing.
    pub clock: String,
    /// The stream's own clock when it began, in microseconds.
    pub started_at_us: u64,
    /// The wall clock at the same moment, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
}

/// What a stream's process does with the topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// It sends to it.
    Producer,
    /// It handles it.
    Consumer {
        /// For this group.
        group: String,
        /// How far its deduplication reaches.
        dedup: DedupScope,
    },
}

/// Among whom a message is to be handled once.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DedupScope {
    /// All processes of the group: they share a store. The default, which is the strict one.
    #[default]
    Group,
    /// Each process by itself: its store is its own.
    Process,
}

/// One of the two clusters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The one that topics leave.
    Source,
    /// The one that topics move to.
    Target,
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event<'a> {
    /// When, in microseconds of the stream's clock. Grows from each event of a stream to the next; [`Stamp`](crate::Stamp) sees to that.
    pub at_us: u64,
    /// What.
    pub what: What<'a>,
}

/// What happened to a message. `id` is what the message itself carries; see [`Writer::id`](crate::Writer::id).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What<'a> {
    /// A send begins. Recorded before it does.
    Call {
        /// The message.
        id: Cow<'a, str>,
        /// Its ordering key, when the topic promises order.
        key: Option<Cow<'a, str>>,
    },
    /// The send returned success.
    Acked {
        /// The message.
        id: Cow<'a, str>,
        /// The side that stored it.
        side: Side,
        /// The plan's revision that routed it.
        revision: u64,
    },
    /// The send returned an error that leaves open whether the message was stored.
    Ambiguous {
        /// The message.
        id: Cow<'a, str>,
        /// The error, for people.
        error: Cow<'a, str>,
    },
    /// The send returned an error that says that the message was not stored.
    Failed {
        /// The message.
        id: Cow<'a, str>,
        /// The error, for people.
        error: Cow<'a, str>,
    },
    /// The handler is entered. Recorded before it is.
    Enter {
        /// The message.
        id: Cow<'a, str>,
        /// The side it came from.
        side: Side,
        /// 1 for the first delivery, as the broker counts.
        attempt: u32,
    },
    /// The handler succeeded. Recorded before the message is acked.
    Done {
        /// The message.
        id: Cow<'a, str>,
    },
    /// The ack succeeded: the deduplication store knows that the message was handled. Only asked for where processes share the store.
    Settled {
        /// The message.
        id: Cow<'a, str>,
    },
    /// The handler failed: the message is to come again.
    HandlerFailed {
        /// The message.
        id: Cow<'a, str>,
    },
    /// The process ends in good order; the last event of its stream.
    End,
}

impl What<'_> {
    /// The name in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            What::Call { .. } => "call",
            What::Acked { .. } => "acked",
            What::Ambiguous { .. } => "ambiguous",
            What::Failed { .. } => "failed",
            What::Enter { .. } => "enter",
            What::Done { .. } => "done",
            What::Settled { .. } => "settled",
            What::HandlerFailed { .. } => "handler_failed",
            What::End => "end",
        }
    }

    /// The message, if it is about one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            What::Call { id, .. }
            | What::Acked { id, .. }
            | What::Ambiguous { id, .. }
            | What::Failed { id, .. }
            | What::Enter { id, .. }
            | What::Done { id }
            | What::Settled { id }
            | What::HandlerFailed { id } => Some(id),
            What::End => None,
        }
    }
}
