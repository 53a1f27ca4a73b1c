//! Receives behind delays and stalls.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::control::{FaultControl, MAX_DELAY};
use crate::{
    BoxFuture,
    backend::{AckToken, BackendConsumer, Incoming, QueueId, Unreadable},
    error::Result,
};

#[derive(Debug)]
pub(super) struct FaultConsumer {
    pub(super) inner: Arc<dyn BackendConsumer>,
    pub(super) control: FaultControl,
}

impl BackendConsumer for FaultConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let deadline = Instant::now() + wait.min(MAX_DELAY);
            loop {
                if timeout_at(deadline, self.control.gate()).await.is_err() {
                    return Ok(Vec::new());
                }
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::select! {
                    // A stall that begins meanwhile holds what comes; the inner call loses nothing when it is dropped.
                    biased;
                    () = self.control.stalled() => {}
                    received = self.inner.receive(max, left) => return received,
                }
            }
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        self.inner.ack(token)
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.control.bounded_gate("nack").await.is_ok() {
                return self.inner.nack(token, delay).await;
            }
            // What a broker cannot take back stays with the consumer, which gives it back later; not if it is gone by then.
            let (control, inner) = (self.control.clone(), Arc::downgrade(&self.inner));
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

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.control.bounded_gate("ready").await?;
            self.inner.ready().await
        })
    }

    fn assigned(&self) -> Vec<QueueId> {
        self.inner.assigned()
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        let mut unreadable = self.inner.unreadable();
        unreadable.extend(self.control.rules().unreadable);
        unreadable
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.control.bounded_gate("close").await?;
            self.inner.close().await
        })
    }
}
