//! Requests, and how they are written.

use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::{Encode, FieldSink};

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

    /// The same with room for a header of about `bytes` bytes, signed.
    pub(crate) fn with_capacity(code: i32, bytes: usize) -> Self {
        Request {
            code,
            fields: Vec::with_capacity(16),
            values: String::with_capacity(bytes),
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
        self.put_text(name, value);
        self
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

    /// Its frame alone.
    #[cfg(test)]
    pub(crate) fn frame(&self, opaque: i32, oneway: bool) -> bytes::BytesMut {
        let mut frame = bytes::BytesMut::new();
        self.encode(opaque, oneway, &mut frame);
        frame
    }
}

impl Encode for Request {
    fn code(&self) -> i32 {
        self.code
    }

    fn fields(&self, sink: &mut impl FieldSink) {
        let mut start = 0;
        for &(name, end) in &self.fields {
            sink.put_text(name, &self.values[start..end]);
            start = end;
        }
    }

    fn body(&self) -> &Bytes {
        &self.body
    }

    fn expected_bytes(&self) -> usize {
        let values = self.values.len() + self.values.len() / 2;
        192 + values + 16 * self.fields.len() + self.body.len()
    }

    fn into_request(self) -> Request {
        self
    }
}

impl FieldSink for Request {
    fn put_text(&mut self, name: &'static str, value: &str) {
        self.values.push_str(value);
        self.fields.push((name, self.values.len()));
    }

    fn put_number(&mut self, name: &'static str, value: impl Into<i64>) {
        // Writing to a `String` cannot fail.
        let _ = write!(self.values, "{}", value.into());
        self.fields.push((name, self.values.len()));
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
