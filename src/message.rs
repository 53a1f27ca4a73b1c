//! Messages, keys, receipts and deliveries.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    error::{Error, ErrorKind, Result},
    side::{Revision, Side},
};

/// What an application sends. The producer knows the topic.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The payload; opaque.
    pub body: Bytes,
    /// The application's own key, to find the message by (RocketMQ `KEYS`).
    pub key: Option<String>,
    /// The tag that subscriptions filter by (RocketMQ `TAGS`).
    pub tag: Option<String>,
    /// Further properties, in insertion order. RocketMQ: no `\u{1}` or `\u{2}` in them.
    pub properties: Vec<(String, String)>,
    /// Messages with the same one go to the same side and queue.
    pub ordering_key: Option<String>,
    /// Delivered no sooner than this after the send. RocketMQ 4.x: rounded up to a delay level.
    pub deliver_after: Option<Duration>,
    /// Same key = same message, on either side. Made at the first send when absent.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Message {
    /// A message with a body and nothing else.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Message {
            body: body.into(),
            ..Message::default()
        }
    }

    /// Sets the application's own key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn with_ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Delays the delivery.
    #[must_use]
    pub fn with_deliver_after(mut self, delay: Duration) -> Self {
        self.deliver_after = Some(delay);
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.idempotency_key = Some(key);
        self
    }
}

/// Same key = same message, on either side: 1 to 128 bytes of text without control characters.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when it is empty, longer than [`Self::MAX_BYTES`] or has a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidMessage,
                "idempotency key",
                format!(
                    "must be 1 to {} bytes of text without control characters; this one has {} bytes",
                    Self::MAX_BYTES,
                    text.len()
                ),
            ));
        }
        Ok(IdempotencyKey(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Proof that one side has stored a message.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SendReceipt {
    /// The broker's own id of the message.
    pub message_id: String,
    /// The side that stored it.
    pub side: Side,
    /// The plan's revision under which it was routed.
    pub revision: Revision,
    /// The key it carries.
    pub idempotency_key: IdempotencyKey,
}

/// A message handed to the application, to be acked or nacked on the consumer that gave it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The topic it was sent to.
    pub topic: Arc<str>,
    /// The message; its `idempotency_key` is always set.
    pub message: Message,
    /// The side it came from.
    pub side: Side,
    /// The broker's own id.
    pub message_id: String,
    /// 1 for the first delivery to the group, one more after each failed one.
    pub attempt: u32,
    /// The plan's revision under which it was routed; `None` from a producer that does not use this library.
    pub revision: Option<Revision>,
    /// The consumer's own number for it.
    pub(crate) number: u64,
}
