//! The shell around the coordinator: it runs events one at a time, stores before it answers, and does the calls to the brokers.

mod clusters;
mod driver;
mod inspect;
mod newcomer;
mod work;

pub use clusters::{CLIENT_ID, Cluster};
pub(crate) use clusters::{Clusters, public};
pub(crate) use driver::{Driver, Handle};
