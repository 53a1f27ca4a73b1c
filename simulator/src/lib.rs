#![doc = include_str!("docs.md")]
#![forbid(unsafe_code)]

mod brokers;
mod clock;
mod disk;
mod effect;
mod fault;
mod gate;
mod ghost;
mod http;
mod inject;
mod instance;
mod link;
mod mutant;
mod mutation;
mod operator;
mod reader;
mod record;
mod run;
mod store;
mod tally;
mod wire;
mod world;

pub use effect::FaultSet;
pub use fault::Fault;
pub use http::HttpReport;
pub use mutation::Mutation;
pub use record::Trace;
pub use run::{Outcome, Run, Scenario, Step, run};

/// The topic that moves.
pub const TOPIC: &str = "orders";
/// The groups that read it.
pub const GROUPS: [&str; 2] = ["billing", "search"];
