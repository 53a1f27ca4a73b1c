//! Receiving one topic for one group, from wherever its plan says.
//!
//! ```text
//! supervisor ── wanted ──> side task (source) ── claimed messages ──┐
//!     │       <─ status ──                                          ├──> inbox ──> receive()
//!     └─────── wanted ──> side task (target) ── claimed messages ──┘
//! ```
//!
//! A side task opens, fetches from and closes one side by itself, so that a stalled or dead side never delays the other, and a stage change
//! never touches the side that stays.

mod barrier;
mod inbox;
mod lanes;
mod ordered;
mod outstanding;
mod reports;
mod side;
mod supervisor;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use self::{barrier::Barriers, inbox::Inbox, ordered::SharedLanes, outstanding::Outstanding};
use crate::{
    backend::{Backends, Subscription},
    control::{ConsumerRole, Contact},
    dedup::{DedupStore, Owner},
    error::{Error, ErrorKind, Result},
    message::Delivery,
    metrics::{Event, TopicMetrics},
    side::Revision,
};

/// How a consumer receives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConsumerOptions {
    /// Messages claimed and ready for `receive`, a side. Default 64.
    pub ready: usize,
    /// Messages of a side that wait because their key is claimed elsewhere; above it the fetch pauses. Default 256.
    pub set_aside: usize,
    /// How long a consumer that is closed, or whose lease is over in mode `stop`, waits for what was handed out. A side that the plan removes
    /// hands out for so long what is ready, and then waits for its handlers without a bound: the stage does not move on before. Default 30 s.
    pub stop_timeout: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            ready: 64,
            set_aside: 256,
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// What a consumer is made of.
#[derive(Debug)]
pub struct ConsumerParts {
    /// The registration.
    pub role: ConsumerRole,
    /// Both clusters.
    pub backends: Arc<dyn Backends>,
    /// Whether deliveries may go on.
    pub contact: Arc<Contact>,
    /// The topic's metrics.
    pub metrics: Arc<TopicMetrics>,
    /// Where keys are claimed.
    pub dedup: Arc<dyn DedupStore>,
    /// Who claims them.
    pub owner: Owner,
    /// What to read.
    pub subscription: Subscription,
    /// How to receive.
    pub options: ConsumerOptions,
}

/// Receives one topic for one group. All methods take `&self`: put it into an `Arc` to use it from several tasks.
///
/// Dropping it without [`close`](Self::close) is what a crash is: what was handed out and not acked is delivered again to others.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
}

/// What the tasks of one consumer share.
#[derive(Debug)]
struct Shared {
    role: ConsumerRole,
    backends: Arc<dyn Backends>,
    contact: Arc<Contact>,
    metrics: Arc<TopicMetrics>,
    dedup: Arc<dyn DedupStore>,
    owner: Owner,
    /// Where a key is handled once: the same key in another topic or another group is another message.
    scope: String,
    subscription: Subscription,
    options: ConsumerOptions,
    inbox: Inbox,
    outstanding: Outstanding,
    /// Of an ordered topic, by side.
    lanes: [SharedLanes; 2],
    barriers: Barriers,
    /// The last revision of which every side is read.
    reading: watch::Sender<Revision>,
    /// Both sides are closed for good.
    ended: watch::Sender<bool>,
}

impl Consumer {
    /// Starts a consumer; it opens the sides that the plan reads.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(parts: ConsumerParts) -> Consumer {
        let Subscription { topic, group, .. } = &parts.subscription;
        let shared = Arc::new(Shared {
            scope: crate::dedup::scope(topic, group),
            role: parts.role,
            backends: parts.backends,
            contact: parts.contact,
            metrics: parts.metrics,
            dedup: parts.dedup,
            owner: parts.owner,
            subscription: parts.subscription,
            inbox: Inbox::new(parts.options.ready),
            outstanding: Outstanding::default(),
            lanes: Default::default(),
            barriers: Barriers::default(),
            reading: watch::Sender::default(),
            ended: watch::Sender::new(false),
            options: parts.options,
        });
        let (closing, is_closing) = watch::channel(false);
        let supervisor = tokio::spawn(supervisor::run(Arc::clone(&shared), is_closing));
        Consumer {
            shared,
            closing,
            supervisor,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.shared.subscription.topic
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        &self.shared.subscription.group
    }

