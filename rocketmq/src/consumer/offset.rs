//! One assigned queue: what is fetched, what is committed, and the calls for both.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::{AbortHandle, JoinSet};

use super::{Unreadable, window::Window};
use crate::{
    client::{Client, TopicEntry},
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
    route::MessageQueue,
};

pub(super) struct ProcessQueue {
    pub(super) queue: MessageQueue,
    /// The topic that the queue belongs to: the subscribed one or the group's retry topic.
    pub(super) entry: Arc<TopicEntry>,
    window: Mutex<Window>,
    revoked: AtomicBool,
    /// Held while committing, so that commits keep their order.
    committed: tokio::sync::Mutex<Committed>,
    fetching: Mutex<Option<AbortHandle>>,
    /// Where it stands at a message that cannot be read.
    unreadable: Mutex<Option<Unreadable>>,
}

/// What the broker should have.
struct Committed {
    offset: Option<u64>,
    /// Nothing was committed since the queue was assigned.
    untouched: bool,
    /// How often the broker is still to be asked whether it has it.
    checks: u8,
}

/// 4.9's `ConsumerOffsetManager.commitOffset` can lose a group's first commits of a topic when they come at the same time for several
/// queues: each makes a new table, and the last one stays. So they are read back, at once and once more later.
const CHECKS: u8 = 2;

impl ProcessQueue {
    pub(super) fn new(
        queue: MessageQueue,
        entry: Arc<TopicEntry>,
        start: u64,
        committed: Option<u64>,
    ) -> Self {
        ProcessQueue {
            queue,
            entry,
            window: Mutex::new(Window::new(start)),
            revoked: AtomicBool::new(false),
            committed: tokio::sync::Mutex::new(Committed {
                offset: committed,
                untouched: true,
                checks: 0,
            }),
            fetching: Mutex::new(None),
            unreadable: Mutex::new(None),
        }
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Stops the fetch; acks are refused from now on.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        if let Some(fetching) = self.fetching().take() {
            fetching.abort();
        }
    }

    fn fetching(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_fetching(&self, task: AbortHandle) {
        *self.fetching() = Some(task);
    }

    pub(super) fn unreadable(&self) -> Option<Unreadable> {
        self.stands().clone()
    }

    /// Whether the queue stands at a message that cannot be read.
    pub(super) fn set_unreadable(&self, unreadable: Option<Unreadable>) {
        *self.stands() = unreadable;
    }

    fn stands(&self) -> MutexGuard<'_, Option<Unreadable>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ack(&self, offset: u64) -> bool {
        !self.is_revoked() && self.window().ack(offset)
    }

    pub(super) fn master(&self) -> Result<Arc<str>> {
        let routed = self.entry.routed();
        routed
            .route
            .master(&self.queue.broker)
            .cloned()
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("the route names no master for broker {}", self.queue.broker),
                )
            })
    }

    /// Commits what is acked, if the broker does not have it yet.
    pub(super) async fn commit(&self, client: &Client, group: &str) -> Result<()> {
        let mut committed = self.committed.lock().await;
        let offset = self.window().committable();
        if committed.offset != Some(offset) {
            self.update(client, group, offset).await?;
            committed.offset = Some(offset);
            if std::mem::take(&mut committed.untouched) {
                committed.checks = CHECKS;
            }
        }
        if committed.checks > 0 {
            let have = query(client, group, &self.queue, &self.master()?).await?;
            if have == Some(offset) {
                committed.checks -= 1;
            } else {
                committed.checks = CHECKS;
                self.update(client, group, offset).await?;
            }
        }
        Ok(())
    }

    /// Commits what was acked before the queue went to others, unless they have gone further since.
    pub(super) async fn commit_late(&self, client: &Client, group: &str) -> Result<()> {
        let offset = self.window().committable();
        let have = query(client, group, &self.queue, &self.master()?).await?;
        if have.is_some_and(|have| have >= offset) {
            return Ok(());
        }
        self.update(client, group, offset).await
    }

    async fn update(&self, client: &Client, group: &str, offset: u64) -> Result<()> {
        let request = Request::new(request::UPDATE_CONSUMER_OFFSET)
            .text("consumerGroup", group)
            .text("topic", &self.queue.topic)
            .field("queueId", self.queue.queue)
            .field("commitOffset", offset);
        client
            .call(&self.master()?, "the offset commit", request)
            .await?;
        Ok(())
    }
}

/// Commits several queues: the brokers at the same time, the queues of each one after the other.
///
/// # Errors
/// The last failure, once all were tried.
pub(super) async fn commit_all(
    client: &Client,
    group: &Arc<str>,
    queues: impl IntoIterator<Item = Arc<ProcessQueue>>,
) -> Result<()> {
    let mut brokers: BTreeMap<Arc<str>, Vec<Arc<ProcessQueue>>> = BTreeMap::new();
    for queue in queues {
        let broker = Arc::clone(&queue.queue.broker);
        brokers.entry(broker).or_default().push(queue);
    }
    let mut commits = JoinSet::new();
    for queues in brokers.into_values() {
        let (client, group) = (client.clone(), Arc::clone(group));
        commits.spawn(async move {
            let mut result = Ok(());
            for queue in queues {
                if let Err(error) = queue.commit(&client, &group).await {
                    tracing::warn!(%group, queue = %queue.queue, %error, "an offset commit failed");
                    result = Err(error);
                }
            }
            result
        });
    }
    let mut result = Ok(());
    while let Some(commit) = commits.join_next().await {
        if let Ok(Err(error)) = commit {
            result = Err(error);
        }
    }
    result
}

/// Where the group goes on in a queue, and what the broker has committed.
pub(super) async fn start(
    client: &Client,
    group: &str,
    queue: &MessageQueue,
    master: &Arc<str>,
) -> Result<(u64, Option<u64>)> {
    if let Some(offset) = query(client, group, queue, master).await? {
        return Ok((offset, Some(offset)));
    }
    // A new group starts at the first message kept.
    let request = Request::new(request::GET_MIN_OFFSET)
        .text("topic", &queue.topic)
        .field("queueId", queue.queue);
    match client.call(master, "the first offset", request).await {
        Ok(answer) => Ok((answer.fields.number("offset")?, None)),
        // Whoever may only read may not ask this on 5.x. The first pull is told where the messages begin.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok((0, None)),
        Err(error) => Err(error),
    }
}

/// The committed offset, if there is one.
async fn query(
    client: &Client,
    group: &str,
    queue: &MessageQueue,
    master: &Arc<str>,
) -> Result<Option<u64>> {
    let request = Request::new(request::QUERY_CONSUMER_OFFSET)
        .text("consumerGroup", group)
        .text("topic", &queue.topic)
        .field("queueId", queue.queue)
        .text("setZeroIfNotFound", "false");
    let timeout = client.options().request_timeout;
    let answer = client.invoke(master, request, timeout).await?;
    match answer.code {
        response::SUCCESS => Ok(Some(answer.fields.number("offset")?)),
        response::QUERY_NOT_FOUND => Ok(None),
        code => Err(Error::refused(
            &format!("the offset of group {group} in topic {}", queue.topic),
            code,
            answer.remark.as_deref(),
        )
        .with_right(request::QUERY_CONSUMER_OFFSET)
        .with_address(master)),
    }
}
