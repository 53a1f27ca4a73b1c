//! The HTTP API, with real requests against embedded clusters.

mod adding;
mod bad_input;
mod delays;
mod journey;
mod support;
mod takeover;
mod tokens;
