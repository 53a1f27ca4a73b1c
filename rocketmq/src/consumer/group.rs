//! What the consumers of one group in one client share: the queues, the tasks, the membership.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle};

use super::{
    ConsumerOptions, Unreadable,
    goodbye::Goodbye,
    inbox::{Held, Inbox},
    local::LocalOffsets,
    lock,
    offset::{ProcessQueue, commit_all},
    pull, rebalance,
    start::Start,
};
use crate::{
    client::{Client, TopicEntry},
    error::{Error, ErrorKind, Result},
    message::RETRY_PREFIX,
    route::MessageQueue,
    subscription::SubscriptionData,
};

const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How long after an ack of what is read in order: others may wait for the committed offset.
const COMMIT_SOON: Duration = Duration::from_millis(100);

/// One group of one client, as its tasks see it.
pub(crate) struct Group {
    pub(super) client: Client,
    pub(super) name: Arc<str>,
    pub(super) retry_topic: Arc<str>,
    /// The members, the route or the topics changed: assign anew.
    pub(super) changed: Arc<Notify>,
    pub(super) signals: Arc<Signals>,
    state: Mutex<State>,
    /// Held while queues are assigned and revoked.
    pub(super) assigning: tokio::sync::Mutex<()>,
    /// Held while locks are renewed or given back: what is given back must not be renewed after it.
    pub(super) locking: tokio::sync::Mutex<()>,
}

/// What the tasks of a group wait for.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Somebody who fetches may wait for room.
    pub(super) room: Notify,
    /// Something is to be committed soon.
    pub(super) acked: Notify,
    /// The lock of a queue is too old.
    pub(super) lost: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) inboxes: BTreeMap<Arc<str>, Arc<Inbox>>,
    pub(super) queues: BTreeMap<MessageQueue, Arc<ProcessQueue>>,
    /// Locked queues that go to others once what was handed out of them is acked.
    pub(super) leaving: Vec<Arc<ProcessQueue>>,
    /// Where queues start whose offset the broker moved.
    moved: HashMap<MessageQueue, u64>,
    /// What an administrator has set offsets to, until queues are assigned next.
    pub(super) resets: BTreeMap<MessageQueue, u64>,
}

/// What became of a batch.
pub(super) struct Delivered {
    /// Nothing is left to be fetched again.
    pub(super) all: bool,
    /// Retries of topics that nobody here reads.
    pub(super) strangers: Vec<Held>,
}

/// What consumers hold; the last one dropped ends the tasks and leaves the group.
pub(crate) struct GroupHandle {
    group: Arc<Group>,
    tasks: [AbortHandle; 3],
}

impl GroupHandle {
    /// The client's handle for the group; made if there is none.
    pub(super) fn join(client: &Client, name: &str) -> Arc<GroupHandle> {
        let mut handles = client.registry().handles();
        if let Some(handle) = handles.get(name).and_then(Weak::upgrade)
            && let Ok(handle) = handle.downcast()
        {
            return handle;
        }
        handles.retain(|_, handle| handle.strong_count() > 0);
        let name: Arc<str> = name.into();
        let group = Arc::new(Group {
            client: client.clone(),
            retry_topic: format!("{RETRY_PREFIX}{name}").into(),
            name: Arc::clone(&name),
            changed: Arc::new(Notify::new()),
            signals: Arc::default(),
            state: Mutex::default(),
            assigning: tokio::sync::Mutex::default(),
            locking: tokio::sync::Mutex::default(),
        });
        let tasks = [
            tokio::spawn(rebalance::run(Arc::clone(&group))).abort_handle(),
            tokio::spawn(commit(Arc::clone(&group))).abort_handle(),
            tokio::spawn(lock::keep(Arc::clone(&group))).abort_handle(),
        ];
        let handle = Arc::new(GroupHandle { group, tasks });
        let weak: Weak<GroupHandle> = Arc::downgrade(&handle);
        handles.insert(name, weak);
        handle
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.group.name
    }

    pub(super) fn changed(&self) {
        self.group.changed.notify_one();
    }

