//! What each call meets: delays, stalls, and the fates of sends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    control::{FaultControl, MAX_DELAY, STALL_TIMEOUT, SendFate},
    layer::Layer,
};
use crate::{
    BoxFuture,
    backend::{
        AckToken, BackendConsumer, BackendProducer, HalfMessage, Incoming, Outgoing, Stored,
        Unreadable,
    },
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
        let send = move |left| inner.send(outgoing, left);
        let late = move |after| store_late(inner, &[outgoing], after, Kind::Messages);
        Box::pin(self.fated(timeout, send, late))
    }

    fn send_batch<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        batch: &'a [Outgoing<'a>],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Stored>>> {
        let send = move |left| inner.send_batch(batch, left);
        let late = move |after| store_late(inner, batch, after, Kind::Messages);
        Box::pin(self.fated(timeout, send, late))
    }

    fn send_half<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<HalfMessage>> {
        let send = move |left| inner.send_half(outgoing, left);
        let late = move |after| store_late(inner, &[outgoing], after, Kind::Half);
        Box::pin(self.fated(timeout, send, late))
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

impl FaultControl {
    /// What becomes of a send by its fate: `send` hands it over, for at most as long as it is told, and `late` does so by itself after a while.
    async fn fated<'a, T: Send>(
        &'a self,
        timeout: Duration,
        send: impl Fn(Duration) -> BoxFuture<'a, Result<T>> + Send,
        late: impl FnOnce(Duration) + Send,
    ) -> Result<T> {
        let fate = self.fate();
        let timeout = timeout.min(MAX_DELAY);
        let deadline = Instant::now() + timeout;
        if !self.gate_until(deadline).await {
            return Err(no_answer());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match fate {
            SendFate::Passed => send(left).await,
            SendFate::Refused => Err(Error::new(
                ErrorKind::Unavailable,
                "send",
                "refused (fault injection)",
            )),
            SendFate::Busy => Err(Error::new(
                ErrorKind::Throttled,
                "send",
                "turned away by flow control (fault injection)",
            )),
            SendFate::AnswerLost => {
                send(left).await?;
                sleep_until(deadline).await;
                Err(no_answer())
            }
            SendFate::RequestLost => {
                sleep_until(deadline).await;
                Err(no_answer())
            }
            SendFate::Late => {
                late(left + self.late_by());
                sleep_until(deadline).await;
                Err(no_answer())
            }
            SendFate::Duplicated => {
                let stored = send(left).await?;
                let left = deadline.saturating_duration_since(Instant::now());
                // The first one counts; the second may fail.
                if let Err(error) = send(left).await {
                    tracing::debug!(%error, "a duplicate was not stored");
                }
                Ok(stored)
            }
        }
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

/// How what comes late is stored.
#[derive(Clone, Copy)]
enum Kind {
    Messages,
    Half,
}

/// Stores what was sent after its sender has given up.
fn store_late(
    inner: &Arc<dyn BackendProducer>,
    sent: &[Outgoing<'_>],
    after: Duration,
    kind: Kind,
) {
    let inner = Arc::clone(inner);
    let owned = |outgoing: &Outgoing<'_>| {
        let message = outgoing.message.clone();
        let key = outgoing.idempotency_key.clone();
        let id = outgoing.message_id.clone();
        (message, key, id, outgoing.revision, outgoing.lane)
    };
    let sent: Vec<_> = sent.iter().map(owned).collect();
    tokio::spawn(async move {
        sleep(after).await;
        let again = sent
            .iter()
            .map(|(message, key, id, revision, lane)| Outgoing {
                message,
                idempotency_key: key,
                message_id: id,
                revision: *revision,
                lane: *lane,
            });
        let again: Vec<_> = again.collect();
        let stored = match (kind, &again[..]) {
            (Kind::Messages, [one]) => inner.send(*one, STALL_TIMEOUT).await.map(drop),
            (Kind::Half, [one]) => inner.send_half(*one, STALL_TIMEOUT).await.map(drop),
            (_, all) => inner.send_batch(all, STALL_TIMEOUT).await.map(drop),
        };
        if let Err(error) = stored {
            tracing::debug!(%error, "a late send was not stored");
        }
    });
}
