//! Sending.

use std::{ffi::c_char, mem, sync::Arc};

use sdk::{IdempotencyKey, Message, Producer};

use crate::{
    bytes::{crossfade_bytes, crossfade_property, unusable},
    client::{Core, crossfade_client},
    error::{crossfade_error, crossfade_side},
    guard::{Outcome, fallible, infallible},
    handle::{Out, Sized32, SizedOut, borrowed, free, into_raw, read_sized, string},
    runtime::{milliseconds, sends_nothing},
};

/// The most properties of one message.
pub const CROSSFADE_MAX_PROPERTIES: usize = 1024;
/// Room for a message id with its NUL.
pub const CROSSFADE_MESSAGE_ID_BYTES: usize = 256;

/// Sends to one topic. Owned by the caller; freed with crossfade_producer_free(), before or after its client.
///
/// Thread safety: every function may be called from any thread at any time; only crossfade_producer_free() must be the last one.
#[derive(Debug)]
pub struct crossfade_producer {
    // Before `core`: dropped while the runtime is still there.
    producer: Producer,
    core: Arc<Core>,
}

/// What to send. Zero it, set struct_size = sizeof, fill what is needed. Texts are UTF-8; everything is copied before a call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_message {
    /// sizeof(crossfade_message), set by the caller.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The payload; opaque.
    pub body: crossfade_bytes,
    /// The application's own key, to find the message by. May be absent.
    pub key: crossfade_bytes,
    /// The tag that subscriptions filter by. May be absent.
    pub tag: crossfade_bytes,
    /// Messages with the same one go to the same side and queue. May be absent.
    pub ordering_key: crossfade_bytes,
    /// Same key = same message, on either side: 1 to 128 bytes without control characters. Absent: made by the library.
    pub idempotency_key: crossfade_bytes,
    /// properties_len of them; may be NULL when that is 0.
    pub properties: *const crossfade_property,
    /// 0 to CROSSFADE_MAX_PROPERTIES.
    pub properties_len: usize,
    /// Delivered no sooner than this after the send, in milliseconds; 0: at once.
    pub deliver_after_ms: i64,
}

// SAFETY: repr(C), struct_size first; zero is NULL for the pointers, the rest are numbers.
unsafe impl Sized32 for crossfade_message {
    const FIRST_SIZE: usize = mem::size_of::<crossfade_message>();
    const NAME: &'static str = "crossfade_message";
}

/// Proof that one side has stored a message. Zero it and set struct_size = sizeof.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_receipt {
    /// sizeof(crossfade_receipt), set by the caller.
    pub struct_size: u32,
    /// The side that stored it.
    pub side: crossfade_side,
    /// The plan's revision under which it was routed.
    pub revision: u64,
    /// The broker's own id: UTF-8, NUL-terminated, cut where it is longer.
    pub message_id: [c_char; CROSSFADE_MESSAGE_ID_BYTES],
}

// SAFETY: repr(C), struct_size first; 0 is a side, the rest are numbers.
unsafe impl Sized32 for crossfade_receipt {
    const FIRST_SIZE: usize = 16 + CROSSFADE_MESSAGE_ID_BYTES;
    const NAME: &'static str = "crossfade_receipt";
}

/// Makes a producer and waits until a plan for its topic is here.
///
/// `*producer_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_producer_new(
    client: *mut crossfade_client,
    topic: *const c_char,
    timeout_ms: i64,
    producer_out: *mut *mut crossfade_producer,
) -> *mut crossfade_error {
    fallible("crossfade_producer_new", || {
        // SAFETY: the header's contract.
        let (client, topic, out) = unsafe {
            (
                borrowed(client, "client")?,
                string(topic, "topic")?,
                Out::new(producer_out, "producer_out")?,
            )
        };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let core = client.core();
        let running = core.client("producer")?;
        let producer = core
            .tasks
            .block_on("producer", timeout, running.producer(topic))
            .map_err(sends_nothing)?;
        out.write(into_raw(crossfade_producer {
            producer,
            core: Arc::clone(core),
        }));
        Ok(())
    })
}

