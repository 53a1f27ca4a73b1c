//! What a backend can do; it chooses which behaviour tests run.

use std::time::Duration;

/// What a backend can do.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Capability {
    /// A topic can be made to refuse every send.
    pub seal: bool,
    /// Messages can be delivered later.
    pub delayed_send: bool,
    /// Subscriptions can filter by tag.
    pub tags: bool,
    /// Subscriptions can filter by an SQL92 expression. A broker may still have it switched off, and then refuses the subscription.
    pub sql_filter: bool,
    /// Consumers can read in order, and [`Backend::committed`](super::Backend::committed) answers: topics with ordered routing can move.
    pub ordered: bool,
    /// Several messages can be sent at once.
    pub batch: bool,
    /// Messages can wait for the end of a transaction.
    pub transactions: bool,
    /// [`Backlog::delayed`](super::Backlog::delayed) is known.
    pub counts_delayed: bool,
    /// [`Backlog::half`](super::Backlog::half) is known.
    pub counts_half: bool,
    /// The largest body, where there is a limit.
    pub max_body_bytes: Option<usize>,
    /// The shortest time between a nack and the next delivery.
    pub shortest_redelivery: Duration,
}
