//! A transactional producer's part: half messages, their ends, and the cluster's questions.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    cluster::{Cluster, Stamp, unknown},
    topic::{Record, Refused, Topic},
};
use crate::{
    backend::{HalfMessage, Stored, TransactionChecker, TransactionEnd},
    error::{Error, ErrorKind, Result},
    message::Message,
};

/// How long a checker may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What [`HalfMessage::reference`] is.
#[derive(Debug)]
struct Reference {
    topic: Arc<Topic>,
    id: u64,
}

impl Cluster {
    /// Checks a message and stores it as a half one.
    pub(super) fn store_half(
        &self,
        topic: &Arc<Topic>,
        message: &Message,
        stamp: Stamp<'_>,
        lane: u64,
    ) -> Result<HalfMessage> {
        if message.deliver_after.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidMessage,
                "send a half message",
                "the message of a transaction cannot be delayed",
            ));
        }
        let record = Arc::new(self.record(message, stamp)?);
        let (id, bytes) = (record.id, record.bytes);
        let queue = topic.append_half(lane, record, &self.config);
        let queue = queue.map_err(|refused| self.refused(topic, refused, bytes))?;
        Ok(HalfMessage {
            stored: Stored {
                message_id: self.message_id(id),
                queue: self.queue_id(queue),
                offset: None,
            },
            reference: Arc::new(Reference {
                topic: Arc::clone(topic),
                id,
            }),
        })
    }

    /// Ends the transaction of a half message.
    pub(super) fn end_half(&self, half: &HalfMessage, end: TransactionEnd) -> Result<()> {
        const OPERATION: &str = "end a transaction";
        let reference: Option<&Reference> = half.reference.downcast_ref();
        let Some(Reference { topic, id }) = reference else {
            return Err(Error::new(
                ErrorKind::InvalidMessage,
                OPERATION,
                "the half message is not one of an embedded cluster's",
            ));
        };
        match self.end(topic, *id, end) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(
                ErrorKind::NotFound,
                OPERATION,
                "the transaction has its end already: the cluster asked for it",
            )),
            Err(Refused::Deleted | Refused::Sealed) => {
                Err(unknown("topic", &topic.name, OPERATION))
            }
        }
    }

    /// Whether the transaction was still open.
    fn end(
        &self,
        topic: &Topic,
        id: u64,
        end: TransactionEnd,
    ) -> std::result::Result<bool, Refused> {
        match end {
            TransactionEnd::Commit => topic.commit_half(id),
            TransactionEnd::Rollback => {
                let bytes = topic.halves.take(id, |half| half.record.bytes);
                self.remove_bytes(bytes.unwrap_or(0));
                Ok(bytes.is_some())
            }
            TransactionEnd::Unknown => Ok(true),
        }
    }

    /// The message as its consumers will see it.
    fn checked(&self, record: &Record) -> Message {
        let mut message = record.message.clone();
        if message.idempotency_key.is_none() {
            let id = self.message_id(record.id);
            message.idempotency_key = crate::message::IdempotencyKey::new(id).ok();
        }
        message
    }
}

/// Answers the cluster's questions about a topic's half messages, whoever sent them; ends with the handle.
#[derive(Debug)]
pub(super) struct Answering {
    task: AbortHandle,
}

impl Answering {
    pub(super) fn start(
        cluster: Arc<Cluster>,
        topic: Arc<Topic>,
        checker: Arc<dyn TransactionChecker>,
    ) -> Self {
        let task = tokio::spawn(answer(cluster, topic, checker));
        Answering {
            task: task.abort_handle(),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(cluster: Arc<Cluster>, topic: Arc<Topic>, checker: Arc<dyn TransactionChecker>) {
    loop {
        // Before the look, so that no change is missed.
        let changed = topic.halves.changed.notified();
        if let Some(record) = topic.halves.ask(Instant::now(), &cluster.config) {
            let message = cluster.checked(&record);
            let end = timeout(CHECK_TIMEOUT, checker.check(&message)).await;
            let end = end.unwrap_or(TransactionEnd::Unknown);
            // Deleted meanwhile, or ended by its producer: nothing is left to do.
            let _ = cluster.end(&topic, record.id, end);
            continue;
        }
        match topic.halves.next_due() {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = changed => {}
            },
            None => changed.await,
        }
    }
}
