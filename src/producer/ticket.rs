//! The hold that a send has on the plan that routed it.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::active::Active;
use crate::control::{InUse, TopicCell};

/// What a ticket needs to go on holding when its send is gone.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) runtime: Handle,
    pub(super) active: Arc<Active>,
    pub(super) cell: Arc<TopicCell>,
}

impl Holder {
    fn hold(&self, in_use: Arc<InUse>, bound: Duration) {
        let counted = self.active.extend();
        // The producer may be dropped meanwhile: the instance still has something on its way to the topic.
        let role = self.cell.add_producer();
        self.runtime.spawn(async move {
            tokio::time::sleep(bound).await;
            drop((in_use, role, counted));
        });
    }
}

/// Holds a plan in use until the send's end is definite: a ticket that is dropped without a definite end, because the caller
/// dropped the future or because the broker's answer never came, goes on holding until the broker's bound has passed.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    in_use: Arc<InUse>,
    /// Set while a request is at a broker.
    at_broker: Option<Duration>,
    /// The longest bound of the answers that never came. A later success does not clear it: those requests are still on their way.
    left_behind: Option<Duration>,
    holder: &'a Holder,
}

impl<'a> Ticket<'a> {
    pub(super) fn new(in_use: Arc<InUse>, holder: &'a Holder) -> Self {
        Ticket {
            in_use,
            at_broker: None,
            left_behind: None,
            holder,
        }
    }

    pub(super) fn plan(&self) -> &InUse {
        &self.in_use
    }

    /// A request goes out; `bound` is how long the broker may take to store it without saying so.
    pub(super) fn begin(&mut self, bound: Duration) {
        self.at_broker = Some(bound);
    }

    /// The request's end is definite: stored, or not stored.
    pub(super) fn settle(&mut self) {
        self.at_broker = None;
    }

    /// The request's end stays unknown.
    pub(super) fn leave(&mut self) {
        self.left_behind = self.left_behind.max(self.at_broker.take());
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(bound) = self.at_broker.max(self.left_behind) {
            self.holder.hold(Arc::clone(&self.in_use), bound);
        }
    }
}
