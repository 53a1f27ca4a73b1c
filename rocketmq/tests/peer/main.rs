//! Consumers against a server of the tests' own.

mod close;
mod replica;
mod reset;
mod server;
mod silent;
mod unreadable;
