//! Leaving a group.

use super::Group;
use crate::{codes::request, frame::Request, heartbeat, together::together};

/// What the brokers are told of a member that has gone. Dropped before it was said, because whoever leaves has waited long enough, it is said
/// without waiting for answers: a broker that hears nothing keeps the member's queues from the others for up to two minutes.
pub(super) struct Goodbye<'a> {
    group: &'a Group,
    /// The client reads nothing more in the group.
    last: bool,
    said: bool,
}

impl<'a> Goodbye<'a> {
    pub(super) fn new(group: &'a Group, last: bool) -> Self {
        let said = false;
        Goodbye { group, last, said }
    }

    /// Tells every broker and waits for its answer.
    pub(super) async fn say(&mut self) {
        let group = self.group;
        if self.last {
            let calls = group.client.told().into_iter().map(|address| {
                let (client, request) = (group.client.clone(), group.unregister());
                async move {
                    // One that does not hear it finds out by the closed connection.
                    let _ = client.call(&address, "leaving the group", request).await;
                    Ok(())
                }
            });
            let _ = together(calls.collect()).await;
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
        for address in group.client.told() {
            group.client.oneway(&address, group.unregister());
        }
    }
}

impl Group {
    fn unregister(&self) -> Request {
        Request::new(request::UNREGISTER_CLIENT)
            .text("clientID", self.client.client_id())
            .text("consumerGroup", &self.name)
    }
}
