//! Wrappers around any backend: one that makes things go wrong on purpose, for tests of what must hold when they do, and the frame for others.
//!
//! Every choice of [`Fault`] comes from a seed, and a [`FaultControl`] changes the rules while clients run.

mod admin;
mod calls;
mod control;
mod layer;

use std::sync::Arc;

use super::Backend;

pub use control::{FaultControl, FaultCounts, FaultRules, MAX_DELAY, STALL_TIMEOUT, SendFate};
pub use layer::{Layer, Layered};

/// Any backend, with faults.
///
/// # Behavior
/// - Sends meet a [`SendFate`]; every call meets the delay and the stall.
/// - A stalled cluster answers nothing: sends end with `Timeout` and `Persisted::Maybe` (none is stored), receives are empty, all
///   else ends with `Unavailable` after [`STALL_TIMEOUT`] without effect. Acks go through: they are recorded in the client. So is a
///   message that is given back: the cluster gets it when it is there again.
/// - What clients share through one [`FaultControl`] shares its rules, its seed and its stall.
pub type Fault = Layered<FaultControl>;

impl Fault {
    /// Wraps a backend; without rules it changes nothing.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, seed: u64) -> Self {
        Fault::with_control(inner, FaultControl::new(seed))
    }

    /// Wraps a backend under the control of others: the clients of one cluster stall together.
    #[must_use]
    pub fn with_control(inner: Arc<dyn Backend>, control: FaultControl) -> Self {
        Layered::over(inner, control)
    }

    /// The handle that changes the rules.
    #[must_use]
    pub fn control(&self) -> FaultControl {
        (*self.layer).clone()
    }
}
