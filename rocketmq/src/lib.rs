//! A lean async client of the Apache RocketMQ remoting protocol, for brokers 4.9 and 5.x.
//!
//! [`Client`] holds connections, routes and heartbeats for one process and one cluster; [`Producer`] sends to a topic, [`Consumer`]
//! reads one as a member of a group. What goes over the wire is described in [`wire`].
#![forbid(unsafe_code)]

pub mod admin;
pub mod codes;
pub mod fastjson;
pub mod frame;
pub mod message;
pub mod route;
#[doc = include_str!("docs/wire.md")]
pub mod wire {}

mod client;
mod connection;
mod consumer;
mod credentials;
mod error;
mod heartbeat;
mod inbound;
mod name_server;
mod namespace;
mod offset_table;
mod pool;
mod producer;
mod signing;
mod stream;
mod subscription;
#[cfg(test)]
mod test_peer;
mod tls;
mod together;
mod transaction;

pub use admin::Admin;
pub use client::{Client, ClientOptions};
pub use consumer::{Broadcast, Consumer, ConsumerOptions, Delivery, Token, Unreadable};
pub use credentials::{Credentials, CredentialsSource};
pub use error::{Error, ErrorKind, Persisted, Result};
pub use frame::{Command, Fields, Request};
pub use message::{DelayLevel, Message, OffsetMessageId, ReceivedMessage};
pub use namespace::Namespace;
pub use producer::{HalfMessage, Producer, ProducerOptions, SendResult, StoreStatus};
pub use route::{Broker, BrokerQueues, ClusterInfo, MessageQueue, TopicRoute};
pub use subscription::Filter;
pub use tls::{TlsOptions, Trust};
pub use transaction::{TransactionChecker, TransactionEnd};
