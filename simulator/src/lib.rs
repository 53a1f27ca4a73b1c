#![doc = include_str!("docs.md")]
#![forbid(unsafe_code)]

mod brokers;
mod fault;
mod gate;
mod instance;
mod link;
mod record;
mod run;
mod store;
mod world;

pub use fault::Fault;
pub use run::{Outcome, Scenario, run};

/// The topic that moves.
pub const TOPIC: &str = "orders";
/// The groups that read it.
pub const GROUPS: [&str; 2] = ["billing", "search"];
