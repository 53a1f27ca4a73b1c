//! Reading what a pull returns: messages in the brokers' storage format, one after the other.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::{
    codes::message_flag,
    error::{Error, ErrorKind, Result},
    message::{body, pairs, property},
    route::MessageQueue,
};

/// `MessageDecoder.MESSAGE_MAGIC_CODE`.
const MAGIC: i32 = -626_843_481;
/// `MessageDecoder.MESSAGE_MAGIC_CODE_V2`: topic names above 127 bytes, the length in two bytes.
const MAGIC_LONG_TOPIC: i32 = -626_843_477;

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
    pub offset_message_id: String,
    properties: Bytes,
}

impl ReceivedMessage {
    /// All properties, in the order in which they are stored. A name may come twice: the first one counts.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(std::str::from_utf8(&self.properties).unwrap_or_default())
    }

    /// The first property of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties()
            .find_map(|(key, value)| (key == name).then_some(value))
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
}

/// Reads the body of a pull from `queue`.
#[must_use]
pub fn decode(mut body: Bytes, queue: &MessageQueue) -> Decoded {
    let mut decoded = Decoded::default();
    while !body.is_empty() {
        match one(&mut body, queue, read) {
            Ok(message) => decoded.messages.push(message),
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
    how: fn(&mut Bytes, &MessageQueue) -> Result<T, Failure>,
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

fn read(message: &mut Bytes, queue: &MessageQueue) -> Result<ReceivedMessage, Failure> {
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
    Ok(ReceivedMessage {
        topic,
        queue: queue.clone(),
        offset: fields.offset,
        commit_log_offset: fields.commit_log_offset,
        reconsume_times: fields.reconsume_times.try_into().unwrap_or(0),
        born_timestamp_ms: fields.born_timestamp_ms,
        store_timestamp_ms: fields.store_timestamp_ms,
        body: body::plain(fields.body, fields.sys_flag).map_err(|error| {
            let place = format!("the message at offset {} of {queue}", fields.offset);
            error.with_context(&place)
        })?,
        offset_message_id: offset_message_id(&fields.store_host, fields.commit_log_offset),
        properties: fields.properties,
    })
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

/// `MessageDecoder.createMessageId`.
fn offset_message_id(store_host: &[u8], commit_log_offset: u64) -> String {
    use std::fmt::Write as _;
    let mut id = String::with_capacity(2 * (store_host.len() + 8));
    for byte in store_host.iter().chain(&commit_log_offset.to_be_bytes()) {
        // Writing to a `String` cannot fail.
        let _ = write!(id, "{byte:02X}");
    }
    id
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    struct Stored<'a> {
        sys_flag: i32,
        magic: i32,
        body: &'a [u8],
        properties: &'a str,
        host: &'a [u8],
    }

    impl Default for Stored<'_> {
        fn default() -> Self {
            Stored {
                sys_flag: 0,
                magic: MAGIC,
                body: b"hello",
                properties: "UNIQ_KEY\u{1}A\u{2}UNIQ_KEY\u{1}B\u{2}TAGS\u{1}t",
                host: &[127, 0, 0, 1, 0, 0, 0x2a, 0x9f],
            }
        }
    }

    fn stored(message: &Stored<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u32(0);
        out.put_i32(message.magic);
        out.put_u32(crc32fast::hash(message.body) & 0x7fff_ffff);
        out.put_i32(3);
        out.put_i32(0);
        out.put_u64(41);
        out.put_u64(4096);
        out.put_i32(message.sys_flag);
        out.put_i64(1);
        out.put_slice(message.host);
        out.put_i64(2);
        out.put_slice(message.host);
        out.put_i32(2);
        out.put_i64(0);
        out.put_u32(message.body.len() as u32);
        out.put_slice(message.body);
        if message.magic == MAGIC {
            out.put_u8(1);
        } else {
            out.put_u16(1);
        }
        out.put_slice(b"t");
        out.put_u16(message.properties.len() as u16);
        out.put_slice(message.properties.as_bytes());
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }

    fn queue(topic: &str) -> MessageQueue {
        MessageQueue {
            topic: topic.into(),
            broker: "b".into(),
            queue: 3,
        }
    }

    #[test]
    fn two_messages_are_read_with_all_they_carry() {
        let mut body = stored(&Stored::default());
        body.extend_from_slice(&stored(&Stored {
            magic: MAGIC_LONG_TOPIC,
            sys_flag: message_flag::BORN_HOST_V6 | message_flag::STORE_HOST_V6,
            host: &[1; 20],
            ..Stored::default()
        }));
        let decoded = decode(body.freeze(), &queue("t"));
        assert!(decoded.error.is_none());
        let [first, second] = &decoded.messages[..] else {
            panic!("two messages")
        };
        assert_eq!(
            (first.offset, first.commit_log_offset, first.reconsume_times),
            (41, 4096, 2)
        );
        assert_eq!(first.body, "hello");
        assert_eq!(first.message_id(), "A");
        assert_eq!(first.property("TAGS"), Some("t"));
        assert_eq!(first.offset_message_id, "7F00000100002A9F0000000000001000");
        assert_eq!(second.body, "hello");
    }

    #[test]
    fn a_retry_has_its_original_topic_again() {
        let body = stored(&Stored {
            properties: "RETRY_TOPIC\u{1}orders\u{2}",
            ..Stored::default()
        });
        let read = |topic| {
            decode(body.clone().freeze(), &queue(topic)).messages[0]
                .topic
                .clone()
        };
        assert_eq!(&*read("%RETRY%g"), "orders");
        // In any other topic the property is just a property.
        assert_eq!(&*read("t"), "t");
    }

    #[test]
    fn a_skim_reads_places_and_properties_whatever_the_body_is() {
        let mut body = stored(&Stored {
            sys_flag: 513,
            body: b"not ZSTD",
            ..Stored::default()
        });
        body.extend_from_slice(&stored(&Stored::default()));
        let whole = body.clone().freeze();
        let skimmed = skim(whole, &queue("t")).unwrap();
        assert_eq!(skimmed.len(), 2);
        assert_eq!(skimmed[0].offset, 41);
        assert_eq!(skimmed[0].property("UNIQ_KEY"), Some("A"));
        assert_eq!(skimmed[0].property("none"), None);
        body.truncate(body.len() - 1);
        let error = skim(body.freeze(), &queue("t")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn what_came_before_a_broken_message_is_kept() {
        let whole = stored(&Stored::default());
        for end in 1..whole.len() {
            let mut body = whole.clone();
            body.extend_from_slice(&whole[..end]);
            let decoded = decode(body.freeze(), &queue("t"));
            assert_eq!(decoded.messages.len(), 1, "cut at {end}");
            assert_eq!(decoded.error.unwrap().kind(), ErrorKind::Protocol);
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        let whole = stored(&Stored::default());
        for place in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut body = whole.clone();
                body[place] = byte;
                // Any outcome but a panic.
                let _ = decode(body.freeze(), &queue("t"));
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut body = stored(&Stored::default());
        let place = body.windows(5).position(|w| w == b"hello").unwrap();
        body[place] = b'j';
        assert!(decode(body.freeze(), &queue("t")).error.is_some());
    }
}
