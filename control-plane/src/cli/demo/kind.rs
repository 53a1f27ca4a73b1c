//! What kind of messages crosses.

use std::time::Duration;

use clap::ValueEnum;
use crossfade::{
    BoxFuture, Message,
    backend::{TransactionChecker, TransactionEnd},
    stage::Routing,
};
use serde::Serialize;

/// Ordering keys of an ordered topic: some on either side of any usual weight.
const KEYS: u64 = 64;
/// Messages of one batch.
const BATCH: usize = 10;
/// The shortest delay of RocketMQ's ladder.
const DELAY: Duration = Duration::from_secs(1);

/// What kind of messages crosses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Kind {
    /// In no order.
    #[default]
    Normal,
    /// In order by key: keys change sides by freeze, barrier and release.
    Ordered,
    /// Each delivered a second after its send.
    Delayed,
    /// Each delivered once its transaction is committed; some are rolled back, some left to the checker.
    Transactional,
    /// Ten at a time.
    Batch,
}

impl Kind {
    pub(super) fn routing(self) -> Routing {
        match self {
            Kind::Ordered => Routing::Ordered,
            _ => Routing::Unordered,
        }
    }

    /// How many ordering keys there are.
    pub(super) fn keys(self) -> u64 {
        match self {
            Kind::Ordered => KEYS,
            _ => 0,
        }
    }

    /// Messages whose side is drawn together.
    pub(super) fn drawn_together(self) -> usize {
        match self {
            Kind::Batch => BATCH,
            _ => 1,
        }
    }

    pub(super) fn message(self, number: u64, body: Vec<u8>) -> Message {
        let message = Message::new(body).with_key(number.to_string());
        match self {
            Kind::Ordered => message.with_ordering_key(format!("k{}", number % KEYS)),
            Kind::Delayed => message.with_deliver_after(DELAY),
            Kind::Normal | Kind::Transactional | Kind::Batch => message,
        }
    }
}

/// What the application's own transaction came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Commit,
    Rollback,
    /// It succeeded, and the producer forgets to say so: the brokers ask.
    Forgotten,
}

/// By the number of the message, so that a checker in another process would know it too.
pub(super) fn outcome(number: u64) -> Outcome {
    match number % 20 {
        3 => Outcome::Rollback,
        // Few: a broker of its own settings asks after half a minute or more.
        7 if number % 100 == 7 => Outcome::Forgotten,
        _ => Outcome::Commit,
    }
}

/// Answers by the number, which is the message's own key.
#[derive(Debug)]
pub(super) struct Checker;

impl TransactionChecker for Checker {
    fn check<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, TransactionEnd> {
        let number = message.key.as_deref().and_then(|key| key.parse().ok());
        let end = match number.map(outcome) {
            Some(Outcome::Commit | Outcome::Forgotten) => TransactionEnd::Commit,
            Some(Outcome::Rollback) => TransactionEnd::Rollback,
            None => TransactionEnd::Unknown,
        };
        Box::pin(std::future::ready(end))
    }
}
