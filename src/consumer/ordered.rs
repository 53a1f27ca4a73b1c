//! The fetching from one side of an ordered topic.
//!
//! Messages wait in lanes, one for each ordering key. The first of a lane is handed out when the group has passed the barriers of its key's moves and its
//! idempotency key is claimed; the next one when that one is handled. A failed handler is tried again in place: nothing overtakes it, and the
//! group's offset does not pass it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Shared, barrier,
    inbox::{Claimed, Places},
    lanes::{Lane, Lanes},
    reports::Reports,
    side::{CLAIM_PAUSE, FETCH_WAIT, OPEN_PAUSE, Wanted, key_of, release, unwanted},
};
use crate::{
    backend::{AckToken, BackendConsumer, Incoming},
    dedup::Claim,
    metrics::Event,
    queue::QueueId,
    side::Side,
};

/// The shortest pause before a failed handler is tried again.
pub(super) const SHORTEST_RETRY: Duration = Duration::from_millis(10);

/// How often it is looked for lost messages while nothing says that there are some.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The lanes of one side: the fetching fills them, handlers' ends move them on.
#[derive(Debug, Default)]
pub(super) struct SharedLanes {
    lanes: std::sync::Mutex<Lanes>,
    /// A lane may have become ready.
    pub(super) changed: Notify,
}

impl SharedLanes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lanes> {
        self.lanes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The delivery is handled, or cannot be any more.
    pub(super) fn handled(&self, generation: u64, token: AckToken) {
        self.lock().handled(generation, token);
        self.changed.notify_one();
    }

    /// The delivery failed: it comes again after `delay`, before all that follows it.
    pub(super) fn failed(&self, generation: u64, token: AckToken, delay: Duration) {
        let due = Instant::now() + delay.max(SHORTEST_RETRY);
        self.lock().failed(generation, token, due);
        self.changed.notify_one();
    }
}

