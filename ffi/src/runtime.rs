//! From C's blocking calls to the SDK's futures: one small runtime for each client.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sdk::{Error, ErrorKind, Persisted};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
};

use crate::{error::crossfade_error, guard::Outcome, handle::invalid};

/// The most that a timeout or a delay may be, in milliseconds: one day.
pub const CROSSFADE_MAX_TIMEOUT_MS: i64 = 86_400_000;
/// Sends and receives wait for brokers; the work itself needs no more.
const WORKERS: usize = 2;

/// The runtime of one client and of all that was made from it.
#[derive(Debug)]
pub(crate) struct Tasks {
    handle: Handle,
    /// Shared with the calls under way: timers that are polled after their runtime ended panic, so the last call out ends it.
    running: Mutex<Option<Arc<Running>>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running(Option<Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Tasks {
    pub(crate) fn start() -> Outcome<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("crossfade")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    "start",
                    format!("the system gives no threads: {error}"),
                )
                .with_source(error)
            })?;
        Ok(Tasks {
            handle: runtime.handle().clone(),
            running: Mutex::new(Some(Arc::new(Running(Some(runtime))))),
            ended: watch::Sender::new(false),
        })
    }

    /// Runs a future on the calling thread for at most `timeout`; a call that the end of the client overtakes returns `Closed`.
    pub(crate) fn block_on<T>(
        &self,
        operation: &'static str,
        timeout: Duration,
        future: impl Future<Output = sdk::Result<T>>,
    ) -> sdk::Result<T> {
        let Some(_running) = lock(&self.running).clone() else {
            return Err(freed(operation));
        };
        let mut ended = self.ended.subscribe();
        self.handle.block_on(async {
            tokio::select! {
                biased;
                // A send under way may have been stored; other calls send nothing and say so themselves.
                _ = ended.wait_for(|ended| *ended) => Err(freed(operation).with_persisted(Persisted::Maybe)),
                done = tokio::time::timeout(timeout, future) => done.unwrap_or_else(|_| Err(Error::new(
                    ErrorKind::Timeout,
                    operation,
                    format!("not done within the {timeout:?} given"),
                )
                .with_persisted(Persisted::Maybe))),
            }
        })
    }

    /// For destructors that use the runtime.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// Ends every call now, and every task when the last of the calls has returned. Does not wait.
    pub(crate) fn end(&self) {
        let running = lock(&self.running).take();
        self.ended.send_replace(true);
        drop(running);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end();
    }
}

fn freed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the client was freed")
}

/// An error of a call that sends nothing: `persisted` means nothing there.
pub(crate) fn sends_nothing(error: sdk::Error) -> Box<crossfade_error> {
    error.with_persisted(Persisted::No).into()
}

/// A duration in milliseconds from C.
pub(crate) fn milliseconds(number: i64, parameter: &str) -> Outcome<Duration> {
    match u64::try_from(number) {
        Ok(milliseconds) if number <= CROSSFADE_MAX_TIMEOUT_MS => {
            Ok(Duration::from_millis(milliseconds))
        }
        _ => Err(invalid(format!(
            "{parameter} is {number}: use 0 to {CROSSFADE_MAX_TIMEOUT_MS}"
        ))),
    }
}

/// No code panics under these locks; if one did, what they hold is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use super::*;

    #[test]
    fn call_that_takes_too_long_is_a_timeout() {
        let tasks = Tasks::start().unwrap();
        let error = tasks
            .block_on("wait", Duration::ZERO, pending::<sdk::Result<()>>())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.persisted(), Persisted::Maybe);
    }

    #[test]
    fn end_wakes_calls_on_other_threads_and_refuses_later_ones() {
        let tasks = Arc::new(Tasks::start().unwrap());
        let (polled, is_polled) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn({
            let tasks = Arc::clone(&tasks);
            move || {
                tasks.block_on("wait", Duration::from_secs(60), async {
                    polled.send(()).unwrap();
                    pending::<sdk::Result<()>>().await
                })
            }
        });
        is_polled.recv().unwrap();
        tasks.end();
        let closed = |outcome: sdk::Result<()>, persisted| {
            let error = outcome.unwrap_err();
            assert_eq!(
                (error.kind(), error.persisted()),
                (ErrorKind::Closed, persisted)
            );
        };
        closed(waiting.join().unwrap(), Persisted::Maybe);
        let later = tasks.block_on("wait", Duration::from_secs(60), pending());
        closed(later, Persisted::No);
        tasks.end();
    }

    #[test]
    fn end_beside_calls_that_start_never_panics() {
        for _ in 0..200 {
            let tasks = Arc::new(Tasks::start().unwrap());
            let calling = std::thread::spawn({
                let tasks = Arc::clone(&tasks);
                move || {
                    tasks.block_on(
                        "wait",
                        Duration::from_secs(60),
                        pending::<sdk::Result<()>>(),
                    )
                }
            });
            tasks.end();
            let error = calling.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
    }

    #[test]
    fn milliseconds_out_of_range_are_refused() {
        assert_eq!(milliseconds(0, "timeout_ms").unwrap(), Duration::ZERO);
        assert_eq!(
            milliseconds(CROSSFADE_MAX_TIMEOUT_MS, "timeout_ms").unwrap(),
            Duration::from_secs(86_400)
        );
        for wrong in [-1, i64::MIN, CROSSFADE_MAX_TIMEOUT_MS + 1, i64::MAX] {
            assert_eq!(milliseconds(wrong, "timeout_ms").unwrap_err().number(), 102);
        }
    }
}
