//! Trying again what cannot be done for now.

use std::{fmt::Display, time::Duration};

use crossfade::{Error, Retry};
use tokio::time::Instant;

/// Clusters that have just been started take seconds for their first requests.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Tries again until the call succeeds, fails for good, or has failed for too long.
///
/// # Errors
/// The call's last one.
pub(super) async fn patiently<T>(call: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    until(call, |error| error.retry() != Retry::Never).await
}

/// The same for what may have failed for any passing reason.
///
/// # Errors
/// The call's last one.
pub(super) async fn stubbornly<T, E: Display>(
    call: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    until(call, |_| true).await
}

async fn until<T, E: Display>(
    mut call: impl AsyncFnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "tried again");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use crossfade::ErrorKind;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        let mut calls = 0;
        let outcome = patiently(async || {
            calls += 1;
            match calls {
                1 => Err(Error::new(ErrorKind::Timeout, "open", "no answer")),
                2 => Err(Error::new(ErrorKind::PermissionDenied, "open", "no right")),
                _ => Ok(()),
            }
        });
        let error = outcome.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(calls, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let begun = Instant::now();
        let outcome = stubbornly(async || Err::<(), _>("no")).await;
        assert_eq!(outcome, Err("no"));
        assert!(begun.elapsed() <= PATIENCE + PAUSE);
    }
}
