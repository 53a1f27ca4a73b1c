//! Half messages, and how their transactions end.

use std::{sync::Arc, time::Duration};

use super::{Outgoing, Producer, SendResult, StoreStatus};
use crate::{
    codes::{message_flag, request},
    connection::expect_success,
    error::{Error, ErrorKind, Persisted, Result},
    frame::Request,
    message::{Message, property, push},
    transaction::{TransactionChecker, TransactionEnd},
};

/// A message that nobody reads before its transaction is committed.
#[derive(Clone, Debug)]
pub struct HalfMessage {
    /// How the broker keeps it. The offset is that in the broker's own queue of half messages.
    pub sent: SendResult,
    message_id: Box<str>,
    /// The master that has it, when it was sent.
    address: Arc<str>,
    commit_log_offset: u64,
}

impl HalfMessage {
    /// The unique id that the message carries.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }
}

impl Producer {
    /// Stores a message that nobody reads before [`Self::end_transaction`] commits it. Tried again as [`Self::send`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a delayed message; [`ErrorKind::Protocol`] when the broker's answer does not say where the message lies: it
    /// is stored, and the broker asks how its transaction ended; [`ErrorKind::Unavailable`] when the broker could not keep it as safely as it is configured
    /// to, which ends in a rollback as with Java's client (`DefaultMQProducerImpl.sendMessageInTransaction`); as [`Self::send`].
    ///
    /// # Cancellation
    /// The half message may or may not be stored; the broker asks for its end.
    pub async fn send_half(
        &self,
        message: &Message,
        lane: u64,
        timeout: Duration,
    ) -> Result<HalfMessage> {
        if message.is_delayed() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "brokers deliver the message of a transaction as soon as it is committed: it cannot be delayed",
            ));
        }
        let mut half = message.clone();
        push(&mut half.properties, property::TRAN_MSG, "true");
        push(&mut half.properties, property::PGROUP, &self.group);
        self.check(&half)?;
        let outgoing = Outgoing {
            code: request::SEND_MESSAGE_V2,
            sys_flag: message_flag::TRANSACTION_PREPARED,
            properties: &half.properties,
            body: &half.body,
        };
        let answer = self.deliver(&outgoing, lane, timeout).await;
        let answer = answer.inspect_err(|error| {
            if error.persisted() != Persisted::No {
                self.client
                    .registry()
                    .checks
                    .may_be_copied(message.unique_id());
            }
        })?;
        let address = Arc::clone(&answer.address);
        let sent = answer.into_result();
        let Some(commit_log_offset) = sent.offset_message_id.commit_log_offset() else {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!(
                    "the broker's id {:?} does not say where the half message lies",
                    sent.offset_message_id
                ),
            )
            .with_persisted(Persisted::Maybe)
            .with_address(&address));
        };
        let half = HalfMessage {
            sent,
            message_id: message.unique_id().into(),
            address,
            commit_log_offset,
        };
        if half.sent.status == StoreStatus::Ok {
            return Ok(half);
        }
        // What is lost before its end leaves nothing to commit.
        if let Err(error) = self
            .end_transaction(&half, TransactionEnd::Rollback, timeout)
            .await
        {
            tracing::info!(%error, "the broker has to ask for the rollback");
        }
        let why = format!(
            "the broker keeps the half message less safely than it is configured to ({:?}): it was rolled back, and no transaction should hang on it",
            half.sent.status
        );
        Err(Error::new(ErrorKind::Unavailable, why).with_address(&half.address))
    }

    /// Ends the transaction of a message that this producer sent. [`TransactionEnd::Unknown`] is told and not answered. A second end is not harmless: a
    /// broker delivers a message once for each commit that it takes.
    ///
    /// # Errors
    /// The broker's refusal; [`ErrorKind::Timeout`] and [`ErrorKind::Unavailable`] when it may not have heard: it asks.
    ///
    /// # Cancellation
    /// Ended or not; the broker asks.
    pub async fn end_transaction(
        &self,
        half: &HalfMessage,
        end: TransactionEnd,
        timeout: Duration,
    ) -> Result<()> {
        let place = Place {
            topic: &self.entry.topic,
            group: &self.group,
            broker: &half.sent.broker,
            queue_offset: half.sent.offset,
            commit_log_offset: half.commit_log_offset,
            message_id: &half.message_id,
        };
        let request = place.end(end, false);
        // A broker that was started anew may have another address.
        let routed = self.entry.routed();
        let address = routed.route.master(&half.sent.broker);
        let address = address.unwrap_or(&half.address);
        if end == TransactionEnd::Unknown {
            self.client.oneway(address, request);
            return Ok(());
        }
        let command = self.client.invoke(address, request, timeout).await?;
        let operation = format!("the end of a transaction in topic {}", self.entry.topic);
        expect_success(command, address, &operation)
            .map_err(|error| error.with_right(request::END_TRANSACTION))?;
        self.client.registry().checks.ended(&half.message_id, end);
        Ok(())
    }

    /// Who answers when a broker asks how a transaction of this producer's group and topic ended, also one of another process of the group; until
    /// this client's last producer of both is dropped. Another one takes its place.
    pub fn set_checker(&self, checker: Arc<dyn TransactionChecker>) {
        self.client
            .registry()
            .set_checker(&self.group, &self.entry.topic, checker);
    }
}

/// Where a half message lies; `EndTransactionRequestHeader.java`.
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) broker: &'a str,
    pub(crate) queue_offset: u64,
    pub(crate) commit_log_offset: u64,
    pub(crate) message_id: &'a str,
}

impl Place<'_> {
    /// `asked`: the broker has asked for it.
    pub(crate) fn end(&self, end: TransactionEnd, asked: bool) -> Request {
        Request::new(request::END_TRANSACTION)
            // 5.x asks for the right on it; 4.9 does not know the field.
            .text("topic", self.topic)
            .text("producerGroup", self.group)
            .field("tranStateTableOffset", self.queue_offset)
            .field("commitLogOffset", self.commit_log_offset)
            .field("commitOrRollback", end.flag())
            .field("fromTransactionCheck", asked)
            .text("msgId", self.message_id)
            .text("transactionId", self.message_id)
            .text("bname", self.broker)
    }
}