/// Sends a message once, to one side, and returns when its broker has stored it.
///
/// `message` is read before the call returns and stays the caller's. `receipt_out` may be NULL; it is written on success only. Blocks for
/// at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS) and for no longer than the configured send timeout. Thread-safe.
/// After an error ask crossfade_error_persisted() before sending again; with CROSSFADE_PERSISTED_MAYBE use the same idempotency key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_producer_send(
    producer: *mut crossfade_producer,
    message: *const crossfade_message,
    timeout_ms: i64,
    receipt_out: *mut crossfade_receipt,
) -> *mut crossfade_error {
    fallible("crossfade_producer_send", || {
        // SAFETY: the header's contract.
        let (producer, message, out) = unsafe {
            (
                borrowed(producer, "producer")?,
                copied(&read_sized(message, "message")?)?,
                if receipt_out.is_null() {
                    None
                } else {
                    Some(SizedOut::new(receipt_out, "receipt_out")?)
                },
            )
        };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let receipt =
            producer
                .core
                .tasks
                .block_on("send", timeout, producer.producer.send(message))?;
        if let Some(out) = out {
            out.write(&crossfade_receipt {
                struct_size: 0,
                side: receipt.side.into(),
                revision: receipt.revision.0,
                message_id: text_field(&receipt.message_id),
            });
        }
        Ok(())
    })
}

/// Refuses new sends and waits until those under way have ended. The handle must still be freed.
///
/// Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_producer_close(
    producer: *mut crossfade_producer,
    timeout_ms: i64,
) -> *mut crossfade_error {
    fallible("crossfade_producer_close", || {
        // SAFETY: the header's contract.
        let producer = unsafe { borrowed(producer, "producer")? };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let closing = producer.producer.close();
        let closed = producer.core.tasks.block_on("close", timeout, closing);
        closed.map_err(sends_nothing)
    })
}

/// Frees a producer; NULL is allowed.
///
/// Does not wait for anything. From any thread, once; calls on it must have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_producer_free(producer: *mut crossfade_producer) {
    infallible((), || {
        // SAFETY: the header's contract.
        let core = unsafe { crate::handle::optional(producer) }.map(|it| Arc::clone(&it.core));
        let _inside = core.as_ref().map(|core| core.tasks.enter());
        // SAFETY: the header's contract.
        unsafe { free(producer) }
    });
}

/// # Safety
/// The header's contract holds for every pointer in it.
unsafe fn copied(from: &crossfade_message) -> Outcome<Message> {
    // SAFETY: the caller's promise, for all of them.
    let (body, key, tag, ordering_key, idempotency_key, properties) = unsafe {
        (
            from.body.bytes("message.body")?,
            from.key.text("message.key")?,
            from.tag.text("message.tag")?,
            from.ordering_key.text("message.ordering_key")?,
            from.idempotency_key.text("message.idempotency_key")?,
            properties(from)?,
        )
    };
    let mut message = Message::new(body.unwrap_or_default().to_vec());
    message.key = key.map(Into::into);
    message.tag = tag.map(Into::into);
    message.ordering_key = ordering_key.map(Into::into);
    message.idempotency_key = idempotency_key.map(IdempotencyKey::new).transpose()?;
    message.properties = properties;
    if from.deliver_after_ms != 0 {
        let delay = u64::try_from(from.deliver_after_ms).map_err(|_| {
            unusable(format!(
                "message.deliver_after_ms is {}: use 0 or more",
                from.deliver_after_ms
            ))
        })?;
        message.deliver_after = Some(std::time::Duration::from_millis(delay));
    }
    Ok(message)
}

