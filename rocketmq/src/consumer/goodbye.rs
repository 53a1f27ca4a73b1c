//! Leaving a group.

use std::sync::Arc;

use super::{Group, inbox::Inbox};
use crate::{codes::request, frame::Request, heartbeat};

/// What the brokers are told of a member that has gone. Dropped before it was said, because whoever leaves has waited long enough, it is said
/// without waiting for answers: a broker that hears nothing keeps the member's queues from the others for up to two minutes.
pub(super) struct Goodbye<'a> {
    group: &'a Group,
    inbox: &'a Inbox,
    /// The client reads nothing more in the group.
    last: bool,
    said: bool,
}

impl<'a> Goodbye<'a> {
    pub(super) fn new(group: &'a Group, inbox: &'a Inbox, last: bool) -> Self {
        let said = false;
        Goodbye {
            group,
            inbox,
            last,
            said,
        }
    }

    /// Tells every broker and waits for its answer.
    pub(super) async fn say(&mut self) {
        let group = self.group;
        if self.last {
            for address in group.brokers(self.inbox) {
                let request = group.unregister();
                // A broker that cannot be reached finds out by the closed connection.
                let _ = group
                    .client
                    .call(&address, "leaving the group", request)
                    .await;
            }
        } else {
            // A broker that did not hear it hears the next one.
            let _ = heartbeat::beat(&group.client).await;
        }
        self.said = true;
    }
}

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        let group = self.group;
        if self.said {
            return;
        }
        if !self.last {
            group.client.registry().wake.notify_one();
            return;
        }
        for address in group.brokers(self.inbox) {
            group.client.oneway(&address, group.unregister());
        }
    }
}

impl Group {
    fn brokers(&self, inbox: &Inbox) -> Vec<Arc<str>> {
        let routed = inbox.entry.routed();
        let brokers = routed.route.brokers.iter();
        brokers
            .flat_map(|b| b.addresses.values().cloned())
            .collect()
    }

    fn unregister(&self) -> Request {
        Request::new(request::UNREGISTER_CLIENT)
            .text("clientID", self.client.client_id())
            .text("consumerGroup", &self.name)
    }
}
