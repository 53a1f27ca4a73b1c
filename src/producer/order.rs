//! What a send with an ordering key owes to order.

use tokio::time::Instant;

use crate::{
    control::Contact,
    error::{Error, ErrorKind, Result},
    message::Message,
    side::Revision,
};

/// The lease session in which an ordered send was routed.
///
/// A process that was out of contact may have been taken for gone, and its keys moved: what it has stored on the side that they left is not in order
/// any more. So a success counts only within the session that routed it; else the message is stored once more, under the plan of the new contact and the
/// same idempotency key, and consumers drop one of the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session(u64);

impl Session {
    pub(super) fn of(contact: &Contact) -> Self {
        Session(contact.session())
    }

    /// Whether there was no contact yet.
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it still is the same, and its lease in force.
    pub(super) fn stands(self, contact: &Contact) -> bool {
        contact.session() == self.0 && contact.check("send").is_ok()
    }
}

/// Waits for the first contact: a plan from disk may be from before a move, and no seal stands in the way of an ordered send.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when there was none until the deadline: nothing was sent.
pub(super) async fn await_contact(contact: &Contact, deadline: Instant) -> Result<()> {
    let mut changes = contact.changes();
    while Session::of(contact).is_none() {
        let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "send",
                "no contact with the control plane since this process started: an ordered topic takes no sends before, because its keys may have moved",
            ));
        }
    }
    Ok(())
}

/// The end of a send that was held for too long.
pub(super) fn held(topic: &str, revision: Revision) -> Error {
    Error::new(
        ErrorKind::Timeout,
        "send",
        format!(
            "topic {topic}: the ordering key is changing sides since revision {revision}, and the next plan did not come in time; nothing was sent"
        ),
    )
}

/// What an ordered topic cannot carry in order.
///
/// # Errors
/// [`ErrorKind::InvalidMessage`] for a delayed message: it comes at its time, whatever was sent before or after it.
pub(super) fn check(message: &Message) -> Result<()> {
    if message.deliver_after.is_none() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidMessage,
        "send",
        "an ordered topic carries no delayed messages: send it to another topic, or without a delay",
    ))
}