    pub(super) fn add(
        &self,
        entry: Arc<TopicEntry>,
        options: ConsumerOptions,
        local: Option<Arc<LocalOffsets>>,
    ) -> Result<Arc<Inbox>> {
        let group = &self.group;
        let topic = Arc::clone(&entry.topic);
        let signals = Arc::clone(&group.signals);
        let inbox = Arc::new(Inbox::new(entry, options, local, signals));
        let mut state = group.state();
        let alike = |other: &Arc<Inbox>| other.is_broadcast() == inbox.is_broadcast();
        if !state.inboxes.values().all(alike) {
            let why = format!(
                "either all topics of group {} are broadcast or none",
                group.name
            );
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        if state.inboxes.contains_key(&topic) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "this client reads topic {topic} in group {} already",
                    group.name
                ),
            ));
        }
        state.inboxes.insert(topic, Arc::clone(&inbox));
        drop(state);
        group.client.registry().subscribe(
            &group.name,
            Arc::clone(&inbox.entry),
            inbox.subscription.clone(),
            inbox.is_broadcast(),
            &group.changed,
        );
        Ok(inbox)
    }

    /// Leaves in good order; the next call commits what this one could not.
    pub(super) async fn leave(&self, inbox: &Arc<Inbox>) -> Result<()> {
        let group = &self.group;
        // A call that is dropped while it waits has done nothing.
        let _assigning = group.assigning.lock().await;
        if !inbox.close() {
            return group.commit_late(inbox).await;
        }
        let last = group.remove(inbox);
        let revoked = group.revoke(|queue| last || queue.queue.topic == *inbox.topic());
        inbox.forget_ending();
        inbox.set_uncommitted(revoked.clone());
        let mut goodbye = Goodbye::new(group, inbox, last);
        let committed = commit_all(&group.client, &group.name, revoked.iter().cloned()).await;
        if committed.is_ok() {
            inbox.set_uncommitted(Vec::new());
        }
        let committed = committed.and(inbox.save().await);
        // Where something is outstanding, its handler may go on: the lock runs out, as after a crash.
        let mut idle = revoked;
        idle.retain(|queue| !queue.is_abandoned());
        lock::unlock_all(&group.client, &group.name, &idle).await;
        goodbye.say().await;
        committed
    }

    /// Leaves at once, as a crash would, except that the brokers are told if that takes no waiting.
    pub(super) fn abandon(&self, inbox: &Arc<Inbox>) {
        if !inbox.close() {
            return;
        }
        let group = &self.group;
        let last = group.remove(inbox);
        group.revoke(|queue| last || queue.queue.topic == *inbox.topic());
        drop(Goodbye::new(group, inbox, last));
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.group.revoke(|_| true);
    }
}

