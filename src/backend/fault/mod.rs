//! A wrapper around any backend that makes things go wrong on purpose, for tests of what must hold when they do.
//!
//! Every choice comes from a seed, and a [`FaultControl`] changes the rules while clients run.

mod admin;
mod consumer;
mod control;
mod producer;

use std::sync::Arc;

use self::{admin::FaultAdmin, consumer::FaultConsumer, producer::FaultProducer};
use super::{Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, Subscription};
use crate::{BoxFuture, error::Result};

pub use control::{FaultControl, FaultCounts, FaultRules, MAX_DELAY, STALL_TIMEOUT, SendFate};

/// Any backend, with faults.
///
/// # Behavior
/// - Sends meet a [`SendFate`]; every call meets the delay and the stall.
/// - A stalled cluster answers nothing: sends end with `Timeout` and `Persisted::Maybe` (none is stored), receives are empty, all
///   else ends with `Unavailable` after [`STALL_TIMEOUT`] without effect. Acks go through: they are recorded in the client. So is a
///   message that is given back: the cluster gets it when it is there again.
/// - What clients share through one `Fault` shares its rules, its seed and its stall.
#[derive(Debug)]
pub struct Fault {
    inner: Arc<dyn Backend>,
    control: FaultControl,
}

impl Fault {
    /// Wraps a backend; without rules it changes nothing.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, seed: u64) -> Self {
        Fault::with_control(inner, FaultControl::new(seed))
    }

    /// Wraps a backend under the control of others: the clients of one cluster stall together.
    #[must_use]
    pub fn with_control(inner: Arc<dyn Backend>, control: FaultControl) -> Self {
        Fault { inner, control }
    }

    /// The handle that changes the rules.
    #[must_use]
    pub fn control(&self) -> FaultControl {
        self.control.clone()
    }
}

impl Backend for Fault {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    fn client_id(&self) -> &str {
        self.inner.client_id()
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        Box::pin(async move {
            self.control.bounded_gate("producer").await?;
            let producer = FaultProducer {
                inner: self.inner.producer(topic).await?,
                control: self.control.clone(),
            };
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            self.control.bounded_gate("consumer").await?;
            let consumer = FaultConsumer {
                inner: self.inner.consumer(subscription).await?,
                control: self.control.clone(),
            };
            Ok(Arc::new(consumer) as Arc<dyn BackendConsumer>)
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(FaultAdmin {
            inner: self.inner.admin(),
            control: self.control.clone(),
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
