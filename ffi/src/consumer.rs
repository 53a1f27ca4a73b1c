//! Receiving, ack and nack.

use std::{
    ffi::c_char,
    mem, ptr,
    sync::{Arc, Weak},
    time::Duration,
};

use sdk::{Consumer, Delivery, Error, ErrorKind, backend::Subscription};

use crate::{
    bytes::{crossfade_bytes, crossfade_property},
    client::{Core, crossfade_client},
    error::{crossfade_error, crossfade_side},
    guard::{Outcome, fallible, infallible},
    handle::{Out, Sized32, SizedOut, borrowed, free, into_raw, invalid, optional, string},
    runtime::{milliseconds, sends_nothing},
};

/// The most messages of one batch.
pub const CROSSFADE_MAX_BATCH: usize = 10_000;
/// What a receive may take longer than asked, so that its own end comes first.
const SLACK: Duration = Duration::from_millis(100);

/// Receives one topic for one group. Owned by the caller; freed with crossfade_consumer_free(), before or after its client.
///
/// Thread safety: every function may be called from any thread at any time, receive included; only crossfade_consumer_free() must be
/// the last one.
#[derive(Debug)]
pub struct crossfade_consumer {
    // Before `core`: dropped while the runtime is still there.
    consumer: Arc<Consumer>,
    core: Arc<Core>,
}

/// Messages of one receive. Owned by the caller; freed with crossfade_batch_free(), before or after its consumer. Freeing it acks nothing.
///
/// Thread safety: immutable, any thread may read it.
#[derive(Debug)]
pub struct crossfade_batch {
    deliveries: Vec<Delivery>,
    properties: Vec<Vec<crossfade_property>>,
    /// Tells a batch of another consumer, whose deliveries have other tokens.
    consumer: Weak<Consumer>,
}

/// A message to be acked or nacked. Zero it and set struct_size = sizeof. Its bytes belong to the batch and live as long.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct crossfade_delivery {
    /// sizeof(crossfade_delivery), set by the caller.
    pub struct_size: u32,
    /// The side it came from.
    pub side: crossfade_side,
    /// 1 for the first delivery to the group, one more after each failed one.
    pub attempt: u32,
    /// 0.
    pub reserved: u32,
    /// The plan's revision under which it was routed; 0 from a producer that does not use this library.
    pub revision: u64,
    /// The broker's own id.
    pub message_id: crossfade_bytes,
    /// Same key = same message, on either side. Always there.
    pub idempotency_key: crossfade_bytes,
    /// The payload.
    pub body: crossfade_bytes,
    /// The application's own key. May be absent.
    pub key: crossfade_bytes,
    /// The tag. May be absent.
    pub tag: crossfade_bytes,
    /// properties_len of them; the names are not sorted.
    pub properties: *const crossfade_property,
    /// 0 and more.
    pub properties_len: usize,
}

// SAFETY: repr(C), struct_size first; 0 is a side, zero is NULL for the pointers, the rest are numbers.
unsafe impl Sized32 for crossfade_delivery {
    const FIRST_SIZE: usize = mem::size_of::<crossfade_delivery>();
    const NAME: &'static str = "crossfade_delivery";
}

/// Joins a group and waits until a plan for the topic is here. `tags`: only messages with one of these, separated by "||"; NULL for all.
///
/// `*consumer_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_new(
    client: *mut crossfade_client,
    topic: *const c_char,
    group: *const c_char,
    tags: *const c_char,
    timeout_ms: i64,
    consumer_out: *mut *mut crossfade_consumer,
) -> *mut crossfade_error {
    fallible("crossfade_consumer_new", || {
        // SAFETY: the header's contract.
        let (client, topic, group, tags, out) = unsafe {
            (
                borrowed(client, "client")?,
                string(topic, "topic")?,
                string(group, "group")?,
                if tags.is_null() {
                    None
                } else {
                    Some(string(tags, "tags")?)
                },
                Out::new(consumer_out, "consumer_out")?,
            )
        };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let mut subscription = Subscription::new(topic, group);
        if let Some(tags) = tags {
            subscription = subscription.with_tags(tags);
        }
        let core = client.core();
        let running = core.client("consumer")?;
        let consumer = core
            .tasks
            .block_on("consumer", timeout, running.consumer(subscription))
            .map_err(sends_nothing)?;
        out.write(into_raw(crossfade_consumer {
            consumer: Arc::new(consumer),
            core: Arc::clone(core),
        }));
        Ok(())
    })
}