impl Group {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.state().inboxes.values().cloned().collect()
    }

    /// Takes a topic out; true when it was the last one.
    fn remove(&self, inbox: &Inbox) -> bool {
        let mut state = self.state();
        state.inboxes.remove(inbox.topic());
        state.moved.retain(|queue, _| queue.topic != *inbox.topic());
        let last = state.inboxes.is_empty();
        state
            .resets
            .retain(|queue, _| queue.topic != *inbox.topic());
        drop(state);
        self.client
            .registry()
            .unsubscribe(&self.name, inbox.topic(), &self.changed);
        last
    }

    async fn commit_late(&self, inbox: &Inbox) -> Result<()> {
        let mut result = Ok(());
        let mut left = Vec::new();
        for queue in inbox.uncommitted() {
            if let Err(error) = queue.commit_late(&self.client, &self.name).await {
                left.push(queue);
                result = Err(error);
            }
        }
        inbox.set_uncommitted(left);
        result.and(inbox.save().await)
    }

    /// Queues of the topic.
    pub(super) fn assigned(&self, topic: &str) -> Vec<MessageQueue> {
        let state = self.state();
        let queues = state.queues.keys().filter(|queue| *queue.topic == *topic);
        queues.cloned().collect()
    }

    /// Where queues of the topic, and those of the group's retry topic, stand at a message that cannot be read.
    pub(super) fn unreadable(&self, topic: &str) -> Vec<Unreadable> {
        let state = self.state();
        let queues = state
            .queues
            .iter()
            .filter(|(queue, _)| *queue.topic == *topic || queue.topic == self.retry_topic);
        queues
            .filter_map(|(_, process)| process.unreadable())
            .collect()
    }

    /// Begins to fetch a queue.
    pub(super) fn assign(
        self: &Arc<Self>,
        queue: MessageQueue,
        entry: Arc<TopicEntry>,
        subscription: SubscriptionData,
        start: Start,
    ) {
        let process = Arc::new(ProcessQueue::new(queue.clone(), entry, start));
        let fetch = pull::run(Arc::downgrade(self), Arc::clone(&process), subscription);
        let mut state = self.state();
        process.set_fetching(tokio::spawn(fetch).abort_handle());
        state.queues.insert(queue, process);
    }

    /// The queue's offsets make no sense any more: begin again at `start`.
    pub(super) fn restart(&self, queue: &ProcessQueue, start: u64) {
        self.state().moved.insert(queue.queue.clone(), start);
        self.changed.notify_one();
        // Ends the caller's own task too, at its next await.
        self.revoke(|other| other.queue == queue.queue);
    }

    /// Forgets where queues of the topic start that are not this member's: others read them meanwhile.
    pub(super) fn forget_moved(&self, topic: &str, mine: &BTreeSet<MessageQueue>) {
        let mut state = self.state();
        let stays = |queue: &MessageQueue| *queue.topic != *topic || mine.contains(queue);
        state.moved.retain(|queue, _| stays(queue));
    }

    pub(super) fn moved(&self, queue: &MessageQueue) -> Option<u64> {
        self.state().moved.remove(queue)
    }

    /// Hands messages of one queue to the consumers of their topics, in order, until one has no room.
    pub(super) fn deliver(&self, batch: Vec<Held>) -> Delivered {
        let mut delivered = Delivered {
            all: true,
            strangers: Vec::new(),
        };
        let state = self.state();
        for held in batch {
            // Under the lock, a revoked queue's messages cannot slip in after they were forgotten.
            if held.queue.is_ending() {
                delivered.all = false;
                break;
            }
            match state.inboxes.get(&held.message.topic) {
                Some(inbox) => {
                    if !inbox.offer(held) {
                        delivered.all = false;
                        break;
                    }
                }
                // The consumer was just dropped; its queues are about to be revoked.
                None if held.queue.queue.topic != self.retry_topic => {
                    delivered.all = false;
                    break;
                }
                None => {
                    held.queue.window().fetched(held.message.offset);
                    delivered.strangers.push(held);
                }
            }
        }
        delivered
    }

    /// Waits until the consumers of the queue's messages have room.
    pub(super) async fn room(&self, queue: &ProcessQueue) {
        loop {
            let room = self.signals.room.notified();
            tokio::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            let free = {
                let state = self.state();
                match state.inboxes.get(&queue.queue.topic) {
                    Some(inbox) => inbox.has_room(),
                    None => state.inboxes.values().all(|inbox| inbox.has_room()),
                }
            };
            if free || queue.is_ending() {
                return;
            }
            room.await;
        }
    }
}

/// Commits what was acked, every so often, and lets others have the queues that are theirs. Ended by its owner.
async fn commit(group: Arc<Group>) {
    loop {
        let acked = group.signals.acked.notified();
        if tokio::time::timeout(COMMIT_EVERY, acked).await.is_ok() {
            tokio::time::sleep(COMMIT_SOON).await;
        }
        let queues: Vec<_> = {
            let state = group.state();
            state
                .queues
                .values()
                .chain(&state.leaving)
                .cloned()
                .collect()
        };
        // Reported where it fails; the next round tries again.
        let _ = commit_all(&group.client, &group.name, queues).await;
        lock::release(&group).await;
        for inbox in group.inboxes() {
            if let Err(error) = inbox.save().await {
                tracing::warn!(group = %group.name, topic = %inbox.topic(), %error, "offsets were not saved");
            }
        }
    }
}
