//! An administrator sets a group's offsets while members are online (apache/rocketmq `Broker2Client.java`, `MQClientInstance.java`): brokers of 4.9, and of 5.x
//! with `useServerSideResetOffset=false`, change nothing themselves but tell every member, which begins its queues anew and commits.

use std::collections::BTreeMap;

use super::{
    Group,
    group::{GroupHandle, State},
};
use crate::{heartbeat::GroupMember, route::MessageQueue};

/// Queues that wait for their reset; a topic has no more.
const MOST_WAITING: usize = 65_536;

impl GroupMember for GroupHandle {
    /// Topics that nobody here reads are passed over.
    fn reset(&self, topic: &str, offsets: BTreeMap<MessageQueue, u64>) {
        let group = self.group();
        let asked = group
            .state()
            .ask_for_reset(topic, offsets, &group.retry_topic);
        if asked {
            group.changed.notify_one();
        } else {
            tracing::debug!(%group.name, topic, "a reset of offsets of a topic that is not read here");
        }
    }
}

impl State {
    /// Keeps what is asked for until queues are assigned next, so that none is missed that is just being assigned. False for a topic that is not read here.
    fn ask_for_reset(
        &mut self,
        topic: &str,
        mut offsets: BTreeMap<MessageQueue, u64>,
        retry_topic: &str,
    ) -> bool {
        if !self.inboxes.contains_key(topic) && topic != retry_topic {
            return false;
        }
        offsets.retain(|queue, _| *queue.topic == *topic);
        if self.resets.len() + offsets.len() > MOST_WAITING {
            tracing::warn!(
                topic,
                "a reset of offsets names too many queues and is not made"
            );
            return true;
        }
        self.resets.extend(offsets);
        true
    }
}

impl Group {
    /// Begins the queues anew that are to be reset and are this member's: whatever came from them is forgotten, its acks are refused from now on, and the new
    /// offset is committed once they are assigned again. A queue that another member has is that one's to reset. To be called while nothing else assigns.
    pub(super) fn reset(&self) {
        let resets = std::mem::take(&mut self.state().resets);
        for (queue, offset) in resets {
            let process = self.state().queues.get(&queue).cloned();
            match process {
                Some(process) => {
                    tracing::info!(group = %self.name, %queue, offset, "the queue begins anew where an administrator has set it");
                    self.restart(&process, offset);
                }
                None => {
                    tracing::debug!(group = %self.name, %queue, "a reset of a queue of another member")
                }
            }
        }
    }
}
