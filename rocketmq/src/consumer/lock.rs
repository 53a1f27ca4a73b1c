//! Locks of queues that are read in order: one member of the group holds each of them at its broker, by client id
//! (apache/rocketmq `RebalanceLockManager.java`, `LockBatchRequestBody.java`, `ConsumeMessageOrderlyService.java`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Group,
    offset::{ProcessQueue, commit_all},
};
use crate::{
    client::Client,
    codes::request,
    error::{Error, ErrorKind, Result},
    fastjson,
    frame::Request,
    route::{MessageQueue, TopicRoute},
    together::together,
};

/// How often locks are renewed.
const RENEW: Duration = Duration::from_secs(20);
/// The same after a broker did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// A lock that was not renewed for so long is not trusted: nothing more is handed out under it.
const TRUSTED: Duration = Duration::from_secs(30);
/// The broker gives a lock that was not renewed for so long to whoever asks (`rocketmq.broker.rebalance.lockMaxLiveTime`'s default).
const LAPSED: Duration = Duration::from_secs(60);

/// A lock that this client was given.
#[derive(Debug)]
pub(super) struct QueueLock(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// When the request was sent that got or renewed it last.
    asked: Instant,
    /// It was not trusted once: the queue begins anew.
    lost: bool,
}

impl QueueLock {
    /// Given in answer to a request sent at `asked`.
    pub(super) fn new(asked: Instant) -> QueueLock {
        QueueLock(Mutex::new(State { asked, lost: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages may be handed out under it; once they may not, they never may again.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.lost |= now.saturating_duration_since(state.asked) >= TRUSTED;
        !state.lost
    }

    /// Whether the broker may have given it to another member.
    pub(super) fn is_lapsed(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.state().asked) >= LAPSED
    }

    fn renewed(&self, asked: Instant) {
        let mut state = self.state();
        state.asked = state.asked.max(asked);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    consumer_group: &'a str,
    client_id: &'a str,
    mq_set: Vec<Queue>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    topic: Arc<str>,
    broker_name: Arc<str>,
    queue_id: u32,
}

impl From<&MessageQueue> for Queue {
    fn from(queue: &MessageQueue) -> Queue {
        Queue {
            topic: Arc::clone(&queue.topic),
            broker_name: Arc::clone(&queue.broker),
            queue_id: queue.queue,
        }
    }
}

/// Which of the queues, all of the broker with this master, are locked for this client now.
///
/// # Errors
/// No answer, or a refusal. A queue that another member holds is none.
async fn lock(
    client: &Client,
    group: &str,
    master: &Arc<str>,
    queues: impl IntoIterator<Item = &MessageQueue>,
) -> Result<BTreeSet<MessageQueue>> {
    #[derive(Deserialize)]
    struct Locked {
        #[serde(default, rename = "lockOKMQSet")]
        queues: Vec<Queue>,
    }
    let request = body(request::LOCK_BATCH_MQ, client, group, queues);
    let answer = client.call(master, "the lock of queues", request).await?;
    let locked: Locked = fastjson::from_slice(&answer.body)?;
    let locked = locked.queues.into_iter().map(|queue| MessageQueue {
        topic: queue.topic,
        broker: queue.broker_name,
        queue: queue.queue_id,
    });
    Ok(locked.collect())
}

/// Lets others have the queues.
async fn unlock(
    client: &Client,
    group: &str,
    master: &Arc<str>,
    queues: impl IntoIterator<Item = &MessageQueue>,
) {
    let request = body(request::UNLOCK_BATCH_MQ, client, group, queues);
    if let Err(error) = client.call(master, "the unlock of queues", request).await {
        tracing::warn!(group, %error, "queues stay locked for a minute");
    }
}

fn body<'a>(
    code: i32,
    client: &Client,
    group: &str,
    queues: impl IntoIterator<Item = &'a MessageQueue>,
) -> Request {
    let body = serde_json::to_vec(&Body {
        consumer_group: group,
        client_id: client.client_id(),
        mq_set: queues.into_iter().map(Queue::from).collect(),
    });
    // Strings and numbers always serialize.
    Request::new(code).body(Bytes::from(body.unwrap_or_default()))
}

/// What came of asking for locks.
pub(super) struct Acquired {
    /// Those that may be read, and when their locks were asked for.
    pub(super) queues: Vec<(MessageQueue, Option<Instant>)>,
    /// Some are held by others still.
    pub(super) waiting: bool,
    /// A broker that did not answer.
    pub(super) failed: Option<Error>,
}

impl Acquired {
    /// For topics that are not read in order.
    pub(super) fn without_locks(queues: BTreeSet<MessageQueue>) -> Acquired {
        Acquired {
            queues: queues.into_iter().map(|queue| (queue, None)).collect(),
            waiting: false,
            failed: None,
        }
    }
}

/// Asks each broker for the locks of its queues, all brokers at once.
pub(super) async fn acquire(
    group: &Group,
    route: &TopicRoute,
    queues: BTreeSet<MessageQueue>,
) -> Acquired {
    let count = queues.len();
    let mut brokers: BTreeMap<Arc<str>, Vec<MessageQueue>> = BTreeMap::new();
    for queue in queues {
        let broker = Arc::clone(&queue.broker);
        brokers.entry(broker).or_default().push(queue);
    }
    let asking = brokers.into_iter().map(|(broker, queues)| {
        let (client, name) = (group.client.clone(), Arc::clone(&group.name));
        let master = route.master(&broker).cloned();
        async move {
            let asked = Instant::now();
            let locked = match &master {
                Some(master) => lock(&client, &name, master, &queues).await,
                None => Err(no_master(&broker)),
            };
            Ok((queues, asked, locked))
        }
    });
    let mut acquired = Acquired {
        queues: Vec::with_capacity(count),
        waiting: false,
        failed: None,
    };
    match together(asking.collect()).await {
        Ok(answers) => {
            for (queues, asked, locked) in answers {
                match locked {
                    Ok(locked) => {
                        for queue in queues {
                            if locked.contains(&queue) {
                                acquired.queues.push((queue, Some(asked)));
                            } else {
                                tracing::debug!(group = %group.name, %queue, "another member still holds the queue");
                                acquired.waiting = true;
                            }
                        }
                    }
                    Err(error) => acquired.failed = Some(error),
                }
            }
        }
        Err(error) => acquired.failed = Some(error),
    }
    acquired
}

fn no_master(broker: &str) -> Error {
    let why = format!("broker {broker} has no master now");
    Error::new(ErrorKind::Unavailable, why)
}

/// Renews the group's locks for as long as it has any. Ended by its owner.
pub(super) async fn keep(group: Arc<Group>) {
    let mut wait = RENEW;
    loop {
        // A lock that was found too old is seen to at once.
        let _ = tokio::time::timeout(wait, group.signals.lost.notified()).await;
        wait = if renew(&group).await { RENEW } else { AGAIN };
    }
}

/// Whether every broker has answered.
async fn renew(group: &Arc<Group>) -> bool {
    let _locking = group.locking.lock().await;
    let mut brokers: BTreeMap<Arc<str>, Vec<Arc<ProcessQueue>>> = BTreeMap::new();
    for queue in group.locked() {
        let broker = Arc::clone(&queue.queue.broker);
        brokers.entry(broker).or_default().push(queue);
    }
    let asking = brokers.into_values().map(|queues| {
        let (client, name) = (group.client.clone(), Arc::clone(&group.name));
        async move {
            let asked = Instant::now();
            let locked = match queues[0].master() {
                Ok(master) => lock(&client, &name, &master, queues.iter().map(|q| &q.queue)).await,
                Err(error) => Err(error),
            };
            Ok((queues, asked, locked))
        }
    });
    let answers = match together(asking.collect()).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::warn!(group = %group.name, %error, "no lock was renewed");
            return false;
        }
    };
    let mut all = true;
    for (queues, asked, locked) in answers {
        if let Err(error) = &locked {
            tracing::warn!(group = %group.name, %error, "locks of queues were not renewed");
            all = false;
        }
        for queue in queues {
            note(group, &queue, asked, locked.as_ref().ok());
        }
    }
    all
}

