//! The control plane under exploration: the coordinator's own code, its store, its clock and the work under way.
//!
//! A coordinator is large and slow to copy, and few of its states are different. So each different one is kept once and known by its number; what an
//! input makes of it is computed once and remembered.

mod input;
mod one;
mod told;

use std::collections::HashMap;

use crossfade::{Access, Side, stage::Stage};
use crossfade_control_plane::coordinator::Standing;
use foldhash::fast;

use self::one::Plane;
pub(crate) use self::one::Store;
pub use self::{
    input::{Decision, Input, Look, Report, Seen, Task},
    told::plan,
};
use crate::{
    fleet::{Fleet, SLOTS},
    mutation::Mutation,
};

/// The topic.
const TOPIC: &str = "orders";

/// The revision at the start.
pub const FIRST: u64 = 10;

/// A control plane, by number.
pub type PlaneId = u32;

/// What the world sees of a control plane.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// It runs.
    pub up: bool,
    /// The plan in force.
    pub stage: Stage,
    /// Its revision.
    pub revision: u64,
    /// The one before.
    pub previous: u64,
    /// Where the topic is to go.
    pub goal: Stage,
    /// The stage that the step under way leads to.
    pub heading: Option<Stage>,
    /// How often it has reopened a drain by itself.
    pub reopened: u64,
    /// The control plane calls the topic settled.
    pub settled: bool,
    /// It calls the unread side of an end stage sealed and proved.
    pub claims: bool,
    /// Looks of the proof so far.
    pub looks: u64,
    /// It has just started, and changes nothing before it has heard the instances or a lease has passed.
    pub listens: bool,
    /// It waits until a change without an answer is over.
    pub waits: bool,
    /// The work under way.
    pub task: Task,
    /// What it holds of each instance; none when it does not know it or has superseded it.
    pub standing: [Option<Standing>; SLOTS],
}

impl Brief {
    /// The side whose emptiness is asked: the one that is not read, or will not be.
    #[must_use]
    pub fn critical(&self) -> Option<Side> {
        match self.heading {
            Some(next) => unread(next),
            None => unread(self.stage),
        }
    }
}

/// The side that an end stage does not read.
#[must_use]
pub fn unread(stage: Stage) -> Option<Side> {
    Side::BOTH
        .into_iter()
        .find(|side| stage.access(*side) == Access::Sealed)
}

/// All control planes that were met.
#[derive(Debug)]
pub struct Planes {
    fleet: Fleet,
    lie: Option<Mutation>,
    kept: Vec<(Plane, Brief)>,
    numbers: HashMap<u64, PlaneId, fast::FixedState>,
    next: HashMap<(PlaneId, Input), (PlaneId, bool), fast::FixedState>,
}

impl Planes {
    /// Nothing met yet.
    #[must_use]
    pub fn new(fleet: Fleet, lie: Option<Mutation>) -> Self {
        Planes {
            fleet,
            lie,
            kept: Vec::new(),
            numbers: HashMap::default(),
            next: HashMap::default(),
        }
    }

    /// How many different ones were met.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// None was met.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What the world sees of one.
    #[must_use]
    pub fn brief(&self, id: PlaneId) -> &Brief {
        &self.kept[id as usize].1
    }

    /// What the last look at a side saw.
    #[must_use]
    pub fn last_seen(&self, id: PlaneId, side: Side) -> Option<Seen> {
        let last = self.kept[id as usize].0.last;
        last.map(|look| look.sides[side.index()])
    }

    /// One that has just started on a store in which the topic rests in `stage`.
    pub fn start(&mut self, stage: Stage) -> PlaneId {
        let plane = Plane::start(stage, &self.fleet, self.lie);
        self.keep(plane)
    }

    /// What an input makes of one, and whether the answer was that another process has the name.
    pub fn take(&mut self, id: PlaneId, input: Input) -> (PlaneId, bool) {
        if let Some(known) = self.next.get(&(id, input)) {
            return *known;
        }
        let mut plane = self.kept[id as usize].0.clone();
        let superseded = plane.take(input, &self.fleet, self.lie);
        let next = (self.keep(plane), superseded);
        self.next.insert((id, input), next);
        next
    }

    fn keep(&mut self, plane: Plane) -> PlaneId {
        let print = plane.fingerprint();
        if let Some(known) = self.numbers.get(&print) {
            return *known;
        }
        let id = PlaneId::try_from(self.kept.len()).unwrap_or(PlaneId::MAX);
        let brief = plane.brief(&self.fleet);
        self.kept.push((plane, brief));
        self.numbers.insert(print, id);
        id
    }
}
