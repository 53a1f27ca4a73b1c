//! Trying again what cannot be done for now.

use std::{fmt::Display, time::Duration};

use crossfade::{Error, ErrorKind, Retry};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Clusters that have just been started take seconds for their first requests.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// How long nothing is said.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines.
const LINES: Duration = Duration::from_secs(5);

/// Tries again until the call succeeds, fails for good, or has failed for too long; one that still runs then is dropped. `tell` hears what is waited for, and for
/// how long.
///
/// # Errors
/// The call's last one; `Timeout` where it was dropped.
///
/// # Cancellation
/// As the call.
pub(super) async fn patiently<T>(
    what: &str,
    tell: impl Fn(&str),
    call: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let late = |why| Error::new(ErrorKind::Timeout, "wait", why);
    let may_pass = |error: &Error| error.retry() != Retry::Never;
    until(what, tell, call, may_pass, late).await
}

/// The same for what may have failed for any passing reason.
///
/// # Errors
/// The call's last one; a sentence where it was dropped.
///
/// # Cancellation
/// As the call.
pub(super) async fn stubbornly<T>(
    what: &str,
    tell: impl Fn(&str),
    call: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    until(what, tell, call, |_| true, |why| why).await
}

async fn until<T, E: Display>(
    what: &str,
    tell: impl Fn(&str),
    mut call: impl AsyncFnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
    late: impl Fn(String) -> E,
) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    let mut next_line = Instant::now() + QUIET;
    let mut last = "no answer yet".to_owned();
    loop {
        let outcome = {
            let called = timeout_at(deadline, call());
            tokio::pin!(called);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut called => break outcome,
                    () = sleep_until(next_line) => {}
                }
                let left = deadline.saturating_duration_since(next_line).as_secs();
                tell(&format!(
                    "waiting for {what}, {left} s more at most: {last}"
                ));
                next_line += LINES;
            }
        };
        let Ok(outcome) = outcome else {
            return Err(late(format!("waited {PATIENCE:?} for {what}: {last}")));
        };
        match outcome {
            Err(error) if may_pass(&error) && Instant::now() + PAUSE < deadline => {
                tracing::warn!(%error, "tried again");
                last = error.to_string();
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        let mut calls = 0;
        let outcome = patiently(
            "a call",
            |_| (),
            async || {
                calls += 1;
                match calls {
                    1 => Err(Error::new(ErrorKind::Timeout, "open", "no answer")),
                    2 => Err(Error::new(ErrorKind::PermissionDenied, "open", "no right")),
                    _ => Ok(()),
                }
            },
        );
        let error = outcome.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(calls, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let begun = Instant::now();
        let call = async || Err::<(), _>("no".to_owned());
        let outcome = stubbornly("a call", |_| (), call).await;
        assert_eq!(outcome, Err("no".to_owned()));
        assert!(begun.elapsed() <= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_still_runs_when_patience_ends_is_dropped() {
        let begun = Instant::now();
        let lines = RefCell::new(Vec::new());
        let tell = |line: &str| lines.borrow_mut().push(line.to_owned());
        let mut calls = 0;
        let outcome = stubbornly("a call", tell, async || {
            calls += 1;
            match calls {
                1 => Err::<(), _>("connection refused".to_owned()),
                _ => std::future::pending().await,
            }
        });
        let why = outcome.await.unwrap_err();
        assert!(why.contains("30s") && why.contains("refused"), "{why}");
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
        let lines = lines.into_inner();
        assert_eq!(lines.len(), 6);
        assert!(!lines.iter().any(|line| line.contains(" 0 s")), "{lines:?}");

        let pending = async || std::future::pending::<Result<(), Error>>().await;
        let error = patiently("a call", |_| (), pending).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_is_told_with_what_it_is_for_how_long_it_may_last_and_why() {
        let lines = RefCell::new(Vec::new());
        let tell = |line: &str| lines.borrow_mut().push(line.to_owned());
        let mut calls = 0;
        let outcome = stubbornly("the target at b", tell, async || {
            calls += 1;
            match calls {
                1 => sleep(QUIET + PAUSE).await,
                2 => sleep(LINES).await,
                _ => return Ok(()),
            }
            Err("connection refused".to_owned())
        });
        outcome.await.unwrap();
        let lines = lines.into_inner();
        assert_eq!(
            lines,
            [
                "waiting for the target at b, 28 s more at most: no answer yet",
                "waiting for the target at b, 23 s more at most: connection refused"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_succeeds_soon_is_not_spoken_of() {
        let tell = |line: &str| panic!("{line}");
        let mut calls = 0;
        let outcome = stubbornly("a call", tell, async || {
            calls += 1;
            match calls {
                3 => Ok(()),
                _ => Err("not yet".to_owned()),
            }
        });
        outcome.await.unwrap();
    }
}
