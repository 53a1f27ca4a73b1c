//! What happens to a control plane, and what it may be busy with.

use crossfade::{Access, Side};

use crate::fleet::{GROUPS, MESSAGES, SLOTS};

/// What an instance says in one request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Report {
    /// Who.
    pub slot: usize,
    /// The revision that it has applied.
    pub acked: Option<u64>,
    /// Whether it has queues assigned, by side.
    pub assigned: [bool; 2],
    /// The revision that it refuses.
    pub refused: Option<u64>,
}

/// What one look saw of one side; each message is alone in its queue.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seen {
    /// The topic's queues that have their message.
    pub ends: [bool; MESSAGES],
    /// Those that a group has passed.
    pub passed: [[bool; MESSAGES]; GROUPS],
    /// How often each message has come to a group's retry topic, and how often it was passed there.
    pub retries: [[(u8, u8); MESSAGES]; GROUPS],
    /// Not yet due.
    pub delayed: [u8; GROUPS],
    /// Without an end.
    pub half: u8,
}

/// A whole look.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Look {
    /// What each side let writers do when it began.
    pub access: [Access; 2],
    /// What was seen.
    pub sides: [Seen; 2],
    /// Instances that the brokers list, one bit each.
    pub listed: u8,
    /// A side that did not answer.
    pub silent: Option<Side>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Decision {
    /// One stage on.
    Advance,
    /// One stage back.
    Rollback,
    /// Stay.
    Cancel,
}

/// What happens to a control plane.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Input {
    /// A request.
    Sync(Report),
    /// An operator decides.
    Decide(Decision),
    /// An operator says that a lost instance is gone.
    Gone(usize),
    /// The look under way begins.
    LookBegins,
    /// It is over.
    Looked(Look),
    /// The change of access under way is over, with an answer or without.
    Accessed(bool),
    /// The first offsets are committed.
    FirstOffsets,
    /// A lease passes, in which these have said again what they say now.
    LeasePasses([Option<Report>; SLOTS]),
    /// The time of a change without an answer is over.
    BoundPasses,
    /// The process dies.
    Crash,
    /// It starts again from its store.
    Restart,
}

/// The work under way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Task {
    /// Nothing, or the control plane is down.
    None,
    /// A look, which has begun or not.
    Look(bool),
    /// A change of access.
    Access(Side, Access),
    /// The groups' first offsets on the target.
    FirstOffsets,
}
