//! What the consumers of one group in one client share: the queues, the tasks, the membership.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    ConsumerOptions, Unreadable,
    commit::{self, commit_all},
    goodbye::Goodbye,
    inbox::Inbox,
    local::LocalOffsets,
    lock::{self, Locking},
    membership::{Listed, Members, Membership},
    offset::ProcessQueue,
    pull, rebalance, release,
    start::Start,
};
use crate::{
    client::{Client, TopicEntry},
    error::{Error, ErrorKind, Result},
    message::RETRY_PREFIX,
    route::MessageQueue,
    subscription::SubscriptionData,
};

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
    pub(super) locking: Locking,
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
    /// By topic: brokers are asked for each by itself.
    memberships: BTreeMap<Arc<str>, Membership>,
}

/// What consumers hold; the last one dropped ends the tasks and leaves the group.
pub(crate) struct GroupHandle {
    group: Arc<Group>,
    tasks: [AbortHandle; 3],
}

impl GroupHandle {
    /// The client's handle for the group; made if there is none.
    pub(super) fn join(client: &Client, name: &str) -> Arc<GroupHandle> {
        let mut members = client.registry().members();
        if let Some(member) = members.get(name).and_then(Weak::upgrade) {
            let member: Arc<dyn Any + Send + Sync> = member;
            if let Ok(handle) = member.downcast() {
                return handle;
            }
        }
        members.retain(|_, member| member.strong_count() > 0);
        let name: Arc<str> = name.into();
        let group = Arc::new(Group {
            client: client.clone(),
            retry_topic: format!("{RETRY_PREFIX}{name}").into(),
            name: Arc::clone(&name),
            changed: Arc::new(Notify::new()),
            signals: Arc::default(),
            state: Mutex::default(),
            assigning: tokio::sync::Mutex::default(),
            locking: Locking::default(),
        });
        let tasks = [
            tokio::spawn(rebalance::run(Arc::clone(&group))).abort_handle(),
            tokio::spawn(commit::run(Arc::clone(&group))).abort_handle(),
            tokio::spawn(lock::keep(Arc::clone(&group))).abort_handle(),
        ];
        let handle = Arc::new(GroupHandle { group, tasks });
        let weak: Weak<GroupHandle> = Arc::downgrade(&handle);
        members.insert(name, weak);
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
        inbox.give_up_retries();
        inbox.set_uncommitted(revoked.clone());
        let mut goodbye = Goodbye::new(group, last);
        let committed = commit_all(&group.client, &group.name, revoked.iter().cloned()).await;
        if committed.is_ok() {
            inbox.set_uncommitted(Vec::new());
        }
        let committed = committed.and(inbox.save().await);
        // Where something is outstanding, its handler may go on: the lock runs out, as after a crash.
        let mut idle = revoked;
        idle.retain(|queue| !queue.is_abandoned());
        release::unlock_revoked(group, &idle).await;
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
        inbox.give_up_retries();
        drop(Goodbye::new(group, last));
    }
}

impl fmt::Debug for GroupHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHandle")
            .field("group", &self.group.name)
            .finish_non_exhaustive()
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
        state.memberships.remove(inbox.topic());
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

    /// Who divides a topic's queues, after its brokers have answered.
    pub(super) fn believe(
        &self,
        topic: &Arc<str>,
        lists: &[Listed],
        heartbeat: Duration,
    ) -> Members {
        let mut state = self.state();
        let membership = state.memberships.entry(Arc::clone(topic)).or_default();
        membership.take(lists, heartbeat, Instant::now())
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
}
