//! What each call meets: delays, stalls, and the fates of sends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    control::{FaultControl, MAX_DELAY, STALL_TIMEOUT, SendFate},
    layer::Layer,
};
use crate::{
    BoxFuture,
    backend::{AckToken, BackendConsumer, BackendProducer, Incoming, Outgoing, Stored, Unreadable},
    error::{Error, ErrorKind, Persisted, Result},
};

impl Layer for FaultControl {
    fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            self.bounded_gate(operation).await?;
            call.await
        })
    }

    fn send<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let fate = self.fate();
            let timeout = timeout.min(MAX_DELAY);
            let deadline = Instant::now() + timeout;
            if !self.gate_until(deadline).await {
                return Err(no_answer());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match fate {
                SendFate::Passed => inner.send(outgoing, left).await,
                SendFate::Refused => Err(Error::new(
                    ErrorKind::Unavailable,
                    "send",
                    "refused (fault injection)",
                )),
                SendFate::AnswerLost => {
                    inner.send(outgoing, left).await?;
                    sleep_until(deadline).await;
                    Err(no_answer())
                }
                SendFate::RequestLost => {
                    sleep_until(deadline).await;
                    Err(no_answer())
                }
                SendFate::Late => {
                    store_late(inner, outgoing, left + self.late_by());
                    sleep_until(deadline).await;
                    Err(no_answer())
                }
                SendFate::Duplicated => {
                    let stored = inner.send(outgoing, left).await?;
                    let left = deadline.saturating_duration_since(Instant::now());
                    // The first one counts; the second may fail.
                    if let Err(error) = inner.send(outgoing, left).await {
                        tracing::debug!(%error, "a duplicate was not stored");
                    }
                    Ok(stored)
                }
            }
        })
    }

    fn ambiguity_bound(&self, inner: Duration) -> Duration {
        inner.max(self.late_by())
    }

    fn receive<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let deadline = Instant::now() + wait.min(MAX_DELAY);
            loop {
                if !self.gate_until(deadline).await {
                    return Ok(Vec::new());
                }
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::select! {
                    // A stall that begins meanwhile holds what comes; the inner call loses nothing when it is dropped.
                    biased;
                    () = self.stalled() => {}
                    received = inner.receive(max, left) => return received,
                }
            }
        })
    }

    /// Recorded in the client.
    fn ack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
    ) -> BoxFuture<'a, Result<()>> {
        inner.ack(token)
    }

    fn unreadable(&self, inner: Vec<Unreadable>) -> Vec<Unreadable> {
        let mut unreadable = inner;
        unreadable.extend(self.rules().unreadable);
        unreadable
    }

    fn nack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
        delay: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.bounded_gate("nack").await.is_ok() {
                return inner.nack(token, delay).await;
            }
            // What a broker cannot take back stays with the consumer, which gives it back later; not if it is gone by then.
            let (control, inner) = (self.clone(), Arc::downgrade(inner));
            tokio::spawn(async move {
                control.gate().await;
                if let Some(inner) = inner.upgrade()
                    && let Err(error) = inner.nack(token, delay).await
                {
                    tracing::debug!(%error, "a message was not given back");
                }
            });
            Ok(())
        })
    }
}

fn no_answer() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "send",
        "no answer in time (fault injection)",
    )
    .with_persisted(Persisted::Maybe)
}

/// Stores a message after its sender has given up.
fn store_late(inner: &Arc<dyn BackendProducer>, outgoing: Outgoing<'_>, after: Duration) {
    let inner = Arc::clone(inner);
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
