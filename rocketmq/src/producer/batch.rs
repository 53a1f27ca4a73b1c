//! Several messages in one request.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Answer, Outgoing, Producer, SendResult};
use crate::{
    codes::request,
    error::{Error, ErrorKind, Result},
    message::{Message, OffsetMessageId},
};

impl Producer {
    /// Sends several messages to the queue that `lane` picks, where they lie one after the other: all are stored or none is. The results are in
    /// the order of the messages. Tried again as [`Self::send`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for no message at all and for a delayed one, [`ErrorKind::TooLarge`] where their bodies and properties together are
    /// above [`max_body_bytes`](super::ProducerOptions::max_body_bytes); as [`Self::send`].
    ///
    /// # Cancellation
    /// All may be stored or none.
    pub async fn send_batch(
        &self,
        messages: &[Message],
        lane: u64,
        timeout: Duration,
    ) -> Result<Vec<SendResult>> {
        let body = self.encode_batch(messages)?;
        let outgoing = Outgoing {
            code: request::SEND_BATCH_MESSAGE,
            sys_flag: 0,
            // Brokers append them to those of each message. An id of the batch's own would be a second one in each.
            properties: "",
            body: &body,
        };
        let answer = self.deliver(&outgoing, lane, timeout).await?;
        Ok(results(&answer, messages.len()))
    }

    fn encode_batch(&self, messages: &[Message]) -> Result<Bytes> {
        if messages.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a batch without a message cannot be sent",
            ));
        }
        for message in messages {
            self.check(message)?;
            if message.is_delayed() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "brokers deliver the messages of a batch at once: send a delayed one by itself",
                ));
            }
        }
        let (bytes, limit) = (
            messages.iter().map(encoded_length).sum::<usize>(),
            self.options.max_body_bytes,
        );
        // Brokers hold the batch against their limit for one body.
        if bytes > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the batch has {bytes} bytes with its properties; at most {limit} are allowed: send it in parts"
                ),
            ));
        }
        let mut out = BytesMut::with_capacity(bytes);
        for message in messages {
            encode(&mut out, message);
        }
        Ok(out.freeze())
    }
}

/// Length, magic number, checksum, flag, length of the body; length of the properties.
const FIXED: usize = 5 * 4 + 2;

fn encoded_length(message: &Message) -> usize {
    FIXED + message.body.len() + message.properties.len()
}

/// `MessageDecoder.encodeMessage`: magic number, checksum and flag are the broker's to fill in. Lengths were checked before.
fn encode(out: &mut BytesMut, message: &Message) {
    out.put_u32(encoded_length(message) as u32);
    out.put_bytes(0, 12);
    out.put_u32(message.body.len() as u32);
    out.put_slice(&message.body);
    out.put_u16(message.properties.len() as u16);
    out.put_slice(message.properties.as_bytes());
}

/// The broker names the first one's place and all ids.
fn results(answer: &Answer, count: usize) -> Vec<SendResult> {
    let mut ids = answer.ids().split(',');
    let result = |index: usize| SendResult {
        status: answer.status,
        offset_message_id: OffsetMessageId::new(ids.next().unwrap_or_default()),
        broker: Arc::clone(&answer.broker),
        queue: answer.queue,
        offset: answer.offset + index as u64,
    };
    (0..count).map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_batch_is_written_as_java_writes_it() {
        let message = Message {
            body: Bytes::from_static(b"hi"),
            properties: "K\u{1}v\u{2}".to_owned(),
        };
        let mut out = BytesMut::new();
        encode(&mut out, &message);
        let expected: &[u8] = &[
            0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 0, 4, b'K', 1,
            b'v', 2,
        ];
        assert_eq!(&out[..], expected);
        assert_eq!(out.len(), encoded_length(&message));
    }
}
