//! Bytes that no honest broker would send, for `crossfade-rocketmq`: for what it decodes ([`decoder`]), for its connections
//! ([`connection`]), and for producers and consumers ([`clients`]).
//!
//! Everything comes from a seed. Execution `i` of seed `s` draws from [`draw::of`]`(s, i)` alone, so that one that failed can be run again by itself.
//! What is drawn is valid first, and most of it is spoiled afterwards; the part that stays whole must be read back as it was written. Executions of
//! the decoder run one at a time and have their heap measured ([`memory`]).

pub mod clients;
pub mod connection;
pub mod decoder;
pub mod draw;
pub mod memory;
pub mod run;

mod broker;
mod frames;
mod json;
mod lies;
mod stored;
mod together;
