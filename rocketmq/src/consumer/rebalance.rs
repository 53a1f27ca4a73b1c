//! Keeping the assignment in line with the members and the queues (apache/rocketmq `RebalanceImpl.java`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Group,
    commit::commit_all,
    inbox::Inbox,
    lock::{self, Acquired},
    members::members,
    release,
    start::{self, Start},
};
use crate::{
    client::TopicEntry,
    error::{Error, ErrorKind, Result},
    route::{MessageQueue, TopicRoute},
    subscription::{Filter, SubscriptionData},
};

/// How often members and routes are looked at when nobody says that they changed.
const EVERY: Duration = Duration::from_secs(10);
/// The same while a topic has no queues (it may be unsealed), or its retry topic is not there yet, and after its queues have changed: brokers are
/// unsealed one after the other, so more may follow.
const UNSETTLED: Duration = Duration::from_secs(1);
/// The same while other members still hold queues of this one.
const HELD: Duration = Duration::from_millis(500);
/// After a round that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(300);
/// A member that gives a queue up hears of the change when this one does: it gets this long to commit what it has acked.
const HANDOVER: Duration = Duration::from_millis(100);
/// Several changes at a time are one.
const SETTLE: Duration = Duration::from_millis(10);

/// Ended by its owner.
pub(super) async fn run(group: Arc<Group>) {
    let mut wait = EVERY;
    let mut seen = BTreeMap::new();
    loop {
        // Woken or not: the round is the same.
        let _ = tokio::time::timeout(wait, group.changed.notified()).await;
        tokio::time::sleep(SETTLE).await;
        wait = round(&group, &mut seen).await;
    }
}

/// One look at everything; returns when to look again. `seen`: how many queues each topic had before.
async fn round(group: &Arc<Group>, seen: &mut BTreeMap<Arc<str>, usize>) -> Duration {
    let _assigning = group.assigning.lock().await;
    let mut wait = EVERY;
    // A consumer that was dropped in the middle of a round may have left queues behind.
    group.revoke_unread();
    group.reset();
    for inbox in group.inboxes() {
        if inbox.is_closed() {
            continue;
        }
        match assign(group, &inbox.entry, &inbox.subscription, Some(&inbox)).await {
            Ok(Assigned { queues, again }) => {
                let before = seen.insert(Arc::clone(inbox.topic()), queues);
                wait = wait.min(again);
                if queues == 0 || before != Some(queues) {
                    wait = wait.min(UNSETTLED);
                }
                inbox.set_assigned();
            }
            Err(error) => {
                tracing::warn!(group = %group.name, topic = %inbox.topic(), %error, "the assignment stays as it was");
                inbox.set_not_assigned(&error);
                wait = wait.min(AFTER_FAILURE);
            }
        }
    }
    match assign_retry(group).await {
        Ok(again) => wait.min(again),
        Err(error) => {
            tracing::debug!(group = %group.name, %error, "retries are not assigned yet");
            wait.min(UNSETTLED)
        }
    }
}

/// The brokers make the retry topic when they first hear of the group. Returns when to look again at the latest.
async fn assign_retry(group: &Arc<Group>) -> Result<Duration> {
    let inboxes = group.inboxes();
    if inboxes.is_empty() || inboxes.iter().any(|inbox| inbox.is_broadcast()) {
        return Ok(EVERY);
    }
    let entry = group.client.topic(&group.retry_topic).await?;
    let subscription = SubscriptionData::new(&group.retry_topic, &Filter::default());
    let assigned = assign(group, &entry, &subscription, None).await?;
    Ok(assigned.again)
}

/// What came of one topic's assignment.
struct Assigned {
    /// How many the topic has.
    queues: usize,
    /// When to look again at the latest: others still hold some of this member's, or may come back.
    again: Duration,
}

