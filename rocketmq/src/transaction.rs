//! How transactions end, and who knows it.

mod checks;
mod ended;

use std::{fmt, pin::Pin};

pub(crate) use self::checks::{Checks, run};
use crate::{codes::message_flag, message::ReceivedMessage};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransactionEnd {
    /// The message is to be delivered.
    Commit,
    /// The message is to be forgotten.
    Rollback,
    /// Not known yet: the broker asks again, 15 times unless `transactionCheckMax` says otherwise, and then puts the message aside.
    Unknown,
}

impl TransactionEnd {
    /// As the protocol has it.
    pub(crate) fn flag(self) -> i32 {
        match self {
            TransactionEnd::Commit => message_flag::TRANSACTION_COMMIT,
            TransactionEnd::Rollback => message_flag::TRANSACTION_ROLLBACK,
            TransactionEnd::Unknown => 0,
        }
    }
}

/// Knows how transactions ended, also those of a process before this one: brokers ask any client of the producer group.
pub trait TransactionChecker: fmt::Debug + Send + Sync + 'static {
    /// How the transaction of `message` ended. An answer that takes longer than 10 s is taken for [`TransactionEnd::Unknown`].
    fn check(
        &self,
        message: ReceivedMessage,
    ) -> Pin<Box<dyn Future<Output = TransactionEnd> + Send + '_>>;
}
