//! One moment of the world, without the control plane, which is known by its number.

use std::fmt;

use super::{CAPACITY, MESSAGES, SLOTS, plane::PlaneId};

/// One moment.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    pub(super) plane: PlaneId,
    /// The ends that were read, and not told yet.
    pub(super) read: Option<u8>,
    /// Those at the beginning of the freeze, for a mutation.
    pub(super) early: Option<u8>,
    /// Weights that operators have asked for.
    pub(super) decided: u8,
    pub(super) processes: [Process; SLOTS],
    /// Source, target.
    pub(super) queues: [Queue; 2],
    /// Messages so far; the sets of them below are one bit each.
    pub(super) called: u8,
    /// Of each message: those of its key whose sends had succeeded when its own was called, and that were not handled yet.
    pub(super) before: [u8; MESSAGES],
    /// Their sends have succeeded.
    pub(super) acked: u8,
    /// They were handled.
    pub(super) handled: u8,
    /// Faults left.
    pub(super) faults: u8,
    /// What broke in the step that led here.
    pub(super) broken: Option<&'static str>,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Run {
    Up,
    Frozen,
    Dead,
}

/// One process. After a restart it is taken for the same one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Process {
    pub(super) run: Run,
    /// The plan in force, by number.
    pub(super) plan: u16,
    /// It never reaches the control plane again.
    pub(super) cut: bool,
    /// Its lease is over, and it stops for that.
    pub(super) over: bool,
    /// It has started from the plan on disk and has not been in contact since.
    pub(super) blind: bool,
    /// A producer's send.
    pub(super) send: Send,
}

/// One send.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Send {
    None,
    /// It waits in its process.
    Held(u8),
    /// On its way to a broker.
    Routed(Try),
    /// Without an answer: perhaps stored.
    Unanswered(Try),
}

/// One try.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Try {
    pub(super) message: u8,
    pub(super) side: usize,
    /// The plan that routed it, by number.
    pub(super) plan: u16,
    /// The lease under which it was routed is over.
    pub(super) late: bool,
}

/// One side's queue, as the group's consumer sees it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Queue {
    pub(super) len: u8,
    pub(super) at: [Record; CAPACITY],
    pub(super) committed: u8,
}

/// One record.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Record {
    pub(super) message: u8,
    /// The revision under which it was routed.
    pub(super) revision: u8,
}

/// What happens in one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// An operator asks for a weight.
    Decide(u16),
    /// An operator says that a lost instance is gone.
    Gone(usize),
    /// The look under way is over.
    Looked,
    /// The ends of the side being left are read.
    EndsRead(u8),
    /// The control plane is told.
    EndsTold,
    /// The freeze in force has lasted too long.
    FreezeEnds,
    /// The leases of all that are out of contact end.
    LeasePasses,
    /// The control plane dies.
    PlaneCrashes,
    /// It starts again.
    PlaneRestarts,
    /// A request and its answer.
    Syncs(usize),
    /// A process dies.
    Crashes(usize),
    /// It starts again from the plan on disk.
    Restarts(usize),
    /// It stands still.
    Freezes(usize),
    /// It goes on.
    Wakes(usize),
    /// It loses the control plane for ever.
    IsCutOff(usize),
    /// A send with this key is called.
    Calls(usize, u8),
    /// A held send is routed.
    Routes(usize, usize),
    /// The send is stored and answered.
    Arrives(usize),
    /// Stored, and the answer is lost.
    ArrivesUnanswered(usize),
    /// Neither stored nor answered.
    IsLost(usize),
    /// The send without an answer is tried again.
    TriesAgain(usize),
    /// A handler is entered with this message, and has handled it.
    Handles(usize, u8),
    /// A copy of what was handled is passed.
    Passes(usize),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |slot: usize| {
            [
                "producer A",
                "producer B",
                "the source's consumer",
                "the target's consumer",
            ]
            .get(slot)
            .copied()
            .unwrap_or("nobody")
        };
        let side = |side: usize| if side == 0 { "source" } else { "target" };
        let key = |key: u8| char::from(b'a' + key);
        match *self {
            Act::Decide(weight) => write!(f, "an operator asks for a weight of {weight}"),
            Act::Gone(slot) => write!(f, "{} is called gone", who(slot)),
            Act::Looked => f.write_str("the control plane looks at the brokers"),
            Act::EndsRead(end) => write!(f, "the end of the side being left is read: {end}"),
            Act::EndsTold => f.write_str("the control plane is told the end"),
            Act::FreezeEnds => f.write_str("the freeze has lasted too long"),
            Act::LeasePasses => f.write_str("the leases of all that are out of contact end"),
            Act::PlaneCrashes => f.write_str("the control plane dies"),
            Act::PlaneRestarts => f.write_str("the control plane starts again"),
            Act::Syncs(slot) => write!(f, "{} asks and is answered", who(slot)),
            Act::Crashes(slot) => write!(f, "{} dies", who(slot)),
            Act::Restarts(slot) => write!(f, "{} starts again from its disk", who(slot)),
            Act::Freezes(slot) => write!(f, "{} stands still", who(slot)),
            Act::Wakes(slot) => write!(f, "{} goes on", who(slot)),
            Act::IsCutOff(slot) => write!(f, "{} is cut off for ever", who(slot)),
            Act::Calls(slot, of) => write!(f, "{} calls send with key {}", who(slot), key(of)),
            Act::Routes(slot, to) => {
                write!(f, "{} routes what it held to the {}", who(slot), side(to))
            }
            Act::Arrives(slot) => write!(f, "the send of {} is stored and answered", who(slot)),
            Act::ArrivesUnanswered(slot) => {
                write!(f, "the send of {} is stored, the answer lost", who(slot))
            }
            Act::IsLost(slot) => write!(f, "the send of {} is lost on its way", who(slot)),
            Act::TriesAgain(slot) => write!(f, "{} tries again", who(slot)),
            Act::Handles(slot, message) => {
                write!(f, "{} enters its handler with m{message}", who(slot))
            }
            Act::Passes(slot) => write!(f, "{} passes a copy", who(slot)),
        }
    }
}
