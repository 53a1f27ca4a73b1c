//! Frames on their way out, written straight into a connection's buffer.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::{FLAG_ONEWAY, FLAG_RESPONSE, Request};

/// `MQVersion.V4_9_7`: both generations answer it in their plain form.
const VERSION: i32 = 407;
/// The one language name without a special meaning to any broker.
const LANGUAGE: &str = "OTHER";

/// A request: a code, fields, and a body. [`Request`] holds its fields; those on the hot path know theirs and are written without a copy between.
pub(crate) trait Encode: Sized {
    fn code(&self) -> i32;

    /// Hands over the fields in the order in which they are written.
    fn fields(&self, sink: &mut impl FieldSink);

    fn body(&self) -> &Bytes;

    /// About as many bytes as its frame has.
    fn expected_bytes(&self) -> usize;

    /// The same as a request that can be signed.
    fn into_request(self) -> Request {
        let head = self.expected_bytes().saturating_sub(self.body().len());
        let mut request = Request::with_capacity(self.code(), head);
        self.fields(&mut request);
        request.body(self.body().clone())
    }

    /// Appends its frame.
    fn encode(&self, opaque: i32, oneway: bool, out: &mut BytesMut) {
        out.reserve(self.expected_bytes());
        let flag = if oneway { FLAG_ONEWAY } else { 0 };
        let mut writer = FrameWriter::begin(self.code(), opaque, flag, None, out);
        self.fields(&mut writer);
        writer.end(self.body());
    }
}

/// What takes a header's fields. Names are plain ASCII without quotes.
pub(crate) trait FieldSink {
    fn put_text(&mut self, name: &'static str, value: &str);

    fn put_number(&mut self, name: &'static str, value: impl Into<i64>);
}

/// A response without fields or body, for the brokers' own requests.
pub(crate) fn encode_response(code: i32, opaque: i32, remark: &str) -> BytesMut {
    let mut out = BytesMut::new();
    FrameWriter::begin(code, opaque, FLAG_RESPONSE, Some(remark), &mut out).end(&[]);
    out
}

/// A frame that is being appended to a buffer.
struct FrameWriter<'a> {
    out: &'a mut BytesMut,
    /// Where it begins there.
    start: usize,
    has_fields: bool,
}

impl<'a> FrameWriter<'a> {
    fn begin(
        code: i32,
        opaque: i32,
        flag: i32,
        remark: Option<&str>,
        out: &'a mut BytesMut,
    ) -> FrameWriter<'a> {
        let start = out.len();
        // The lengths, known at the end.
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
        FrameWriter {
            out,
            start,
            has_fields: false,
        }
    }

    fn name(&mut self, name: &'static str) {
        if self.has_fields {
            self.out.put_u8(b',');
        }
        self.has_fields = true;
        self.out.put_u8(b'"');
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b"\":");
    }

    fn end(self, body: &[u8]) {
        let FrameWriter { out, start, .. } = self;
        out.put_slice(b"}}");
        let header_length = out.len() - start - 8;
        let lengths = &mut out[start..start + 8];
        lengths[..4].copy_from_slice(&((4 + header_length + body.len()) as u32).to_be_bytes());
        // The top byte is the header's type: 0, JSON.
        lengths[4..].copy_from_slice(&(header_length as u32).to_be_bytes());
        out.extend_from_slice(body);
    }
}

impl FieldSink for FrameWriter<'_> {
    fn put_text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        put_string(self.out, value);
    }

    fn put_number(&mut self, name: &'static str, value: impl Into<i64>) {
        self.name(name);
        // Writing to a `BytesMut` cannot fail. Values are strings, numbers as well (`RemotingCommand.makeCustomHeaderToNet`).
        let _ = write!(self.out, "\"{}\"", value.into());
    }
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