/// At most `max` (1 to CROSSFADE_MAX_BATCH) messages from both sides in turn, as soon as there is one. Each is to be acked or nacked.
///
/// `*batch_out` is written on success only: NULL when nothing came within timeout_ms, else a batch that the caller owns.
/// Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_receive(
    consumer: *mut crossfade_consumer,
    max: usize,
    timeout_ms: i64,
    batch_out: *mut *mut crossfade_batch,
) -> *mut crossfade_error {
    fallible("crossfade_consumer_receive", || {
        // SAFETY: the header's contract.
        let (consumer, out) = unsafe {
            (
                borrowed(consumer, "consumer")?,
                Out::new(batch_out, "batch_out")?,
            )
        };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        if !(1..=CROSSFADE_MAX_BATCH).contains(&max) {
            return Err(invalid(format!(
                "max is {max}: use 1 to {CROSSFADE_MAX_BATCH}"
            )));
        }
        let receiving = consumer.consumer.receive(max, timeout);
        let deliveries = consumer
            .core
            .tasks
            .block_on("receive", timeout + SLACK, receiving)
            .map_err(sends_nothing)?;
        out.write(if deliveries.is_empty() {
            ptr::null_mut()
        } else {
            into_raw(crossfade_batch::new(deliveries, &consumer.consumer))
        });
        Ok(())
    })
}

impl crossfade_batch {
    fn new(deliveries: Vec<Delivery>, consumer: &Arc<Consumer>) -> Self {
        let views = |delivery: &Delivery| {
            let properties = delivery.message.properties.iter();
            let view = |(name, value): &(String, String)| crossfade_property {
                name: crossfade_bytes::of(name.as_bytes()),
                value: crossfade_bytes::of(value.as_bytes()),
            };
            properties.map(view).collect()
        };
        crossfade_batch {
            properties: deliveries.iter().map(views).collect(),
            deliveries,
            consumer: Arc::downgrade(consumer),
        }
    }

    fn delivery(&self, index: usize) -> Outcome<&Delivery> {
        self.deliveries.get(index).ok_or_else(|| {
            invalid(format!(
                "index is {index}: the batch has {} messages",
                self.deliveries.len()
            ))
        })
    }

    fn delivery_of(&self, consumer: &Arc<Consumer>, index: usize) -> Outcome<&Delivery> {
        if !ptr::eq(self.consumer.as_ptr(), Arc::as_ptr(consumer)) {
            return Err(Error::new(
                ErrorKind::StaleDelivery,
                "ack",
                "the batch came from another consumer: ack on the one that received it",
            )
            .into());
        }
        self.delivery(index)
    }
}

/// How many messages a batch has; 0 for NULL.
///
/// Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_batch_len(batch: *const crossfade_batch) -> usize {
    infallible(0, || {
        // SAFETY: the header's contract.
        unsafe { optional(batch) }.map_or(0, |batch| batch.deliveries.len())
    })
}

/// One message of a batch; `index` begins with 0.
///
/// CROSSFADE_INVALID_CONFIG: the batch has no such index. `*delivery_out` is written on success only; its bytes belong to the batch. Does not block. Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_batch_get(
    batch: *const crossfade_batch,
    index: usize,
    delivery_out: *mut crossfade_delivery,
) -> *mut crossfade_error {
    fallible("crossfade_batch_get", || {
        // SAFETY: the header's contract.
        let (batch, out) = unsafe {
            (
                borrowed(batch, "batch")?,
                SizedOut::new(delivery_out, "delivery_out")?,
            )
        };
        let delivery = batch.delivery(index)?;
        let message = &delivery.message;
        let properties = &batch.properties[index];
        let key = message.idempotency_key.as_ref();
        out.write(&crossfade_delivery {
            struct_size: 0,
            side: delivery.side.into(),
            attempt: delivery.attempt,
            reserved: 0,
            revision: delivery.revision.map_or(0, |revision| revision.0),
            message_id: crossfade_bytes::of(delivery.message_id.as_bytes()),
            idempotency_key: crossfade_bytes::of_optional(key.map(|key| key.as_str())),
            body: crossfade_bytes::of(&message.body),
            key: crossfade_bytes::of_optional(message.key.as_deref()),
            tag: crossfade_bytes::of_optional(message.tag.as_deref()),
            properties: properties.as_ptr(),
            properties_len: properties.len(),
        });
        Ok(())
    })
}

