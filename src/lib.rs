#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod backend;
mod client;
pub mod clock;
pub mod config;
mod consumer;
pub mod control;
pub mod dedup;
#[cfg(any(doc, doctest))]
pub mod docs;
mod error;
#[cfg(all(test, feature = "memory"))]
mod fixture;
mod message;
pub mod metrics;
mod producer;
mod queue;
mod secret;
mod side;
pub mod stage;

pub use backend::{Subscription, TransactionChecker, TransactionEnd};
pub use client::{Client, ClientBuilder};
pub use consumer::{Consumer, ConsumerOptions, ConsumerParts};
pub use error::{Error, ErrorKind, Persisted, Result, Retry};
pub use message::{Delivery, IdempotencyKey, Message, SendReceipt};
pub use producer::rules as send_rules;
pub use producer::{Producer, ProducerOptions, ProducerParts, Transaction, TransactionalProducer};
pub use side::{Access, Revision, Side};

/// A boxed future that can be sent to another thread; what the object-safe traits return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
