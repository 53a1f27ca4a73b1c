//! How Crossfade works, in pages.

#[doc = include_str!("stages.md")]
pub mod stages {}

#[doc = include_str!("ordered.md")]
pub mod ordered {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("gates.md")]
pub mod gates {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("rocketmq.md")]
pub mod rocketmq {}

#[doc = include_str!("wire.md")]
pub mod wire {}
