//! Frames: `length(4) headerType(1) headerLength(3) header body`, as in apache/rocketmq `RemotingCommand.java`.
//!
//! We write JSON headers, which every version reads, and read both kinds (`RocketMQSerializable.java` for the binary one).

mod binary;
mod request;

use std::fmt::{self, Write as _};

use bytes::{Buf, Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

pub use request::Request;
pub(crate) use request::encode_response;

use crate::error::{Error, ErrorKind, Result};

/// `RemotingCommand`'s flag bit of a response.
pub(crate) const FLAG_RESPONSE: i32 = 1;
/// `RemotingCommand`'s flag bit of a request that wants no response.
pub(crate) const FLAG_ONEWAY: i32 = 2;
/// The largest frame taken by default: the brokers' own 16 MiB and room for a header.
pub const DEFAULT_MAX_FRAME_BYTES: usize = (16 << 20) + (256 << 10);

/// Headers are a few hundred bytes; a message's properties, the longest thing in one, have 32 KiB at most. Short fields take many times their length once
/// they are read.
const MAX_HEADER_BYTES: usize = 1 << 20;

const HEADER_JSON: u32 = 0;
const HEADER_BINARY: u32 = 1;

/// A frame that was received: a response, or a request of the broker's own. `Debug` shows no body: brokers tell administrators passwords.
#[derive(Clone, Default)]
pub struct Command {
    /// Request or response code; see [`crate::codes`].
    pub code: i32,
    /// Ties a response to its request.
    pub opaque: i32,
    /// Bit 0: response. Bit 1: wants no response.
    pub flag: i32,
    /// The words of a refusal.
    pub remark: Option<String>,
    /// The header's further fields.
    pub fields: Fields,
    /// What follows the header.
    pub body: Bytes,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("code", &self.code)
            .field("opaque", &self.opaque)
            .field("flag", &self.flag)
            .field("remark", &self.remark)
            .field("fields", &self.fields)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl Command {
    pub(crate) fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub(crate) fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }
}

/// Named values of a header, in the order in which they came. `Debug` shows the names.
#[derive(Clone, Default)]
pub struct Fields {
    /// Each name and its value, one behind the other: two allocations for all of them.
    text: String,
    /// Where each name and its value end in it.
    ends: Vec<(usize, usize)>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Fields {
    /// With room for what brokers answer to a send or a pull.
    fn with_room() -> Fields {
        Fields {
            text: String::with_capacity(256),
            ends: Vec::with_capacity(8),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, end)| {
            let pair = (&self.text[start..name_end], &self.text[name_end..end]);
            start = end;
            pair
        })
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// A number.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it is missing or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "the response's field `{name}` should be a number and is {:?}",
                        self.get(name)
                    ),
                )
            })
    }

    /// A place in a queue: a number that is not negative to Java.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it is missing or no such number.
    pub fn offset(&self, name: &str) -> Result<u64> {
        let offset: u64 = self.number(name)?;
        if i64::try_from(offset).is_ok() {
            return Ok(offset);
        }
        let why = format!("the response's field `{name}` should be an offset and is {offset}");
        Err(Error::new(ErrorKind::Protocol, why))
    }
}

/// Takes one whole frame from the front of `buffer`; `None` while it is not all there.
///
/// # Errors
/// [`ErrorKind::Protocol`] for a length out of range or a header that cannot be read. The stream is of no use afterwards.
pub fn decode(buffer: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<Command>> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length < 4 || length > max_frame_bytes {
        return Err(protocol(format!(
            "a frame says it has {length} bytes; 4 to {max_frame_bytes} are allowed"
        )));
    }
    if buffer.len() < 4 + length {
        // Grows with what really comes: a peer that only names a size makes nobody allocate it.
        buffer.reserve((4 + length - buffer.len()).min(64 << 10));
        return Ok(None);
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length).freeze();
    let word = frame.get_u32();
    let (header_type, header_length) = (word >> 24, (word & 0x00ff_ffff) as usize);
    if header_length > frame.len() {
        return Err(protocol(format!(
            "a frame's header says it has {header_length} bytes and the frame has {}",
            frame.len()
        )));
    }
    if header_length > MAX_HEADER_BYTES {
        return Err(protocol(format!(
            "a frame's header has {header_length} bytes; at most {MAX_HEADER_BYTES} are allowed"
        )));
    }
    let header = frame.split_to(header_length);
    let mut command = match header_type {
        HEADER_JSON => decode_json(&header)?,
        HEADER_BINARY => binary::decode(&header)?,
        other => {
            return Err(protocol(format!(
                "a frame's header has the unknown type {other}"
            )));
        }
    };
    command.body = frame;
    Ok(Some(command))
}

fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

fn decode_json(header: &[u8]) -> Result<Command> {
    #[derive(Deserialize)]
    struct Header {
        code: i32,
        #[serde(default)]
        opaque: i32,
        #[serde(default)]
        flag: i32,
        #[serde(default)]
        remark: Option<String>,
        #[serde(default, rename = "extFields")]
        fields: Option<Fields>,
    }
    let header: Header = serde_json::from_slice(header).map_err(|source| {
        protocol(format!("a frame's header is not readable: {source}")).with_source(source)
    })?;
    Ok(Command {
        code: header.code,
        opaque: header.opaque,
        flag: header.flag,
        remark: header.remark,
        fields: header.fields.unwrap_or_default(),
        body: Bytes::new(),
    })
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Fields, A::Error> {
                let mut fields = Fields::with_room();
                loop {
                    let start = fields.text.len();
                    if map.next_key_seed(Scalar(&mut fields.text))?.is_none() {
                        return Ok(fields);
                    }
                    let name_end = fields.text.len();
                    match map.next_value_seed(Scalar(&mut fields.text))? {
                        true => fields.ends.push((name_end, fields.text.len())),
                        false => fields.text.truncate(start),
                    }
                }
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Appends a scalar as text; false, and nothing appended, for null and for what is no scalar.
struct Scalar<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! append {
    ($($name:ident($type:ty)),*) => {
        $(fn $name<E>(self, value: $type) -> std::result::Result<bool, E> {
            // Writing to a `String` cannot fail.
            let _ = write!(self.0, "{value}");
            Ok(true)
        })*
    };
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    append!(
        visit_bool(bool),
        visit_i64(i64),
        visit_u64(u64),
        visit_f64(f64)
    );

    fn visit_str<E>(self, value: &str) -> std::result::Result<bool, E> {
        self.0.push_str(value);
        Ok(true)
    }

    fn visit_unit<E>(self) -> std::result::Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
