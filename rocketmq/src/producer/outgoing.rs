//! What goes out in one request; `SendMessageRequestHeaderV2.java`.

use bytes::Bytes;

use crate::{
    codes::request,
    frame::{Encode, FieldSink},
};

/// A message, or several in one body.
pub(super) struct Outgoing<'a> {
    /// [`request::SEND_MESSAGE_V2`] or [`request::SEND_BATCH_MESSAGE`].
    pub(super) code: i32,
    pub(super) sys_flag: i32,
    pub(super) properties: &'a str,
    pub(super) body: &'a Bytes,
}

/// It and where it goes.
pub(super) struct SendRequest<'a> {
    pub(super) outgoing: &'a Outgoing<'a>,
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) broker: &'a str,
    pub(super) queue: u32,
    pub(super) born_ms: i64,
}

impl Encode for SendRequest<'_> {
    fn code(&self) -> i32 {
        self.outgoing.code
    }

    fn fields(&self, sink: &mut impl FieldSink) {
        let batch = self.outgoing.code == request::SEND_BATCH_MESSAGE;
        sink.put_text("a", self.group);
        sink.put_text("b", self.topic);
        // The topic whose settings a missing one would be created with: itself, so that it is refused instead.
        sink.put_text("c", self.topic);
        sink.put_text("d", "4");
        sink.put_number("e", self.queue);
        sink.put_number("f", self.outgoing.sys_flag);
        sink.put_number("g", self.born_ms);
        sink.put_text("h", "0");
        sink.put_text("i", self.outgoing.properties);
        sink.put_text("j", "0");
        sink.put_text("k", "false");
        sink.put_text("m", if batch { "true" } else { "false" });
        sink.put_text("n", self.broker);
    }

    fn body(&self) -> &Bytes {
        self.outgoing.body
    }

    fn expected_bytes(&self) -> usize {
        let names = self.group.len() + 2 * self.topic.len() + self.broker.len();
        // A separator of properties is escaped as six bytes.
        let properties = 2 * self.outgoing.properties.len();
        384 + names + properties + self.outgoing.body.len()
    }
}
