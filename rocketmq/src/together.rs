//! Asking many at a time.

use std::future::Future;

use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result};

/// Runs futures side by side, not too many at once, and returns their values in the order of the futures. The first error ends the others.
pub(crate) async fn together<T, F>(futures: Vec<F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    const AT_ONCE: usize = 64;
    let mut waiting = futures.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut values: Vec<(usize, T)> = Vec::new();
    loop {
        while running.len() < AT_ONCE {
            let Some((index, future)) = waiting.next() else {
                break;
            };
            running.spawn(async move { (index, future.await) });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((index, value))) => values.push((index, value?)),
            Some(Err(error)) => {
                return Err(
                    Error::new(ErrorKind::Closed, "the runtime is shutting down")
                        .with_source(error),
                );
            }
        }
    }
    values.sort_unstable_by_key(|(index, _)| *index);
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn futures_run_side_by_side_and_keep_their_order() {
        let begun = Instant::now();
        let futures = (0..100u64).map(|index| async move {
            tokio::time::sleep(Duration::from_millis(100 - index)).await;
            Ok(index)
        });
        let values = together(futures.collect()).await.unwrap();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
        assert!(begun.elapsed() < Duration::from_millis(200));
    }

    #[tokio::test]
    async fn one_error_is_the_answer() {
        let futures = (0..3).map(|index| async move {
            if index == 1 {
                return Err(Error::new(ErrorKind::Throttled, "busy"));
            }
            Ok(index)
        });
        let error = together(futures.collect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
    }
}
