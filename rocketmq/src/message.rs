//! Messages on their way out and as the brokers store them (apache/rocketmq `MessageDecoder.java`, `MessageConst.java`).

mod body;
mod decode;
mod delay;
mod offset_id;
mod unique_id;

use std::fmt::Write as _;

use bytes::Bytes;

pub use decode::{Decoded, ReceivedMessage, decode};
pub(crate) use decode::{RETRY_PREFIX, Skimmed, skim};
pub use delay::DelayLevel;
pub use offset_id::OffsetMessageId;
use unique_id::push_unique_id;
pub use unique_id::unique_id;

use crate::error::{Error, ErrorKind, Result};

/// Names of properties that the protocol gives a meaning.
#[allow(missing_docs)]
pub mod property {
    pub const KEYS: &str = "KEYS";
    pub const TAGS: &str = "TAGS";
    pub const DELAY: &str = "DELAY";
    pub const UNIQ_KEY: &str = "UNIQ_KEY";
    pub const TRAN_MSG: &str = "TRAN_MSG";
    pub const PGROUP: &str = "PGROUP";
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    pub const REAL_TOPIC: &str = "REAL_TOPIC";
    pub const REAL_QID: &str = "REAL_QID";
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
}

/// Every name that brokers or clients set by themselves; applications may not.
const RESERVED: [&str; 44] = [
    "KEYS",
    "TAGS",
    "WAIT",
    "DELAY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    "TRAN_MSG",
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    "MSG_REGION",
    "TRACE_ON",
    "UNIQ_KEY",
    "EXTEND_UNIQ_INFO",
    "MAX_RECONSUME_TIMES",
    "CONSUME_START_TIME",
    "INNER_NUM",
    "INNER_BASE",
    "DUP_INFO",
    "TRANSACTION_CHECK_TIMES",
    "CLUSTER",
    "POP_CK",
    "POP_CK_OFFSET",
    "1ST_POP_TIME",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DELAY_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "TIMER_ROLL_TIMES",
    "TIMER_OUT_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DELAY_LEVEL",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "DLQ_ORIGIN_TOPIC",
    "DLQ_ORIGIN_MESSAGE_ID",
    "__transactionId__",
];

/// Whether the name is the protocol's own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

const NAME_END: char = '\u{1}';
const VALUE_END: char = '\u{2}';

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) body: Bytes,
    /// As it goes over the wire. The unique id comes first.
    pub(crate) properties: String,
}

impl Message {
    /// A message with a body and a unique id of its own.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Message::with(body, push_unique_id)
    }

    /// A message with a body and the unique id of an earlier try, from [`unique_id`]: tools and consumers that tell messages by it see one message, as after a
    /// retry of Java's client.
    #[must_use]
    pub fn with_id(body: Bytes, unique_id: &str) -> Self {
        Message::with(body, |properties| properties.push_str(unique_id))
    }

    fn with(body: Bytes, push_id: impl FnOnce(&mut String)) -> Self {
        let mut properties = String::with_capacity(160);
        properties.push_str(property::UNIQ_KEY);
        properties.push(NAME_END);
        push_id(&mut properties);
        properties.push(VALUE_END);
        Message { body, properties }
    }

    /// The id that it was made with.
    #[must_use]
    pub fn unique_id(&self) -> &str {
        pairs(&self.properties).next().map_or("", |(_, id)| id)
    }

    /// Sets the tag that subscriptions filter by.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is empty or has U+0001, U+0002 or `|`.
    pub fn tag(mut self, tag: &str) -> Result<Self> {
        if tag.is_empty() || tag.contains('|') {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the tag {tag:?} is empty or has a '|'"),
            ));
        }
        check("tag", tag)?;
        push(&mut self.properties, property::TAGS, tag);
        Ok(self)
    }

    /// Sets the keys to find the message by, separated by blanks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when they have U+0001 or U+0002.
    pub fn keys(mut self, keys: &str) -> Result<Self> {
        check("keys", keys)?;
        push(&mut self.properties, property::KEYS, keys);
        Ok(self)
    }

    /// Adds a property.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the name is empty or [reserved](is_reserved), or name or value has U+0001 or U+0002.
    pub fn property(mut self, name: &str, value: &str) -> Result<Self> {
        if name.is_empty() || is_reserved(name) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the property name {name:?} is empty or reserved by RocketMQ"),
            ));
        }
        check("property name", name)?;
        check("property value", value)?;
        push(&mut self.properties, name, value);
        Ok(self)
    }

    /// Delays the delivery.
    #[must_use]
    pub fn delay(mut self, level: DelayLevel) -> Self {
        // Writing to a `String` cannot fail.
        let _ = write!(
            self.properties,
            "{}{NAME_END}{}{VALUE_END}",
            property::DELAY,
            level.get()
        );
        self
    }

    /// Delays the delivery by any time, in milliseconds: a timer of RocketMQ 5. Brokers keep times in steps of a second by default (`timerPrecisionMs`), so it
    /// may come up to a second early, and refuse more than three days (`timerMaxDelaySec`). **Brokers of 4.9 deliver the message at once**: they do
    /// not know the property (apache/rocketmq `HookUtils.java`). A [level](Self::delay) besides takes its place.
    #[must_use]
    pub fn timer(mut self, delay: std::time::Duration) -> Self {
        let millis = delay.as_millis();
        // Writing to a `String` cannot fail.
        let _ = write!(
            self.properties,
            "{}{NAME_END}{millis}{VALUE_END}",
            property::TIMER_DELAY_MS
        );
        self
    }

    /// Whether it is to be delivered later than at once.
    pub(crate) fn is_delayed(&self) -> bool {
        let mut pairs = pairs(&self.properties);
        pairs.any(|(name, _)| [property::DELAY, property::TIMER_DELAY_MS].contains(&name))
    }
}

fn check(what: &str, text: &str) -> Result<()> {
    if text.contains([NAME_END, VALUE_END]) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the {what} {text:?} has U+0001 or U+0002, which separate properties on the wire"
            ),
        ));
    }
    Ok(())
}

pub(crate) fn push(properties: &mut String, name: &str, value: &str) {
    properties.push_str(name);
    properties.push(NAME_END);
    properties.push_str(value);
    properties.push(VALUE_END);
}

/// The pairs of a property text. The last separator may be missing.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(VALUE_END)
        .filter_map(|pair| pair.split_once(NAME_END))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_back_as_written() {
        let message = Message::new(Bytes::from_static(b"x"))
            .tag("t")
            .and_then(|m| m.keys("k1 k2"))
            .and_then(|m| m.property("ключ", "=\n|"))
            .unwrap()
            .delay(DelayLevel::at_least(std::time::Duration::from_secs(2)));
        let read: Vec<_> = pairs(&message.properties).collect();
        assert_eq!(
            read,
            [
                ("UNIQ_KEY", message.unique_id()),
                ("TAGS", "t"),
                ("KEYS", "k1 k2"),
                ("ключ", "=\n|"),
                ("DELAY", "2")
            ]
        );
        let unfinished = message.properties.trim_end_matches(VALUE_END);
        assert_eq!(pairs(unfinished).count(), 5);
    }

    #[test]
    fn forbidden_characters_and_names_are_refused() {
        let message = || Message::new(Bytes::new());
        for result in [
            message().tag(""),
            message().tag("a|b"),
            message().tag("a\u{1}"),
            message().keys("\u{2}"),
            message().property("", "v"),
            message().property("UNIQ_KEY", "v"),
            message().property("a\u{1}b", "v"),
            message().property("a", "\u{2}"),
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
