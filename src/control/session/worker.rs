//! The session's task.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    CountersFn, Identity, Leaving, Shared, answer, backoff::Backoff, may_pass, save::Saver,
};
use crate::{
    clock::Clock,
    control::{
        ContactState, LastKnown, PlanSource, Saved,
        wire::{Clusters, LeaseMode, Role, SyncRequest, SyncResponse, VERSION},
    },
    error::{Error, ErrorKind, Result},
    side::Revision,
};

/// How long an answer may take beyond the wait that was asked for; sources have tighter bounds of their own.
const ANSWER_MARGIN: Duration = Duration::from_secs(15);
/// What changes within this time goes out in one request.
const MERGE: Duration = Duration::from_millis(2);
/// A suspended machine's timers stand still: the lease's clock is looked at this often.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// Leases are not asked for more often than this, however short they are; nor is a source that answers early with nothing new.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// How often the farewell is tried.
const FAREWELLS: u32 = 3;

#[derive(Debug)]
struct Lease {
    until: Option<Duration>,
    length: Option<Duration>,
    sent_last: Duration,
}

async fn told_to_leave(leaving: &mut watch::Receiver<Option<Leaving>>) {
    // The other end lives as long as the task.
    let _ = leaving.wait_for(Option::is_some).await;
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    source: Arc<dyn PlanSource>,
    clock: Arc<dyn Clock>,
    identity: Identity,
    counters: CountersFn,
    last_known: Option<LastKnown>,
    saver: Option<Saver>,
    backoff: Backoff,
    read: answer::Progress,
    lease: Lease,
    /// Of the last request.
    sequence: u64,
}

