//! Reading what a pull returns: messages in the brokers' storage format, one after the other.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::{
    codes::message_flag,
    error::{Error, ErrorKind, Result},
    message::{OffsetMessageId, body, pairs, property},
    route::MessageQueue,
};

/// `MessageDecoder.MESSAGE_MAGIC_CODE`.
const MAGIC: i32 = -626_843_481;
/// `MessageDecoder.MESSAGE_MAGIC_CODE_V2`: topic names above 127 bytes, the length in two bytes.
const MAGIC_LONG_TOPIC: i32 = -626_843_477;

/// A compressed body may not grow above this.
const MAX_INFLATED: usize = 64 << 20;
/// Nor may those of one pull together, from the second one on.
const MAX_INFLATED_TOGETHER: usize = 16 << 20;

/// A message as a broker stored it.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// The topic it was sent to; for a retry the original one, not the group's retry topic.
    pub topic: Arc<str>,
    /// Where it lies.
    pub queue: MessageQueue,
    /// Its place there.
    pub offset: u64,
    /// Its place in the broker's commit log.
    pub commit_log_offset: u64,
    /// How often it was given back before.
    pub reconsume_times: u32,
    /// By the sender's clock.
    pub born_timestamp_ms: i64,
    /// By the broker's clock.
    pub store_timestamp_ms: i64,
    /// The payload, decompressed.
    pub body: Bytes,
    /// The broker's own id: its address and the commit log offset.
    pub offset_message_id: OffsetMessageId,
    properties: Bytes,
    /// Its share of the answer that it came in, and what its body was inflated to.
    bytes: usize,
}

impl ReceivedMessage {
    /// What it takes of the memory, about: as it was stored, its body once more where that was compressed, and what is kept with it. A body that was not
    /// compressed keeps the whole answer that it came in until the other messages of it are gone as well; each counts its share of that.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        /// This struct, the owners of it, the texts in it, and the places in the tables of what is outstanding.
        const KEPT_WITH_IT: usize = 512;
        self.bytes.saturating_add(KEPT_WITH_IT)
    }

    /// All properties, in the order in which they are stored. A name may come twice: of ids the first one counts, of tags and keys the last.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(std::str::from_utf8(&self.properties).unwrap_or_default())
    }

    /// The first property of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The tag that brokers choose by: the last one, where a batch and a message in it have one each (apache/rocketmq `MessageDecoder.string2messageProperties`).
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        let tags = self.properties().filter(|(key, _)| *key == property::TAGS);
        tags.last().map(|(_, tag)| tag)
    }

    /// The sender's unique id, else the broker's.
    #[must_use]
    pub fn message_id(&self) -> &str {
        self.property(property::UNIQ_KEY)
            .unwrap_or(&self.offset_message_id)
    }
}

/// The messages that could be read, and what was wrong with the next one.
#[derive(Debug, Default)]
pub struct Decoded {
    /// In the order in which they came.
    pub messages: Vec<ReceivedMessage>,
    /// Why it ended early.
    pub error: Option<Error>,
    /// There were more, whose bodies would inflate to too much together with those before: another pull, from behind the last of these, has them.
    pub more: bool,
}

/// Reads the body of a pull from `queue`.
#[must_use]
pub fn decode(mut body: Bytes, queue: &MessageQueue) -> Decoded {
    let mut decoded = Decoded::default();
    let mut room = MAX_INFLATED_TOGETHER;
    while !body.is_empty() {
        // The first one may take all that a body may; otherwise no pull would ever read it.
        let first = decoded.messages.is_empty();
        let most = if first { MAX_INFLATED } else { room };
        match one(&mut body, queue, |message, queue| {
            read(message, queue, most)
        }) {
            Ok(Some((message, inflated))) => {
                room = room.saturating_sub(inflated);
                decoded.messages.push(message);
            }
            Ok(None) if first => {
                let why = format!("its body inflates to more than {MAX_INFLATED} bytes");
                decoded.error = Some(broken(queue, &why));
                break;
            }
            Ok(None) => {
                decoded.more = true;
                break;
            }
            Err(error) => {
                decoded.error = Some(error);
                break;
            }
        }
    }
    decoded
}

/// Cuts off one message and reads it by `how`.
fn one<T>(
    rest: &mut Bytes,
    queue: &MessageQueue,
    how: impl FnOnce(&mut Bytes, &MessageQueue) -> Result<T, Failure>,
) -> Result<T> {
    let size = rest
        .first_chunk::<4>()
        .map_or(0, |size| u32::from_be_bytes(*size) as usize);
    if size < 4 || size > rest.len() {
        return Err(broken(queue, "its length does not fit"));
    }
    let mut message = rest.split_to(size);
    message.advance(4);
    how(&mut message, queue).map_err(|error| match error {
        Failure::Short => broken(queue, "it ends too early"),
        Failure::Other(error) => error,
    })
}

enum Failure {
    Short,
    Other(Error),
}

