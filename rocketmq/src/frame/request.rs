//! Requests, and how they are written.

use std::fmt::{self, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

use super::{FLAG_ONEWAY, FLAG_RESPONSE};

/// `MQVersion.V4_9_7`: both generations answer it in their plain form.
const VERSION: i32 = 407;
/// The one language name without a special meaning to any broker.
const LANGUAGE: &str = "OTHER";

/// A request: a code, named values, and a body. `Debug` shows no value and no body: signatures, tokens and passwords travel in them.
#[derive(Clone)]
pub struct Request {
    code: i32,
    /// Names, and where their values end in `values`.
    fields: Vec<(&'static str, usize)>,
    values: String,
    body: Bytes,
}

impl Request {
    /// A request without fields or body.
    #[must_use]
    pub fn new(code: i32) -> Self {
        Request {
            code,
            fields: Vec::new(),
            values: String::new(),
            body: Bytes::new(),
        }
    }

    /// The same with room for `fields` fields of `bytes` bytes together.
    #[must_use]
    pub(crate) fn with_capacity(code: i32, fields: usize, bytes: usize) -> Self {
        Request {
            code,
            // With room for a signature.
            fields: Vec::with_capacity(fields + 3),
            values: String::with_capacity(bytes + 96),
            body: Bytes::new(),
        }
    }

    /// Adds a field. `name` is plain ASCII without quotes.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        // Writing to a `String` cannot fail.
        let _ = write!(self.values, "{value}");
        self.fields.push((name, self.values.len()));
        self
    }

    /// Adds a field that is text already.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: &str) -> Self {
        self.push(name, value);
        self
    }

    /// [`Self::text`] in place.
    pub(crate) fn push(&mut self, name: &'static str, value: &str) {
        self.values.push_str(value);
        self.fields.push((name, self.values.len()));
    }

    /// What a signature covers: the values in the order of their names, then the body. Allocates nothing for 32 fields or fewer.
    pub(crate) fn visit_signed(&self, mut visit: impl FnMut(&[u8])) {
        let count = self.fields.len();
        let (mut few, mut many) = ([0usize; 32], Vec::new());
        let order = match few.get_mut(..count) {
            Some(order) => order,
            None => {
                many.resize(count, 0);
                &mut many[..]
            }
        };
        for (index, place) in order.iter_mut().enumerate() {
            *place = index;
        }
        order.sort_unstable_by_key(|&index| self.fields[index].0);
        for &index in &*order {
            let start = index
                .checked_sub(1)
                .map_or(0, |before| self.fields[before].1);
            visit(&self.values.as_bytes()[start..self.fields[index].1]);
        }
        visit(&self.body);
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The request code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.code
    }

    /// About as many bytes as its frame has.
    pub(crate) fn expected_bytes(&self) -> usize {
        let values = self.values.len() + self.values.len() / 2;
        192 + values + 16 * self.fields.len() + self.body.len()
    }

    /// Appends its frame.
    pub(crate) fn encode(&self, opaque: i32, oneway: bool, out: &mut BytesMut) {
        out.reserve(self.expected_bytes());
        let flag = if oneway { FLAG_ONEWAY } else { 0 };
        let mut start = 0;
        let fields = self.fields.iter().map(|&(name, end)| {
            let value = &self.values[start..end];
            start = end;
            (name, value)
        });
        encode_head(self.code, opaque, flag, None, fields, self.body.len(), out);
        out.extend_from_slice(&self.body);
    }

    /// Its frame alone.
    #[cfg(test)]
    pub(crate) fn frame(&self, opaque: i32, oneway: bool) -> BytesMut {
        let mut frame = BytesMut::new();
        self.encode(opaque, oneway, &mut frame);
        frame
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("code", &self.code)
            .field("fields", &names)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// A response without fields or body, for the brokers' own requests.
pub(crate) fn encode_response(code: i32, opaque: i32, remark: &str) -> BytesMut {
    let (fields, mut out) = (std::iter::empty(), BytesMut::new());
    encode_head(
        code,
        opaque,
        FLAG_RESPONSE,
        Some(remark),
        fields,
        0,
        &mut out,
    );
    out
}

fn encode_head<'a>(
    code: i32,
    opaque: i32,
    flag: i32,
    remark: Option<&str>,
    fields: impl Iterator<Item = (&'static str, &'a str)>,
    body_length: usize,
    out: &mut BytesMut,
) {
    let start = out.len();
    out.put_u64(0);
    // Writing to a `BytesMut` cannot fail.
    let _ = write!(
        out,
        "{{\"code\":{code},\"flag\":{flag},\"language\":\"{LANGUAGE}\",\"opaque\":{opaque},\
         \"serializeTypeCurrentRPC\":\"JSON\",\"version\":{VERSION}"
    );
    if let Some(remark) = remark {
        out.put_slice(b",\"remark\":");
        put_string(out, remark);
    }
    out.put_slice(b",\"extFields\":{");
    for (index, (name, value)) in fields.enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_u8(b'"');
        out.put_slice(name.as_bytes());
        out.put_slice(b"\":");
        put_string(out, value);
    }
    out.put_slice(b"}}");
    let header_length = out.len() - start - 8;
    let lengths = &mut out[start..start + 8];
    lengths[..4].copy_from_slice(&((4 + header_length + body_length) as u32).to_be_bytes());
    // The top byte is the header's type: 0, JSON.
    lengths[4..].copy_from_slice(&(header_length as u32).to_be_bytes());
}

/// A JSON string. Only what JSON demands is escaped, so that most text is copied in one piece.
fn put_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put_slice(&bytes[copied..index]);
        copied = index + 1;
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.put_slice(b"\\u00");
                out.put_slice(&digits);
            }
        }
    }
    out.put_slice(&bytes[copied..]);
    out.put_u8(b'"');
}
