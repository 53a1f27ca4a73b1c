//! The control plane of Crossfade: it holds the stages, decides when a topic may move on, and shows people what is going on.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod coordinator;
pub mod embedded;
mod operator;
pub mod record;
mod server;
pub mod store;
mod watch;

pub use operator::{Operator, OperatorError};
pub use server::{ServeOptions, Server};
pub use watch::{CLIENT_ID, Cluster};
