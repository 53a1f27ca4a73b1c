//! One side of a consumer: opened when it is wanted, fetched from, stopped and committed when it is not.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    Shared,
    inbox::{Claimed, Places},
    ordered,
    reports::Reports,
};
use crate::{
    backend::{BackendConsumer, Incoming, Subscription},
    control::InUse,
    dedup::Claim,
    error::Result,
    message::IdempotencyKey,
    metrics::Event,
    side::Side,
};

/// The longest single wait for messages.
pub(super) const FETCH_WAIT: Duration = Duration::from_secs(1);
/// Between attempts to open a side, or to fetch after an error: the first and the longest pause.
pub(super) const OPEN_PAUSE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));
/// Between attempts to claim a key that is claimed elsewhere: the first and the longest pause.
pub(super) const CLAIM_PAUSE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(1));
/// How long the last commit and leaving the group may take; the brokers hand the queues on by themselves after that.
const LEAVE: Duration = Duration::from_secs(5);

/// What the supervisor wants of a side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// Read it.
    Yes,
    /// Do not read it; what is ready is still handed out.
    No,
    /// Do not read it; nothing more is handed out.
    Purge,
}

/// Where a side is.
#[derive(Clone, Debug)]
pub(super) enum Status {
    /// Not subscribed; stopped, handlers finished, offsets committed.
    Closed,
    /// On the way from one to the other.
    Busy,
    /// Subscribed and assigned.
    Ready(Arc<dyn BackendConsumer>),
}

/// Runs for as long as the consumer; dropping the future leaves the side as a crash would.
pub(super) async fn run(
    shared: Arc<Shared>,
    side: Side,
    mut wanted: watch::Receiver<Wanted>,
    status: watch::Sender<Status>,
) {
    loop {
        status.send_replace(Status::Closed);
        if wanted
            .wait_for(|wanted| *wanted == Wanted::Yes)
            .await
            .is_err()
        {
            return;
        }
        status.send_replace(Status::Busy);
        let opened = tokio::select! {
            biased;
            backend = open(&shared, side) => Some(backend),
            _ = unwanted(&mut wanted) => None,
        };
        let Some(backend) = opened else { continue };
        status.send_replace(Status::Ready(Arc::clone(&backend)));
        tracing::info!(topic = %shared.subscription.topic, group = %shared.subscription.group, %side, "reading");
        if reads_in_order(&shared) {
            ordered::Fetch::new(&shared, side, &backend)
                .run(&mut wanted)
                .await;
        } else {
            let mut fetch = Fetch {
                shared: &shared,
                side,
                backend: &backend,
                waiting: VecDeque::new(),
                reports: Reports::new(&shared, side),
            };
            fetch.run(&mut wanted).await;
        }
        status.send_replace(Status::Busy);
        stop(&shared, side, &*backend, &mut wanted).await;
        tracing::info!(topic = %shared.subscription.topic, group = %shared.subscription.group, %side, "stopped reading");
    }
}

pub(super) async fn unwanted(wanted: &mut watch::Receiver<Wanted>) {
    // A closed channel means that the consumer is being dropped.
    let _ = wanted.wait_for(|wanted| *wanted != Wanted::Yes).await;
}