/// What becomes of a queue after its lock was asked for again; `locked` is what the broker said.
fn note(
    group: &Arc<Group>,
    queue: &Arc<ProcessQueue>,
    asked: Instant,
    locked: Option<&BTreeSet<MessageQueue>>,
) {
    let Some(lock) = &queue.lock else {
        return;
    };
    let granted = locked.map(|locked| locked.contains(&queue.queue));
    if granted == Some(false) || lock.is_lapsed(Instant::now()) {
        tracing::warn!(group = %group.name, queue = %queue.queue, "the lock of the queue was lost: another member may read it");
        group.revoke(|other| std::ptr::eq(other, &**queue));
        group.changed.notify_one();
        return;
    }
    if granted == Some(true) {
        lock.renewed(asked);
    }
    if !lock.is_trusted(Instant::now()) && !queue.is_ending() {
        tracing::warn!(group = %group.name, queue = %queue.queue, "the lock of the queue was not renewed in time: it begins anew");
        group.hand_over(|other| std::ptr::eq(other, &**queue));
        group.changed.notify_one();
    }
}

/// Commits and unlocks queues that are to go to others and of which nothing is outstanding any more.
pub(super) async fn release(group: &Arc<Group>) {
    let idle = group.claim_idle();
    if idle.is_empty() {
        return;
    }
    let _locking = group.locking.lock().await;
    let done = match commit_all(&group.client, &group.name, idle.iter().cloned()).await {
        Ok(()) => {
            unlock_all(&group.client, &group.name, &idle).await;
            true
        }
        // The lock is kept, and renewed, until the commit has been made; the next round tries again.
        Err(_) => false,
    };
    group.set_released(&idle, done);
}

