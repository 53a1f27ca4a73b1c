//! Trying again what cannot be done for now.

use std::{fmt::Display, time::Duration};

use crossfade::{Error, Retry};
use tokio::time::{Instant, sleep, sleep_until};

/// Clusters that have just been started take seconds for their first requests.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// How long nothing is said.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines.
const LINES: Duration = Duration::from_secs(5);

/// Tries again until the call succeeds, fails for good, or has failed for too long. `tell` hears what is waited for, and for how long.
///
/// # Errors
/// The call's last one.
pub(super) async fn patiently<T>(
    what: &str,
    tell: impl Fn(&str),
    call: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    until(what, tell, call, |error| error.retry() != Retry::Never).await
}

/// The same for what may have failed for any passing reason.
///
/// # Errors
/// The call's last one.
pub(super) async fn stubbornly<T, E: Display>(
    what: &str,
    tell: impl Fn(&str),
    call: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    until(what, tell, call, |_| true).await
}

async fn until<T, E: Display>(
    what: &str,
    tell: impl Fn(&str),
    mut call: impl AsyncFnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    let mut next_line = Instant::now() + QUIET;
    let mut last = "no answer yet".to_owned();
    loop {
        let outcome = {
            let called = call();
            tokio::pin!(called);
            loop {
                tokio::select! {
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
        match outcome {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
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

    use crossfade::ErrorKind;

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
        let outcome = stubbornly("a call", |_| (), async || Err::<(), _>("no")).await;
        assert_eq!(outcome, Err("no"));
        assert!(begun.elapsed() <= PATIENCE + PAUSE);
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
            Err("connection refused")
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
            if calls == 3 { Ok(()) } else { Err("not yet") }
        });
        outcome.await.unwrap();
    }
}
