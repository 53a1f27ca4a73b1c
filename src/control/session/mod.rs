//! The one background task of a client: it registers, tells what was applied, brings the plans, and watches the lease.

mod answer;
mod backoff;
mod save;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use self::worker::Worker;
use crate::{
    clock::Clock,
    control::{
        Contact, ContactState, LastKnown, PlanSource, PlanTable, TopicCell,
        wire::{Clusters, Counters, LeaseMode},
    },
    error::{Error, ErrorKind, Result},
};

/// How a session keeps contact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionOptions {
    /// How long the start, and each new role, waits for the first answer. Default 10 s.
    pub start_timeout: Duration,
    /// How long one request may stay open; less where a third of the lease is less. Default 20 s.
    pub poll_wait: Duration,
    /// The longest pause after the first failure; it doubles with each one. Default 100 ms.
    pub backoff_min: Duration,
    /// The longest pause after any failure. Default 5 s.
    pub backoff_max: Duration,
    /// What happens when the lease is over. Default `continue`.
    pub lease_mode: LeaseMode,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            start_timeout: Duration::from_secs(10),
            poll_wait: Duration::from_secs(20),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            lease_mode: LeaseMode::Continue,
        }
    }
}

/// Who this is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The instance's name.
    pub instance: String,
    /// The id of this process life: 32 hexadecimal digits.
    pub incarnation: String,
    /// The ids under which the brokers will list it.
    pub client_ids: Vec<String>,
}

/// Gives the totals to report.
pub type CountersFn = Box<dyn Fn() -> Vec<Counters> + Send + Sync>;

/// What a session is made of.
pub struct SessionParts {
    /// Where plans come from.
    pub source: Arc<dyn PlanSource>,
    /// What that is called in errors: an address or a path.
    pub origin: String,
    /// Where plans go.
    pub table: Arc<PlanTable>,
    /// Where the state of contact goes.
    pub contact: Arc<Contact>,
    /// What the lease is counted on.
    pub clock: Arc<dyn Clock>,
    /// Who registers.
    pub identity: Identity,
    /// What is reported.
    pub counters: CountersFn,
    /// How contact is kept.
    pub options: SessionOptions,
    /// Where the last good plans are kept.
    pub last_known: Option<LastKnown>,
    /// Of the pauses' jitter.
    pub seed: u64,
}

impl fmt::Debug for SessionParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionParts")
            .field("source", &self.source)
            .field("identity", &self.identity)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Owns the task. Dropping it ends the task at once and tells nobody, as a crash would.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<Result<()>>>>,
}

/// What the task and its owner share.
#[derive(Debug)]
struct Shared {
    table: Arc<PlanTable>,
    contact: Arc<Contact>,
    options: SessionOptions,
    origin: String,
    /// Counts those who wait for a request that was built after they asked.
    tickets: AtomicU64,
    asked: Notify,
    progress: watch::Sender<Progress>,
    clusters: watch::Sender<Clusters>,
    leaving: watch::Sender<Option<Leaving>>,
}

/// How the task ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaving {
    Farewell,
    InSilence,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// The source counts on this instance by a lease: the last answer gave one.
    is_leased: bool,
    /// All tickets up to this one were in an answered request.
    answered: u64,
    /// All tickets up to this one were in a request that was answered or failed.
    tried: u64,
    /// Why the last request failed.
    last_error: Option<Arc<Error>>,
    /// The task is over.
    ended: bool,
}

impl Session {
    /// Registers, loads the plans, and starts the task. When the first contact fails and there are good plans on disk, those are taken at once;
    /// without them it is tried again until the start timeout.
    ///
    /// # Errors
    /// What the source said last, `Timeout` when it said nothing, `InvalidPlan` for an answer of another version.
    ///
    /// # Cancellation
    /// This instance may be registered; nothing runs.
    pub async fn start(parts: SessionParts) -> Result<Session> {
        let shared = Arc::new(Shared {
            table: parts.table,
            contact: parts.contact,
            options: parts.options,
            origin: parts.origin,
            tickets: AtomicU64::new(0),
            asked: Notify::new(),
            progress: watch::Sender::default(),
            clusters: watch::Sender::default(),
            leaving: watch::Sender::default(),
        });
        let mut worker = Worker::new(
            Arc::clone(&shared),
            parts.source,
            parts.clock,
            parts.identity,
            parts.counters,
            parts.last_known,
            parts.seed,
        );
        worker.first_contact().await?;
        let task = tokio::spawn(worker.run());
        Ok(Session {
            shared,
            task: Mutex::new(Some(task)),
        })
    }

    /// The clusters' addresses as they came with the plans.
    #[must_use]
    pub fn clusters(&self) -> Clusters {
        self.shared.clusters.borrow().clone()
    }

