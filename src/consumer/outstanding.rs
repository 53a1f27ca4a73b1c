//! What was handed out and has no end yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    backend::{AckToken, BackendConsumer},
    error::{Error, ErrorKind, Result},
    message::IdempotencyKey,
    side::Side,
};

/// One delivery in a handler.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) side: Side,
    pub(super) backend: Arc<dyn BackendConsumer>,
    /// The backend's own name for it.
    pub(super) token: AckToken,
    pub(super) key: IdempotencyKey,
    /// In an ordered topic: the generation of the lanes that it is out of.
    pub(super) lanes: Option<u64>,
    pub(super) since: Instant,
}

/// Deliveries by a number of this consumer's own, which stays good when a side is closed and opened again.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    inner: Mutex<Inner>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    held: HashMap<u64, Held>,
}

impl Outstanding {
    pub(super) fn add(&self, held: Held) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        inner.held.insert(number, held);
        number
    }

    /// The delivery stays outstanding until it is removed.
    pub(super) fn get(&self, number: u64) -> Result<Held> {
        self.lock().held.get(&number).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::StaleDelivery,
                "ack",
                "this delivery is not outstanding here: it was acked or nacked before, or another consumer gave it",
            )
        })
    }

    /// False when it was removed before.
    pub(super) fn remove(&self, number: u64) -> bool {
        let removed = self.lock().held.remove(&number).is_some();
        self.ended.notify_waiters();
        removed
    }

    pub(super) fn len(&self) -> usize {
        self.lock().held.len()
    }

    pub(super) fn has_some_of(&self, side: Side) -> bool {
        self.lock().held.values().any(|held| held.side == side)
    }

    /// Waits until nothing of `side` is outstanding.
    pub(super) async fn settled(&self, side: Side) {
        loop {
            let ended = self.ended.notified();
            if !self.has_some_of(side) {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
