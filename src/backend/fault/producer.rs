//! Sends that meet their fate.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::control::{FaultControl, MAX_DELAY, STALL_TIMEOUT, SendFate};
use crate::{
    BoxFuture,
    backend::{BackendProducer, Outgoing, Stored},
    error::{Error, ErrorKind, Persisted, Result},
};

#[derive(Debug)]
pub(super) struct FaultProducer {
    pub(super) inner: Arc<dyn BackendProducer>,
    pub(super) control: FaultControl,
}

impl FaultProducer {
    fn no_answer() -> Error {
        Error::new(
            ErrorKind::Timeout,
            "send",
            "no answer in time (fault injection)",
        )
        .with_persisted(Persisted::Maybe)
    }

    /// Stores a message after its sender has given up.
    fn store_late(&self, outgoing: Outgoing<'_>, after: Duration) {
        let inner = self.inner.clone();
        let message = outgoing.message.clone();
        let key = outgoing.idempotency_key.clone();
        let (revision, lane) = (outgoing.revision, outgoing.lane);
        tokio::spawn(async move {
            sleep(after).await;
            let outgoing = Outgoing {
                message: &message,
                idempotency_key: &key,
                revision,
                lane,
            };
            if let Err(error) = inner.send(outgoing, STALL_TIMEOUT).await {
                tracing::debug!(%error, "a late send was not stored");
            }
        });
    }
}

impl BackendProducer for FaultProducer {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let fate = self.control.fate();
            let timeout = timeout.min(MAX_DELAY);
            let deadline = Instant::now() + timeout;
            let open = timeout_at(deadline, self.control.gate()).await;
            open.map_err(|_| Self::no_answer())?;
            let left = deadline.saturating_duration_since(Instant::now());
            match fate {
                SendFate::Passed => self.inner.send(outgoing, left).await,
                SendFate::Refused => Err(Error::new(
                    ErrorKind::Unavailable,
                    "send",
                    "refused (fault injection)",
                )),
                SendFate::AnswerLost => {
                    self.inner.send(outgoing, left).await?;
                    sleep_until(deadline).await;
                    Err(Self::no_answer())
                }
                SendFate::RequestLost => {
                    sleep_until(deadline).await;
                    Err(Self::no_answer())
                }
                SendFate::Late => {
                    self.store_late(outgoing, left + self.control.late_by());
                    sleep_until(deadline).await;
                    Err(Self::no_answer())
                }
                SendFate::Duplicated => {
                    let stored = self.inner.send(outgoing, left).await?;
                    let left = deadline.saturating_duration_since(Instant::now());
                    // The first one counts; the second may fail.
                    if let Err(error) = self.inner.send(outgoing, left).await {
                        tracing::debug!(%error, "a duplicate was not stored");
                    }
                    Ok(stored)
                }
            }
        })
    }

    fn ambiguity_bound(&self) -> Duration {
        self.inner.ambiguity_bound().max(self.control.late_by())
    }
}