/// Subscribes and waits for the first assignment, for as long as it takes.
async fn open(shared: &Shared, side: Side) -> Arc<dyn BackendConsumer> {
    let mut pause = OPEN_PAUSE.0;
    loop {
        match try_open(shared, side).await {
            Ok(backend) => return backend,
            Err(error) => {
                tracing::warn!(topic = %shared.subscription.topic, group = %shared.subscription.group, %side, %error, "cannot read yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(OPEN_PAUSE.1);
    }
}

async fn try_open(shared: &Shared, side: Side) -> Result<Arc<dyn BackendConsumer>> {
    let backend = shared.backends.backend(side).await?;
    let subscription = Subscription {
        ordered: reads_in_order(shared),
        ..shared.subscription.clone()
    };
    let consumer = backend.consumer(&subscription).await?;
    consumer.ready().await?;
    Ok(consumer)
}

/// A topic keeps its routing for as long as somebody has a role in it.
fn reads_in_order(shared: &Shared) -> bool {
    let ordered = shared.role.cell().decide(InUse::is_ordered);
    ordered.unwrap_or(false)
}

/// Hands out what is ready, waits for what was handed out, commits, and leaves the group.
///
/// A side that the plan has removed waits for its handlers and its last commit however long they take, because the revision is not applied
/// before. Only a side that is wanted again, or handed out no more, is closed over its handlers after the stop timeout.
async fn stop(
    shared: &Shared,
    side: Side,
    backend: &dyn BackendConsumer,
    wanted: &mut watch::Receiver<Wanted>,
) {
    let timeout = shared.options.stop_timeout;
    tokio::select! {
        biased;
        () = shared.inbox.emptied(side) => {}
        _ = wanted.wait_for(|wanted| *wanted == Wanted::Purge) => {}
        () = tokio::time::sleep(timeout) => {}
    }
    for claimed in shared.inbox.purge(side) {
        release(shared, &claimed.key).await;
    }
    tokio::select! {
        biased;
        () = shared.outstanding.settled(side) => {}
        () = async {
            not_just_removed(wanted).await;
            tokio::time::sleep(timeout).await;
        } => {
            tracing::warn!(topic = %shared.subscription.topic, %side, "handlers did not end in time: their messages are delivered again");
        }
    }
    let mut pause = OPEN_PAUSE.0;
    loop {
        // A side that the plan has removed waits for its last commit; one that is wanted again or handed out no more, only so long.
        let closed = tokio::select! {
            biased;
            closed = backend.close() => closed,
            () = async {
                not_just_removed(wanted).await;
                tokio::time::sleep(LEAVE).await;
            } => {
                tracing::warn!(topic = %shared.subscription.topic, %side, "the group was not left within {LEAVE:?}: what was not committed is delivered again");
                return;
            }
        };
        let Err(error) = closed else { return };
        tracing::warn!(topic = %shared.subscription.topic, %side, %error, "not closed in good order");
        let may_wait = tokio::time::timeout(pause, not_just_removed(wanted)).await;
        if may_wait.is_ok() {
            return;
        }
        pause = (pause * 2).min(OPEN_PAUSE.1);
    }
}

async fn not_just_removed(wanted: &mut watch::Receiver<Wanted>) {
    // As above.
    let _ = wanted.wait_for(|wanted| *wanted != Wanted::No).await;
}

pub(super) async fn release(shared: &Shared, key: &IdempotencyKey) {
    let released = shared
        .dedup
        .release(&shared.scope, key, &shared.owner)
        .await;
    if let Err(error) = released {
        tracing::warn!(scope = %shared.scope, %key, %error, "claim not released: it ends with this consumer's lease");
    }
}

/// Waits for messages; without room, only for its time.
pub(super) async fn fetch(
    backend: &dyn BackendConsumer,
    room: usize,
    wait: Duration,
) -> Result<Vec<Incoming>> {
    if room == 0 {
        tokio::time::sleep(wait).await;
        return Ok(Vec::new());
    }
    backend.receive(room, wait).await
}

/// The key that a message is claimed by; an id is a valid one.
pub(super) fn key_of(incoming: &Incoming) -> Option<IdempotencyKey> {
    let own = incoming.message.idempotency_key.clone();
    own.or_else(|| IdempotencyKey::new(&incoming.message_id).ok())
}

/// A message whose key is claimed elsewhere, or could not be claimed.
struct Waiting {
    due: Instant,
    pause: Duration,
    incoming: Incoming,
}

/// The fetching from one side.
struct Fetch<'a> {
    shared: &'a Shared,
    side: Side,
    backend: &'a Arc<dyn BackendConsumer>,
    waiting: VecDeque<Waiting>,
    reports: Reports<'a>,
}

impl Fetch<'_> {
    /// Ends when the side is not wanted any more, and only between messages: a message that was fetched is claimed, set aside or
    /// dropped as a duplicate before anything else happens.
    async fn run(&mut self, wanted: &mut watch::Receiver<Wanted>) {
        let mut pause = OPEN_PAUSE.0;
        loop {
            let mut places = tokio::select! {
                biased;
                places = self.shared.inbox.places(self.side) => places,
                () = unwanted(wanted) => return,
            };
            self.claim_due(&mut places).await;
            if places.len() == 0 {
                continue;
            }
            let room = places.len().min(
                self.shared
                    .options
                    .set_aside
                    .saturating_sub(self.waiting.len()),
            );
            let wait = self.next_due().map_or(FETCH_WAIT, |due| {
                due.saturating_duration_since(Instant::now())
                    .min(FETCH_WAIT)
            });
            let fetched = tokio::select! {
                biased;
                fetched = fetch(&**self.backend, room, wait) => fetched,
                () = unwanted(wanted) => return,
            };
            self.reports.look_for_unreadable(&**self.backend);
            match fetched {
                Ok(batch) => {
                    pause = OPEN_PAUSE.0;
                    for incoming in batch {
                        self.admit(incoming, CLAIM_PAUSE.0, &mut places).await;
                    }
                }
                Err(error) => {
                    self.reports.fetch_failed(&error);
                    drop(places);
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(pause) => {}
                        () = unwanted(wanted) => return,
                    }
                    pause = (pause * 2).min(OPEN_PAUSE.1);
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    async fn claim_due(&mut self, places: &mut Places<'_>) {
        let now = Instant::now();
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            if waiting.due <= now && places.len() > 0 {
                self.admit(
                    waiting.incoming,
                    (waiting.pause * 2).min(CLAIM_PAUSE.1),
                    places,
                )
                .await;
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Claims the key: first, ready for `receive`; handled before, dropped; else set aside, to be tried again after `pause`.
    async fn admit(&mut self, incoming: Incoming, pause: Duration, places: &mut Places<'_>) {
        let shared = self.shared;
        let Some(key) = key_of(&incoming) else {
            tracing::error!(topic = %shared.subscription.topic, side = %self.side, "a message without key and id is given back");
            if let Err(error) = self.backend.nack(incoming.token, CLAIM_PAUSE.1).await {
                tracing::warn!(%error, "not given back");
            }
            return;
        };
        match shared.dedup.claim(&shared.scope, &key, &shared.owner).await {
            Ok(Claim::First) => {
                places.put(Claimed {
                    side: self.side,
                    backend: Arc::clone(self.backend),
                    key,
                    lanes: None,
                    incoming,
                });
            }
            Ok(Claim::Committed) => {
                shared.metrics.duplicate(shared.revision(), self.side);
                if let Err(error) = self.backend.ack(incoming.token).await {
                    tracing::debug!(%key, %error, "duplicate not acked: it comes again and is dropped again");
                }
            }
            Ok(Claim::Pending) => self.set_aside(incoming, pause),
            Err(error) => {
                self.set_aside(incoming, pause);
                self.reports.unclaimed(&error, self.waiting.len());
            }
        }
    }

    fn set_aside(&mut self, incoming: Incoming, pause: Duration) {
        self.shared.metrics.event(Event::SetAside, self.side);
        self.waiting.push_back(Waiting {
            due: Instant::now() + pause,
            pause,
            incoming,
        });
    }
}
