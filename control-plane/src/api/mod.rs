//! The HTTP API.

mod allowed;
mod auth;
mod body;
mod health;
mod instances;
mod metrics;
mod moves;
mod openapi;
mod problem;
mod routes;
mod sync;
mod topics;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

pub use auth::{Role, Token, Tokens};
pub(crate) use instances::{ConfirmGone, StillListed};
pub(crate) use moves::MoveSeveral;
pub use moves::{Answered, Move, Way};
pub(crate) use routes::router;
pub(crate) use topics::{AddTopic, SetWeight};

use crate::{store::Store, watch::Handle};

/// What every handler needs.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) handle: Handle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: Arc<Tokens>,
    /// One permit for every poll that is kept open.
    pub(crate) polls: Arc<Semaphore>,
    /// True once the server stops: open polls are answered.
    pub(crate) stopping: watch::Receiver<bool>,
}
