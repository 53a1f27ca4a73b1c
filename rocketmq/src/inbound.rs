//! What brokers ask of clients, and what they are answered.

use std::sync::{Arc, Weak};

use crate::{
    codes::{request, response},
    connection::Listener,
    error::{Error, ErrorKind, Result},
    frame::Command,
    heartbeat::Registry,
    offset_table,
};

/// Answers what brokers ask of clients.
pub(crate) struct Inbound(Arc<Registry>);

impl Inbound {
    pub(crate) fn new(registry: &Arc<Registry>) -> Inbound {
        Inbound(Arc::clone(registry))
    }
}

impl Listener for Inbound {
    fn request(&self, address: &Arc<str>, command: &Command) -> (i32, &'static str) {
        match command.code {
            request::NOTIFY_CONSUMER_IDS_CHANGED => {
                if let Some(group) = command.fields.get("consumerGroup") {
                    self.0.members_changed(group);
                }
                (response::SUCCESS, "")
            }
            request::CHECK_TRANSACTION_STATE => {
                if !self.0.checks.ask(address, command) {
                    tracing::warn!(%address, "too many questions about transactions wait; the broker asks again");
                }
                (response::SUCCESS, "")
            }
            request::RESET_CONSUMER_CLIENT_OFFSET => match reset(&self.0, command) {
                Ok(()) => (response::SUCCESS, ""),
                Err(error) => {
                    tracing::warn!(%address, %error, "offsets are not reset");
                    (
                        response::SYSTEM_ERROR,
                        "the reset of offsets is not readable",
                    )
                }
            },
            code => {
                tracing::debug!(%address, code, "request of a broker's own not supported");
                (response::REQUEST_CODE_NOT_SUPPORTED, not_supported(code))
            }
        }
    }

    fn opened(&self, _address: &Arc<str>) {
        // A broker forgot this client with the connection before.
        self.0.wake.notify_one();
    }

    fn closed(&self, _address: &Arc<str>) {
        // Connecting again and telling the broker who we are is the heartbeat's work.
        self.0.wake.notify_one();
    }
}

/// Takes a broker's `RESET_CONSUMER_CLIENT_OFFSET`. Groups and topics that nobody here reads are passed over.
///
/// # Errors
/// [`ErrorKind::Protocol`] for what cannot be read; nothing has changed.
fn reset(registry: &Registry, command: &Command) -> Result<()> {
    let name = |field| {
        let why = format!("a reset of offsets does not name its {field}");
        let value = command.fields.get(field);
        value.ok_or_else(|| Error::new(ErrorKind::Protocol, why))
    };
    let (group, topic) = (name("group")?, name("topic")?);
    let Some(member) = registry.members().get(group).and_then(Weak::upgrade) else {
        tracing::debug!(group, "a reset of offsets of a group that is not here");
        return Ok(());
    };
    let offsets = offset_table::parse(&command.body)?;
    tracing::info!(
        group,
        topic,
        queues = offsets.len(),
        "an administrator sets offsets"
    );
    member.reset(topic, offsets);
    Ok(())
}

/// Administrators read it: brokers pass it on (`AdminBrokerProcessor.callConsumer`).
fn not_supported(code: i32) -> &'static str {
    match code {
        request::GET_CONSUMER_RUNNING_INFO => {
            "this client (crossfade-rocketmq) does not tell its running info (GET_CONSUMER_RUNNING_INFO, 307): not supported"
        }
        request::CONSUME_MESSAGE_DIRECTLY => {
            "this client (crossfade-rocketmq) does not handle a single message on demand (CONSUME_MESSAGE_DIRECTLY, 309): not supported"
        }
        request::GET_CONSUMER_STATUS_FROM_CLIENT => {
            "this client (crossfade-rocketmq) does not tell its offsets (GET_CONSUMER_STATUS_FROM_CLIENT, 221): not supported; the brokers know what is committed"
        }
        _ => "this client (crossfade-rocketmq) does not support the request",
    }
}
