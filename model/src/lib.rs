#![doc = include_str!("docs.md")]
#![forbid(unsafe_code)]

mod broker;
pub mod engine;
pub mod fleet;
pub mod mutation;
pub mod order;
pub mod plan;
pub mod plane;
mod process;
mod property;
pub mod run;
mod send;
pub mod state;
mod words;
mod world;

pub use words::tell;
pub use world::World;
