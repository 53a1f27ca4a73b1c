//! Transactions: this crate's words for the client's, and its checkers for the client's.

use std::{pin::Pin, sync::Arc};

use crossfade_rocketmq::{
    HalfMessage as ClientHalf, ReceivedMessage, TransactionChecker as ClientChecker,
    TransactionEnd as ClientEnd,
};

use super::message::decode;
use crate::{
    backend::{HalfMessage, TransactionChecker, TransactionEnd},
    error::{Error, ErrorKind, Result},
};

/// # Errors
/// `Unsupported` for a producer without a checker.
pub(super) fn check(transactional: bool) -> Result<()> {
    if transactional {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "send a half message",
        "this producer has no checker for transactions",
    ))
}

/// # Errors
/// `InvalidMessage` for a half message of another backend.
pub(super) fn half(half: &HalfMessage) -> Result<&ClientHalf> {
    half.reference.downcast_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidMessage,
            "end a transaction",
            "the half message is not one of RocketMQ's",
        )
    })
}

pub(super) fn end(end: TransactionEnd) -> ClientEnd {
    match end {
        TransactionEnd::Commit => ClientEnd::Commit,
        TransactionEnd::Rollback => ClientEnd::Rollback,
        TransactionEnd::Unknown => ClientEnd::Unknown,
    }
}

pub(super) fn checker(inner: Arc<dyn TransactionChecker>) -> Arc<dyn ClientChecker> {
    Arc::new(Checker(inner))
}

#[derive(Debug)]
struct Checker(Arc<dyn TransactionChecker>);

impl ClientChecker for Checker {
    fn check(
        &self,
        message: ReceivedMessage,
    ) -> Pin<Box<dyn Future<Output = ClientEnd> + Send + '_>> {
        Box::pin(async move {
            let message = decode(&message).message;
            end(self.0.check(&message).await)
        })
    }
}