    /// Waits until every side that the plan in force reads is subscribed and assigned.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when that takes longer than `wait`, [`ErrorKind::Closed`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn ready(&self, wait: Duration) -> Result<()> {
        let mut reading = self.shared.reading.subscribe();
        let mut changes = self.shared.role.cell().changes();
        let all = async {
            loop {
                let current = self
                    .shared
                    .role
                    .cell()
                    .read_plan()
                    .map(|(revision, _)| revision);
                if current.is_some_and(|current| *reading.borrow_and_update() >= current) {
                    return Ok(());
                }
                tokio::select! {
                    biased;
                    changed = reading.changed() => changed.map_err(|_| closed("ready"))?,
                    changed = changes.changed() => changed.map_err(|_| closed("ready"))?,
                }
            }
        };
        tokio::time::timeout(wait, all).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                "ready",
                format!(
                    "topic {}: not subscribed on every side within {wait:?}",
                    self.topic()
                ),
            ))
        })
    }

    /// At most `max` messages from both sides in turn; an empty list when `wait` has passed. Each is to be acked or nacked.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], [`ErrorKind::LeaseOver`], [`ErrorKind::Superseded`]; [`ErrorKind::InvalidConfig`] for `max` 0.
    ///
    /// # Cancellation
    /// Nothing is lost: what was not returned is returned by the next call.
    pub async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        if max == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "receive",
                "max is 0: ask for 1 message or more",
            ));
        }
        let deadline = Instant::now() + wait;
        let mut contact = self.shared.contact.changes();
        loop {
            if *self.closing.borrow() || *self.shared.ended.borrow() {
                return Err(closed("receive"));
            }
            contact.borrow_and_update();
            self.shared.contact.check("receive")?;
            let arrived = self.shared.inbox.arrived();
            let hand_out = |claimed| self.shared.hand_out(claimed);
            let taken = self.shared.inbox.take(max, hand_out);
            if !taken.is_empty() {
                return Ok(taken);
            }
            tokio::select! {
                biased;
                () = arrived => {}
                _ = contact.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    /// The handler succeeded: its key is committed, and the side that issued the delivery is told.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`] when this delivery is not outstanding here, or its claim was lost meanwhile: the message may be handled
    /// again. [`ErrorKind::Unavailable`] when the deduplication store does not answer: ack again.
    ///
    /// # Cancellation
    /// The ack may or may not be made; acking again is safe.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(topic = %delivery.topic, group = %self.group(), side = %delivery.side, id = delivery.message_id),
    )]
    pub async fn ack(&self, delivery: &Delivery) -> Result<()> {
        let shared = &*self.shared;
        let number = delivery.number;
        let held = shared.outstanding.get(number)?;
        let committed = shared.dedup.commit(&shared.scope, &held.key, &shared.owner);
        if let Err(error) = committed.await {
            if error.kind() == ErrorKind::StaleDelivery && shared.outstanding.remove(number) {
                // Somebody else may have the key: the message comes again, and the store says whether it was handled.
                shared.give_back(&held, Duration::ZERO).await?;
            }
            return Err(error.with_side(delivery.side));
        }
        // From here on the message is handled, whatever the broker knows of it: a redelivery is dropped by its key.
        let passed = held.backend.ack(held.token).await;
        if let Some(generation) = held.lanes {
            shared.lanes[held.side.index()].handled(generation, held.token);
        }
        if !shared.outstanding.remove(number) {
            return Ok(());
        }
        if let Err(error) = passed {
            tracing::debug!(id = delivery.message_id, %error, "acked after the queue was lost");
            shared.metrics.event(Event::StaleAck, delivery.side);
        }
        shared
            .metrics
            .handled(shared.revision(), delivery.side, held.since.elapsed());
        Ok(())
    }

    /// The handler failed: the key is released, and the message comes again after about `delay`; in an ordered topic before all that follows it, to this
    /// consumer, as often as it takes.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`] when this delivery is not outstanding here; [`ErrorKind::Unavailable`] when the deduplication store does not
    /// answer: nack again.
    ///
    /// # Cancellation
    /// The message may or may not be given back; it comes again in any case.
    #[tracing::instrument(
        level = "debug", skip_all,
        fields(topic = %delivery.topic, group = %self.group(), side = %delivery.side, id = delivery.message_id),
    )]
    pub async fn nack(&self, delivery: &Delivery, delay: Duration) -> Result<()> {
        let shared = &*self.shared;
        let number = delivery.number;
        let held = shared.outstanding.get(number)?;
        let released = shared
            .dedup
            .release(&shared.scope, &held.key, &shared.owner);
        released
            .await
            .map_err(|error| error.with_side(delivery.side))?;
        let given_back = shared.give_back(&held, delay).await;
        if shared.outstanding.remove(number) {
            shared.metrics.event(Event::Nack, delivery.side);
        }
        given_back
    }

    /// Stops, waits up to the stop timeout for what was handed out, commits, and leaves the group.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when deliveries were still outstanding: they are delivered again to others.
    ///
    /// # Cancellation
    /// The closing goes on in the background until the consumer is dropped.
    pub async fn close(&self) -> Result<()> {
        self.shared.close(&self.closing).await
    }

    pub(crate) fn closer(&self) -> ConsumerCloser {
        ConsumerCloser {
            shared: Arc::downgrade(&self.shared),
            closing: self.closing.clone(),
        }
    }
}

