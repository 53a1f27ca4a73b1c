//! Taking queues away from this member.

use std::sync::{Arc, MutexGuard};

use super::{Group, group::State, offset::ProcessQueue, release::Claim};
use crate::route::MessageQueue;

impl Group {
    /// Takes queues away from this member at once and returns them, to be committed.
    pub(super) fn revoke(&self, which: impl Fn(&ProcessQueue) -> bool) -> Vec<Arc<ProcessQueue>> {
        let mut state = self.state();
        let mut revoked = Vec::new();
        let mut stays = |queue: &Arc<ProcessQueue>| {
            let stays = !which(queue);
            if !stays {
                queue.revoke();
                revoked.push(Arc::clone(queue));
            }
            stays
        };
        state.queues.retain(|_, queue| stays(queue));
        state.leaving.retain(stays);
        self.forget(state, !revoked.is_empty());
        revoked
    }

    /// Takes queues away from this member: those that are not locked at once, and returns them, to be committed. Locked ones are committed and
    /// unlocked once what was handed out of them is acked.
    pub(super) fn hand_over(
        &self,
        which: impl Fn(&ProcessQueue) -> bool,
    ) -> Vec<Arc<ProcessQueue>> {
        let mut state = self.state();
        let mut taken = Vec::new();
        state.queues.retain(|_, queue| {
            let stays = !which(queue);
            if !stays {
                taken.push(Arc::clone(queue));
            }
            stays
        });
        let any = !taken.is_empty();
        let (leaving, revoked): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|queue| queue.lock.is_some());
        leaving.iter().for_each(|queue| queue.leave());
        revoked.iter().for_each(|queue| queue.revoke());
        if !leaving.is_empty() {
            self.signals.acked.notify_one();
        }
        state.leaving.extend(leaving);
        self.forget(state, any);
        revoked
    }

    /// Drops what came from queues that have just been taken away, if `any` were.
    fn forget(&self, state: MutexGuard<'_, State>, any: bool) {
        let inboxes: Vec<_> = state.inboxes.values().cloned().collect();
        drop(state);
        if any {
            for inbox in inboxes {
                inbox.forget_ending();
            }
            self.signals.room.notify_waiters();
        }
    }

    /// The queues whose locks this member keeps.
    pub(super) fn locked(&self) -> Vec<Arc<ProcessQueue>> {
        let mut queues = self.committing();
        queues.retain(|queue| queue.keeps_lock());
        queues
    }

    /// The queues of which something may be acked.
    pub(super) fn committing(&self) -> Vec<Arc<ProcessQueue>> {
        let state = self.state();
        let queues = state.queues.values().chain(&state.leaving);
        queues.cloned().collect()
    }

    /// The queues that are to be unlocked.
    pub(super) fn leaving(&self) -> Vec<Arc<ProcessQueue>> {
        self.state().leaving.clone()
    }

    /// Whether the queue is still to be unlocked by this member.
    pub(super) fn is_leaving(&self, queue: &MessageQueue) -> bool {
        let state = self.state();
        let mut leaving = state.leaving.iter();
        leaving.any(|process| process.queue == *queue)
    }

    /// A broker's queues to be unlocked of which nothing is outstanding any more, for one caller at a time.
    pub(super) fn claim_idle(&self, broker: &str) -> Vec<Claim> {
        let state = self.state();
        let leaving = state.leaving.iter();
        let idle = leaving.filter(|queue| {
            let inbox = state.inboxes.get(&queue.queue.topic);
            *queue.queue.broker == *broker
                && inbox.is_none_or(|inbox| !inbox.has_outstanding(queue))
        });
        idle.filter_map(Claim::new).collect()
    }

    /// They are committed and unlocked.
    pub(super) fn set_released(&self, queues: &[Arc<ProcessQueue>]) {
        let mut state = self.state();
        queues.iter().for_each(|queue| queue.revoke());
        state.leaving.retain(|queue| !queue.is_revoked());
    }

    /// Revokes the queues of topics that nobody here reads.
    pub(super) fn revoke_unread(&self) {
        let topics: Vec<_> = self.state().inboxes.keys().cloned().collect();
        self.revoke(|queue| {
            let topic = &queue.queue.topic;
            *topic != self.retry_topic && !topics.contains(topic)
        });
    }
}
