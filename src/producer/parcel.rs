//! What is sent as one: it goes to one side under one plan, is tried again as one, and is stored whole or not at all.

use std::{sync::Arc, time::Duration};

use super::order;
use crate::{
    BoxFuture,
    backend::{BackendProducer, MessageId, Outgoing, Stored},
    error::Result,
    message::{IdempotencyKey, Message},
    side::Revision,
};

/// What a try adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) revision: Revision,
    pub(super) lane: u64,
}

/// What is sent as one.
pub(super) trait Parcel: Sync {
    /// What a broker says of it once it is stored.
    type Stored: Send;

    /// That of all its messages.
    fn ordering_key(&self) -> Option<&[u8]>;

    /// How many messages it has.
    fn messages(&self) -> usize {
        1
    }

    /// What an ordered topic cannot carry in order.
    ///
    /// # Errors
    /// `InvalidMessage`.
    fn check_ordered(&self) -> Result<()>;

    /// Hands it to a side, once.
    ///
    /// # Errors
    /// As [`BackendProducer::send`].
    ///
    /// # Cancellation
    /// Stored or not.
    fn hand_over<'a>(
        &'a self,
        producer: &'a Arc<dyn BackendProducer>,
        stamp: Stamp,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Self::Stored>>;
}

/// A single message.
pub(super) struct One<'a> {
    pub(super) message: &'a Message,
    pub(super) key: &'a IdempotencyKey,
    pub(super) id: &'a MessageId,
}

impl<'a> One<'a> {
    pub(super) fn outgoing(&self, stamp: Stamp) -> Outgoing<'a> {
        Outgoing {
            message: self.message,
            idempotency_key: self.key,
            message_id: self.id,
            revision: stamp.revision,
            lane: stamp.lane,
        }
    }
}

impl Parcel for One<'_> {
    type Stored = Stored;

    fn ordering_key(&self) -> Option<&[u8]> {
        self.message.ordering_key.as_deref().map(str::as_bytes)
    }

    fn check_ordered(&self) -> Result<()> {
        order::check(self.message)
    }

    fn hand_over<'a>(
        &'a self,
        producer: &'a Arc<dyn BackendProducer>,
        stamp: Stamp,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        producer.send(self.outgoing(stamp), timeout)
    }
}