impl From<bytes::TryGetError> for Failure {
    fn from(_: bytes::TryGetError) -> Self {
        Failure::Short
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

/// The fields of a stored message, none of them interpreted.
struct Fields {
    offset: u64,
    commit_log_offset: u64,
    sys_flag: i32,
    born_timestamp_ms: i64,
    store_timestamp_ms: i64,
    store_host: Bytes,
    reconsume_times: i32,
    body_crc: u32,
    body: Bytes,
    properties: Bytes,
}

fn fields(message: &mut Bytes, queue: &MessageQueue) -> Result<Fields, Failure> {
    let magic = message.try_get_i32()?;
    if magic != MAGIC && magic != MAGIC_LONG_TOPIC {
        return Err(broken(queue, "its magic number is unknown").into());
    }
    let body_crc = message.try_get_u32()?;
    let _queue_id = message.try_get_i32()?;
    let _flag = message.try_get_i32()?;
    let offset = message.try_get_u64()?;
    // Then there is room for another behind it as well.
    if offset >= i64::MAX as u64 {
        return Err(broken(queue, "its offset is out of range").into());
    }
    let commit_log_offset = message.try_get_u64()?;
    let sys_flag = message.try_get_i32()?;
    let born_timestamp_ms = message.try_get_i64()?;
    take(message, host_length(sys_flag & message_flag::BORN_HOST_V6))?;
    let store_timestamp_ms = message.try_get_i64()?;
    let store_host = take(message, host_length(sys_flag & message_flag::STORE_HOST_V6))?;
    let reconsume_times = message.try_get_i32()?;
    let _prepared_transaction_offset = message.try_get_i64()?;
    let body_length = message.try_get_u32()? as usize;
    let body = take(message, body_length)?;
    let topic_length = if magic == MAGIC {
        message.try_get_u8()?.into()
    } else {
        message.try_get_u16()?.into()
    };
    take(message, topic_length)?;
    let properties_length = message.try_get_u16()?.into();
    let properties = take(message, properties_length)?;
    if std::str::from_utf8(&properties).is_err() {
        return Err(broken(queue, "its properties are not UTF-8").into());
    }
    Ok(Fields {
        offset,
        commit_log_offset,
        sys_flag,
        born_timestamp_ms,
        store_timestamp_ms,
        store_host,
        reconsume_times,
        body_crc,
        body,
        properties,
    })
}

/// A message, and how many bytes its body was inflated to; none when they are more than `most`.
fn read(
    message: &mut Bytes,
    queue: &MessageQueue,
    most: usize,
) -> Result<Option<(ReceivedMessage, usize)>, Failure> {
    let stored = message.len();
    let fields = fields(message, queue)?;
    let text = std::str::from_utf8(&fields.properties).unwrap_or_default();
    let topic = match pairs(text).find(|(name, _)| *name == property::RETRY_TOPIC) {
        Some((_, topic)) if queue.topic.starts_with(RETRY_PREFIX) => topic.into(),
        _ => Arc::clone(&queue.topic),
    };
    // `UtilAll.crc32` drops the top bit.
    if !fields.body.is_empty() && crc32fast::hash(&fields.body) & 0x7fff_ffff != fields.body_crc {
        return Err(broken(queue, "its body does not fit its checksum").into());
    }
    if fields.sys_flag & message_flag::INNER_BATCH == message_flag::INNER_BATCH {
        let why = "it is a batch in one message, as topics of the kind BatchCQ keep them";
        return Err(broken(queue, why).into());
    }
    let place = |error: Error| {
        error.with_context(&format!(
            "the message at offset {} of {queue}",
            fields.offset
        ))
    };
    let Some(body) = body::plain(fields.body, fields.sys_flag, most).map_err(place)? else {
        return Ok(None);
    };
    let inflated = match fields.sys_flag & message_flag::COMPRESSED {
        0 => 0,
        _ => body.len(),
    };
    let message = ReceivedMessage {
        topic,
        queue: queue.clone(),
        offset: fields.offset,
        commit_log_offset: fields.commit_log_offset,
        reconsume_times: fields.reconsume_times.try_into().unwrap_or(0),
        born_timestamp_ms: fields.born_timestamp_ms,
        store_timestamp_ms: fields.store_timestamp_ms,
        body,
        offset_message_id: OffsetMessageId::of(&fields.store_host, fields.commit_log_offset),
        properties: fields.properties,
        bytes: stored.saturating_add(inflated),
    };
    Ok(Some((message, inflated)))
}

/// A message's place and properties; its body is not looked at, so it may be compressed in any way.
#[derive(Clone, Debug)]
pub(crate) struct Skimmed {
    pub(crate) offset: u64,
    properties: Bytes,
}

impl Skimmed {
    /// The first property of that name.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        pairs(std::str::from_utf8(&self.properties).unwrap_or_default())
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// Reads places and properties of the messages in the body of a pull from `queue`.
///
/// # Errors
/// [`ErrorKind::Protocol`] for a message that is no message.
pub(crate) fn skim(mut body: Bytes, queue: &MessageQueue) -> Result<Vec<Skimmed>> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let fields = one(&mut body, queue, fields)?;
        all.push(Skimmed {
            offset: fields.offset,
            properties: fields.properties,
        });
    }
    Ok(all)
}

/// `MixAll.RETRY_GROUP_TOPIC_PREFIX`.
pub(crate) const RETRY_PREFIX: &str = "%RETRY%";

fn broken(queue: &MessageQueue, why: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("a message pulled from {queue} cannot be read: {why}"),
    )
}

/// Address and port.
fn host_length(v6: i32) -> usize {
    if v6 == 0 { 8 } else { 20 }
}

fn take(message: &mut Bytes, length: usize) -> Result<Bytes, Failure> {
    if length > message.len() {
        return Err(Failure::Short);
    }
    Ok(message.split_to(length))
}

#[cfg(test)]
mod tests;
