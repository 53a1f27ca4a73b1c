//! The one task that owns the coordinator.

use std::{fmt, sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::TopicDescription,
    control::wire::{SyncRequest, SyncResponse},
    stage::Routing,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{clusters::Clusters, newcomer, work::perform};
use crate::{
    coordinator::{Actor, Answer, Command, Config, Coordinator, Event, Refusal, Work},
    record::{AuditEntry, Change},
    store::{Store, StoreError, StoreErrorKind},
};

/// Requests waiting for the coordinator; more are told to come back.
const QUEUE: usize = 4_096;
/// Calls to the brokers at the same time.
const CONCURRENT_WORK: usize = 16;
/// The longest time between two ticks.
const IDLE: Duration = Duration::from_secs(1);
/// The shortest time between two ticks.
const BUSY: Duration = Duration::from_millis(10);
/// Between two tries to read the store again after it has failed.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A control plane that has nothing to write asks so often whether it still holds the epoch.
const EPOCH_CHECK: Duration = Duration::from_secs(2);
/// Between two questions whether a look is over.
const LOOK_POLL: Duration = Duration::from_millis(20);

type Read = Box<dyn FnOnce(&Coordinator, Duration) + Send>;

enum Request {
    Handle(Box<Event>, oneshot::Sender<Result<Answer, Refusal>>),
    Read(Read),
}

/// How everybody else speaks to the coordinator. Clones speak to the same one.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    revision: watch::Receiver<Revision>,
    clusters: Arc<Clusters>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("revision", &*self.revision.borrow())
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Registers an instance and takes what it reports.
    pub(crate) async fn sync(&self, request: SyncRequest) -> Result<Answer, Refusal> {
        self.handle(Event::Sync(request)).await
    }

    /// Registers an instance and answers with the plans that have changed; `None` when a newer process runs under its name. The duration is how
    /// long a poll may be kept open: one of most of a lease would end the lease with its answer.
    pub(crate) async fn register(
        &self,
        request: SyncRequest,
    ) -> Result<Option<(SyncResponse, Duration)>, Refusal> {
        // Who leaves needs no plans.
        let known = match request.leaving {
            true => Revision(u64::MAX),
            false => request.known_revision,
        };
        let wait = if request.leaving { 0 } else { request.wait_ms };
        if self.sync(request).await? == (Answer::Sync { superseded: true }) {
            return Ok(None);
        }
        let response = self.plans_after(known).await?;
        let longest = Duration::from_millis(response.lease_ms) / 2;
        let news = !response.plans.plans.is_empty() || !response.plans.removed.is_empty();
        let wait = match news {
            true => Duration::ZERO,
            false => Duration::from_millis(wait).min(longest),
        };
        Ok(Some((response, wait)))
    }

    /// The plans that have changed after `known`, once there are some or `wait` is over.
    pub(crate) async fn news(
        &self,
        known: Revision,
        wait: Duration,
    ) -> Result<SyncResponse, Refusal> {
        let mut revisions = self.revision.clone();
        // An end of the driver ends the wait too: nothing changes any more.
        let _ = timeout(wait, revisions.wait_for(|revision| *revision > known)).await;
        self.plans_after(known).await
    }

    /// Plans after `known`.
    ///
    /// # Errors
    /// `unavailable` for revision 0 when the store is an older copy: its plans are not the ones in force.
    pub(crate) async fn plans_after(&self, known: Revision) -> Result<SyncResponse, Refusal> {
        let response = self.read(move |coordinator, _| {
            Ok(SyncResponse {
                epoch: coordinator.epoch(),
                plans: coordinator.news(known).map_err(unavailable)?,
                lease_ms: u64::try_from(coordinator.timing().lease.as_millis()).unwrap_or(u64::MAX),
            })
        });
        response.await?
    }

    /// An operator's word.
    pub(crate) async fn command(&self, actor: Actor, command: Command) -> Result<Answer, Refusal> {
        self.handle(Event::Command { actor, command }).await
    }

    /// Looks at the coordinator between two events.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Coordinator, Duration) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (tell, told) = oneshot::channel();
        let read: Read = Box::new(move |coordinator, now| {
            // Whoever asked may have gone.
            let _ = tell.send(look(coordinator, now));
        });
        self.push(Request::Read(read))?;
        told.await
            .map_err(|_| unavailable("the store does not answer; try again"))
    }

    /// Looks at these topics again, and waits at most `within` for all of them. What was begun before the answered time is no fresh look.
    pub(crate) async fn look_again(
        &self,
        topics: Vec<Arc<str>>,
        within: Duration,
    ) -> Result<Duration, Refusal> {
        let since = self.read(|_, now| now).await?;
        let wanted: Arc<[Arc<str>]> = topics.clone().into();
        self.handle(Event::LookAgain { topics }).await?;
        let end = Instant::now() + within;
        loop {
            let wanted = Arc::clone(&wanted);
            let looked = self.read(move |coordinator, _| {
                let mut topics = wanted.iter();
                topics.all(|topic| coordinator.looked_since(topic, since))
            });
            if looked.await? || Instant::now() >= end {
                return Ok(since);
            }
            sleep(LOOK_POLL).await;
        }
    }

    /// Waits until a topic is managed no more, at most `within`; then says what keeps it.
    pub(crate) async fn removed(&self, topic: Arc<str>, within: Duration) -> Result<(), Refusal> {
        let end = Instant::now() + within;
        loop {
            let name = Arc::clone(&topic);
            let view = self.read(move |coordinator, now| coordinator.topic(&name, now));
            let Some(view) = view.await?.filter(|view| view.leaving) else {
                return Ok(());
            };
            if Instant::now() >= end {
                let why = view.trouble.unwrap_or("no answer yet".to_owned());
                return Err(unavailable(format!(
                    "topic {topic} is still managed: its target is opened as it was first ({why}). That is tried until it is done; `crossfade topic cancel {topic}` keeps the topic"
                )));
            }
            sleep(LOOK_POLL).await;
        }
    }

    /// Checks that topics of this routing can be moved between the clusters.
    ///
    /// # Errors
    /// `conflict` that names the side that cannot be read in order; `unavailable` with what a cluster says.
    pub(crate) async fn can_move(&self, routing: Routing) -> Result<(), Refusal> {
        match routing {
            Routing::Ordered => self.clusters.read_in_order().await,
            _ => Ok(()),
        }
    }

    /// The topic as both clusters describe it now.
    ///
    /// # Errors
    /// `unavailable` with what the clusters say; `conflict` when both are one, or the topic is the brokers' own.
    pub(crate) async fn describe(
        &self,
        topic: &str,
    ) -> Result<[Option<TopicDescription>; 2], Refusal> {
        newcomer::describe(&self.clusters, topic).await
    }

    /// Who uses a topic whose target would be sealed, beside the registered instances; one sentence each.
    ///
    /// # Errors
    /// `unavailable` with what the target says.
    pub(crate) async fn use_of_target(
        &self,
        topic: &Arc<str>,
        groups: &[Arc<str>],
        described: &[Option<TopicDescription>; 2],
    ) -> Result<Vec<String>, Refusal> {
        let [_, Some(target)] = described else {
            return Ok(Vec::new());
        };
        let (name, sides) = (Arc::clone(topic), described.clone());
        let read = self.read(move |coordinator, _| {
            let stage = coordinator.begins_at(&name, &sides);
            (stage, coordinator.client_ids())
        });
        let (stage, ours) = read.await?;
        if stage.access(Side::Target) != Access::Sealed {
            return Ok(Vec::new());
        }
        let ours = |id: &str| ours.contains(id);
        newcomer::use_of_target(&self.clusters, topic, groups, target, ours)
            .await
            .map_err(unavailable)
    }

    async fn handle(&self, event: Event) -> Result<Answer, Refusal> {
        let (tell, told) = oneshot::channel();
        self.push(Request::Handle(Box::new(event), tell))?;
        told.await
            .map_err(|_| unavailable("the control plane is stopping"))?
    }

    fn push(&self, request: Request) -> Result<(), Refusal> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    unavailable("too many requests are waiting; try again")
                }
                mpsc::error::TrySendError::Closed(_) => {
                    unavailable("the control plane is stopping")
                }
            })
    }
}

