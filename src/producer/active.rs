//! The sends of a producer that have no definite end yet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

/// Counts sends, and refuses new ones once closed.
#[derive(Debug, Default)]
pub(super) struct Active {
    closed: AtomicBool,
    count: AtomicUsize,
    idle: Notify,
}

impl Active {
    /// Counts one send until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Result<ActiveGuard> {
        let guard = self.extend();
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::Closed,
                "send",
                "the producer was closed",
            ));
        }
        Ok(guard)
    }

    /// Counts what a send that was counted has left behind.
    pub(super) fn extend(self: &Arc<Self>) -> ActiveGuard {
        self.count.fetch_add(1, Ordering::SeqCst);
        ActiveGuard {
            active: Arc::clone(self),
        }
    }

    /// Refuses new sends and waits for the end of those that are counted.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

#[derive(Debug)]
pub(super) struct ActiveGuard {
    active: Arc<Active>,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        if self.active.count.fetch_sub(1, Ordering::SeqCst) == 1
            && self.active.closed.load(Ordering::SeqCst)
        {
            self.active.idle.notify_waiters();
        }
    }
}
