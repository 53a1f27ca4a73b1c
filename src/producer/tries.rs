//! The tries of one send: where they go, and what follows a failed one.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Shared,
    order::{self, Session},
    parcel::{Parcel, Stamp},
    rules::{self, Failure, Next},
    ticket::Ticket,
};
use crate::{
    backend::Stored,
    control::InUse,
    error::{Error, ErrorKind, Persisted, Result},
    message::{IdempotencyKey, SendReceipt},
    metrics::{Event, TopicMetrics},
    side::{Revision, Side},
    stage::Route,
};

/// Where a send goes.
struct Routed {
    plan: Arc<InUse>,
    side: Side,
    /// Of a send that promises order.
    session: Option<Session>,
}

/// What a side has stored.
pub(super) struct Kept<T> {
    /// The broker's words.
    pub(super) what: T,
    pub(super) side: Side,
    pub(super) revision: Revision,
}

impl Kept<Stored> {
    pub(super) fn receipt(self, idempotency_key: IdempotencyKey) -> SendReceipt {
        SendReceipt {
            message_id: self.what.message_id,
            side: self.side,
            revision: self.revision,
            idempotency_key,
        }
    }
}

impl Shared {
    /// Sends until one side has stored all of it, or nothing more can be done. What has no definite end goes on holding the plan that routed it.
    ///
    /// # Errors
    /// What the broker said last, with `persisted` for all tries together.
    ///
    /// # Cancellation
    /// Stored or not; the plan is held until the broker's bound has passed.
    pub(super) async fn store<P: Parcel>(&self, parcel: &P) -> Result<Kept<P::Stored>> {
        let begun = Instant::now();
        let ordering_key = parcel.ordering_key();
        let deadline = begun + self.options.send_timeout;
        let routed = self.routed(ordering_key, deadline).await?;
        if routed.plan.is_ordered() {
            parcel.check_ordered()?;
        }
        let (mut side, mut session) = (routed.side, routed.session);
        let mut ticket = Ticket::new(routed.plan, &self.holder);
        let mut lane = match ordering_key {
            Some(key) => lane_of(key),
            None => self.draws.next(),
        };
        let mut tries = 0;
        let mut turned_away = 0;
        let mut persisted = Persisted::No;
        let mut sealed = [false; 2];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let revision = ticket.plan().plan().revision;
            let stamp = Stamp { revision, lane };
            let error = match self.try_once(&mut ticket, side, parcel, stamp, left).await {
                Ok(_) if session.is_some_and(|session| !session.stands(&self.contact)) => {
                    // Stored, and perhaps behind the barrier of a move: no success before it is stored where the new plan says.
                    persisted = Persisted::Yes;
                    self.metrics.event(Event::Rerouted, side);
                    let standing = self.contact.check("send");
                    standing.map_err(|refused| refused.with_persisted(persisted))?;
                    let again = self.routed_again(ticket, ordering_key, deadline).await;
                    (ticket, side, session) =
                        again.map_err(|held| held.with_persisted(persisted))?;
                    continue;
                }
                Ok(what) => {
                    self.metrics_for_each(parcel, |metrics| {
                        metrics.sent(revision, side, begun.elapsed());
                    });
                    return Ok(Kept {
                        what,
                        side,
                        revision,
                    });
                }
                Err(error) => error,
            };
            tries += 1;
            turned_away += u32::from(rules::is_turned_away(&error));
            persisted = at_least(persisted, error.persisted());
            sealed[side.index()] |= error.kind() == ErrorKind::Sealed;
            let left = deadline.saturating_duration_since(Instant::now());
            let next = rules::after(Failure {
                error: &error,
                tries,
                turned_away,
                max_tries: if left.is_zero() {
                    0
                } else {
                    self.options.max_tries
                },
                maybe_stored: persisted != Persisted::No,
                other_sealed: sealed[side.other().index()],
                ordered: ordering_key.is_some(),
                write_plan: ticket.plan().write_plan(),
                newer_plan: self.newest() > revision,
                fail_over: self.options.fail_over,
            });
            match next {
                Next::SameSide { same_lane, pause } if pause < left => {
                    self.metrics_for_each(parcel, |metrics| metrics.event(Event::Retry, side));
                    if !same_lane {
                        lane = self.draws.next();
                    }
                    tokio::time::sleep(pause).await;
                }
                Next::FailOver { pause } if pause < left => {
                    self.metrics.event(Event::FailedOver, side);
                    side = side.other();
                    tokio::time::sleep(pause).await;
                }
                Next::OtherSide => {
                    self.metrics.event(Event::Rerouted, side);
                    side = side.other();
                }
                Next::Reroute | Next::AwaitPlan
                    if next == Next::Reroute || self.newer_plan_within(revision, left).await =>
                {
                    self.metrics.event(Event::Rerouted, side);
                    let again = self.routed_again(ticket, ordering_key, deadline).await;
                    (ticket, side, session) =
                        again.map_err(|held| held.with_persisted(persisted))?;
                }
                _ => {
                    self.metrics_for_each(parcel, |metrics| metrics.send_failed(revision, side));
                    return Err(error.with_persisted(persisted).with_side(side));
                }
            }
            // In lease mode `stop` nothing goes out once the lease is over, a retry neither.
            let standing = self.contact.check("send");
            standing.map_err(|refused| refused.with_persisted(persisted))?;
        }
    }

    /// Everything counts by message.
    fn metrics_for_each<P: Parcel>(&self, parcel: &P, count: impl Fn(&TopicMetrics)) {
        for _ in 0..parcel.messages() {
            count(&self.metrics);
        }
    }

    /// A plan that lets the message go, and where to. One whose ordering key is changing sides is held, and holds no plan in use meanwhile.
    async fn routed(&self, ordering_key: Option<&[u8]>, deadline: Instant) -> Result<Routed> {
        loop {
            // Before the plan: one that comes with a new session is not taken for the old one's.
            let session = Session::of(&self.contact);
            let plan = self.plan()?;
            let session = (plan.is_ordered() && ordering_key.is_some()).then_some(session);
            if session.is_some_and(Session::is_none) {
                drop(plan);
                order::await_contact(&self.contact, deadline).await?;
                continue;
            }
            if let Route::To(side) = self.route(&plan, ordering_key) {
                return Ok(Routed {
                    plan,
                    side,
                    session,
                });
            }
            let revision = plan.plan().revision;
            drop(plan);
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.newer_plan_within(revision, left).await {
                return Err(order::held(self.role.cell().topic(), revision));
            }
            self.contact.check("send")?;
        }
    }

    /// The same under the plan in force now. The older one is let go first: a send that is held waits for the plan after the one that waits for this send.
    async fn routed_again<'a>(
        &'a self,
        older: Ticket<'a>,
        ordering_key: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<(Ticket<'a>, Side, Option<Session>)> {
        drop(older);
        let Routed {
            plan,
            side,
            session,
        } = self.routed(ordering_key, deadline).await?;
        Ok((Ticket::new(plan, &self.holder), side, session))
    }

    /// The revision in force.
    fn newest(&self) -> Revision {
        self.role
            .cell()
            .read_plan()
            .map_or(Revision::default(), |(revision, _)| revision)
    }

    async fn newer_plan_within(&self, revision: Revision, wait: Duration) -> bool {
        let mut changes = self.role.cell().changes();
        let newer = changes.wait_for(|current| current.is_some_and(|current| current > revision));
        matches!(tokio::time::timeout(wait, newer).await, Ok(Ok(_)))
    }

    /// One request to one side.
    #[tracing::instrument(
        name = "send", level = "debug", skip_all,
        fields(topic = %self.role.cell().topic(), %side, revision = %stamp.revision),
    )]
    async fn try_once<P: Parcel>(
        &self,
        ticket: &mut Ticket<'_>,
        side: Side,
        parcel: &P,
        stamp: Stamp,
        left: Duration,
    ) -> Result<P::Stored> {
        // The control plane counts on the end of the lease: after it, a broker may store what it has, but is asked nothing.
        let timeout = self.options.try_timeout.min(left);
        let timeout = self.contact.within_lease("send", timeout)?;
        let (producer, timeout) = match self.sides.connected(side) {
            Some(producer) => (producer, timeout),
            None => {
                let begun = Instant::now();
                let connected = tokio::time::timeout(timeout, self.sides.connect(side)).await;
                let producer = connected.map_err(|_| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "send",
                        format!(
                            "no connection to the {side} within {} ms",
                            timeout.as_millis()
                        ),
                    )
                })??;
                self.contact.check("send")?;
                (producer, timeout.saturating_sub(begun.elapsed()))
            }
        };
        ticket.begin(producer.ambiguity_bound());
        let result = parcel.hand_over(producer, stamp, timeout).await;
        match &result {
            Err(error) if error.persisted() == Persisted::Maybe => ticket.leave(),
            _ => ticket.settle(),
        }
        result
    }
}

/// What is known of the message after another try.
fn at_least(before: Persisted, now: Persisted) -> Persisted {
    match (before, now) {
        (Persisted::Yes, _) | (_, Persisted::Yes) => Persisted::Yes,
        (Persisted::Maybe, _) | (_, Persisted::Maybe) => Persisted::Maybe,
        (Persisted::No, Persisted::No) => Persisted::No,
    }
}

/// The same ordering key is the same lane, in every process.
fn lane_of(ordering_key: &[u8]) -> u64 {
    u64::from(crate::stage::bucket_of(ordering_key))
}