/// # Safety
/// As [`copied`].
unsafe fn properties(from: &crossfade_message) -> Outcome<Vec<(String, String)>> {
    if from.properties_len == 0 {
        return Ok(Vec::new());
    }
    if from.properties_len > CROSSFADE_MAX_PROPERTIES {
        return Err(unusable(format!(
            "message.properties_len is {}: at most {CROSSFADE_MAX_PROPERTIES} are allowed",
            from.properties_len
        )));
    }
    if from.properties.is_null() {
        return Err(crossfade_error::null("message.properties"));
    }
    // SAFETY: not NULL, bounded; the rest is the caller's promise.
    let properties = unsafe { std::slice::from_raw_parts(from.properties, from.properties_len) };
    let mut copies = Vec::with_capacity(properties.len());
    for property in properties {
        // SAFETY: the caller's promise.
        let (name, value) = unsafe {
            (
                property.name.text("message.properties[].name")?,
                property.value.text("message.properties[].value")?,
            )
        };
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
            unusable("message.properties[].name is empty: a property has a name".into())
        })?;
        copies.push((name.into(), value.unwrap_or_default().into()));
    }
    Ok(copies)
}

/// A text in a field of fixed size, cut between characters, with its NUL.
fn text_field<const N: usize>(text: &str) -> [c_char; N] {
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut field = [0; N];
    for (place, byte) in field.iter_mut().zip(&text.as_bytes()[..end]) {
        *place = *byte as c_char;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> crossfade_message {
        crossfade_message {
            struct_size: mem::size_of::<crossfade_message>() as u32,
            reserved: 0,
            body: crossfade_bytes::ABSENT,
            key: crossfade_bytes::ABSENT,
            tag: crossfade_bytes::ABSENT,
            ordering_key: crossfade_bytes::ABSENT,
            idempotency_key: crossfade_bytes::ABSENT,
            properties: std::ptr::null(),
            properties_len: 0,
            deliver_after_ms: 0,
        }
    }

    fn refused(message: &crossfade_message) -> i32 {
        // SAFETY: every pointer is NULL or static, or refused before it is read.
        unsafe { copied(message) }.unwrap_err().number()
    }

    #[test]
    fn message_is_copied_field_by_field() {
        let properties = [crossfade_property {
            name: crossfade_bytes::of(b"colour"),
            value: crossfade_bytes::ABSENT,
        }];
        let message = crossfade_message {
            body: crossfade_bytes::of(b"\xff\0"),
            key: crossfade_bytes::of(b"k"),
            tag: crossfade_bytes::of(b"t"),
            ordering_key: crossfade_bytes::of(b"o"),
            idempotency_key: crossfade_bytes::of(b"i"),
            properties: properties.as_ptr(),
            properties_len: 1,
            deliver_after_ms: 1500,
            ..empty()
        };
        // SAFETY: static bytes, and a local array that lives longer.
        let copy = unsafe { copied(&message) }.unwrap();
        assert_eq!(&*copy.body, b"\xff\0");
        assert_eq!(copy.key.as_deref(), Some("k"));
        assert_eq!(copy.tag.as_deref(), Some("t"));
        assert_eq!(copy.ordering_key.as_deref(), Some("o"));
        assert_eq!(copy.idempotency_key.unwrap().as_str(), "i");
        assert_eq!(copy.properties, [("colour".to_owned(), String::new())]);
        assert_eq!(copy.deliver_after.unwrap().as_millis(), 1500);
        // SAFETY: nothing to read.
        let copy = unsafe { copied(&empty()) }.unwrap();
        assert!(copy.body.is_empty() && copy.key.is_none() && copy.deliver_after.is_none());
    }

    #[test]
    fn message_with_a_bad_field_is_refused() {
        let mut message = empty();
        message.tag = crossfade_bytes::of(b"\xff");
        assert_eq!(refused(&message), 103);
        message = empty();
        message.idempotency_key = crossfade_bytes::of(b"a\nb");
        assert_eq!(refused(&message), 103);
        message = empty();
        message.deliver_after_ms = -1;
        assert_eq!(refused(&message), 103);
        message = empty();
        message.properties_len = 1;
        assert_eq!(refused(&message), 100);
        message.properties_len = usize::MAX;
        assert_eq!(refused(&message), 103);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let field: [c_char; 4] = text_field("aéé");
        assert_eq!(field.map(|byte| byte as u8), [b'a', 0xc3, 0xa9, 0]);
    }
}
