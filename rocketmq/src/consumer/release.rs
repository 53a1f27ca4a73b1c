//! Letting other members have locked queues.

use std::sync::Arc;

use super::{Group, by_broker::by_broker, commit::commit_at, lock::unlock, offset::ProcessQueue};
use crate::{
    route::{MessageQueue, TopicRoute},
    together::together,
};

/// A queue that somebody is about to let go; given up when it is dropped.
pub(super) struct Claim(Arc<ProcessQueue>);

impl Claim {
    /// None when somebody else is about to.
    pub(super) fn new(queue: &Arc<ProcessQueue>) -> Option<Claim> {
        queue.claim().then(|| Claim(Arc::clone(queue)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.unclaim();
    }
}

/// Commits and unlocks queues that are to go to others and of which nothing is outstanding any more.
pub(super) async fn release(group: &Arc<Group>) {
    let brokers = by_broker(group.leaving()).into_keys().map(|broker| {
        let group = Arc::clone(group);
        async move {
            release_at(&group, &broker).await;
            Ok(())
        }
    });
    let _ = together(brokers.collect()).await;
}

/// The same for the queues of one broker. Their locks are renewed until they are committed.
pub(super) async fn release_at(group: &Group, broker: &str) {
    let claims = group.claim_idle(broker);
    if claims.is_empty() {
        return;
    }
    let queues = claims.iter().map(|claim| Arc::clone(&claim.0)).collect();
    // What was not committed stays locked; the next round tries again.
    let committed = commit_at(&group.client, &group.name, queues).await.done;
    for queue in &committed {
        queue.set_unlocking();
    }
    // One that is revoked meanwhile may be locked anew already.
    unlock_where(group, &committed, |queue| !queue.is_revoked()).await;
    group.set_released(&committed);
}

/// Unlocks queues that are revoked.
pub(super) async fn unlock_revoked(group: &Group, queues: &[Arc<ProcessQueue>]) {
    unlock_where(group, queues, ProcessQueue::is_revoked).await;
}

/// All brokers at once; for queues that nobody renews any more.
async fn unlock_where(
    group: &Group,
    queues: &[Arc<ProcessQueue>],
    wanted: fn(&ProcessQueue) -> bool,
) {
    let locked = queues.iter().filter(|queue| queue.lock.is_some()).cloned();
    let calls = by_broker(locked).into_iter().map(|(broker, mut queues)| {
        let locking = group.locking.of(&broker);
        let (client, name) = (group.client.clone(), Arc::clone(&group.name));
        async move {
            let _locking = locking.lock().await;
            queues.retain(|queue| wanted(queue));
            // No master: the lock runs out.
            if let Some(Ok(master)) = queues.first().map(|queue| queue.master()) {
                let names = queues.iter().map(|queue| &queue.queue);
                unlock(&client, &name, &master, names).await;
            }
            Ok(())
        }
    });
    // Only a runtime that ends ends it early.
    let _ = together(calls.collect()).await;
}

/// Gives back the locks of queues that could not be started.
pub(super) async fn give_up(group: &Group, route: &TopicRoute, queues: Vec<MessageQueue>) {
    let calls = by_broker(queues)
        .into_iter()
        .filter_map(|(broker, queues)| {
            let master = route.master(&broker).cloned()?;
            let locking = group.locking.of(&broker);
            let (client, name) = (group.client.clone(), Arc::clone(&group.name));
            Some(async move {
                let _locking = locking.lock().await;
                unlock(&client, &name, &master, &queues).await;
                Ok(())
            })
        });
    let _ = together(calls.collect()).await;
}
