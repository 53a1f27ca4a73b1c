//! Consumers against a server of the tests' own.

mod close;
mod server;
mod unreadable;