enum Outcome {
    Answered(Result<SyncResponse>),
    /// Something new is to be told: the open request was dropped.
    Interrupted,
    Leaving,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        source: Arc<dyn PlanSource>,
        clock: Arc<dyn Clock>,
        identity: Identity,
        counters: CountersFn,
        last_known: Option<LastKnown>,
        seed: u64,
    ) -> Worker {
        let options = &shared.options;
        Worker {
            backoff: Backoff::new(options.backoff_min, options.backoff_max, seed),
            shared,
            source,
            clock,
            identity,
            counters,
            saver: last_known.clone().map(Saver::start),
            last_known,
            read: answer::Progress::default(),
            lease: Lease {
                until: None,
                length: None,
                sent_last: Duration::ZERO,
            },
            sequence: 0,
        }
    }

    /// Registers without roles; falls back to the plans on disk. A control plane that knows less than the disk is none.
    pub(super) async fn first_contact(&mut self) -> Result<()> {
        let saved = self.saved().await;
        if let Some(saved) = &saved {
            self.read.epoch = saved.epoch;
            self.read.newest = saved.plans.revision;
        }
        let timeout = self.shared.options.start_timeout;
        let deadline = Instant::now() + timeout;
        let mut last = None;
        loop {
            let request = self.request(Duration::ZERO, Revision(0));
            let sent_at = self.clock.boot_time();
            let left = deadline.saturating_duration_since(Instant::now());
            let answered = tokio::time::timeout(left, self.source.sync(&request)).await;
            let error = match answered {
                Ok(result) => match result.and_then(|answer| self.take(&request, sent_at, &answer))
                {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(_) => match last {
                    Some(last) => return Err(last),
                    None => self.shared.no_contact("start", None),
                },
            };
            if error.kind() == ErrorKind::Superseded {
                return Err(error);
            }
            if self.start_from_disk(saved.as_ref(), &error) {
                return Ok(());
            }
            let pause = self.backoff.failed();
            if !may_pass(&error) || Instant::now() + pause >= deadline {
                return Err(self.shared.no_contact("start", Some(Arc::new(error))));
            }
            tracing::warn!(%error, "no contact yet");
            last = Some(self.shared.no_contact("start", Some(Arc::new(error))));
            tokio::time::sleep(pause).await;
        }
    }

    async fn saved(&self) -> Option<Saved> {
        match self.last_known.as_ref()?.load().await {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(%error, "the plans on disk are not used");
                None
            }
        }
    }

    fn start_from_disk(&mut self, saved: Option<&Saved>, why: &Error) -> bool {
        let Some(saved) = saved else {
            return false;
        };
        let response = SyncResponse {
            epoch: saved.epoch,
            plans: saved.plans.clone(),
            lease_ms: 0,
        };
        let everything = SyncRequest::default();
        let taken = self
            .read
            .take(&self.shared.table, &everything, &response, "the plan cache");
        if let Err(error) = taken {
            tracing::warn!(%error, "the plans on disk are not used");
            return false;
        }
        // The control plane is asked for everything when it is back: topics may be gone since.
        self.read.known = Revision(0);
        self.read.refused.clear();
        self.set_clusters(&response.plans.clusters);
        self.shared.contact.set(self.without_lease());
        tracing::warn!(
            error = %why, revision = response.plans.revision.0,
            "no contact at the start: going on with the last good plans from disk"
        );
        true
    }

    pub(super) async fn run(mut self) -> Result<()> {
        let result = self.keep_contact().await;
        self.shared
            .progress
            .send_modify(|progress| progress.ended = true);
        if let Some(saver) = self.saver.take() {
            saver.finish().await;
        }
        result
    }

    /// Until the end in good order, or until a newer process has this name.
    async fn keep_contact(&mut self) -> Result<()> {
        loop {
            let ticket = self.shared.tickets.load(Ordering::Acquire);
            let registering = ticket > self.shared.progress.borrow().answered;
            // News that never end must not keep the lease from being renewed.
            let quick = registering || self.half_of_lease_is_over();
            let wait = if quick {
                Duration::ZERO
            } else {
                self.poll_wait()
            };
            let known = if registering && self.lacks_a_plan() {
                Revision(0)
            } else {
                self.read.known
            };
            let request = self.request(wait, known);
            let sent_at = self.clock.boot_time();
            let begun = Instant::now();
            let error = match self.exchange(&request, quick).await {
                Outcome::Interrupted => continue,
                Outcome::Leaving => return self.say_farewell().await,
                Outcome::Answered(result) => {
                    match result.and_then(|response| self.take(&request, sent_at, &response)) {
                        Ok(changed) => {
                            if self.backoff.failures() > 0 {
                                tracing::info!(origin = self.shared.origin, "contact again");
                            }
                            self.backoff.succeeded();
                            self.shared.progress.send_modify(|progress| {
                                progress.answered = ticket;
                                progress.tried = ticket;
                                progress.last_error = None;
                            });
                            let early = begun.elapsed() < wait.min(SHORTEST_WAIT);
                            if early && !changed && self.pause(ticket, SHORTEST_WAIT, true).await {
                                return self.say_farewell().await;
                            }
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            if error.kind() == ErrorKind::Superseded {
                tracing::error!(%error, "a newer process runs under this instance name");
                self.shared.contact.set(ContactState::Superseded);
                return Err(error);
            }
            match self.backoff.failures() {
                0 => tracing::warn!(%error, "no contact; plans stay in force"),
                _ => tracing::debug!(%error, "no contact"),
            }
            self.shared.progress.send_modify(|progress| {
                progress.tried = ticket;
                progress.last_error = Some(Arc::new(error));
            });
            let pause = self.backoff.failed();
            if self.pause(ticket, pause, false).await {
                return self.say_farewell().await;
            }
        }
    }

    /// One request. `quick` ones are short and are not dropped for news.
    #[tracing::instrument(name = "sync", level = "debug", skip_all, fields(instance = request.instance, known = %request.known_revision))]
    async fn exchange(&mut self, request: &SyncRequest, quick: bool) -> Outcome {
        let shared = Arc::clone(&self.shared);
        let source = Arc::clone(&self.source);
        let mut leaving = shared.leaving.subscribe();
        let bound = Duration::from_millis(request.wait_ms) + ANSWER_MARGIN;
        let answer = tokio::time::timeout(bound, source.sync(request));
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                () = told_to_leave(&mut leaving) => return Outcome::Leaving,
                result = &mut answer => return Outcome::Answered(result.unwrap_or_else(|_| {
                    Err(Error::new(
                        ErrorKind::Timeout,
                        "sync",
                        format!("{} did not answer within {bound:?}", shared.origin),
                    ))
                })),
                () = shared.asked.notified(), if !quick => return Outcome::Interrupted,
                () = shared.table.progress(), if !quick => {
                    tokio::time::sleep(MERGE).await;
                    if self.is_news(request) {
                        return Outcome::Interrupted;
                    }
                }
                () = tokio::time::sleep(self.until_lease_look()), if self.lease.until.is_some() => self.look_at_lease(),
            }
        }
    }

    /// Waits between two requests; true when it is time to leave. A new role does not wait for long; with `for_news`, news end the pause.
    async fn pause(&mut self, ticket: u64, pause: Duration, for_news: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let begun = Instant::now();
        let mut until = begun + pause;
        let mut leaving = shared.leaving.subscribe();
        loop {
            tokio::select! {
                biased;
                () = told_to_leave(&mut leaving) => return true,
                () = tokio::time::sleep_until(until) => return false,
                () = shared.asked.notified() => {
                    if shared.tickets.load(Ordering::Acquire) > ticket {
                        until = until.min(begun + self.backoff.min());
                    }
                }
                () = shared.table.progress(), if for_news => {
                    until = until.min(Instant::now() + MERGE);
                }
                () = tokio::time::sleep(self.until_lease_look()), if self.lease.until.is_some() => self.look_at_lease(),
            }
        }
    }

    async fn say_farewell(&mut self) -> Result<()> {
        if *self.shared.leaving.borrow() == Some(Leaving::InSilence) {
            return Ok(());
        }
        let known = self.read.known;
        let mut tries = 0;
        loop {
            let mut request = self.request(Duration::ZERO, known);
            request.leaving = true;
            let answer = tokio::time::timeout(ANSWER_MARGIN, self.source.sync(&request)).await;
            let error = match answer {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "leave", "the farewell was not answered"),
            };
            tries += 1;
            if tries == FAREWELLS || error.kind() == ErrorKind::Superseded {
                return Err(error);
            }
            tokio::time::sleep(self.backoff.failed()).await;
        }
    }

    fn request(&mut self, wait: Duration, known_revision: Revision) -> SyncRequest {
        let (roles, acks) = self.standing();
        self.sequence += 1;
        SyncRequest {
            version: VERSION,
            instance: self.identity.instance.clone(),
            incarnation: self.identity.incarnation.clone(),
            sequence: self.sequence,
            lease_mode: self.shared.options.lease_mode,
            client_ids: self.identity.client_ids.clone(),
            roles,
            known_revision,
            acks,
            counters: (self.counters)(),
            refused: self.read.refused.clone(),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            leaving: false,
        }
    }

    /// The roles, and what they have applied.
    fn standing(&self) -> (Vec<Role>, BTreeMap<Arc<str>, Revision>) {
        let mut roles = Vec::new();
        let mut acks = BTreeMap::new();
        for cell in self.shared.table.cells() {
            if let Some(role) = cell.role() {
                if let Some(revision) = cell.applied() {
                    acks.insert(Arc::clone(cell.topic()), revision);
                }
                roles.push(role);
            }
        }
        roles.sort_by(|a, b| a.topic.cmp(&b.topic));
        (roles, acks)
    }

    fn is_news(&self, request: &SyncRequest) -> bool {
        let (roles, acks) = self.standing();
        roles != request.roles || acks != request.acks
    }

    fn lacks_a_plan(&self) -> bool {
        let cells = self.shared.table.cells();
        cells
            .iter()
            .any(|cell| cell.load().is_none() && cell.role().is_some())
    }

    /// True when something has changed.
    fn take(
        &mut self,
        request: &SyncRequest,
        sent_at: Duration,
        response: &SyncResponse,
    ) -> Result<bool> {
        // A machine that was suspended may have its answer before its timers: what began before the gap is of another session than what comes now.
        self.look_at_lease();
        let shared = Arc::clone(&self.shared);
        let mut changed = self
            .read
            .take(&shared.table, request, response, &shared.origin)?;
        changed |= self.set_clusters(&response.plans.clusters);
        self.renew(sent_at, response.lease_ms);
        if let (true, Some(saver)) = (changed, &self.saver) {
            let mut plans = self.read.document(&shared.table);
            plans.clusters = shared.clusters.borrow().clone();
            saver.save(Saved {
                instance: self.identity.instance.clone(),
                epoch: self.read.epoch,
                plans,
            });
        }
        Ok(changed)
    }

    /// An answer without addresses leaves those that are known.
    fn set_clusters(&self, clusters: &Clusters) -> bool {
        !clusters.is_empty()
            && self.shared.clusters.send_if_modified(|known| {
                let differs = known != clusters;
                if differs && !known.is_empty() {
                    tracing::warn!(before = ?known, now = ?clusters, "the clusters' addresses have changed: sides that are connected stay where they are until this process is started again");
                }
                known.clone_from(clusters);
                differs
            })
    }

    /// The lease counts from the moment the request was sent.
    fn renew(&mut self, sent_at: Duration, lease_ms: u64) {
        let length = (lease_ms > 0).then(|| Duration::from_millis(lease_ms));
        self.lease = Lease {
            until: length.map(|length| sent_at.saturating_add(length)),
            length,
            sent_last: sent_at,
        };
        self.shared.progress.send_if_modified(|progress| {
            let is_leased = length.is_some();
            std::mem::replace(&mut progress.is_leased, is_leased) != is_leased
        });
        let stops = self.shared.options.lease_mode == LeaseMode::Stop;
        self.shared
            .contact
            .set_stop_at(self.lease.until.filter(|_| stops));
        if !self.lease_is_over() {
            self.shared.contact.set(ContactState::Valid);
        }
    }

    fn lease_is_over(&self) -> bool {
        self.lease
            .until
            .is_some_and(|until| self.clock.boot_time() >= until)
    }

    fn half_of_lease_is_over(&self) -> bool {
        self.lease.length.is_some_and(|length| {
            self.clock.boot_time()
                >= self
                    .lease
                    .sent_last
                    .saturating_add((length / 2).max(SHORTEST_WAIT))
        })
    }

    fn poll_wait(&self) -> Duration {
        let third = self
            .lease
            .length
            .map_or(Duration::MAX, |length| (length / 3).max(SHORTEST_WAIT));
        self.shared.options.poll_wait.min(third)
    }

    fn until_lease_look(&self) -> Duration {
        let left = self.lease.until.map_or(LEASE_LOOK, |until| {
            until.saturating_sub(self.clock.boot_time())
        });
        // Not a busy loop once it is over.
        match left {
            Duration::ZERO => LEASE_LOOK,
            left => left.min(LEASE_LOOK),
        }
    }

    fn look_at_lease(&self) {
        if self.lease_is_over() && self.shared.contact.state() == ContactState::Valid {
            tracing::warn!(mode = ?self.shared.options.lease_mode, "the lease is over");
            self.shared.contact.set(self.without_lease());
        }
    }

    fn without_lease(&self) -> ContactState {
        match self.shared.options.lease_mode {
            LeaseMode::Continue => ContactState::Lost,
            LeaseMode::Stop => ContactState::Stopped,
        }
    }
}
