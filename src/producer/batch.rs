//! Several messages in one request.

use std::{sync::Arc, time::Duration};

use super::{
    Producer, check_properties, order,
    parcel::{One, Parcel, Stamp},
    tries::Kept,
};
use crate::{
    BoxFuture,
    backend::{BackendProducer, MessageId, Stored},
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message, SendReceipt},
};

impl Producer {
    /// Sends several messages as one: all go to one side under one plan, to one queue one after the other, are tried again together, and are all stored or none.
    /// The receipts are in the order of the messages. They may have one ordering key, all of them the same; without one the next batch may go to the other
    /// side.
    ///
    /// # Errors
    /// `InvalidMessage` for an empty batch, for different ordering keys and for a delayed message, and for what is too large together; `Unsupported` where
    /// the side's backend has no batches; as [`Self::send`].
    ///
    /// # Cancellation
    /// As [`Self::send`], for all of them.
    pub async fn send_batch(&self, messages: Vec<Message>) -> Result<Vec<SendReceipt>> {
        let shared = &*self.shared;
        check(&messages)?;
        shared.contact.check("send a batch")?;
        let _active = shared.holder.active.enter()?;
        let keys = messages.iter().map(|message| shared.key_of(message));
        let keys: Vec<IdempotencyKey> = keys.collect::<Result<_>>()?;
        let ids = vec![MessageId::default(); messages.len()];
        let batch = Batch {
            messages: &messages,
            keys: &keys,
            ids: &ids,
        };
        let Kept {
            what,
            side,
            revision,
        } = shared.store(&batch).await?;
        let kept = what.into_iter().map(|what| Kept {
            what,
            side,
            revision,
        });
        Ok(kept
            .zip(keys)
            .map(|(kept, key)| kept.receipt(key))
            .collect())
    }
}

/// What cannot go together, whatever the side.
fn check(messages: &[Message]) -> Result<()> {
    let wrong = |text: &str| Err(Error::new(ErrorKind::InvalidMessage, "send a batch", text));
    let Some(first) = messages.first() else {
        return wrong("a batch without a message cannot be sent");
    };
    for message in messages {
        check_properties(message)?;
        if message.ordering_key != first.ordering_key {
            return wrong(
                "the messages of a batch go to one side and one queue: they need the same ordering key, or none",
            );
        }
        if message.deliver_after.is_some() {
            return wrong("a delayed message cannot be part of a batch: send it by itself");
        }
    }
    Ok(())
}

struct Batch<'a> {
    /// At least one.
    messages: &'a [Message],
    keys: &'a [IdempotencyKey],
    ids: &'a [MessageId],
}

impl Parcel for Batch<'_> {
    type Stored = Vec<Stored>;

    fn ordering_key(&self) -> Option<&[u8]> {
        let key = self.messages.first()?.ordering_key.as_deref();
        key.map(str::as_bytes)
    }

    fn messages(&self) -> usize {
        self.messages.len()
    }

    fn check_ordered(&self) -> Result<()> {
        self.messages.iter().try_for_each(order::check)
    }

    fn hand_over<'a>(
        &'a self,
        producer: &'a Arc<dyn BackendProducer>,
        stamp: Stamp,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        Box::pin(async move {
            let each = self.messages.iter().zip(self.keys).zip(self.ids);
            let batch = each.map(|((message, key), id)| One { message, key, id }.outgoing(stamp));
            let batch: Vec<_> = batch.collect();
            producer.send_batch(&batch, timeout).await
        })
    }
}
