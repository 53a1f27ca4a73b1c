//! Messages of both crates.

use crossfade_rocketmq::{
    DelayLevel, Message as ClientMessage, ReceivedMessage, Result as ClientResult,
    message::{is_reserved, property, unique_id},
};

use crate::{
    backend::{KEY_PROPERTY, Outgoing, REVISION_PROPERTY},
    error::{Error, ErrorKind, Result},
    message::{IdempotencyKey, Message},
    side::Revision,
};

/// RocketMQ 5's own name for the key that keeps messages in order (`MessageConst.PROPERTY_SHARDING_KEY`).
const ORDERING_KEY_PROPERTY: &str = "__SHARDINGKEY";

/// The level that a delay is rounded up to.
///
/// # Errors
/// `InvalidMessage` for a delay above the longest.
pub(super) fn level(delay: std::time::Duration) -> Result<DelayLevel> {
    let longest = DelayLevel::LONGEST.duration();
    if delay > longest {
        return Err(Error::new(
            ErrorKind::InvalidMessage,
            "send",
            format!("a delay of {delay:?} is longer than the longest, {longest:?}"),
        ));
    }
    Ok(DelayLevel::at_least(delay))
}

/// # Errors
/// As [`ClientMessage::property`].
pub(super) fn encode(
    outgoing: &Outgoing<'_>,
    delay: Option<DelayLevel>,
) -> ClientResult<ClientMessage> {
    let message = outgoing.message;
    let id = outgoing.message_id.get_or_make(unique_id);
    let mut encoded = ClientMessage::with_id(message.body.clone(), id)
        .property(KEY_PROPERTY, outgoing.idempotency_key.as_str())?
        .property(REVISION_PROPERTY, &outgoing.revision.to_string())?;
    if let Some(key) = &message.key {
        encoded = encoded.keys(key)?;
    }
    if let Some(tag) = &message.tag {
        encoded = encoded.tag(tag)?;
    }
    if let Some(key) = &message.ordering_key {
        encoded = encoded.property(ORDERING_KEY_PROPERTY, key)?;
    }
    for (name, value) in &message.properties {
        encoded = encoded.property(name, value)?;
    }
    Ok(match delay {
        Some(level) => encoded.delay(level),
        None => encoded,
    })
}

/// What a stored message says.
pub(super) struct Decoded {
    /// With an idempotency key: its own, else its id.
    pub(super) message: Message,
    pub(super) message_id: String,
    pub(super) revision: Option<Revision>,
}

pub(super) fn decode(received: &ReceivedMessage) -> Decoded {
    let mut message = Message::new(received.body.clone());
    let mut revision = None;
    let mut unique_id = None;
    for (name, value) in received.properties() {
        match name {
            KEY_PROPERTY => {
                if message.idempotency_key.is_none() {
                    message.idempotency_key = IdempotencyKey::new(value).ok();
                }
            }
            REVISION_PROPERTY => revision = revision.or(value.parse().ok().map(Revision)),
            ORDERING_KEY_PROPERTY => message.ordering_key = Some(value.to_owned()),
            property::KEYS => message.key = Some(value.to_owned()),
            property::TAGS => message.tag = Some(value.to_owned()),
            // A batch sent by a 5.x client to a 4.9 broker gives it twice: the first one is the message's own.
            property::UNIQ_KEY => unique_id = unique_id.or(Some(value)),
            name if is_reserved(name) => {}
            _ => message.properties.push((name.to_owned(), value.to_owned())),
        }
    }
    let message_id = unique_id.unwrap_or(&received.offset_message_id);
    if message.idempotency_key.is_none() {
        message.idempotency_key = IdempotencyKey::new(message_id).ok();
    }
    Decoded {
        message_id: message_id.to_owned(),
        revision,
        message,
    }
}
