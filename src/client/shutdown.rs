//! The order in which a client ends.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{Handles, Shared};
use crate::{
    consumer::ConsumerCloser,
    error::{Error, ErrorKind, Result},
    producer::ProducerCloser,
};

/// The share of the deadline that handlers and sends may use; the rest is for the farewell and the connections.
const FOR_TRAFFIC: f64 = 0.8;

pub(super) async fn run(shared: &Shared, deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    let traffic_end = Instant::now() + deadline.mul_f64(FOR_TRAFFIC);
    if shared.closed.swap(true, Ordering::AcqRel) {
        return Err(Error::new(
            ErrorKind::Closed,
            "shutdown",
            "the client was shut down before",
        ));
    }
    let Handles {
        producers,
        consumers,
    } = std::mem::take(&mut *shared.handles());
    // Handlers may still send: producers come second.
    let consumers = consumers.into_iter().map(ConsumerCloser::close);
    let first = all("consumers", consumers, traffic_end).await;
    let producers = producers.into_iter().map(ProducerCloser::close);
    let second = all("sends", producers, traffic_end).await;
    let left = end.saturating_duration_since(Instant::now());
    // A farewell says that nothing is under way any more: without it the instance is lost, until its lease is over in mode `stop`, the brokers list it
    // no more, or an operator says that it is gone. Everything else ends in good order all the same.
    let left_behind = first.is_err() || second.is_err();
    let ended = if left_behind {
        tracing::warn!(
            "sends or handlers have not ended: this instance does not say that it leaves"
        );
        shared.session.leave_in_silence(left).await
    } else {
        shared.session.leave(left).await
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "the control plane did not hear that this instance leaves");
    }
    let backends: Vec<_> = shared.sides.connected().map(Arc::clone).collect();
    let closing = backends.into_iter().map(|backend| async move {
        backend.close().await;
        Ok(())
    });
    let fourth = all("connections", closing, end).await;
    first.and(second).and(fourth)
}

async fn all<F>(what: &str, closing: impl Iterator<Item = F>, end: Instant) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks: JoinSet<Result<()>> = closing.collect();
    let mut first = Ok(());
    loop {
        match tokio::time::timeout_at(end, tasks.join_next()).await {
            Ok(None) => return first,
            Ok(Some(ended)) => {
                let result = ended.unwrap_or_else(|error| {
                    Err(
                        Error::new(ErrorKind::Unexpected, "shutdown", "a closing task failed")
                            .with_source(error),
                    )
                });
                if let Err(error) = &result {
                    tracing::warn!(%error, what, "did not end in good order");
                }
                first = first.and(result);
            }
            Err(_) => {
                let late = Error::new(
                    ErrorKind::Timeout,
                    "shutdown",
                    format!(
                        "{} {what} had not ended at the deadline; what was not acked is delivered again",
                        tasks.len()
                    ),
                );
                return first.and(Err(late));
            }
        }
    }
}