    /// Waits until a request that named the caller's role in `cell` was answered and the topic has a plan. Take the role first.
    ///
    /// While the lease is in force, the control plane counts only what it has answered: the role is not usable before. Without contact, a topic with
    /// a plan at hand is answered at once; from a source that gives no lease, after the first try that failed.
    ///
    /// # Errors
    /// `StageUnknown` for a topic that is not managed; `InvalidPlan` when its only plan was refused; `Superseded`; what the source said last, or
    /// `Timeout`, after the start timeout, which may pass before the lease is over.
    ///
    /// # Cancellation
    /// Leaves nothing behind but the role, which is the caller's.
    pub async fn join(&self, cell: &TopicCell) -> Result<()> {
        let shared = &*self.shared;
        let mut progress = shared.progress.subscribe();
        let mut contact = shared.contact.changes();
        let ticket = shared.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        shared.asked.notify_one();
        let has_plan = || cell.load().is_some();
        let done = async {
            loop {
                let now = progress.borrow_and_update().clone();
                let may_go_on = match *contact.borrow_and_update() {
                    ContactState::Lost | ContactState::Stopped => true,
                    ContactState::Valid => now.tried >= ticket && !now.is_leased,
                    ContactState::Superseded => false,
                };
                if now.ended || now.answered >= ticket || (may_go_on && has_plan()) {
                    return;
                }
                // Both senders live as long as the session.
                tokio::select! {
                    _ = progress.changed() => {}
                    _ = contact.changed() => {}
                }
            }
        };
        let done = tokio::time::timeout(shared.options.start_timeout, done).await;
        if shared.contact.state() == ContactState::Superseded {
            return shared.contact.check("join");
        }
        let now = shared.progress.borrow().clone();
        let (topic, origin) = (cell.topic(), &shared.origin);
        match done {
            Ok(()) if now.ended => Err(closed("join")),
            Ok(()) if has_plan() => Ok(()),
            Ok(()) => Err(match cell.refusal() {
                Some(reason) => Error::new(
                    ErrorKind::InvalidPlan,
                    "join",
                    format!("the plan of topic {topic} from {origin} was refused: {reason}"),
                ),
                None => Error::new(
                    ErrorKind::StageUnknown,
                    "join",
                    format!(
                        "topic {topic} is not managed by {origin}: add it with `crossfade topic add {topic} --group GROUP`"
                    ),
                ),
            }),
            Err(_) if has_plan() => Err(shared.not_registered(now.last_error)),
            Err(_) => Err(shared.no_contact("join", now.last_error)),
        }
    }

    /// Ends in good order: tells that this instance leaves, writes the last plans to disk, ends the task. Take all roles back before.
    ///
    /// # Errors
    /// `Timeout` after `deadline`; what the source said: this instance then counts as lost until its lease is over. `Closed` when it has
    /// left before.
    ///
    /// # Cancellation
    /// As dropping the session.
    pub async fn leave(&self, deadline: Duration) -> Result<()> {
        self.end(Leaving::Farewell, deadline).await
    }

    /// As [`Self::leave`], but tells nobody: something of this instance may still be under way, so it has to count as lost.
    ///
    /// # Errors
    /// `Timeout` after `deadline`; `Closed` when it has left before.
    ///
    /// # Cancellation
    /// As dropping the session.
    pub async fn leave_in_silence(&self, deadline: Duration) -> Result<()> {
        self.end(Leaving::InSilence, deadline).await
    }

    async fn end(&self, how: Leaving, deadline: Duration) -> Result<()> {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut task = AbortOnDrop(task.ok_or_else(|| closed("leave"))?);
        self.shared.leaving.send_replace(Some(how));
        match tokio::time::timeout(deadline, &mut task.0).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Error::new(
                ErrorKind::Unexpected,
                "leave",
                "the session's task has failed",
            )
            .with_source(error)),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "leave",
                format!(
                    "{} did not answer within {deadline:?}: this instance counts as lost until its lease is over",
                    self.shared.origin
                ),
            )),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

struct AbortOnDrop(JoinHandle<Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    fn not_registered(&self, last: Option<Arc<Error>>) -> Error {
        let waited = self.options.start_timeout;
        let message = format!(
            "{} did not take the registration within {waited:?}, and the lease is in force: try again, or after the lease",
            self.origin
        );
        match last {
            Some(last) => {
                Error::new(last.kind(), "join", format!("{message}: {last}")).with_source(last)
            }
            None => Error::new(ErrorKind::Timeout, "join", message),
        }
    }

    fn no_contact(&self, operation: &'static str, last: Option<Arc<Error>>) -> Error {
        let waited = self.options.start_timeout;
        match last {
            Some(last) => {
                // What waiting does not mend was not waited for.
                let within = match may_pass(&last) {
                    true => format!(" within {waited:?}"),
                    false => String::new(),
                };
                let origin = &self.origin;
                let message = format!("no plans from {origin}{within}, and none on disk: {last}");
                Error::new(last.kind(), operation, message).with_source(last)
            }
            None => Error::new(
                ErrorKind::Timeout,
                operation,
                format!(
                    "{} did not answer within {waited:?}, and no plans are on disk",
                    self.origin
                ),
            ),
        }
    }
}

/// Whether trying again may help.
fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the client was shut down")
}