/// Owns the coordinator, its store, and the calls to the brokers.
#[derive(Debug)]
pub(crate) struct Driver {
    store: Arc<dyn Store>,
    config: Config,
    clusters: Arc<Clusters>,
    /// Nobody, while the store cannot be read.
    coordinator: Option<Coordinator>,
    requests: mpsc::Receiver<Request>,
    revision: watch::Sender<Revision>,
    work: JoinSet<Event>,
    permits: Arc<Semaphore>,
    start: Instant,
    due: Instant,
    store_tried: Instant,
    epoch_held: Instant,
}

impl Driver {
    /// Reads the store.
    ///
    /// # Errors
    /// What the store says; [`StoreErrorKind::Unreadable`] when the rows make no sense.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        config: Config,
        clusters: Arc<Clusters>,
    ) -> Result<(Handle, Driver), StoreError> {
        let (sender, requests) = mpsc::channel(QUEUE);
        let (revision, revisions) = watch::channel(Revision(0));
        let mut driver = Driver {
            store,
            config,
            clusters: Arc::clone(&clusters),
            coordinator: None,
            requests,
            revision,
            work: JoinSet::new(),
            permits: Arc::new(Semaphore::new(CONCURRENT_WORK)),
            start: Instant::now(),
            due: Instant::now(),
            store_tried: Instant::now(),
            epoch_held: Instant::now(),
        };
        driver.restore().await?;
        let handle = Handle {
            requests: sender,
            revision: revisions,
            clusters,
        };
        Ok((handle, driver))
    }

    /// Writes down which clusters the store is about before anything else is, so that no control plane of other clusters goes on from it.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancellation
    /// It may be written or not.
    pub(crate) async fn bind(&self) -> Result<(), StoreError> {
        let Some(coordinator) = &self.coordinator else {
            return Ok(());
        };
        let change = Change {
            puts: vec![coordinator.row_of_counter()],
            ..Change::default()
        };
        self.store.apply(change).await
    }

    /// Runs until every handle is gone or another control plane has taken the store over.
    ///
    /// # Errors
    /// [`StoreErrorKind::Superseded`].
    ///
    /// # Cancellation
    /// As a crash.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        loop {
            // Requests may bring the next tick nearer and never push it away.
            self.due = self.due.min(self.next_tick());
            tokio::select! {
                // Requests last: a flood of them holds up neither time nor what the brokers say.
                biased;
                () = sleep_until(self.due) => {
                    drop(self.step(Event::Tick).await?);
                    self.due = self.next_tick();
                }
                Some(done) = self.work.join_next() => match done {
                    Ok(event) => drop(self.step(event).await?),
                    Err(error) => {
                        // Nobody can tell whose it was, and its topic would wait for it for ever: ask the brokers anew for all.
                        tracing::error!(%error, "a call to the brokers ended without an answer");
                        self.coordinator = None;
                        self.work.shutdown().await;
                        self.try_restore().await?;
                    }
                },
                request = self.requests.recv() => match request {
                    Some(Request::Handle(event, answer)) => {
                        let outcome = self.step(*event).await?;
                        // Whoever asked may have gone.
                        let _ = answer.send(outcome);
                    }
                    Some(Request::Read(read)) => {
                        let now = self.now();
                        if let Some(coordinator) = &self.coordinator {
                            read(coordinator, now);
                        }
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn next_tick(&self) -> Instant {
        let now = self.now();
        let wanted = self.coordinator.as_ref().and_then(Coordinator::next_tick);
        let wait = wanted.map_or(IDLE, |at| at.saturating_sub(now).clamp(BUSY, IDLE));
        Instant::now() + wait
    }

    /// One event, whole: decide, store, then answer and act.
    async fn step(&mut self, event: Event) -> Result<Result<Answer, Refusal>, StoreError> {
        if self.coordinator.is_none() && self.store_tried.elapsed() >= STORE_RETRY {
            self.try_restore().await?;
        }
        let now = self.now();
        let Some(coordinator) = &mut self.coordinator else {
            return Ok(Err(unavailable(
                "the store cannot be read or written; see the log of the control plane",
            )));
        };
        let before = coordinator.outdated().is_some();
        let step = coordinator.handle(event, now);
        if let (false, Some(why)) = (before, coordinator.outdated()) {
            tracing::error!("{why}");
        }
        let decided = step.change.audit.clone();
        // Brokers are changed, and nothing is gone on with for long, only by whoever holds the epoch.
        let changes_brokers = step
            .work
            .iter()
            .any(|work| !matches!(work, Work::Inspect { .. } | Work::ReadEnds { .. }));
        let stored = if !step.change.is_empty() {
            self.epoch_held = Instant::now();
            self.store.apply(step.change).await
        } else if changes_brokers || self.epoch_held.elapsed() >= EPOCH_CHECK {
            self.epoch_held = Instant::now();
            self.store.check().await
        } else {
            Ok(())
        };
        if let Err(error) = stored {
            tracing::error!(%error, "a decision could not be stored and is not made");
            if error.kind() == StoreErrorKind::Superseded {
                return Err(error);
            }
            // What was decided and not stored must not be acted upon: go on from what the store has.
            let refusal = unavailable(error.to_string());
            self.coordinator = None;
            self.work.shutdown().await;
            self.try_restore().await?;
            return Ok(Err(refusal));
        }
        for entry in &decided {
            told(entry);
        }
        match step.trouble {
            Some((topic, Some(trouble))) => tracing::warn!(%topic, "{trouble}"),
            Some((topic, None)) => tracing::info!(%topic, "its trouble is over"),
            None => {}
        }
        for work in step.work {
            self.spawn(work);
        }
        self.tell_revision();
        Ok(step.answer.unwrap_or(Ok(Answer::Done)))
    }

    fn spawn(&mut self, work: Work) {
        let clusters = Arc::clone(&self.clusters);
        let permits = Arc::clone(&self.permits);
        let store = Arc::clone(&self.store);
        let start = self.start;
        self.work.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            perform(clusters, store, work, start.elapsed()).await
        });
    }

    fn tell_revision(&self) {
        if let Some(coordinator) = &self.coordinator {
            let now = coordinator.revision();
            self.revision.send_if_modified(|told| {
                let changed = *told != now;
                *told = now;
                changed
            });
        }
    }

    /// As [`Self::restore`], but a store that cannot be read is tried again later.
    async fn try_restore(&mut self) -> Result<(), StoreError> {
        self.store_tried = Instant::now();
        match self.restore().await {
            Err(error) if error.kind() == StoreErrorKind::Superseded => Err(error),
            Err(error) => {
                tracing::error!(%error, "the store cannot be read");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Begins anew from the store, as after a restart.
    async fn restore(&mut self) -> Result<(), StoreError> {
        self.store.check().await?;
        let records = self.store.load().await?;
        let coordinator = Coordinator::restore(self.config.clone(), records, self.now())
            .map_err(|why| StoreError::new(StoreErrorKind::Unreadable, why))?;
        if let Some(why) = coordinator.listening(self.now()) {
            tracing::info!("{why}");
        }
        self.coordinator = Some(coordinator);
        self.tell_revision();
        Ok(())
    }
}

/// The longest part of a value in a line of the log, in characters.
const SHORT: usize = 120;

/// What was decided, in one line; the audit log has all of it.
fn told(entry: &AuditEntry) {
    let short = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        value => value.to_string().chars().take(SHORT).collect(),
    };
    tracing::info!(
        actor = entry.actor,
        action = entry.action,
        subject = entry.subject,
        before = short(&entry.before),
        after = short(&entry.after),
        reason = entry.reason,
        "decided"
    );
}

fn unavailable(message: impl Into<String>) -> Refusal {
    Refusal {
        code: "unavailable",
        message: message.into(),
        gates: Vec::new(),
    }
}