pub(super) struct Fetch<'a> {
    shared: &'a Shared,
    side: Side,
    backend: &'a Arc<dyn BackendConsumer>,
    lanes: &'a SharedLanes,
    generation: u64,
    /// The queues at the last look for lost messages.
    assigned: Vec<QueueId>,
    /// When the next one is due, whatever happens.
    look: Instant,
    reports: Reports<'a>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        side: Side,
        backend: &'a Arc<dyn BackendConsumer>,
    ) -> Self {
        let lanes = &shared.lanes[side.index()];
        let generation = {
            let mut lanes = lanes.lock();
            lanes.reset();
            lanes.generation()
        };
        Fetch {
            shared,
            side,
            backend,
            lanes,
            generation,
            assigned: backend.assigned(),
            look: Instant::now() + LOOK_EVERY,
            reports: Reports::new(shared, side),
        }
    }

    /// Ends when the side is not wanted any more, and only between messages.
    pub(super) async fn run(&mut self, wanted: &mut watch::Receiver<Wanted>) {
        let mut pause = OPEN_PAUSE.0;
        // The backend bounds what is fetched and not acked, for each queue by itself: a bound over all of them would let messages that wait here keep those
        // from being fetched that they wait for.
        let most = self.shared.subscription.outstanding().max(1);
        loop {
            self.let_lost_go().await;
            let mut places = tokio::select! {
                biased;
                places = self.shared.inbox.places(self.side) => places,
                () = unwanted(wanted) => return,
                () = tokio::time::sleep_until(self.look) => continue,
            };
            self.hand_out(&mut places).await;
            if places.len() == 0 {
                continue;
            }
            let now = Instant::now();
            let due = self.lanes.lock().next_due(now);
            let wait = due.map_or(FETCH_WAIT, |due| {
                due.saturating_duration_since(now).min(FETCH_WAIT)
            });
            let fetched = tokio::select! {
                biased;
                () = self.lanes.changed.notified() => continue,
                fetched = self.backend.receive(most, wait) => fetched,
                () = unwanted(wanted) => return,
            };
            self.reports.look_for_unreadable(&**self.backend);
            match fetched {
                Ok(batch) => {
                    pause = OPEN_PAUSE.0;
                    let mut lanes = self.lanes.lock();
                    for incoming in batch {
                        lanes.push(incoming);
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

    /// A queue that goes to another member is kept for it until all that came out of it has ended: what no handler has, ends here.
    async fn let_lost_go(&mut self) {
        let now = Instant::now();
        let assigned = self.backend.assigned();
        let inbox = &self.shared.inbox;
        if assigned == self.assigned && now < self.look && !inbox.has_refused(self.side) {
            return;
        }
        self.assigned = assigned;
        self.look = now + LOOK_EVERY;
        let ready = inbox.purge_where(self.side, |claimed| !claimed.may_be_handed_out());
        for claimed in ready {
            release(self.shared, &claimed.key).await;
            self.lanes.handled(self.generation, claimed.incoming.token);
            self.let_go(claimed.incoming.token);
        }
        let is_lost = |token| !self.backend.may_hand_out(token);
        let lost = self.lanes.lock().take_lost(is_lost);
        for token in lost {
            self.let_go(token);
        }
    }

    fn let_go(&self, token: AckToken) {
        if let Err(error) = self.backend.let_go(token) {
            tracing::debug!(side = %self.side, %error, "a delivery of a lost queue has ended before");
        }
    }

    /// Tries the first message of every lane that is ready, while there are places.
    async fn hand_out(&mut self, places: &mut Places<'_>) {
        while places.len() > 0 {
            let next = self.lanes.lock().next(Instant::now());
            let Some((lane, first)) = next else { return };
            self.admit(lane, first, places).await;
        }
    }

    async fn admit(&mut self, lane: Lane, incoming: Incoming, places: &mut Places<'_>) {
        let shared = self.shared;
        if let Some(wait) = self.must_wait(&incoming) {
            let key = incoming.message.idempotency_key.as_ref();
            barrier::tell_held(shared, self.side, key, wait);
            shared.metrics.event(Event::Held, self.side);
            return self.try_again(lane, barrier::ASK_EVERY);
        }
        let Some(key) = key_of(&incoming) else {
            tracing::error!(topic = %shared.subscription.topic, side = %self.side, "a message without key and id blocks its lane");
            return self.try_again(lane, CLAIM_PAUSE.1);
        };
        match shared.dedup.claim(&shared.scope, &key, &shared.owner).await {
            Ok(Claim::First) => {
                self.lanes.lock().hand_out(lane, incoming.token);
                places.put(Claimed {
                    side: self.side,
                    backend: Arc::clone(self.backend),
                    key,
                    lanes: Some(self.generation),
                    incoming,
                });
            }
            Ok(Claim::Committed) => {
                shared.metrics.duplicate(shared.revision(), self.side);
                if let Err(error) = self.backend.ack(incoming.token).await {
                    tracing::debug!(%key, %error, "duplicate not acked: it comes again and is dropped again");
                }
                self.lanes.lock().pass(lane);
            }
            // It may still fail: what follows it here waits with it.
            Ok(Claim::Pending) => {
                shared.metrics.event(Event::SetAside, self.side);
                self.try_again(lane, CLAIM_PAUSE.0);
            }
            Err(error) => {
                self.reports.unclaimed(&error, self.lanes.lock().len());
                self.try_again(lane, CLAIM_PAUSE.1);
            }
        }
    }

    fn must_wait(&self, incoming: &Incoming) -> Option<barrier::Wait> {
        let key = incoming.message.ordering_key.as_deref()?;
        let routed = incoming.revision?;
        let cell = self.shared.role.cell();
        let decided = cell.decide(|plan| {
            self.shared
                .barriers
                .wait(plan.plan(), self.side, key, routed)
        });
        decided.flatten()
    }

    fn try_again(&self, lane: Lane, pause: Duration) {
        self.lanes.lock().wait(lane, Instant::now() + pause);
    }
}

impl Drop for Fetch<'_> {
    /// What was not handed out comes again.
    fn drop(&mut self) {
        self.lanes.lock().reset();
    }
}