/// The handler succeeded: the message is done for this group. After a timeout it may or may not be; acking again is safe.
///
/// CROSSFADE_STALE_DELIVERY: this consumer no longer owns it, and it may be handled again. `consumer` must be the one that received the
/// batch. CROSSFADE_INVALID_CONFIG: the batch has no such index. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_ack(
    consumer: *mut crossfade_consumer,
    batch: *const crossfade_batch,
    index: usize,
    timeout_ms: i64,
) -> *mut crossfade_error {
    fallible("crossfade_consumer_ack", || {
        // SAFETY: the header's contract.
        let (consumer, batch) =
            unsafe { (borrowed(consumer, "consumer")?, borrowed(batch, "batch")?) };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let delivery = batch.delivery_of(&consumer.consumer, index)?;
        let acking = consumer.consumer.ack(delivery);
        let acked = consumer.core.tasks.block_on("ack", timeout, acking);
        acked.map_err(sends_nothing)
    })
}

/// The handler failed: the message comes again after about redeliver_after_ms (0 to CROSSFADE_MAX_TIMEOUT_MS; brokers round it up).
///
/// CROSSFADE_STALE_DELIVERY: this consumer no longer owns it. `consumer` must be the one that received the batch. CROSSFADE_INVALID_CONFIG:
/// the batch has no such index. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_nack(
    consumer: *mut crossfade_consumer,
    batch: *const crossfade_batch,
    index: usize,
    redeliver_after_ms: i64,
    timeout_ms: i64,
) -> *mut crossfade_error {
    fallible("crossfade_consumer_nack", || {
        // SAFETY: the header's contract.
        let (consumer, batch) =
            unsafe { (borrowed(consumer, "consumer")?, borrowed(batch, "batch")?) };
        let delay = milliseconds(redeliver_after_ms, "redeliver_after_ms")?;
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let delivery = batch.delivery_of(&consumer.consumer, index)?;
        let nacking = consumer.consumer.nack(delivery, delay);
        let nacked = consumer.core.tasks.block_on("nack", timeout, nacking);
        nacked.map_err(sends_nothing)
    })
}

/// Stops receiving, waits for what was handed out to be acked or nacked (from other threads), commits, and leaves the group.
/// The handle must still be freed.
///
/// Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS); after CROSSFADE_TIMEOUT the closing goes on until the handle is freed.
/// Thread-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_close(
    consumer: *mut crossfade_consumer,
    timeout_ms: i64,
) -> *mut crossfade_error {
    fallible("crossfade_consumer_close", || {
        // SAFETY: the header's contract.
        let consumer = unsafe { borrowed(consumer, "consumer")? };
        let timeout = milliseconds(timeout_ms, "timeout_ms")?;
        let closing = consumer.consumer.close();
        let closed = consumer.core.tasks.block_on("close", timeout, closing);
        closed.map_err(sends_nothing)
    })
}

/// Frees a batch; NULL is allowed. What was not acked or nacked stays outstanding until its consumer ends.
///
/// Does not block. From any thread, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_batch_free(batch: *mut crossfade_batch) {
    // SAFETY: the header's contract.
    infallible((), || unsafe { free(batch) });
}

/// Frees a consumer; NULL is allowed. Without crossfade_consumer_close() or crossfade_client_shutdown() before it, this is what a crash
/// is: what was handed out and not acked is delivered again to others.
///
/// Does not wait for anything. From any thread, once; calls on it must have returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crossfade_consumer_free(consumer: *mut crossfade_consumer) {
    infallible((), || {
        // SAFETY: the header's contract.
        let core = unsafe { optional(consumer) }.map(|it| Arc::clone(&it.core));
        let _inside = core.as_ref().map(|core| core.tasks.enter());
        // SAFETY: the header's contract.
        unsafe { free(consumer) }
    });
}