/// Closes a consumer without keeping it alive.
#[derive(Debug)]
pub(crate) struct ConsumerCloser {
    shared: Weak<Shared>,
    closing: watch::Sender<bool>,
}

impl ConsumerCloser {
    /// Whether the consumer is still there.
    pub(crate) fn is_needed(&self) -> bool {
        self.shared.strong_count() > 0
    }

    /// As [`Consumer::close`]; a consumer that is gone is closed.
    pub(crate) async fn close(self) -> Result<()> {
        match self.shared.upgrade() {
            Some(shared) => shared.close(&self.closing).await,
            None => Ok(()),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.dedup.forget(&self.owner);
    }
}

impl Shared {
    async fn close(&self, closing: &watch::Sender<bool>) -> Result<()> {
        closing.send_replace(true);
        self.inbox.wake();
        supervisor::ended(self).await;
        match self.outstanding.len() {
            0 => Ok(()),
            left => Err(Error::new(
                ErrorKind::Timeout,
                "close",
                format!(
                    "{left} deliveries were neither acked nor nacked within {:?}: they are delivered again",
                    self.options.stop_timeout
                ),
            )),
        }
    }

    /// The revision in force.
    fn revision(&self) -> Revision {
        self.role
            .cell()
            .read_plan()
            .map_or(Revision::default(), |(revision, _)| revision)
    }

    async fn give_back(&self, held: &outstanding::Held, delay: Duration) -> Result<()> {
        if let Some(generation) = held.lanes {
            let lanes = &self.lanes[held.side.index()];
            if held.backend.may_hand_out(held.token) {
                // In place: nothing overtakes it.
                lanes.failed(generation, held.token, delay);
            } else {
                lanes.handled(generation, held.token);
                // Whoever has its queue next gets it; that it has ended before is as good.
                let _ = held.backend.let_go(held.token);
            }
            return Ok(());
        }
        match held.backend.nack(held.token, delay).await {
            // The queue went to another member, or the side was closed: the message comes again anyway.
            Err(error) if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Closed) => {
                Ok(())
            }
            other => other.map_err(|error| error.with_side(held.side)),
        }
    }

    fn hand_out(&self, claimed: inbox::Claimed) -> Delivery {
        let incoming = claimed.incoming;
        let key = claimed.key;
        let number = self.outstanding.add(outstanding::Held {
            side: claimed.side,
            backend: claimed.backend,
            token: incoming.token,
            key,
            lanes: claimed.lanes,
            since: Instant::now(),
        });
        Delivery {
            topic: Arc::clone(&self.subscription.topic),
            message: incoming.message,
            side: claimed.side,
            message_id: incoming.message_id,
            attempt: incoming.attempt,
            revision: incoming.revision,
            number,
        }
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the consumer was closed")
}

#[cfg(all(test, feature = "memory"))]
mod order_tests;
#[cfg(all(test, feature = "memory"))]
mod tests;
