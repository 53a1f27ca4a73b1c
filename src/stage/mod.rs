//! The stage rules: pure, without I/O, clock or randomness of their own. The SDK and the control plane call the same ones.

mod moves;
mod plan;
mod transition;
mod weight;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use moves::{Buckets, Move, QueueBarrier};
pub use plan::{ReadPlan, Route, Routing, TopicPlan, WritePlan};
pub use transition::{Adoption, adopt};
pub use weight::{BUCKETS, Weight, bucket_of};

use crate::side::{Access, Side};

/// Where a topic is. Order is progress; a rollback is the same steps the other way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Everything on the source.
    SourceOnly,
    /// Writes to the source, reads from both.
    DualRead,
    /// Each write to one of the two, drawn by weight; reads from both.
    DualWrite,
    /// Writes to the target, reads from both.
    Draining,
    /// Everything on the target.
    TargetOnly,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [
        Stage::SourceOnly,
        Stage::DualRead,
        Stage::DualWrite,
        Stage::Draining,
        Stage::TargetOnly,
    ];

    /// True for one step forward or one step back.
    #[must_use]
    pub fn is_neighbour(self, other: Stage) -> bool {
        (self as u8).abs_diff(other as u8) == 1
    }

    /// The next stage on the way to `goal`; `None` when this is the goal.
    #[must_use]
    pub fn toward(self, goal: Stage) -> Option<Stage> {
        match self.cmp(&goal) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Less => Some(Stage::ALL[self as usize + 1]),
            std::cmp::Ordering::Greater => Some(Stage::ALL[self as usize - 1]),
        }
    }

    /// What each side lets writers do once the stage is settled.
    #[must_use]
    pub fn access(self, side: Side) -> Access {
        match (self, side) {
            (Stage::SourceOnly, Side::Target) | (Stage::TargetOnly, Side::Source) => Access::Sealed,
            (Stage::DualRead, Side::Target) | (Stage::Draining, Side::Source) => Access::Closed,
            _ => Access::Open,
        }
    }

    /// The name used in JSON, metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::SourceOnly => "source_only",
            Stage::DualRead => "dual_read",
            Stage::DualWrite => "dual_write",
            Stage::Draining => "draining",
            Stage::TargetOnly => "target_only",
        }
    }

    /// The Chinese name.
    #[must_use]
    pub fn chinese(self) -> &'static str {
        match self {
            Stage::SourceOnly => "初始状态",
            Stage::DualRead => "开启双读",
            Stage::DualWrite => "双读双写",
            Stage::Draining => "切流中",
            Stage::TargetOnly => "切流完成",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
