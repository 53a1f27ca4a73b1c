//! A process that is frozen stops at its next call to the outside, and goes on from there when it wakes.

use std::{sync::Arc, time::Duration};

use crossfade::{
    BoxFuture, Result,
    backend::{BackendConsumer, Incoming, fault::Layer},
};
use tokio::sync::watch;

use crate::effect::{Effects, FaultSet};

/// Closed while its process is frozen. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    frozen: Arc<watch::Sender<Option<FaultSet>>>,
    effects: Effects,
}

impl Gate {
    pub(crate) fn new(effects: Effects) -> Self {
        Gate {
            frozen: Arc::new(watch::Sender::new(None)),
            effects,
        }
    }

    /// Closes the gate; a call that meets it is an effect of these faults.
    pub(crate) fn freeze(&self, because: FaultSet) {
        self.frozen.send_replace(Some(because));
    }

    pub(crate) fn wake(&self) {
        self.frozen.send_replace(None);
    }

    /// Passes when the process is awake.
    pub(crate) async fn pass(&self) {
        let frozen = *self.frozen.borrow();
        let Some(because) = frozen else { return };
        self.effects.touch_all(because);
        let mut frozen = self.frozen.subscribe();
        // The sender lives in `self`.
        let _ = frozen.wait_for(Option::is_none).await;
    }

    /// What a process that may be frozen before and after the call sees of it.
    pub(crate) async fn through<T>(&self, call: impl Future<Output = T>) -> T {
        self.pass().await;
        let answer = call.await;
        self.pass().await;
        answer
    }
}

/// A cluster as one process sees it.
impl Layer for Gate {
    fn around<'a, T: Send + 'a>(
        &'a self,
        _operation: &'static str,
        call: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(self.through(call))
    }

    fn receive<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Incoming>>> {
        Box::pin(async move {
            self.pass().await;
            // Not after the call: what it took would be lost if this future were dropped at the gate.
            inner.receive(max, wait).await
        })
    }
}
