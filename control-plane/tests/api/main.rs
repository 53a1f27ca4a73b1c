//! The HTTP API, with real requests against embedded clusters.

mod adding;
mod bad_input;
mod journey;
mod support;
mod tokens;
