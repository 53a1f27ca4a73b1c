//! Locks of queues that are read in order: one member of the group holds each of them at its broker, by client id
//! (apache/rocketmq `RebalanceLockManager.java`, `LockBatchRequestBody.java`, `ConsumeMessageOrderlyService.java`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Group, by_broker::by_broker, moment::Moment, offset::ProcessQueue};
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
    asked: Moment,
    /// It was not trusted once: the queue begins anew.
    lost: bool,
}

impl QueueLock {
    /// Given in answer to a request sent at `asked`.
    pub(super) fn new(asked: Moment) -> QueueLock {
        QueueLock(Mutex::new(State { asked, lost: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages may be handed out under it; once they may not, they never may again.
    pub(super) fn is_trusted(&self, now: Moment) -> bool {
        let mut state = self.state();
        state.lost |= now.since(state.asked) >= TRUSTED;
        !state.lost
    }

    /// Whether the broker may have given it to another member.
    pub(super) fn is_lapsed(&self, now: Moment) -> bool {
        now.since(self.state().asked) >= LAPSED
    }

    fn renewed(&self, asked: Moment) {
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
pub(super) async fn unlock(
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
    pub(super) queues: Vec<(MessageQueue, Option<Moment>)>,
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
    let asking = by_broker(queues).into_iter().map(|(broker, queues)| {
        let (client, name) = (group.client.clone(), Arc::clone(&group.name));
        let master = route.master(&broker).cloned();
        let locking = group.locking.of(&broker);
        async move {
            let _locking = locking.lock().await;
            let asked = Moment::now();
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

/// One at a time at each broker: locks are got, renewed or given back. What is given back must not be renewed after it.
#[derive(Debug, Default)]
pub(super) struct Locking(Mutex<BTreeMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>);

impl Locking {
    /// The broker's, to be held during the call.
    pub(super) fn of(&self, broker: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut brokers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(brokers.entry(Arc::clone(broker)).or_default())
    }
}

/// Whether every broker has answered.
async fn renew(group: &Arc<Group>) -> bool {
    let asking = by_broker(group.locked())
        .into_iter()
        .map(|(broker, queues)| {
            let group = Arc::clone(group);
            async move { Ok(renew_at(&group, &broker, queues).await) }
        });
    match together(asking.collect()).await {
        Ok(answered) => answered.into_iter().all(|answered| answered),
        Err(error) => {
            tracing::warn!(group = %group.name, %error, "not every lock was renewed");
            false
        }
    }
}

async fn renew_at(
    group: &Arc<Group>,
    broker: &Arc<str>,
    mut queues: Vec<Arc<ProcessQueue>>,
) -> bool {
    let locking = group.locking.of(broker);
    let _locking = locking.lock().await;
    // Some may have been given back meanwhile.
    queues.retain(|queue| queue.keeps_lock());
    let Some(first) = queues.first() else {
        return true;
    };
    let asked = Moment::now();
    let locked = match first.master() {
        Ok(master) => {
            let names = queues.iter().map(|queue| &queue.queue);
            lock(&group.client, &group.name, &master, names).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &locked {
        tracing::warn!(group = %group.name, %broker, %error, "locks of queues were not renewed");
    }
    for queue in &queues {
        note(group, queue, asked, locked.as_ref().ok());
    }
    locked.is_ok()
}

/// What becomes of a queue after its lock was asked for again; `locked` is what the broker said.
fn note(
    group: &Arc<Group>,
    queue: &Arc<ProcessQueue>,
    asked: Moment,
    locked: Option<&BTreeSet<MessageQueue>>,
) {
    let Some(lock) = &queue.lock else {
        return;
    };
    let granted = locked.map(|locked| locked.contains(&queue.queue));
    if granted == Some(false) || lock.is_lapsed(Moment::now()) {
        tracing::warn!(group = %group.name, queue = %queue.queue, "the lock of the queue was lost: another member may read it");
        group.revoke(|other| std::ptr::eq(other, &**queue));
        group.changed.notify_one();
        return;
    }
    if granted == Some(true) {
        lock.renewed(asked);
    }
    if !lock.is_trusted(Moment::now()) && !queue.is_ending() {
        tracing::warn!(group = %group.name, queue = %queue.queue, "the lock of the queue was not renewed in time: it begins anew");
        group.hand_over(|other| std::ptr::eq(other, &**queue));
        group.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_that_was_not_renewed_is_trusted_for_half_as_long_as_the_broker_keeps_it() {
        let begun = Moment::now();
        let after = |seconds| begun.later(Duration::from_secs(seconds));
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
    fn lock_of_a_machine_that_was_suspended_is_not_trusted() {
        let begun = Moment::now();
        let lock = QueueLock::new(begun);
        let woken = begun.suspended(LAPSED);
        assert!(lock.is_lapsed(woken) && !lock.is_trusted(woken));
    }

    #[test]
    fn lock_that_was_too_old_once_hands_nothing_out_again() {
        let begun = Moment::now();
        let lock = QueueLock::new(begun);
        let later = begun.later(TRUSTED);
        assert!(!lock.is_trusted(later));
        lock.renewed(later);
        assert!(!lock.is_trusted(later) && !lock.is_lapsed(later));
    }
}
