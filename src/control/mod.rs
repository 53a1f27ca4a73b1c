//! Where plans come from, and what the control plane hears back.

mod contact;
mod document;
mod file;
mod fixed;
#[cfg(feature = "http")]
mod http;
mod last_known;
mod session;
mod snapshot;
pub mod wire;

use std::fmt;

pub use contact::{Contact, ContactState};
pub use file::FilePlans;
pub use fixed::FixedPlans;
#[cfg(feature = "http")]
pub use http::{HttpPlans, HttpRequest, HttpResponse, HttpTransport, Token, UrlPlans};
pub use last_known::{LastKnown, PlanFile, PlanStore, Saved};
pub use session::{CountersFn, Identity, Session, SessionOptions, SessionParts};
pub use snapshot::{ConsumerRole, InUse, PlanTable, ProducerRole, TopicCell};

use crate::{
    BoxFuture,
    control::wire::{SyncRequest, SyncResponse},
    error::Result,
};

/// Where plans come from: the transport is behind this trait, so that a simulator can stand in for HTTP.
pub trait PlanSource: fmt::Debug + Send + Sync + 'static {
    /// Tells what this instance is, has applied and has counted; answers with the plans that changed after
    /// `request.known_revision`, at once when there are some, else after at most `request.wait_ms`.
    /// A source that takes no registrations (a file, a static server) answers with plans only and no lease.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`, `PermissionDenied`, `InvalidPlan` for an answer that cannot be read, `Superseded`.
    ///
    /// # Cancellation
    /// The request may or may not have been taken; syncing again is safe.
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>>;
}
