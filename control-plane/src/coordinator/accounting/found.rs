//! What the books say of a side.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

/// Of so few writes nothing can be told by their rate.
const FEW: u64 = 10;

/// What was found between two looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::coordinator) struct Found {
    /// The time between the two looks.
    pub(in crate::coordinator) window: Duration,
    /// What the end offsets grew by.
    pub(in crate::coordinator) grown: u64,
    /// What the registered producers report.
    pub(in crate::coordinator) reported: u64,
    /// Of that: what falls between the two looks, if every producer has sent evenly between its reports.
    pub(super) expected: u64,
    /// What may have been stored without being reported: failed and repeated sends, delayed and half messages that fell due.
    pub(in crate::coordinator) tolerated: u64,
}

impl Found {
    /// From somebody else.
    pub(in crate::coordinator) fn unexplained(&self) -> u64 {
        self.grown
            .saturating_sub(self.reported)
            .saturating_sub(self.tolerated)
    }

    /// Writes that are explained only if the managed ones did not come evenly.
    pub(super) fn doubtful(&self) -> u64 {
        self.grown
            .saturating_sub(self.expected)
            .saturating_sub(self.tolerated)
    }

    /// Whether the window is long enough for what the reports cannot tell apart: no more than a quarter is.
    pub(super) fn is_resolved(&self) -> bool {
        self.doubtful() <= self.grown / 4 + FEW
    }

    fn numbers(&self) -> Value {
        json!({
            "window_ms": u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
            "grown": self.grown,
            "reported": self.reported,
            "expected": self.expected,
            "tolerated": self.tolerated,
            "unexplained": self.unexplained(),
        })
    }
}

/// What is known about a side's writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::coordinator) enum Verdict {
    /// Nothing yet, and why.
    Unmeasured(String),
    /// All are from registered producers.
    Explained(Found),
    /// Some are not.
    Unexplained(Found),
}

impl Verdict {
    pub(in crate::coordinator) fn numbers(&self) -> Value {
        match self {
            Verdict::Unmeasured(_) => Value::Null,
            Verdict::Explained(found) | Verdict::Unexplained(found) => found.numbers(),
        }
    }
}

/// What a side grew by between the last two looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(in crate::coordinator) struct Growth {
    /// The time between them.
    #[serde(rename = "window_ms", serialize_with = "milliseconds")]
    pub(in crate::coordinator) window: Duration,
    /// New messages.
    pub(in crate::coordinator) grown: u64,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
