//! One moment of the world, without the control plane, which is known by its number.

use crossfade::{Access, Side, control::ContactState, stage::Stage};

use crate::{
    fleet::{GROUPS, MESSAGES, SLOTS},
    plane::{Decision, PlaneId, Seen},
};

/// One moment.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct State {
    /// The control plane.
    pub plane: PlaneId,
    /// The look under way has read so many of its parts.
    pub parts: u8,
    /// What it has read of the side whose emptiness is asked, and what each side let writers do when it began.
    pub seen: Option<(Side, Seen, [Access; 2])>,
    /// The change of access under way has been made.
    pub made: bool,
    /// A change of access for which nobody waits any more: it may still be made.
    pub late: Option<(Side, Access)>,
    /// What each side really lets writers do.
    pub access: [Access; 2],
    /// What looks are told of it: something else only where a mutation lies.
    pub shown: [Access; 2],
    /// The groups' first offsets on the target are committed.
    pub first_offsets: bool,
    /// The processes.
    pub processes: [Process; SLOTS],
    /// The messages, in the order of their arrival.
    pub messages: [Option<Message>; MESSAGES],
    /// Sends left.
    pub sends: u8,
    /// Faults left.
    pub faults: u8,
    /// The last plan on disk, by instance name.
    pub disk: [Option<Known>; SLOTS],
    /// What broke in the step that led here.
    pub broken: Option<&'static str>,
}

/// A plan that an instance has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Known {
    /// Its stage.
    pub stage: Stage,
    /// Its revision.
    pub revision: u8,
    /// The one before.
    pub previous: u8,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Run {
    /// Not started yet.
    Off,
    /// It runs.
    Up,
    /// It stands still.
    Frozen,
    /// It is gone.
    Dead,
}

/// One process life.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Process {
    /// Whether it runs.
    pub run: Run,
    /// The plan in force.
    pub plan: Option<Known>,
    /// What it knows of its standing.
    pub contact: ContactState,
    /// It never reaches the control plane again.
    pub cut: bool,
    /// It was frozen since its last contact, so that the brokers took it for gone.
    pub slept: bool,
    /// Its registration was answered, and neither a proof nor an operator has ended it since.
    pub member: bool,
    /// The last revision that it has told to have applied, as a member.
    pub acked: Option<u8>,
    /// The last revision whose sides its consumer has all subscribed and stopped; it stays so, whatever a lost lease makes of the sides later.
    pub applied: Option<u8>,
    /// It is subscribed, by side.
    pub reads: [bool; 2],
    /// Its send.
    pub send: Send,
}

/// One send of a producer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Send {
    /// None.
    None,
    /// On its way to a broker.
    Routed(Try),
    /// Stored there, the answer lost.
    Unanswered(Try, u8),
    /// A half message lies there, the end of its transaction will follow.
    Half(Known, u8),
    /// Refused by both sides: it waits for a newer plan.
    Waits(Try),
}

/// One try.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Try {
    /// The plan that routed it.
    pub plan: Known,
    /// Where it goes.
    pub side: Side,
    /// Sides whose seal has refused an earlier try.
    pub refused: [bool; 2],
    /// An earlier try was stored as this message.
    pub copy: Option<u8>,
    /// It went to the other side, although nothing had refused it where its copy lies.
    pub strayed: bool,
}

/// One message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Message {
    /// Where it lies.
    pub side: Side,
    /// Its send was told of success.
    pub acked: bool,
    /// Committed after the broker had given its transaction up.
    pub late: bool,
    /// The groups whose newest copy the broker has not dispatched yet, one bit each: no offset shows it and nobody is given it.
    pub lag: u8,
    /// Where each group has it.
    pub at: [Place; GROUPS],
    /// How often it has come to each group's retry topic.
    pub retries: [u8; GROUPS],
}

/// Where one group has a message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// There is no such group.
    NotOwed,
    /// Not yet due.
    Delayed,
    /// In a transaction without an end.
    Half,
    /// In a transaction that the broker has given up: no look shows it, a commit still delivers it.
    GivenUp,
    /// In the topic.
    Waiting,
    /// In the handler of a process, from the topic.
    Handled(u8),
    /// Its handler failed: delayed before it comes to the retry topic.
    Backoff,
    /// In the retry topic.
    Retry,
    /// In the handler of a process, from the retry topic.
    HandledAgain(u8),
    /// Handled.
    Done,
    /// Below the group's first offset.
    Skipped,
}

impl Place {
    /// The group still has to handle it.
    #[must_use]
    pub fn is_open(self) -> bool {
        !matches!(self, Place::NotOwed | Place::Done)
    }
}

/// What happens in one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// An operator decides.
    Decide(Decision),
    /// An operator says that a lost instance is gone.
    Gone(u8),
    /// The look under way reads its next part: the topic (when it begins), the retry topics, what is delayed or half (when it ends); or all at once.
    Look(u8),
    /// A side does not answer the look.
    Silent(Side),
    /// The change of access under way is made.
    AccessMade,
    /// It is answered.
    AccessAnswered,
    /// It gets no answer.
    AccessUnanswered,
    /// A change for which nobody waits is made.
    LateAccess,
    /// Its time is over.
    BoundPasses,
    /// The leases of all that are out of contact end.
    LeasePasses,
    /// The groups' first offsets are committed.
    FirstOffsets,
    /// The control plane dies.
    PlaneCrashes,
    /// It starts again.
    PlaneRestarts,
    /// A process starts, and registers.
    Starts(u8),
    /// It starts from the plan on disk.
    StartsFromDisk(u8),
    /// And never reaches the control plane.
    StartsFromDiskForGood(u8),
    /// A request and its answer.
    Syncs(u8),
    /// A registration is stored, and the control plane dies before it answers.
    SyncsUnanswered(u8),
    /// It dies.
    Crashes(u8),
    /// It stands still.
    Freezes(u8),
    /// It goes on.
    Wakes(u8),
    /// It loses the control plane for ever.
    IsCutOff(u8),
    /// It is subscribed to a side.
    Subscribes(u8, Side),
    /// It has stopped reading a side.
    Unsubscribes(u8, Side),
    /// It is handed a message.
    IsGiven(u8, u8),
    /// It has handled it.
    Handles(u8, u8),
    /// Its handler fails.
    Fails(u8, u8),
    /// The brokers give a frozen process's messages to others.
    TakenBack(u8),
    /// It begins a send.
    Routes(u8, Side),
    /// The send is stored and answered.
    Arrives(u8),
    /// With a delay.
    ArrivesDelayed(u8),
    /// Stored, and the answer is lost.
    ArrivesUnanswered(u8),
    /// Stored as a half message.
    ArrivesHalf(u8),
    /// The send is refused by a seal.
    IsRefused(u8),
    /// It is refused, and goes out to this side under a newer plan.
    IsRerouted(u8, Side),
    /// The send without an answer is tried again.
    TriesAgain(u8),
    /// The transaction is committed.
    Commits(u8),
    /// The waiting send goes out under a newer plan.
    GoesOn(u8),
    /// The waiting send ends with an error.
    GivesUp(u8),
    /// A delayed message falls due.
    FallsDue(u8),
    /// The broker has dispatched a message.
    Dispatched(u8),
    /// The broker gives a transaction up.
    TransactionGivenUp(u8),
}
