//! One topic's row, and the whole stage table as two functions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    side::{Revision, Side},
    stage::{Move, Stage, Weight, bucket_of},
};

/// How messages find their side while both are written to.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// Drawn by weight; a message with an ordering key by that key's bucket. Order is not promised.
    #[default]
    Unordered,
    /// By the ordering key's bucket, with freeze, barrier, move and release at every change.
    Ordered,
}

/// One topic's row of the control plane; never changed once read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TopicPlan {
    /// The topic, under the same name on both sides.
    pub topic: Arc<str>,
    /// Where the topic is.
    pub stage: Stage,
    /// The target's share of writes; it counts in `DualWrite` only.
    #[serde(rename = "weight_basis_points")]
    pub weight: Weight,
    /// How messages find their side.
    #[serde(default)]
    pub routing: Routing,
    /// Every move that some group has not passed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// When the row was published.
    pub revision: Revision,
    /// The revision of this topic's row just before; 0 for the first one. Revisions count all topics' changes, so
    /// only this tells a reader whether it has missed a row.
    pub previous_revision: Revision,
}

/// Where one message goes now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// To this side.
    To(Side),
    /// Nowhere yet: its ordering key is changing sides. The next revision says where.
    Held,
}

/// Where writes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WritePlan {
    /// Every message to one side.
    One(Side),
    /// Each message to exactly one of the two.
    Weighted {
        /// The target's share.
        target: Weight,
    },
}

/// Where reads come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadPlan {
    /// One side.
    One(Side),
    /// Both.
    Both,
}

impl TopicPlan {
    /// Where this plan's writes go.
    #[must_use]
    pub fn write_plan(&self) -> WritePlan {
        match self.stage {
            Stage::SourceOnly | Stage::DualRead => WritePlan::One(Side::Source),
            Stage::DualWrite => WritePlan::Weighted {
                target: self.weight,
            },
            Stage::Draining | Stage::TargetOnly => WritePlan::One(Side::Target),
        }
    }

    /// Where one message goes. `draw` gives a uniformly random number; it is called for a weighted message without an ordering key only.
    #[must_use]
    pub fn route(&self, ordering_key: Option<&[u8]>, draw: impl FnOnce() -> u32) -> Route {
        if let (Some(frozen), Some(key)) = (self.frozen(), ordering_key)
            && frozen.buckets.contains(bucket_of(key))
        {
            return Route::Held;
        }
        Route::To(self.write_plan().side(ordering_key, draw))
    }

    /// The move whose keys are frozen now.
    #[must_use]
    pub fn frozen(&self) -> Option<&Move> {
        self.moves.iter().find(|moving| moving.is_frozen())
    }

    /// The share of the ordering keys that the target has.
    #[must_use]
    pub fn share(&self) -> Weight {
        match self.write_plan() {
            WritePlan::One(Side::Source) => Weight::ZERO,
            WritePlan::One(Side::Target) => Weight::FULL,
            WritePlan::Weighted { target } => target,
        }
    }

    /// Where this plan's reads come from.
    #[must_use]
    pub fn read_plan(&self) -> ReadPlan {
        match self.stage {
            Stage::SourceOnly => ReadPlan::One(Side::Source),
            Stage::DualRead | Stage::DualWrite | Stage::Draining => ReadPlan::Both,
            Stage::TargetOnly => ReadPlan::One(Side::Target),
        }
    }
}

impl WritePlan {
    /// The side of one message. `draw` is called for a weighted message without an ordering key only, and gives a
    /// uniformly random number.
    #[must_use]
    pub fn side(self, ordering_key: Option<&[u8]>, draw: impl FnOnce() -> u32) -> Side {
        match self {
            WritePlan::One(side) => side,
            WritePlan::Weighted { target } => {
                let to_target = match ordering_key {
                    Some(key) => target.covers_bucket(bucket_of(key)),
                    None => target.covers_draw(draw()),
                };
                if to_target {
                    Side::Target
                } else {
                    Side::Source
                }
            }
        }
    }
}

impl ReadPlan {
    /// Whether `side` is read.
    #[must_use]
    pub fn includes(self, side: Side) -> bool {
        match self {
            ReadPlan::One(one) => one == side,
            ReadPlan::Both => true,
        }
    }
}
