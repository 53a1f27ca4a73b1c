//! Frames: `length(4) headerType(1) headerLength(3) header body`, as in apache/rocketmq `RemotingCommand.java`.
//!
//! We write JSON headers, which every version reads, and read both kinds (`RocketMQSerializable.java` for the binary one).

mod binary;
mod encode;
mod fields;
mod json;
mod request;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

pub(crate) use self::encode::{Encode, FieldSink, encode_response};
use self::json::JsonFields;
pub use self::{fields::Fields, request::Request};

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
        HEADER_JSON => decode_json(header)?,
        HEADER_BINARY => binary::decode(header)?,
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

fn decode_json(header: Bytes) -> Result<Command> {
    #[derive(Deserialize)]
    struct Header<'a> {
        code: i32,
        #[serde(default)]
        opaque: i32,
        #[serde(default)]
        flag: i32,
        #[serde(default)]
        remark: Option<String>,
        #[serde(borrow, default, rename = "extFields")]
        fields: Option<JsonFields<'a>>,
    }
    let read: Header<'_> = serde_json::from_slice(&header).map_err(|source| {
        protocol(format!("a frame's header is not readable: {source}")).with_source(source)
    })?;
    let mut fields = Fields::of(&header);
    for (name, value) in read.fields.iter().flat_map(JsonFields::iter) {
        fields.push(name, value);
    }
    Ok(Command {
        code: read.code,
        opaque: read.opaque,
        flag: read.flag,
        remark: read.remark,
        fields,
        body: Bytes::new(),
    })
}

#[cfg(test)]
mod tests;