/// Unlocks queues at their brokers, all of them at once.
pub(super) async fn unlock_all(client: &Client, group: &Arc<str>, queues: &[Arc<ProcessQueue>]) {
    let mut brokers: BTreeMap<Arc<str>, Vec<MessageQueue>> = BTreeMap::new();
    for queue in queues {
        // No master: the lock runs out.
        if let Ok(master) = queue.master()
            && queue.lock.is_some()
        {
            let queues = brokers.entry(master).or_default();
            queues.push(queue.queue.clone());
        }
    }
    let calls = brokers.into_iter().map(|(master, queues)| {
        let (client, group) = (client.clone(), Arc::clone(group));
        async move {
            unlock(&client, &group, &master, &queues).await;
            Ok(())
        }
    });
    // Only a runtime that ends ends it early.
    let _ = together(calls.collect()).await;
}

/// Gives back the lock of a queue that could not be started.
pub(super) async fn give_up(group: &Group, route: &TopicRoute, queue: &MessageQueue) {
    if let Some(master) = route.master(&queue.broker) {
        unlock(&group.client, &group.name, master, [queue]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_that_was_not_renewed_is_trusted_for_half_as_long_as_the_broker_keeps_it() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let lock = QueueLock::new(begun);
        assert!(lock.is_trusted(after(29)));
        lock.renewed(after(20));
        assert!(lock.is_trusted(after(49)) && !lock.is_lapsed(after(79)));
        // The answer to an earlier request came late.
        lock.renewed(after(10));
        assert!(lock.is_trusted(after(49)));
        assert!(!lock.is_trusted(after(50)));
        assert!(lock.is_lapsed(after(80)));
    }

    #[test]
    fn lock_that_was_too_old_once_hands_nothing_out_again() {
        let begun = Instant::now();
        let lock = QueueLock::new(begun);
        let later = begun + TRUSTED;
        assert!(!lock.is_trusted(later));
        lock.renewed(later);
        assert!(!lock.is_trusted(later) && !lock.is_lapsed(later));
    }
}
