//! The HTTP API, with real requests against embedded clusters.

mod bad_input;
mod journey;
mod support;
mod tokens;
