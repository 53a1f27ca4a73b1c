//! Who takes part, and within which bounds.

use crossfade::{Side, control::wire::LeaseMode, stage::Stage};

/// Process lives.
pub const SLOTS: usize = 3;
/// Messages.
pub const MESSAGES: usize = 2;
/// Consumer groups, at most.
pub const GROUPS: usize = 2;

/// When a process life begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begins {
    /// It runs at the start.
    Running,
    /// At any time later.
    Late,
    /// As the restart of another one, under its name, once that has crashed or is frozen.
    After(usize),
}

/// One process life.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// It sends to the topic.
    pub produces: bool,
    /// It consumes it in this group.
    pub group: Option<usize>,
    /// What it does without contact.
    pub lease_mode: LeaseMode,
    /// When it begins.
    pub begins: Begins,
    /// A writer without the SDK, which sends to this side whatever the stage.
    pub unmanaged: Option<Side>,
}

/// Three process lives.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// For people: `P` produces, `C` consumes, `'` restarts the first of its kind.
    pub name: &'static str,
    /// The lives.
    pub slots: [Slot; SLOTS],
}

impl Fleet {
    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        let groups = self.slots.iter().filter_map(|slot| slot.group);
        groups.max().map_or(0, |last| last + 1)
    }

    /// The instance name of a life: the one that it restarts, or its own.
    #[must_use]
    pub fn name(&self, slot: usize) -> usize {
        match self.slots[slot].begins {
            Begins::After(before) => before,
            Begins::Running | Begins::Late => slot,
        }
    }
}

/// What may go wrong; each time costs one of the faults that a run allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A process dies.
    pub crash: bool,
    /// It stops, and wakes at any time or never.
    pub freeze: bool,
    /// It loses the control plane for ever.
    pub cut: bool,
    /// It restarts from the plan on disk and never reaches the control plane.
    pub disk: bool,
    /// The control plane dies.
    pub plane: bool,
    /// An answer of a broker is lost: to a send, or to a change of access.
    pub answer: bool,
    /// A handler fails.
    pub handler: bool,
    /// A message is sent with a delay.
    pub delayed: bool,
    /// A message is sent in a transaction.
    pub half: bool,
    /// A side does not answer a look.
    pub silent: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        crash: false,
        freeze: false,
        cut: false,
        disk: false,
        plane: false,
        answer: false,
        handler: false,
        delayed: false,
        half: false,
        silent: false,
    };
    /// All but half messages, which multiply everything: they have runs of their own.
    pub const MOST: Faults = Faults {
        crash: true,
        freeze: true,
        cut: true,
        disk: true,
        plane: true,
        answer: true,
        handler: true,
        delayed: true,
        silent: true,
        ..Faults::NONE
    };
    /// Half messages, and what makes their commits late.
    pub const HALF: Faults = Faults {
        crash: true,
        freeze: true,
        plane: true,
        half: true,
        ..Faults::NONE
    };
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Revisions that operators may ask for.
    pub changes: u64,
    /// Sends, of all processes together.
    pub sends: u8,
    /// Faults.
    pub faults: u8,
    /// Which ones.
    pub kinds: Faults,
}

/// One exploration.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Who.
    pub fleet: Fleet,
    /// The stage in which the topic rests at the start.
    pub from: Stage,
    /// How much.
    pub bounds: Bounds,
}

const PRODUCER: Slot = Slot {
    produces: true,
    group: None,
    lease_mode: LeaseMode::Continue,
    begins: Begins::Running,
    unmanaged: None,
};
const CONSUMER: Slot = Slot {
    produces: false,
    group: Some(0),
    ..PRODUCER
};
const BOTH: Slot = Slot {
    group: Some(0),
    ..PRODUCER
};

const fn begins(slot: Slot, begins: Begins) -> Slot {
    Slot { begins, ..slot }
}

const fn stops(slot: Slot) -> Slot {
    Slot {
        lease_mode: LeaseMode::Stop,
        ..slot
    }
}

const fn unmanaged(side: Side) -> Slot {
    Slot {
        unmanaged: Some(side),
        ..PRODUCER
    }
}

/// A life that never begins.
const NOBODY: Slot = begins(PRODUCER, Begins::After(2));

/// The fleets.
pub const FLEETS: [Fleet; 10] = [
    Fleet {
        name: "P C P'",
        slots: [PRODUCER, CONSUMER, begins(PRODUCER, Begins::After(0))],
    },
    Fleet {
        name: "P C C'",
        slots: [PRODUCER, CONSUMER, begins(CONSUMER, Begins::After(1))],
    },
    Fleet {
        name: "P C C2late",
        slots: [
            PRODUCER,
            CONSUMER,
            begins(
                Slot {
                    group: Some(1),
                    ..CONSUMER
                },
                Begins::Late,
            ),
        ],
    },
    Fleet {
        name: "P C Plate",
        slots: [PRODUCER, CONSUMER, begins(PRODUCER, Begins::Late)],
    },
    Fleet {
        name: "P P C",
        slots: [PRODUCER, PRODUCER, CONSUMER],
    },
    Fleet {
        name: "Pstop Cstop P'",
        slots: [
            stops(PRODUCER),
            stops(CONSUMER),
            begins(stops(PRODUCER), Begins::After(0)),
        ],
    },
    Fleet {
        name: "PC PC PC'",
        slots: [BOTH, BOTH, begins(BOTH, Begins::After(0))],
    },
    Fleet {
        name: "P C Usource",
        slots: [PRODUCER, CONSUMER, unmanaged(Side::Source)],
    },
    Fleet {
        name: "P C Utarget",
        slots: [PRODUCER, CONSUMER, unmanaged(Side::Target)],
    },
    Fleet {
        name: "P C",
        slots: [PRODUCER, CONSUMER, NOBODY],
    },
];
