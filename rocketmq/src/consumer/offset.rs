//! One assigned queue: what is fetched, what is committed, and the calls for both.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    Unreadable, local::LocalOffsets, lock::QueueLock, moment::Moment, source::Source, start::Start,
    window::Window,
};
use crate::{
    client::{Client, TopicEntry},
    codes::{request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
    message::RETRY_PREFIX,
    route::{Broker, MessageQueue},
};

pub(super) struct ProcessQueue {
    pub(super) queue: MessageQueue,
    /// The topic that the queue belongs to: the subscribed one or the group's retry topic.
    pub(super) entry: Arc<TopicEntry>,
    /// For a topic that is read in order.
    pub(super) lock: Option<QueueLock>,
    /// For a broadcast.
    local: Option<Arc<LocalOffsets>>,
    /// The id of the replica that is to be asked next; the master is 0.
    suggested: AtomicU64,
    window: Mutex<Window>,
    /// How many messages of it are in an inbox.
    held: AtomicUsize,
    /// Fetching has stepped back: what is being fetched is not wanted now.
    stepped_back: Notify,
    /// Since when retries of topics that nobody here reads may be waiting for somebody.
    since: Mutex<Instant>,
    /// Nothing more is handed out; what was handed out may still be acked.
    leaving: AtomicBool,
    revoked: AtomicBool,
    /// It was revoked with messages handed out and not acked.
    abandoned: AtomicBool,
    /// Somebody is about to let it go.
    releasing: AtomicBool,
    /// Its lock is not to be renewed any more.
    unlocking: AtomicBool,
    /// Nothing was committed since it was assigned.
    untouched: AtomicBool,
    /// Held while committing, so that commits keep their order.
    committed: tokio::sync::Mutex<Committed>,
    fetching: Mutex<Option<AbortHandle>>,
    /// Where it stands at a message that cannot be read.
    unreadable: Mutex<Option<Unreadable>>,
}

/// What the broker should have.
struct Committed {
    offset: Option<u64>,
    /// Who was asked where to begin, or told last: a replica does not pass it on to its master.
    address: Option<Arc<str>>,
    /// How often the broker is still to be asked whether it has it.
    checks: u8,
}

/// 4.9's `ConsumerOffsetManager.commitOffset` can lose a group's first commits of a topic when they come at the same time for several
/// queues: each makes a new table, and the last one stays. So they are read back, at once and once more later.
const CHECKS: u8 = 2;

impl ProcessQueue {
    pub(super) fn new(queue: MessageQueue, entry: Arc<TopicEntry>, start: Start) -> Self {
        ProcessQueue {
            queue,
            entry,
            lock: start.locked.map(QueueLock::new),
            local: start.local,
            suggested: AtomicU64::new(0),
            window: Mutex::new(Window::new(start.offset)),
            held: AtomicUsize::new(0),
            stepped_back: Notify::new(),
            since: Mutex::new(Instant::now()),
            leaving: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            releasing: AtomicBool::new(false),
            unlocking: AtomicBool::new(false),
            untouched: AtomicBool::new(true),
            committed: tokio::sync::Mutex::new(Committed {
                offset: start.committed,
                address: start.address,
                checks: 0,
            }),
            fetching: Mutex::new(None),
            unreadable: Mutex::new(None),
        }
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is one of a group's retry topic.
    pub(super) fn is_retry(&self) -> bool {
        self.queue.topic.starts_with(RETRY_PREFIX)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn holds_more(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn holds_less(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// A message that was fetched, and that nobody is going to ack, is to be fetched again.
    pub(super) fn step_back(&self, offset: u64) {
        if self.window().step_back(offset) {
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.stepped_back.notify_one();
        }
    }

    /// Waits until fetching steps back; at once if it has since the last call.
    pub(super) async fn stepped_back(&self) {
        self.stepped_back.notified().await;
    }

    /// When it was assigned, or stepped back last.
    pub(super) fn since(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Revoked, or to be so when what was handed out is acked.
    pub(super) fn is_ending(&self) -> bool {
        self.is_leaving() || self.is_revoked()
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn set_abandoned(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// False when somebody else is about to let it go.
    pub(super) fn claim(&self) -> bool {
        !self.releasing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn unclaim(&self) {
        self.unlocking.store(false, Ordering::Release);
        self.releasing.store(false, Ordering::Release);
    }

    /// From here on its lock is not renewed, unless it is unclaimed.
    pub(super) fn set_unlocking(&self) {
        self.unlocking.store(true, Ordering::Release);
    }

    /// Whether its lock is this member's to keep.
    pub(super) fn keeps_lock(&self) -> bool {
        self.lock.is_some() && !self.is_revoked() && !self.unlocking.load(Ordering::Acquire)
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.untouched.load(Ordering::Acquire)
    }

    /// Whether its messages may be handed out: those of a queue that is read in order only while it is locked.
    pub(super) fn may_hand_out(&self) -> bool {
        let trusted = |lock: &QueueLock| lock.is_trusted(Moment::now());
        self.lock.as_ref().is_none_or(trusted)
    }

    /// Stops the fetch and what would be handed out; acks still count.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.stop_fetching();
    }

    /// Stops the fetch; acks are refused from now on.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.stop_fetching();
    }

    fn stop_fetching(&self) {
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

    /// The master, or while there is none a replica: for what both can answer.
    fn answering(&self) -> Result<Arc<str>> {
        let routed = self.entry.routed();
        let broker = routed.route.broker(&self.queue.broker);
        let address = broker.and_then(Broker::answering).cloned();
        address.ok_or_else(|| {
            let why = format!("the route does not name broker {}", self.queue.broker);
            Error::new(ErrorKind::Unavailable, why)
        })
    }

    /// Whom to pull from.
    pub(super) fn source(&self) -> Result<Source> {
        let routed = self.entry.routed();
        let broker = routed.route.broker(&self.queue.broker);
        let suggested = self.suggested.load(Ordering::Relaxed);
        broker
            .and_then(|broker| Source::choose(broker, suggested))
            .ok_or_else(|| {
                let why = format!("the route does not name broker {}", self.queue.broker);
                Error::new(ErrorKind::Unavailable, why)
            })
    }

    /// Asks this one next.
    pub(super) fn suggest(&self, broker_id: u64) {
        self.suggested.store(broker_id, Ordering::Relaxed);
    }

    /// Commits what is acked, if the broker does not have it yet.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] when another member may have gone further; the broker's refusal, or no answer.
    pub(super) async fn commit(&self, client: &Client, group: &str) -> Result<()> {
        let mut committed = self.committed.lock().await;
        let lapsed = |lock: &QueueLock| lock.is_lapsed(Moment::now());
        if self.lock.as_ref().is_some_and(lapsed) {
            let why = format!("the lock of {} ran out", self.queue);
            return Err(Error::new(ErrorKind::Stale, why));
        }
        let offset = self.window().committable();
        if let Some(local) = &self.local {
            local.set(&self.queue, offset);
            return Ok(());
        }
        let address = self.answering()?;
        let told = committed
            .address
            .as_ref()
            .is_none_or(|told| *told == address);
        if committed.offset != Some(offset) || !told {
            self.update(client, group, offset, &address).await?;
            committed.offset = Some(offset);
            committed.address = Some(Arc::clone(&address));
            if self.untouched.swap(false, Ordering::AcqRel) {
                committed.checks = CHECKS;
            }
        }
        if committed.checks > 0 {
            let have = query(client, group, &self.queue, &address).await?;
            // Another member that has the queue by now may have gone further.
            if have.is_some_and(|have| have >= offset) {
                committed.checks -= 1;
            } else {
                committed.checks = CHECKS;
                self.update(client, group, offset, &address).await?;
            }
        }
        Ok(())
    }

    /// Commits what was acked before the queue went to others, unless they have gone further since.
    pub(super) async fn commit_late(&self, client: &Client, group: &str) -> Result<()> {
        let offset = self.window().committable();
        if self.local.is_some() {
            return Ok(());
        }
        let address = self.answering()?;
        let have = query(client, group, &self.queue, &address).await?;
        if have.is_some_and(|have| have >= offset) {
            return Ok(());
        }
        self.update(client, group, offset, &address).await
    }

    async fn update(
        &self,
        client: &Client,
        group: &str,
        offset: u64,
        address: &Arc<str>,
    ) -> Result<()> {
        let request = Request::new(request::UPDATE_CONSUMER_OFFSET)
            .text("consumerGroup", group)
            .text("topic", &self.queue.topic)
            .field("queueId", self.queue.queue)
            .field("commitOffset", offset);
        let operation = "the offset commit";
        client.call(address, operation, request).await?;
        Ok(())
    }
}

/// The committed offset, if there is one.
pub(super) async fn query(
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
        response::SUCCESS => Ok(Some(answer.fields.offset("offset")?)),
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
