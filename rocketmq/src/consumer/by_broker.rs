//! Queues and the brokers that have them.

use std::{collections::BTreeMap, sync::Arc};

use super::offset::ProcessQueue;
use crate::route::MessageQueue;

/// What has a broker.
pub(super) trait OfBroker {
    fn broker(&self) -> &Arc<str>;
}

impl OfBroker for MessageQueue {
    fn broker(&self) -> &Arc<str> {
        &self.broker
    }
}

impl OfBroker for Arc<ProcessQueue> {
    fn broker(&self) -> &Arc<str> {
        &self.queue.broker
    }
}

/// Each broker and its queues, in their order.
pub(super) fn by_broker<T: OfBroker>(
    queues: impl IntoIterator<Item = T>,
) -> BTreeMap<Arc<str>, Vec<T>> {
    let mut brokers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for queue in queues {
        let broker = Arc::clone(queue.broker());
        brokers.entry(broker).or_default().push(queue);
    }
    brokers
}