/// Brings one topic's assignment in line. The group's retry topic has no inbox.
async fn assign(
    group: &Arc<Group>,
    entry: &Arc<TopicEntry>,
    subscription: &SubscriptionData,
    inbox: Option<&Arc<Inbox>>,
) -> Result<Assigned> {
    let routed = group.client.refresh(entry, Instant::now()).await?;
    let queues = routed.route.readable(&entry.topic);
    let mut mine = BTreeSet::new();
    let mut others = false;
    let mut again = EVERY;
    if inbox.is_some_and(|inbox| inbox.is_broadcast()) {
        mine.extend(queues.iter().cloned());
    } else if !queues.is_empty() {
        let members = members(group, entry).await?;
        others = members.are_several();
        again = again.min(members.again.unwrap_or(again));
        mine = members.part(&queues, group.client.client_id());
    }
    group.forget_moved(&entry.topic, &mine);
    let revoked =
        group.hand_over(|queue| queue.queue.topic == entry.topic && !mine.contains(&queue.queue));
    // Reported where it fails; what it would have covered is delivered again. A broker that does not answer keeps nobody from the others for longer.
    let commit = commit_all(&group.client, &group.name, revoked);
    let handing_over = async { tokio::join!(commit, release::release(group)) };
    let _ = tokio::time::timeout(group.client.options().request_timeout, handing_over).await;
    let have = group.assigned(&entry.topic);
    mine.retain(|queue| !have.contains(queue));
    if others && !mine.is_empty() {
        tokio::time::sleep(HANDOVER).await;
    }
    let begun = begin(group, &routed.route, mine, inbox).await;
    if let Some(inbox) = inbox {
        inbox.set_queues(have.len() + begun.queues.len());
        group.signals.room.notify_waiters();
    }
    for (queue, start) in begun.queues {
        let (entry, subscription) = (Arc::clone(entry), subscription.clone());
        group.assign(queue, entry, subscription, start);
    }
    if begun.waiting {
        again = again.min(HELD);
    }
    let queues = queues.len();
    match begun.failed {
        None => Ok(Assigned { queues, again }),
        Some(error) => Err(error),
    }
}

/// Queues that can be fetched now.
struct Begun {
    queues: Vec<(MessageQueue, Start)>,
    /// Others are held by other members, or still to be let go by this one.
    waiting: bool,
    failed: Option<Error>,
}

/// Locks the queues where that is wanted, and finds out where each begins. One broker that is down keeps nobody from the queues of the others.
async fn begin(
    group: &Group,
    route: &TopicRoute,
    mut wanted: BTreeSet<MessageQueue>,
    inbox: Option<&Arc<Inbox>>,
) -> Begun {
    let all = wanted.len();
    let local = inbox.and_then(|inbox| inbox.local());
    let mut acquired = if inbox.is_some_and(|inbox| inbox.is_ordered()) {
        wanted.retain(|queue| !group.is_leaving(queue));
        let left = wanted.len() < all;
        if left {
            tracing::debug!(group = %group.name, "queues begin anew once what was handed out of them is acked");
        }
        let mut acquired = lock::acquire(group, route, wanted).await;
        acquired.waiting |= left;
        acquired
    } else {
        Acquired::without_locks(wanted)
    };
    let mut begun = Begun {
        queues: Vec::with_capacity(acquired.queues.len()),
        waiting: acquired.waiting,
        failed: acquired.failed.take(),
    };
    let mut not_begun = Vec::new();
    let mut silent = BTreeSet::new();
    for (queue, locked) in acquired.queues {
        // Asked once a round, not once for each of its queues.
        if silent.contains(&queue.broker) {
            if locked.is_some() {
                not_begun.push(queue);
            }
            continue;
        }
        // Only once it is locked: the member before may have committed until then.
        match start::find(group, route, &queue, local).await {
            Ok(mut start) => {
                start.locked = locked;
                begun.queues.push((queue, start));
            }
            Err(error) => {
                if error.kind() == ErrorKind::Timeout {
                    silent.insert(Arc::clone(&queue.broker));
                }
                if locked.is_some() {
                    not_begun.push(queue);
                }
                begun.failed = Some(error);
            }
        }
    }
    release::give_up(group, route, not_begun).await;
    begun
}
